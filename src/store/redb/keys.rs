//! Which keys something in the file may be sealed under: a row of its own, so that a key that is still needed cannot be
//! dropped unnoticed.
//!
//! A key joins the row in the transaction that first seals under it, at the latest, and leaves it at the end of a rotation
//! that found nothing under it any more.

use std::collections::BTreeSet;

use redb::ReadableTable;

use super::{
    super::{
        KeysError, MissingKeys,
        record::Codec,
        seal::{KeyId, KeyRing},
    },
    tables::{Change, OperationError, Outcome, Tables, database},
};

/// The row of `meta`: the ids of the keys in use, one behind the other.
pub(super) const KEYS_ROW: &[u8] = b"keys_in_use";
/// The row of `meta` with the index key, sealed.
pub(super) const INDEX_KEY_ROW: &[u8] = b"index_key";

/// The keys that something may be sealed under.
pub(super) type InUse = BTreeSet<KeyId>;

pub(super) fn encode(in_use: &InUse) -> Vec<u8> {
    in_use.iter().flat_map(|id| id.0).collect()
}

/// What both rows say together. Files from before there was a row of keys have all that is sealed under the index key's.
pub(super) fn decode(row: Option<&[u8]>, index_key: Option<&[u8]>) -> InUse {
    let listed = row.unwrap_or_default().chunks_exact(4).filter_map(|id| Some(KeyId(id.try_into().ok()?)));
    listed.chain(index_key.and_then(KeyId::of_sealed)).collect()
}

/// The keys in use, as a write transaction sees them.
pub(super) fn in_use(tables: &Tables<'_>) -> Result<InUse, OperationError> {
    let row = tables.meta.get(KEYS_ROW).map_err(database)?;
    let index_key = tables.meta.get(INDEX_KEY_ROW).map_err(database)?;
    Ok(decode(row.as_ref().map(|row| row.value()), index_key.as_ref().map(|row| row.value())))
}

/// Exchanges the key ring, unless a key is in use that the new one has not.
pub(super) fn use_keys(tables: &Tables<'_>, codec: &Codec, ring: KeyRing) -> Outcome<Result<(), KeysError>> {
    let mut in_use = in_use(tables)?;
    if let Some(missing) = MissingKeys::of(&ring, in_use.iter().copied()) {
        return Ok((Err(KeysError::Missing(missing)), Vec::new()));
    }
    let is_new = in_use.insert(ring.first());
    tracing::info!(keys = ?ring, "the store has another key ring; the first of its keys seals");
    // What is sealed from here on is committed with the row, or behind it.
    codec.keys.exchange(ring);
    let change = is_new.then(|| Change::PutMeta(KEYS_ROW, encode(&in_use)));
    Ok((Ok(()), change.into_iter().collect()))
}
