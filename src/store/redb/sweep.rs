//! The sweep: writes down what time has ended and removes what is past its retention, in bites.
//!
//! Every session lives equally long and ids follow time, so both are walks from the front of the table; there is no index
//! of expiry. The order of ids only says where to look: what is due is decided by each record's own age, since an id's
//! time is that of a wall clock, and wall clocks are wrong at times.

use std::{collections::BTreeSet, ops::Bound, time::Duration};

use redb::{Database, ReadableDatabase, ReadableTable};

use super::{
    super::{
        StoreError, Swept,
        record::{Codec, StoredSession},
    },
    sessions::{forget_state, linked, provider_session_key},
    tables::{Change, OperationError, Outcome, SESSIONS_TABLE, Tables, database, put_session},
    unreadable,
};
use crate::domain::{Moment, RunId, SESSION_LIFE, SessionId};

/// Most sessions that one bite settles, and removes. Each costs the writer a few microseconds for each row that belongs to
/// it, so that a bite holds other writes up for well under two milliseconds.
const BITE: usize = 128;

/// How far the sweep has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last session that was looked at for its end.
    passed: Option<SessionId>,
    /// Those passed that time can still change: in exchange, or holding a token that will run out.
    unfinished: BTreeSet<SessionId>,
    /// Which of them was looked at last.
    turn: Option<SessionId>,
}

/// What one bite has to do.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Sessions that time has changed while their record does not say so yet.
    changed: Vec<SessionId>,
    /// Sessions past their retention.
    old: Vec<SessionId>,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// Finds what is due. Reads outside the writer.
pub(super) fn find(
    store: &Database,
    codec: &Codec,
    progress: &mut Progress,
    now: Moment,
    run: RunId,
    retention: Duration,
) -> Result<Due, StoreError> {
    let transaction = store.begin_read().map_err(unreadable)?;
    let sessions = transaction.open_table(SESSIONS_TABLE).map_err(unreadable)?;
    let mut due = Due::default();

    let from = progress.passed.map_or(Bound::Unbounded, |id| Bound::Excluded(*id.as_bytes()));
    let range = sessions.range::<[u8; 16]>((from, Bound::Unbounded)).map_err(unreadable)?;
    for (count, row) in range.enumerate() {
        let (id, record) = row.map_err(unreadable)?;
        let id = SessionId::from_bytes(id.value());
        if count == BITE {
            due.more = true;
            break;
        }
        // A record that does not open is left to whoever asks for it: its error names it.
        if let Ok(StoredSession { mut session, .. }) = codec.session(id, record.value()) {
            if !session.created.is_over(SESSION_LIFE, now) {
                break;
            }
            if session.settle(now, run) {
                due.changed.push(id);
            }
            if session.is_unfinished() {
                progress.unfinished.insert(id);
            }
        }
        progress.passed = Some(id);
    }

    let after = progress.turn.map_or(Bound::Unbounded, Bound::Excluded);
    let turn: Vec<_> = progress.unfinished.range((after, Bound::Unbounded)).take(BITE).copied().collect();
    progress.turn = if turn.len() == BITE { turn.last().copied() } else { None };
    for id in turn {
        let record = sessions.get(id.as_bytes()).map_err(unreadable)?;
        let opened = record.and_then(|record| codec.session(id, record.value()).ok());
        let is_changed =
            opened.map(|mut stored| (stored.session.settle(now, run), stored.session.is_unfinished()));
        match is_changed {
            Some((_, true)) => {}
            Some((is_changed, false)) => {
                progress.unfinished.remove(&id);
                if is_changed {
                    due.changed.push(id);
                }
            }
            None => {
                progress.unfinished.remove(&id);
            }
        }
    }

    for row in sessions.iter().map_err(unreadable)? {
        let (id, record) = row.map_err(unreadable)?;
        let id = SessionId::from_bytes(id.value());
        if due.old.len() == BITE {
            due.more = true;
            break;
        }
        let is_old = match codec.session(id, record.value()) {
            Ok(stored) => stored.session.created.is_over(SESSION_LIFE + retention, now),
            // Its id is all that is known of its age.
            Err(_) => id.time().plus(SESSION_LIFE).plus(retention) < now.wall,
        };
        if !is_old {
            break;
        }
        due.old.push(id);
    }
    Ok(due)
}

/// Does what is due: settled records are written down, which erases verifiers, tokens and states; old ones are removed with
/// all that belongs to them.
pub(super) fn apply(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    due: &Due,
) -> Outcome<Swept> {
    let (mut swept, mut changes) = (Swept { more: due.more, ..Swept::default() }, Vec::new());
    for id in &due.changed {
        let Some(record) = tables.sessions.get(id.as_bytes()).map_err(database)? else { continue };
        let Ok(mut stored) = codec.session(*id, record.value()) else { continue };
        let was_open = stored.session.ended().is_none();
        if stored.session.settle(now, run) {
            changes.push(put_session(codec, &stored)?);
            changes.extend(forget_state(tables, codec, &stored)?);
            swept.ended += u64::from(was_open && stored.session.ended().is_some());
        }
    }
    // Removals last: a session that is both changed and old is gone.
    for id in &due.old {
        let Some(record) = tables.sessions.get(id.as_bytes()).map_err(database)? else { continue };
        swept.removed += 1;
        changes.push(Change::RemoveSession(*id));
        match codec.session(*id, record.value()) {
            Ok(stored) => changes.extend(rows_of(tables, codec, &stored)?),
            Err(error) => {
                tracing::error!(%error, "swept a record that does not open; rows that belong to it stay")
            }
        }
    }
    Ok((swept, changes))
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
        let is_ours = linked(tables, &key)?.is_some_and(|link| link.session == session.id);
        changes.extend(is_ours.then_some(Change::RemoveProviderSession(key)));
    }
    Ok(changes)
}
