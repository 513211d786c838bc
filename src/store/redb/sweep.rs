//! The sweep: writes down what time has ended and removes what is past its retention, in bites.
//!
//! Every session lives equally long and ids follow time, so both are ranges from the front of the table; there is no
//! index of expiry.

use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable};

use super::{
    super::{
        StoreError, Swept,
        record::{Codec, StoredSession},
    },
    sessions::{forget_state, linked, provider_session_key},
    tables::{Change, OperationError, Outcome, SESSIONS_TABLE, Tables, database, put_session},
};
use crate::domain::{Moment, RunId, SESSION_LIFE, SessionId, Timestamp};

/// Most sessions that one bite looks at. Removing one costs a few microseconds for each row that belongs to it, so that a
/// bite holds the writer for well under two milliseconds.
const BITE: usize = 128;

/// The ids up to which a bite looks: all sessions started before `time`.
fn before(time: Timestamp) -> [u8; 16] {
    *SessionId::new(time, [0; 10]).as_bytes()
}

/// Finds sessions from `from` on that time has ended while their record does not say so yet. Reads outside the writer.
/// Answers them, and where to look next.
pub(super) fn find_ended(
    store: &redb::Database,
    codec: &Codec,
    now: Moment,
    run: RunId,
    from: [u8; 16],
) -> Result<(Vec<SessionId>, Option<[u8; 16]>), StoreError> {
    let unreadable = |error: redb::Error| StoreError::Unavailable(error.to_string());
    let read = || {
        let sessions = store.begin_read()?.open_table(SESSIONS_TABLE)?;
        let range = sessions.range(from..before(now.wall.minus(SESSION_LIFE)))?;
        Ok(range.take(BITE).collect::<Result<Vec<_>, _>>()?)
    };
    let rows = read().map_err(unreadable)?;
    let next = if rows.len() == BITE { rows.last().map(|(id, _)| after(id.value())) } else { None };
    let mut ended = Vec::new();
    for (id, record) in rows {
        let id = SessionId::from_bytes(id.value());
        // A record that does not open is left to whoever asks for it: its error names it.
        let Ok(StoredSession { mut session, .. }) = codec.session(id, record.value()) else { continue };
        if session.ended().is_none() {
            session.settle(now, run);
            if session.ended().is_some() {
                ended.push(id);
            }
        }
    }
    Ok((ended, next))
}

fn after(id: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(id).saturating_add(1).to_be_bytes()
}

/// Writes down the ends that [`find_ended`] found, which erases verifiers and states.
pub(super) fn write_ends(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    ids: &[SessionId],
) -> Outcome<u64> {
    let (mut written, mut changes) = (0, Vec::new());
    for id in ids {
        let Some(record) = tables.sessions.get(id.as_bytes()).map_err(database)? else { continue };
        let mut stored = codec.session(*id, record.value())?;
        if stored.session.ended().is_some() {
            continue;
        }
        stored.session.settle(now, run);
        if stored.session.ended().is_some() {
            changes.push(put_session(codec, &stored)?);
            changes.extend(forget_state(tables, codec, &stored)?);
            written += 1;
        }
    }
    Ok((written, changes))
}

/// Removes sessions past their retention, with all that belongs to them.
pub(super) fn remove_old(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    retention: Duration,
) -> Outcome<Swept> {
    let end = before(now.wall.minus(SESSION_LIFE).minus(retention));
    let (mut removed, mut changes) = (0, Vec::new());
    for row in tables.sessions.range(..end).map_err(database)?.take(BITE) {
        let (id, record) = row.map_err(database)?;
        let id = SessionId::from_bytes(id.value());
        removed += 1;
        changes.push(Change::RemoveSession(id));
        match codec.session(id, record.value()) {
            Ok(stored) => changes.extend(rows_of(tables, codec, &stored)?),
            Err(error) => {
                tracing::error!(%error, "swept a record that does not open; rows that belong to it stay")
            }
        }
    }
    Ok((Swept { removed, more: removed == BITE as u64, ..Swept::default() }, changes))
}

/// The removal of all rows that belong to a session.
fn rows_of(
    tables: &Tables<'_>,
    codec: &Codec,
    stored: &StoredSession,
) -> Result<Vec<Change>, OperationError> {
    let session = &stored.session;
    let code = session.spent.filter(|spent| !spent.is_error).map(|spent| *spent.callback.as_bytes());
    let mut changes: Vec<_> = code.map(Change::RemoveCode).into_iter().collect();
    changes.extend(stored.request.map(Change::RemoveRequest));
    if let Some(provider_session) = &session.provider_session {
        let key = provider_session_key(codec, &session.client, provider_session);
        let is_ours = linked(tables, &key)?.is_some_and(|row| row.session == session.id.as_bytes());
        changes.extend(is_ours.then_some(Change::RemoveProviderSession(key)));
    }
    Ok(changes)
}
