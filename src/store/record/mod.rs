//! The stored form of what is remembered: prost messages of the store's own, with what is secret sealed inside.

mod budget;
mod event;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod page;
mod reseal;
mod session;
mod timeline;

use std::time::Duration;

use prost::Message;
use zeroize::Zeroizing;

use self::session::{read_session, sealed_session, session_record};
pub(super) use self::{
    budget::{decode_budget, encode_budget},
    event::{
        Digest, EventRow, Kept, decode_consumer, decode_digest, encode_consumer, encode_digest,
        encode_retelling,
    },
    reseal::{Resealed, SealedTable, resealed, seal},
    session::gist,
};
use super::{
    StoreError,
    keys::Keys,
    seal::{IndexKey, Place, SealError},
};
use crate::domain::{
    AccessToken, BootTime, ClientName, KeyedHash, Moment, Revocation, Session, SessionId, StateSecret,
    Timestamp, millis,
};

/// The generated messages of `record.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::restriction)]
pub(super) mod stored {
    include!(concat!(env!("OUT_DIR"), "/cairld.store.v1.rs"));
}

/// Version of the stored form that this program writes. It refuses newer ones.
pub(super) const SCHEMA_VERSION: u32 = 1;

pub(super) const SESSIONS: &str = "sessions";
pub(super) const REQUESTS: &str = "requests";
pub(super) const REVOCATIONS: &str = "revocations";
pub(super) const EVENTS: &str = "events";
pub(super) const DIGESTS: &str = "digests";
pub(super) const CONSUMERS: &str = "consumers";
pub(super) const META: &str = "meta";
pub(super) const CODES: &str = "codes";
pub(super) const PROVIDER_SESSIONS: &str = "provider_sessions";
pub(super) const BUDGETS: &str = "budgets";
pub(super) const INBOX_SPANS: &str = "inbox_spans";
pub(super) const SESSION_COUNTS: &str = "session_counts";

/// A session as it is stored: with the key of its row in `requests`, which the domain does not know.
#[derive(Debug)]
pub(super) struct StoredSession {
    pub(super) session: Session,
    pub(super) request: Option<[u8; 32]>,
}

/// What a request id made, and for which arguments.
pub(super) struct StoredRequest {
    pub(super) session: SessionId,
    pub(super) arguments: KeyedHash,
    /// Until the state is spent or has expired.
    pub(super) secret: Option<StateSecret>,
}

/// Which session a provider session belongs to.
pub(super) struct Link {
    pub(super) session: SessionId,
    /// Whether it completed an exchange: then the link stays.
    pub(super) owned: bool,
}

pub(super) fn encode_link(link: Link) -> Vec<u8> {
    let session = link.session.as_bytes().to_vec();
    stored::ProviderSessionRecord { session, owned: link.owned }.encode_to_vec()
}

pub(super) fn decode_link(key: &[u8; 32], bytes: &[u8]) -> Result<Link, StoreError> {
    let decode = || {
        let record = stored::ProviderSessionRecord::decode(bytes)?;
        Ok(Link { session: SessionId::from_bytes(fixed(&record.session)?), owned: record.owned })
    };
    decode().map_err(|damage: Damage| damage.of(PROVIDER_SESSIONS, key))
}

/// Writes and reads records: knows the keys.
#[derive(Debug)]
pub(super) struct Codec {
    pub(super) keys: Keys,
    pub(super) index: IndexKey,
}

/// Why a record does not open.
pub(super) enum Damage {
    Seal(SealError),
    Form(&'static str),
}

impl From<SealError> for Damage {
    fn from(error: SealError) -> Self {
        Self::Seal(error)
    }
}

impl From<prost::DecodeError> for Damage {
    fn from(_: prost::DecodeError) -> Self {
        Self::Form("not a record")
    }
}

impl Damage {
    fn of(self, table: &'static str, key: &[u8]) -> StoreError {
        let key = data_encoding::HEXLOWER.encode(key);
        match self {
            Self::Seal(error) => StoreError::Corrupt(format!("{table} {key}: {error}")),
            Self::Form(what) => StoreError::Corrupt(format!("{table} {key}: {what}")),
        }
    }
}

impl Codec {
    pub(super) fn session_bytes(&self, stored: &StoredSession) -> Result<Vec<u8>, StoreError> {
        let session = &stored.session;
        let mut record = session_record(session, stored.request);
        let clear = record.encode_to_vec();
        let place = Place { table: SESSIONS, key: session.id.as_bytes(), clear: &clear };
        record.sealed = self.seal(place, &sealed_session(session).encode_to_vec())?;
        Ok(record.encode_to_vec())
    }

    pub(super) fn session(&self, id: SessionId, bytes: &[u8]) -> Result<StoredSession, StoreError> {
        self.open_session(id, bytes).map_err(|damage| damage.of(SESSIONS, id.as_bytes()))
    }

    fn open_session(&self, id: SessionId, bytes: &[u8]) -> Result<StoredSession, Damage> {
        let mut record = stored::SessionRecord::decode(bytes)?;
        let sealed = std::mem::take(&mut record.sealed);
        let clear = record.encode_to_vec();
        let plain = self.open(Place { table: SESSIONS, key: id.as_bytes(), clear: &clear }, &sealed)?;
        let sealed = stored::SealedSession::decode(plain.as_slice())?;
        let request = optional(&record.request)?;
        Ok(StoredSession { session: read_session(id, record, sealed)?, request })
    }

    pub(super) fn request_bytes(
        &self,
        key: &[u8; 32],
        stored: &StoredRequest,
    ) -> Result<Vec<u8>, StoreError> {
        let record = stored::RequestRecord {
            session: stored.session.as_bytes().to_vec(),
            arguments: stored.arguments.as_bytes().to_vec(),
            secret: stored.secret.as_ref().map(|secret| secret.expose().to_vec()).unwrap_or_default(),
        };
        self.seal(Place::whole(REQUESTS, key), &record.encode_to_vec())
    }

    pub(super) fn request(&self, key: &[u8; 32], bytes: &[u8]) -> Result<StoredRequest, StoreError> {
        let open = || {
            let plain = self.open(Place::whole(REQUESTS, key), bytes)?;
            let record = stored::RequestRecord::decode(plain.as_slice())?;
            Ok(StoredRequest {
                session: SessionId::from_bytes(fixed(&record.session)?),
                arguments: KeyedHash::new(fixed(&record.arguments)?),
                secret: optional(&record.secret)?.map(StateSecret::new),
            })
        };
        open().map_err(|damage: Damage| damage.of(REQUESTS, key))
    }

    pub(super) fn revocation_bytes(&self, revocation: &Revocation) -> Result<Vec<u8>, StoreError> {
        let record = stored::RevocationRecord {
            client: revocation.client.to_string(),
            token: revocation.token.expose().to_owned(),
            since: Some(moment(revocation.since)),
            life_ms: millis(revocation.life),
        };
        let place = Place::whole(REVOCATIONS, revocation.session.as_bytes());
        self.seal(place, &record.encode_to_vec())
    }

    pub(super) fn revocation(&self, id: SessionId, bytes: &[u8]) -> Result<Revocation, StoreError> {
        let open = || {
            let plain = self.open(Place::whole(REVOCATIONS, id.as_bytes()), bytes)?;
            let record = stored::RevocationRecord::decode(plain.as_slice())?;
            Ok(Revocation {
                session: id,
                client: ClientName::parse(&record.client).map_err(|_| Damage::Form("no client"))?,
                token: AccessToken::new(record.token),
                since: read_moment(record.since)?,
                life: Duration::from_millis(record.life_ms),
            })
        };
        open().map_err(|damage: Damage| damage.of(REVOCATIONS, id.as_bytes()))
    }

    fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.keys.ring().open(place, sealed)
    }

    fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        seal(&self.keys.ring(), place, plain)
    }
}

/// A moment that is a row by itself.
pub(super) fn encode_moment(at: Moment) -> Vec<u8> {
    moment(at).encode_to_vec()
}

/// Reads it; none where it is none.
pub(super) fn decode_moment(bytes: &[u8]) -> Option<Moment> {
    read_moment(stored::Moment::decode(bytes).ok()).ok()
}

pub(super) fn moment(moment: Moment) -> stored::Moment {
    stored::Moment { wall_ms: moment.wall.as_millis(), boot: moment.boot.boot, boot_ms: moment.boot.millis }
}

pub(super) fn read_moment(moment: Option<stored::Moment>) -> Result<Moment, Damage> {
    let moment = moment.ok_or(Damage::Form("no moment"))?;
    Ok(Moment {
        wall: Timestamp::from_millis(moment.wall_ms),
        boot: BootTime { boot: moment.boot, millis: moment.boot_ms },
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Damage> {
    bytes.try_into().map_err(|_| Damage::Form("a field of the wrong length"))
}

fn optional<const N: usize>(bytes: &[u8]) -> Result<Option<[u8; N]>, Damage> {
    if bytes.is_empty() { Ok(None) } else { fixed(bytes).map(Some) }
}

fn named<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, Damage> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some).map_err(|_| Damage::Form("a name of the wrong form"))
    }
}
