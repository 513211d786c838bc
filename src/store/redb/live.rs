//! Reading the sessions that have not ended, a bounded part of them at a time.

use std::{collections::BTreeSet, ops::Bound};

use redb::{Database, ReadableDatabase};

use super::{
    super::{LiveSessions, StoreError, record::Codec},
    sessions::log_damage,
    sweep::Progress,
    tables::SESSIONS_TABLE,
    unreadable,
};
use crate::domain::{Moment, RunId, SessionId};

/// Most records that one look opens: it holds up its thread.
const LOOKED_AT: usize = 256;

/// Those behind `after`; from the beginning where there is none. What the sweep has passed has ended by time, but for the
/// few that it remembers: they come first.
pub(super) fn read(
    store: &Database,
    codec: &Codec,
    progress: &Progress,
    (now, run): (Moment, RunId),
    after: Option<SessionId>,
) -> Result<LiveSessions, StoreError> {
    let transaction = store.begin_read().map_err(unreadable)?;
    let sessions = transaction.open_table(SESSIONS_TABLE).map_err(unreadable)?;
    let mut live = LiveSessions { sessions: Vec::new(), next: None };
    let mut look = |id: SessionId, record: &[u8]| {
        if let Ok(stored) = codec.session(id, record).map_err(log_damage) {
            let mut session = stored.session;
            session.settle(now, run);
            live.sessions.extend(session.ended().is_none().then_some(session));
        }
    };
    let remembered = if after.is_none() { progress.claimless() } else { &BTreeSet::new() };
    for id in remembered {
        if let Some(record) = sessions.get(id.as_bytes()).map_err(unreadable)? {
            look(*id, record.value());
        }
    }
    let from = after.or(progress.passed());
    let from = from.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(*id.as_bytes()));
    let mut next = None;
    for (count, row) in sessions.range::<[u8; 16]>((from, Bound::Unbounded)).map_err(unreadable)?.enumerate()
    {
        let (id, record) = row.map_err(unreadable)?;
        let id = SessionId::from_bytes(id.value());
        look(id, record.value());
        if count + 1 == LOOKED_AT {
            next = Some(id);
            break;
        }
    }
    live.next = next;
    Ok(live)
}
