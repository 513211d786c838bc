//! The embedded backend: one file, one writer, group commit.

mod begin;
mod budgets;
mod care;
mod consumers;
mod counts;
mod current;
#[cfg(test)]
mod cuts;
mod events;
mod file_system;
mod inbox;
mod keys;
mod latest;
mod live;
mod open;
mod place;
mod revocations;
mod rotate;
mod sessions;
mod sound;
mod status;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod touched;
mod trim;
mod watches;
mod writer;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase};
use tokio::sync::watch;

#[cfg(test)]
pub(super) use self::sessions::new_row;
use self::{
    budgets::budget_key,
    current::Current,
    file_system::{FileSystem, Home, HostFileSystem},
    latest::Latest,
    open::Opened,
    place::Own,
    sessions::{Query, TakeBudget},
    sweep::Progress,
    tables::{PROVIDER_SESSIONS_TABLE, SESSIONS_TABLE},
    watches::Subject,
    writer::Writer,
};
pub use self::{
    current::Closing,
    open::{OpenError, Opening, Settings},
};
use super::{
    Admitted, KeyRing, KeysError, LiveSessions, Lookup, NewSession, Rotation, Slot, Started, Store,
    StoreError, StoreMetrics, StoreStatus, Swept, Take, Took,
    record::{Codec, decode_link},
};
use crate::domain::{
    BudgetTerms, ClaimsEnd, ExchangeEnd, Moment, Outlook, ProviderSessionId, QueryEnd, Reason, Revocation,
    RevocationEnd, RunId, Session, SessionId, Timestamp, Viewer,
};

/// The store in one redb file.
#[derive(Debug)]
pub struct RedbStore {
    // The writer goes first: its thread shares the database, which lets the file go with its last owner.
    writer: Writer,
    database: Arc<Current>,
    codec: Arc<Codec>,
    run: RunId,
    retention: Duration,
    newest: Timestamp,
    /// Of the places of its inboxes.
    epoch: u32,
    /// Where it lies; none for a store in memory.
    home: Option<Home>,
    /// Which file it is.
    own: Own,
    /// The latest time that anything was read or written at.
    latest: Arc<Latest>,
    /// How far the sweep has come.
    sweep: Mutex<Progress>,
    /// The digest up to which those that are of no use any more have been looked for.
    digests: Mutex<Option<[u8; 32]>>,
}

impl RedbStore {
    /// Opens the file for a run of the daemon that begins now.
    ///
    /// # Errors
    /// [`OpenError`] says what stands in the way and what to do.
    pub fn open(settings: Settings, run: RunId, now: Moment) -> Result<Self, OpenError> {
        Self::open_telling(settings, run, now, |_| {})
    }

    /// [`RedbStore::open`], which tells what it is at whenever that may take long.
    ///
    /// # Errors
    /// The same.
    pub fn open_telling(
        settings: Settings,
        run: RunId,
        now: Moment,
        tell: impl Fn(Opening) + Clone + 'static,
    ) -> Result<Self, OpenError> {
        Self::open_in(Arc::new(HostFileSystem), settings, run, now, tell)
    }

    /// [`RedbStore::open_telling`] in a file system.
    fn open_in(
        files: Arc<dyn FileSystem>,
        settings: Settings,
        run: RunId,
        now: Moment,
        tell: impl Fn(Opening) + Clone + 'static,
    ) -> Result<Self, OpenError> {
        let Settings { path, cache_bytes, retention, keys } = settings;
        let home = Home { files, path, cache_bytes };
        let opening = sound::soundly(|| open::open_file(&home, keys, run, now, tell));
        let opened = opening.unwrap_or_else(|what| Err(open::nonsense(&home, &what)))?;
        Self::assemble(opened, run, retention, Some(home))
    }

    /// [`RedbStore::open`] on another place to keep bytes.
    #[cfg(test)]
    pub(crate) fn open_on(
        place: impl redb::StorageBackend,
        keys: KeyRing,
        retention: Duration,
        run: RunId,
        now: Moment,
    ) -> Result<Self, OpenError> {
        Self::assemble(open::open_backend(place, keys, now, run)?, run, retention, None)
    }

    fn assemble(
        opened: Opened,
        run: RunId,
        retention: Duration,
        home: Option<Home>,
    ) -> Result<Self, OpenError> {
        let Opened { database, codec, newest, epoch, file, last_begun: _ } = opened;
        let database = Arc::new(Current::new(database));
        let writer = Writer::start(Arc::clone(&database)).map_err(|error| OpenError::Io {
            path: home.as_ref().map(|home| home.path.display().to_string()).unwrap_or_default(),
            what: format!("the writer thread does not start: {error}"),
        })?;
        Ok(Self {
            writer,
            database,
            codec: Arc::new(codec),
            run,
            retention,
            newest,
            epoch,
            home,
            own: Own::new(file),
            latest: Arc::default(),
            sweep: Mutex::default(),
            digests: Mutex::default(),
        })
    }

    /// Where it is heard that all who share it have let it go, and it its file.
    pub fn closing(&self) -> Closing {
        self.database.closing()
    }

    /// Reads from the database as it is now.
    fn reading<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database.get();
        sound::read_soundly(|| read(&database))
    }

    /// Reads a session as it is stored; none where there is none.
    fn read(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.reading(|database| {
            // The transaction outlives what is read through it: the writer must not free a page under a reader.
            let transaction = database.begin_read().map_err(unreadable)?;
            let sessions = transaction.open_table(SESSIONS_TABLE).map_err(unreadable)?;
            let row = sessions.get(id.as_bytes()).map_err(unreadable)?;
            row.map(|row| self.codec.session(id, row.value()).map(|stored| stored.session)).transpose()
        })
    }

    /// The session that a provider session is linked to, for the first of the viewer's clients for which there is one that
    /// the viewer may see.
    fn read_by_provider_session(
        &self,
        viewer: &Viewer,
        provider_session: &ProviderSessionId,
    ) -> Result<Option<Session>, StoreError> {
        for client in viewer.clients.iter() {
            let key = sessions::provider_session_key(&self.codec, client, provider_session);
            if let Some(id) = self.read_link(&key)?
                && let Some(session) = self.read(id)?
                && viewer.sees(&session)
            {
                return Ok(Some(session));
            }
        }
        Ok(None)
    }

    fn read_link(&self, key: &[u8; 32]) -> Result<Option<SessionId>, StoreError> {
        self.reading(|database| {
            let transaction = database.begin_read().map_err(unreadable)?;
            let links = transaction.open_table(PROVIDER_SESSIONS_TABLE).map_err(unreadable)?;
            let row = links.get(key).map_err(unreadable)?;
            row.map(|row| decode_link(key, row.value()).map(|link| link.session)).transpose()
        })
    }
}

fn unreadable(error: impl Into<redb::Error>) -> StoreError {
    let error = error.into();
    if sound::is_damage(&error) {
        return sound::damaged(error);
    }
    StoreError::Unavailable(error.to_string())
}

#[async_trait]
impl Store for RedbStore {
    async fn start(&self, now: Moment, new: NewSession) -> Result<Started, StoreError> {
        let prepared = sessions::prepare_start(&self.codec, now, new)?;
        let (codec, latest, run) = (Arc::clone(&self.codec), Arc::clone(&self.latest), self.run);
        self.writer.write(move |tables| prepared.apply(tables, &codec, latest.after(now), run)).await
    }

    async fn session(&self, now: Moment, viewer: &Viewer, lookup: &Lookup) -> Result<Session, StoreError> {
        let (session, missing) = match lookup {
            Lookup::Id(id) => (self.read(*id)?, Reason::SessionNotFound),
            Lookup::State(state) => {
                let hash = sessions::state_hash(&self.codec, state.session, &state.secret);
                let session = self.read(state.session)?.filter(|session| session.state.matches(&hash));
                (session, Reason::StateUnknown)
            }
            Lookup::ProviderSession(id) => {
                (self.read_by_provider_session(viewer, id)?, Reason::SessionNotFound)
            }
        };
        let mut session = session.filter(|session| viewer.sees(session)).ok_or(missing)?;
        session.settle(self.latest.after(now), self.run);
        Ok(session)
    }

    async fn admit(&self, now: Moment, take: Take) -> Result<Admitted, StoreError> {
        let mut session = self.read(take.state.session)?.ok_or(Reason::StateUnknown)?;
        let callback = sessions::prepare_take(&self.codec, take).admit(&session)?;
        session.settle(self.latest.after(now), self.run);
        Ok(Admitted { session, callback })
    }

    async fn take(&self, now: Moment, take: Take, terms: &BudgetTerms) -> Result<Took, StoreError> {
        let prepared = sessions::prepare_take(&self.codec, take);
        let budget = TakeBudget { key: budget_key(&self.codec, terms), terms: terms.clone() };
        let (codec, latest, run) = (Arc::clone(&self.codec), Arc::clone(&self.latest), self.run);
        self.writer.write(move |tables| prepared.apply(tables, &codec, latest.after(now), run, &budget)).await
    }

    async fn end_exchange(
        &self,
        now: Moment,
        id: SessionId,
        slot: Slot,
        end: ExchangeEnd,
    ) -> Result<Session, StoreError> {
        let (codec, run) = (Arc::clone(&self.codec), self.run);
        self.writer
            .write_surely(move |tables| sessions::end_exchange(tables, &codec, now, run, id, slot, end))
            .await?
    }

    async fn end_claims(&self, now: Moment, id: SessionId, end: ClaimsEnd) -> Result<Session, StoreError> {
        let (codec, latest, run) = (Arc::clone(&self.codec), Arc::clone(&self.latest), self.run);
        self.writer
            .write_surely(move |tables| sessions::end_claims(tables, &codec, latest.after(now), run, id, end))
            .await
    }

    async fn cancel(&self, now: Moment, viewer: &Viewer, id: SessionId) -> Result<Session, StoreError> {
        let (codec, latest, run) = (Arc::clone(&self.codec), Arc::clone(&self.latest), self.run);
        let viewer = viewer.clone();
        self.writer
            .write(move |tables| sessions::cancel(tables, &codec, latest.after(now), run, &viewer, id))
            .await
    }

    async fn revoke(&self, now: Moment, viewer: &Viewer, id: SessionId) -> Result<Session, StoreError> {
        let (codec, latest, run) = (Arc::clone(&self.codec), Arc::clone(&self.latest), self.run);
        let viewer = viewer.clone();
        self.writer
            .write(move |tables| revocations::revoke(tables, &codec, latest.after(now), run, &viewer, id))
            .await
    }

    async fn revocations(&self, now: Moment) -> Result<Vec<Revocation>, StoreError> {
        let mut queue = self.reading(|database| revocations::read(database, &self.codec))?;
        queue.sort_by_key(|revocation| revocation.left(now));
        Ok(queue)
    }

    async fn end_revocation(&self, now: Moment, id: SessionId, how: RevocationEnd) -> Result<(), StoreError> {
        let codec = Arc::clone(&self.codec);
        self.writer.write_surely(move |tables| revocations::end(tables, &codec, now, id, how)).await
    }

    fn new_revocations(&self) -> watch::Receiver<()> {
        self.writer.subscribe(Subject::Revocations)
    }

    async fn claim(&self, now: Moment, terms: &BudgetTerms) -> Result<Slot, StoreError> {
        let (key, terms) = (budget_key(&self.codec, terms), terms.clone());
        self.writer.write(move |tables| budgets::claim(tables, now, key, &terms)).await
    }

    async fn end_query(
        &self,
        now: Moment,
        id: SessionId,
        slot: Slot,
        end: &QueryEnd,
    ) -> Result<(), StoreError> {
        let (codec, latest, run) = (Arc::clone(&self.codec), Arc::clone(&self.latest), self.run);
        let status = if let QueryEnd::Status(status) = end { *status } else { None };
        let query = Query { slot, end: end.into(), status };
        self.writer
            .write_surely(move |tables| {
                sessions::end_query(tables, &codec, latest.after(now), run, id, query)
            })
            .await
    }

    async fn outlook(&self, now: Moment, terms: &BudgetTerms) -> Result<Outlook, StoreError> {
        let key = budget_key(&self.codec, terms);
        self.reading(|database| budgets::outlook(database, now, key, terms).map_err(unreadable))
    }

    async fn sweep(&self, now: Moment) -> Result<Swept, StoreError> {
        let (codec, run) = (Arc::clone(&self.codec), self.run);
        let due = {
            let mut progress = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
            sweep::find(&self.database.get(), &codec, &mut progress, now, run, self.retention)
        };
        if due.is_nothing() {
            return Ok(due.unswept());
        }
        self.writer.write_surely(move |tables| sweep::apply(tables, &codec, now, run, &due)).await
    }

    async fn live_sessions(&self, now: Moment, after: Option<SessionId>) -> Result<LiveSessions, StoreError> {
        let progress = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.latest.after(now), self.run);
        self.reading(|database| live::read(database, &self.codec, &progress, now, after))
    }

    async fn use_keys(&self, ring: KeyRing) -> Result<(), KeysError> {
        let codec = Arc::clone(&self.codec);
        self.writer.write_surely(move |tables| keys::use_keys(tables, &codec, ring)).await?
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotation, StoreError> {
        let ring = self.codec.keys.ring();
        let target = ring.first();
        let mut rotation = if rotation.target == Some(target) { rotation } else { Rotation::to(target) };
        let bite = self.reading(|database| rotate::find(database, &ring, &mut rotation))?;
        if !bite.is_empty() {
            let codec = Arc::clone(&self.codec);
            let write = self.writer.write_surely(move |tables| rotate::apply(tables, &codec, target, bite));
            rotation.sealed += write.await?;
        }
        if rotation.table().is_none() && rotation.end.is_none() {
            let (codec, stuck) = (Arc::clone(&self.codec), rotation.stuck.clone());
            let write = self.writer.write_surely(move |tables| rotate::end(tables, &codec, target, &stuck));
            if let Some((end, is_sealed)) = write.await? {
                rotation.end = Some(end);
                rotation.checked += 1;
                rotation.sealed += u64::from(is_sealed);
                rotation.total = rotation.checked;
            }
        }
        Ok(rotation)
    }

    fn changes(&self, id: SessionId) -> watch::Receiver<()> {
        self.writer.subscribe(Subject::Session(id))
    }

    async fn heartbeat(&self) -> Result<(), StoreError> {
        self.writer.write_surely(|_| Ok(((), Vec::new()))).await
    }

    fn status(&self) -> StoreStatus {
        status::read(self)
    }

    fn metrics(&self) -> StoreMetrics {
        self.writer.metrics().clone()
    }

    fn newest(&self) -> Timestamp {
        self.newest
    }

    async fn ended(&self) -> String {
        self.writer.ended().await;
        let path = self.home.as_ref().map(|home| format!("{}: ", home.path.display())).unwrap_or_default();
        let latch = self.writer.latch();
        match latch.reason() {
            Some(why) if latch.is_damage() => format!(
                "{path}the file may be damaged ({why}); once the daemon runs again {}, or where it ends again",
                sound::REMEDY
            ),
            Some(why) => format!("{path}a write failed ({why}); make room on its disk, or mend it"),
            None => format!("{path}the writer thread has ended"),
        }
    }
}
