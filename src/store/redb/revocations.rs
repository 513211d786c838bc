//! Tokens on their way out: moved from their session to the queue in one transaction, sealed in either place.

use redb::{Database, ReadableDatabase, ReadableTable};

use super::{
    super::{StoreError, record::Codec},
    sessions::log_damage,
    tables::{Change, Outcome, REVOCATIONS_TABLE, Tables, database, put_session},
    unreadable,
};
use crate::domain::{Moment, Revocation, RevocationEnd, RunId, Session, SessionId, Viewer};

pub(super) fn revoke(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    viewer: &Viewer,
    id: SessionId,
) -> Outcome<Session> {
    let mut stored = tables.visible_session(codec, viewer, id)?;
    let mut changes = Vec::new();
    if let Some(revocation) = stored.session.revoke(now, run)? {
        changes.push(put_session(codec, &stored)?);
        changes.push(put_revocation(codec, &revocation)?);
    }
    Ok((stored.session, changes))
}

/// The change that puts a token into the queue.
pub(super) fn put_revocation(codec: &Codec, revocation: &Revocation) -> Result<Change, StoreError> {
    Ok(Change::PutRevocation(revocation.session, codec.revocation_bytes(revocation)?))
}

/// Removes a row, whether it opens or not, and notes how it ended in its session, where that is still kept.
pub(super) fn end(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    id: SessionId,
    how: RevocationEnd,
) -> Outcome<()> {
    if tables.revocations.get(id.as_bytes()).map_err(database)?.is_none() {
        return Ok(((), Vec::new()));
    }
    let mut changes = vec![Change::RemoveRevocation(id)];
    if let Some(record) = tables.sessions.get(id.as_bytes()).map_err(database)?
        && let Ok(mut stored) = codec.session(id, record.value()).map_err(log_damage)
    {
        stored.session.revocation_ended(now, how);
        changes.push(put_session(codec, &stored)?);
    }
    Ok(((), changes))
}

/// The whole queue. A row that does not open is left out and left alone: the key that it was sealed under may be put
/// back into the ring.
pub(super) fn read(store: &Database, codec: &Codec) -> Result<Vec<Revocation>, StoreError> {
    let transaction = store.begin_read().map_err(unreadable)?;
    let rows = transaction.open_table(REVOCATIONS_TABLE).map_err(unreadable)?;
    let mut queue = Vec::new();
    for row in rows.iter().map_err(unreadable)? {
        let (id, row) = row.map_err(unreadable)?;
        queue.extend(codec.revocation(SessionId::from_bytes(id.value()), row.value()).map_err(log_damage));
    }
    Ok(queue)
}
