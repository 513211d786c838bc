//! Sealing of what is secret, and keyed hashes for looking things up without keeping them.
//!
//! Everything is derived from the master keys by HKDF-SHA256 (RFC 5869) with a label for each purpose. Records are sealed
//! with XChaCha20-Poly1305 under a random 24-byte nonce; the associated data names form, table and key and holds what stands
//! in clear beside, so that a sealed record opens in its own place only, and there only unchanged.

use std::fmt;

use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{Aead, Key, KeyInit, Payload},
};
use data_encoding::{BASE64, HEXLOWER};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::record::SESSIONS;
use crate::domain::KeyedHash;

/// First byte of everything sealed: the form described here.
const FORM: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

/// 256 bits from which all keys of the store are derived.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

/// A text is not a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must hold 32 bytes in base64 (44 characters, as `cairld keygen` prints)")]
pub struct MasterKeyError;

/// What a master key is called. It follows from the key, so that one key has one name wherever it is used, and is no secret:
/// each sealed record begins with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub(super) [u8; KEY_ID_BYTES]);

impl KeyId {
    /// Under which key something is sealed, as it says itself; none where it says nothing.
    pub(super) fn of_sealed(sealed: &[u8]) -> Option<Self> {
        let (id, _) = sealed.strip_prefix(&[FORM])?.split_first_chunk::<KEY_ID_BYTES>()?;
        Some(Self(*id))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl MasterKey {
    /// A key of random bytes.
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// Reads a key file's text.
    ///
    /// # Errors
    /// [`MasterKeyError`] for anything but 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).map_err(|_| MasterKeyError)?);
        Ok(Self(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| MasterKeyError)?))
    }

    /// What the key is called.
    pub fn id(&self) -> KeyId {
        SealingKey::derive(self).id
    }

    /// The text of a key file. A secret.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&self.0))
    }
}

/// In constant time.
impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([secret])")
    }
}

/// The keys in force: the first seals, all open.
pub struct KeyRing {
    first: SealingKey,
    others: Vec<SealingKey>,
}

struct SealingKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

/// Why something sealed does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// It was sealed under a key that is not in the ring.
    #[error("sealed under a key that is not in the key ring")]
    KeyMissing,
    /// It is not what was sealed, or not where it was sealed.
    #[error("damaged, or not in its own place")]
    Damaged,
    /// The operating system gave no randomness for a nonce.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

/// Where something sealed stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'k> {
    /// The table.
    pub(super) table: &'static str,
    /// The row's key.
    pub(super) key: &'k [u8],
    /// What stands in the row beside it, and must be what it was.
    pub(super) clear: &'k [u8],
}

impl KeyRing {
    /// A ring whose first key seals; all open.
    pub fn new(first: &MasterKey, others: &[MasterKey]) -> Self {
        Self { first: SealingKey::derive(first), others: others.iter().map(SealingKey::derive).collect() }
    }

    /// What the key is called that seals.
    pub(super) fn first(&self) -> KeyId {
        self.first.id
    }

    /// What its keys are called, in their order.
    pub(super) fn ids(&self) -> impl Iterator<Item = KeyId> {
        std::iter::once(&self.first).chain(&self.others).map(|key| key.id)
    }

    pub(super) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let payload = Payload { msg: plain, aad: &place.associated() };
        let sealed = self.first.cipher.encrypt(&nonce.into(), payload).map_err(|_| SealError::Damaged)?;
        let mut out = Vec::with_capacity(1 + KEY_ID_BYTES + NONCE_BYTES + sealed.len());
        out.push(FORM);
        out.extend_from_slice(&self.first.id.0);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Seals as a session is sealed, and answers what it comes to, bytes: for whoever measures what that costs.
    pub fn sealed_length(&self, session: &[u8; 16], clear: &[u8], plain: &[u8]) -> Option<usize> {
        let place = Place { table: SESSIONS, key: session, clear };
        self.seal(place, plain).ok().map(|sealed| sealed.len())
    }

    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let rest = sealed.strip_prefix(&[FORM]).ok_or(SealError::Damaged)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(SealError::Damaged)?;
        let (nonce, message) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        let key = std::iter::once(&self.first)
            .chain(&self.others)
            .find(|key| key.id.0 == *id)
            .ok_or(SealError::KeyMissing)?;
        let payload = Payload { msg: message, aad: &place.associated() };
        key.cipher.decrypt(&(*nonce).into(), payload).map(Zeroizing::new).map_err(|_| SealError::Damaged)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl SealingKey {
    fn derive(master: &MasterKey) -> Self {
        let hkdf = Hkdf::<Sha256>::new(None, &master.0);
        let (mut id, mut key) = ([0; KEY_ID_BYTES], Zeroizing::new([0; 32]));
        // Both lengths are far below HKDF's limit of 8160 bytes, the only thing that can fail here.
        let derived =
            hkdf.expand(b"cairld store key id", &mut id).and(hkdf.expand(b"cairld store seal", key.as_mut()));
        debug_assert!(derived.is_ok());
        Self { id: KeyId(id), cipher: XChaCha20Poly1305::new((&*key).into()) }
    }
}

impl<'k> Place<'k> {
    /// Of what is a row by itself.
    pub(super) fn whole(table: &'static str, key: &'k [u8]) -> Self {
        Self { table, key, clear: &[] }
    }

    /// No two places read alike: names of tables have no zero byte, and the key's length stands before it.
    pub(super) fn associated(&self) -> Vec<u8> {
        let length = (self.key.len() as u64).to_be_bytes();
        [&[FORM], self.table.as_bytes(), &[0], &length, self.key, self.clear].concat()
    }
}

/// The key under which things are hashed for look-up. Made at first start and kept sealed, so that rotating master keys
/// leaves the hashes as they are.
pub(super) struct IndexKey {
    bytes: Zeroizing<[u8; 32]>,
    /// Keyed once; each hash begins with a copy.
    mac: Hmac<Sha256>,
}

/// What a keyed hash is for: hashes of different purposes never meet. The numbers are stored; none is used twice.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Purpose {
    State = 1,
    Binding = 2,
    Code = 3,
    ErrorCallback = 4,
    Request = 5,
    Arguments = 6,
    ProviderSession = 7,
    Webhook = 8,
    InnerId = 9,
    Budget = 10,
    WebhookSecret = 11,
    Backup = 12,
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey([secret])")
    }
}

impl IndexKey {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        // HMAC pads shorter keys with zeros to its block (RFC 2104 §2).
        let mut block = Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Self { bytes: Zeroizing::new(bytes), mac: <Hmac<Sha256> as KeyInit>::new(&block) }
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// HMAC-SHA256 over the purpose and the parts, each with its length, so that no two lists of parts read alike.
    pub(super) fn hash(&self, purpose: Purpose, parts: &[&[u8]]) -> KeyedHash {
        let mut mac = self.mac.clone();
        mac.update(&[purpose as u8]);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        KeyedHash::new(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { table: "sessions", key: b"key", clear: b"clear" };

    fn ring(seeds: &[u8]) -> KeyRing {
        let keys: Vec<_> = seeds.iter().map(|seed| MasterKey::new([*seed; 32])).collect();
        KeyRing::new(&keys[0], &keys[1..])
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let ring = ring(&[1]);
        let sealed = ring.seal(PLACE, b"canary").unwrap();
        assert_eq!(ring.open(PLACE, &sealed).unwrap().as_slice(), b"canary");
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        let others = [
            Place { table: "events", ..PLACE },
            Place { key: b"kex", ..PLACE },
            Place { clear: b"cleaR", ..PLACE },
            Place { key: b"keyc", clear: b"lear", ..PLACE },
        ];
        for place in others {
            assert_eq!(ring.open(place, &sealed), Err(SealError::Damaged));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let ring = ring(&[1]);
        let sealed = ring.seal(PLACE, b"canary").unwrap();
        for index in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[index] ^= 1;
            assert!(ring.open(PLACE, &flipped).is_err(), "bit in byte {index}");
            assert!(ring.open(PLACE, &sealed[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let sealed = ring(&[1]).seal(PLACE, b"x").unwrap();
        assert!(ring(&[2, 1]).open(PLACE, &sealed).is_ok());
        assert_eq!(ring(&[2]).open(PLACE, &sealed), Err(SealError::KeyMissing));
        let anew = ring(&[2, 1]).seal(PLACE, b"x").unwrap();
        assert!(ring(&[2]).open(PLACE, &anew).is_ok());
    }

    #[test]
    fn two_seals_of_the_same_differ() {
        let ring = ring(&[1]);
        assert_ne!(ring.seal(PLACE, b"x").unwrap(), ring.seal(PLACE, b"x").unwrap());
    }

    #[test]
    fn hashes_keep_purposes_and_parts_apart() {
        let key = IndexKey::new([7; 32]);
        let hash = key.hash(Purpose::Code, &[b"ab", b"c"]);
        assert!(hash.matches(&key.hash(Purpose::Code, &[b"ab", b"c"])));
        assert!(!hash.matches(&key.hash(Purpose::Code, &[b"a", b"bc"])));
        assert!(!hash.matches(&key.hash(Purpose::State, &[b"ab", b"c"])));
        assert!(!hash.matches(&IndexKey::new([8; 32]).hash(Purpose::Code, &[b"ab", b"c"])));
    }

    #[test]
    fn key_files_hold_32_bytes() {
        let text = MasterKey::new([5; 32]).expose();
        assert!(MasterKey::parse(&format!("{}\n", *text)).is_ok());
        for bad in ["", "AAAA", "not base64!", &"A".repeat(44), &text[..43]] {
            assert_eq!(MasterKey::parse(bad).err(), Some(MasterKeyError), "{bad:?}");
        }
    }
}
