//! The sweep: writes down what time has ended and removes what is past its retention, in bites.
//!
//! Every session lives equally long and ids follow time, so both are walks from the front of the table; there is no index
//! of expiry. The order of ids only says where to look: what is due is decided by each record's own age, since an id's
//! time is that of a wall clock, and wall clocks are wrong at times.

use std::{collections::BTreeSet, ops::Bound, time::Duration};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};

use super::{
    super::{
        StoreError, Swept,
        record::{Codec, StoredSession},
    },
    sessions::{forget_state, linked, provider_session_key},
    sound::read_soundly,
    tables::{Change, OperationError, Outcome, SESSIONS_TABLE, Tables, database, put_session},
    unreadable,
};
use crate::domain::{
    At, Ended, FromTheFuture, Moment, RunId, SESSION_LIFE, Session, SessionId, Status, Terminal, Timestamp,
    TokenStanding,
};

/// Most sessions that one bite settles, and removes. Each costs the writer a few microseconds for each row that belongs to
/// it, so that a bite holds other writes up for well under two milliseconds.
const BITE: usize = 64;

/// Most rows at the front of the table whose age nobody knows that a bite walks past to find those that are old.
const MOST_PASSED_OVER: usize = 16 * BITE;

/// How far the sweep has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last session that was looked at for its end.
    passed: Option<SessionId>,
    /// Those passed that time can still change, in exchange or holding a token, by when to look again.
    unfinished: BTreeSet<(Timestamp, SessionId)>,
    /// Those passed that held a token and missed their claims when they were looked at last.
    claimless: BTreeSet<SessionId>,
}

/// When to look again at a session that has not changed although its time had come, by the wall clock.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What one bite has to do.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Sessions that time has changed while their record does not say so yet.
    changed: Vec<SessionId>,
    /// Sessions past their retention.
    old: Vec<SessionId>,
    /// Whether there may be more.
    more: bool,
    /// What could not be read on the way; none where all could.
    unreadable: Option<String>,
}

impl Progress {
    /// Notes when to look at a session again, if time can still change it.
    fn remember(&mut self, session: &Session, now: Moment) {
        let by_time = match session.token {
            TokenStanding::Held { since, life, .. } => since.wall.plus(life),
            TokenStanding::None | TokenStanding::Revoked | TokenStanding::Expired => now.wall,
        };
        if session.is_unfinished() {
            self.unfinished.insert((by_time.max(now.wall.plus(LOOK_AGAIN)), session.id));
        }
        if session.at == At::Token {
            self.claimless.insert(session.id);
        } else {
            self.claimless.remove(&session.id);
        }
    }

    /// The last session that was looked at for its end.
    pub(super) fn passed(&self) -> Option<SessionId> {
        self.passed
    }

    /// Those passed that are to be looked at for their claims.
    pub(super) fn claimless(&self) -> &BTreeSet<SessionId> {
        &self.claimless
    }
}

impl Due {
    /// Whether there is nothing to do.
    pub(super) fn is_nothing(&self) -> bool {
        self.changed.is_empty() && self.old.is_empty()
    }

    /// What there is to say before anything of it is done.
    pub(super) fn unswept(&self) -> Swept {
        Swept { more: self.more, unreadable: self.unreadable.clone(), ..Swept::default() }
    }
}

/// Finds what is due. Reads outside the writer. Where a walk comes upon what cannot be read, the others go on, and what it has
/// found until then is written down all the same; nothing is removed then.
pub(super) fn find(
    store: &Database,
    codec: &Codec,
    progress: &mut Progress,
    now: Moment,
    run: RunId,
    retention: Duration,
) -> Due {
    let mut due = Due::default();
    let walks: [Step; 3] = [|walk| walk.find_ended(), |walk| walk.find_unfinished(), |walk| walk.find_old()];
    for walk in walks {
        let walked = read_soundly(|| {
            let transaction = store.begin_read().map_err(unreadable)?;
            let sessions = transaction.open_table(SESSIONS_TABLE).map_err(unreadable)?;
            walk(&mut Walk { sessions, codec, progress, due: &mut due, now, run, retention })
        });
        if let Err(error) = walked {
            due.unreadable = Some(error.to_string());
            due.old.clear();
        }
    }
    due
}

/// One of the things that are looked for.
type Step = fn(&mut Walk<'_>) -> Result<(), StoreError>;

/// A walk through the sessions, as they are at one moment.
struct Walk<'a> {
    sessions: ReadOnlyTable<[u8; 16], &'static [u8]>,
    codec: &'a Codec,
    progress: &'a mut Progress,
    due: &'a mut Due,
    now: Moment,
    run: RunId,
    retention: Duration,
}

impl Walk<'_> {
    /// Those that have not been passed yet and that time has ended.
    fn find_ended(&mut self) -> Result<(), StoreError> {
        let from = self.progress.passed.map_or(Bound::Unbounded, |id| Bound::Excluded(*id.as_bytes()));
        let range = self.sessions.range::<[u8; 16]>((from, Bound::Unbounded)).map_err(unreadable)?;
        for (count, row) in range.enumerate() {
            let (id, record) = row.map_err(unreadable)?;
            let id = SessionId::from_bytes(id.value());
            if count == BITE {
                self.due.more = true;
                break;
            }
            // A record that does not open is left to whoever asks for it: its error names it. One from the future reads
            // expired, but is left as it is: the clock may be wrong, and may be set right.
            if let Ok(StoredSession { mut session, .. }) = self.codec.session(id, record.value())
                && let Ok(age) = session.created.age(self.now)
            {
                if age < SESSION_LIFE {
                    break;
                }
                if session.settle(self.now, self.run) {
                    self.due.changed.push(id);
                }
                self.progress.remember(&session, self.now);
            }
            self.progress.passed = Some(id);
        }
        Ok(())
    }

    /// Those that were passed and that time has changed since.
    fn find_unfinished(&mut self) -> Result<(), StoreError> {
        while let Some((time, id)) = self.progress.unfinished.first().copied() {
            if time > self.now.wall || self.due.changed.len() >= 2 * BITE {
                self.due.more |= time <= self.now.wall;
                break;
            }
            // One that cannot be read must not keep those behind it from being looked at.
            let later = (self.now.wall.plus(LOOK_AGAIN), id);
            self.progress.unfinished.pop_first();
            self.progress.unfinished.insert(later);
            let record = self.sessions.get(id.as_bytes()).map_err(unreadable)?;
            self.progress.unfinished.remove(&later);
            let Some(Ok(mut stored)) = record.map(|record| self.codec.session(id, record.value())) else {
                continue;
            };
            if stored.session.settle(self.now, self.run) {
                self.due.changed.push(id);
            }
            self.progress.remember(&stored.session, self.now);
        }
        Ok(())
    }

    /// Those that are past their retention; none where anything could not be read. Removing rows merges their page with the one
    /// beside it, which may be the one that makes no sense: with its rows gone, nobody would find out about it any more.
    fn find_old(&mut self) -> Result<(), StoreError> {
        if self.due.unreadable.is_some() {
            return Ok(());
        }
        for (count, row) in self.sessions.iter().map_err(unreadable)?.enumerate() {
            let (id, record) = row.map_err(unreadable)?;
            let id = SessionId::from_bytes(id.value());
            if self.due.old.len() == BITE || count == MOST_PASSED_OVER {
                self.due.more |= self.due.old.len() == BITE;
                break;
            }
            match self.codec.session(id, record.value()).map(|stored| stored.session.created.age(self.now)) {
                Ok(Ok(age)) if age >= SESSION_LIFE + self.retention => self.due.old.push(id),
                Ok(Ok(_)) => break,
                // Of an age that nobody knows: it stays until the clock has caught up with it.
                Ok(Err(FromTheFuture)) => {}
                // Its id is all that is known of its age.
                Err(_) if id.time().plus(SESSION_LIFE).plus(self.retention) < self.now.wall => {
                    self.due.old.push(id);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
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
    let (mut swept, mut changes) = (due.unswept(), Vec::new());
    for id in &due.changed {
        let Some(record) = tables.sessions.get(id.as_bytes()).map_err(database)? else { continue };
        let Ok(mut stored) = codec.session(*id, record.value()) else { continue };
        let was_open = stored.session.ended().is_none();
        if stored.session.settle(now, run) {
            changes.push(put_session(codec, &stored)?);
            changes.extend(forget_state(tables, codec, &stored)?);
            let ended = stored.session.ended().filter(|_| was_open);
            swept.ended += u64::from(ended.is_some());
            tell(*id, ended);
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

/// As many sessions run out as are begun and left; one whose outcome is lost is rare, and worth a look.
fn tell(id: SessionId, ended: Option<Ended>) {
    match ended.map(|ended| ended.status) {
        Some(Terminal::Indeterminate) => {
            tracing::info!(session = %id, "an outcome is lost with the run that asked for it")
        }
        Some(status) => {
            let status = Status::Ended(status).as_str();
            tracing::debug!(session = %id, status, "a session's time is over");
        }
        None => {}
    }
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
