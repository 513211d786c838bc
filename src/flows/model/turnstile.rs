//! The real store behind a turnstile: what is to be written waits until the history lets it pass, some at a time and in the
//! order that it likes. So every order of events can be had, and had again.
//!
//! The writer is a thread of its own. The history blocks while it works, so that the runtime, whose clock stands still and
//! jumps whenever nothing is left to do, has no chance to take that for idleness.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::sync::{oneshot, watch};

use super::{
    Bug,
    fact::{End, Fact, Said, claims_end},
    reference::{Reference, View},
};
use crate::{
    domain::{
        AuthorizationCode, BudgetTerms, ClaimsEnd, ClientName, ExchangeEnd, Moment, Outlook, Presented,
        QueryEnd, Revocation, RevocationEnd, Session, SessionId, Timestamp, Viewer,
    },
    store::{
        Admitted, BackupPiece, Care, Checked, CompactError, Compacted, Consumer, ConsumerStatus, EventFilter,
        EventPage, Inbox, Ingested, KeyRing, KeysError, LiveSessions, Lookup, NewEvent, NewSession,
        RedbStore, Rotation, Slot, Started, Store, StoreError, StoreMetrics, StoreStatus, Swept, Take, Took,
        TrimTerms, Trimmed, disk::Disk,
    },
};

type Work = Pin<Box<dyn Future<Output = (Said, Box<dyn FnOnce() + Send>)> + Send>>;

/// A fact that waits.
pub(super) struct Waiting {
    pub(super) fact: Fact,
    work: Work,
}

/// A fact that came about, or did not; whoever asked for it hears of it when it is delivered.
pub(super) struct Happened {
    pub(super) fact: Fact,
    pub(super) said: Said,
    /// Whether it was in the transaction that the disk failed in, if it failed.
    pub(super) was_begun: bool,
    pub(super) deliver: Box<dyn FnOnce() + Send>,
}

/// The store.
pub(super) struct Turnstile {
    inner: Arc<RedbStore>,
    waiting: Mutex<Vec<Waiting>>,
    disk: Disk,
    retention: u64,
    /// What is wrong with this store on purpose.
    bug: Option<Bug>,
    unique: AtomicU64,
    /// When anything was read last.
    read: Mutex<Moment>,
}

impl Turnstile {
    pub(super) fn new(inner: RedbStore, disk: Disk, retention: u64, bug: Option<Bug>) -> Self {
        let inner = Arc::new(inner);
        Self {
            inner,
            waiting: Mutex::default(),
            disk,
            retention,
            bug,
            unique: AtomicU64::default(),
            read: Mutex::default(),
        }
    }

    /// What waits; the history may take from it.
    pub(super) fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When anything was read last.
    pub(super) fn last_read(&self) -> Moment {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many open sessions the store has counted, and how many there are, by caller.
    pub(super) fn session_counts(&self) -> [std::collections::BTreeMap<String, u64>; 2] {
        self.inner.session_counts()
    }

    fn reads(&self, now: Moment) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    async fn pass<T: Send + 'static>(
        &self,
        fact: Fact,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
        read: impl FnOnce(&T) -> Said + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::pin(async move {
            let result = work.await;
            let said = Said::of(&result, read);
            let deliver: Box<dyn FnOnce() + Send> = Box::new(move || drop(sender.send(result)));
            (said, deliver)
        });
        self.waiting().push(Waiting { fact, work });
        match receiver.await {
            Ok(result) => result,
            // The history is over.
            Err(_) => std::future::pending().await,
        }
    }

    /// Lets facts pass: the writer does the first by itself and the others, if they come in time, in one transaction. Blocks
    /// until all are done.
    pub(super) fn let_pass(&self, facts: Vec<Waiting>) -> Vec<Happened> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let count = facts.len();
        let mut running: Vec<_> =
            facts.into_iter().map(|Waiting { fact, work }| (fact, work, None)).collect();
        if count > 1 {
            self.disk.hold();
        }
        // One after the other, until the writer stands before its first write; all others are behind it then.
        let mut first = 0;
        for (place, (_, work, done)) in running.iter_mut().enumerate() {
            loop {
                match work.as_mut().poll(&mut context) {
                    Poll::Ready(outcome) => *done = Some(outcome),
                    Poll::Pending if count > 1 && first == 0 && !self.disk.is_waited_for() => {
                        thread::yield_now();
                        continue;
                    }
                    Poll::Pending => {
                        if first == 0 {
                            first = place + 1;
                        }
                    }
                }
                break;
            }
        }
        self.disk.release();
        loop {
            let mut is_done = true;
            for (_, work, done) in &mut running {
                if done.is_none() {
                    match work.as_mut().poll(&mut context) {
                        Poll::Ready(outcome) => *done = Some(outcome),
                        Poll::Pending => is_done = false,
                    }
                }
            }
            if is_done {
                break;
            }
            thread::park();
        }
        let is_failed =
            |(.., done): &(Fact, Work, Option<(Said, _)>)| matches!(done, Some((Said::Unavailable, _)));
        let failed = running.iter().position(is_failed);
        // The one that the others stood behind was a transaction, and they were the next.
        let was_begun = |place: usize| match failed {
            Some(failed) if first > 0 && failed >= first => place >= first,
            Some(failed) => place == failed,
            None => false,
        };
        let happened = running.into_iter().enumerate().filter_map(|(place, (fact, _, done))| {
            let (said, deliver) = done?;
            Some(Happened { fact, said, was_begun: was_begun(place), deliver })
        });
        happened.collect()
    }

    /// A take as the store gets it.
    fn presented(&self, take: Take) -> Take {
        match (self.bug, &take.presented) {
            // A marker of the code alone would be found by any session's take.
            (Some(Bug::NoCodeMarker), Presented::Code(code)) => {
                let code = AuthorizationCode::new(format!("{} {}", code.expose(), take.state.session));
                Take { presented: Presented::Code(code), ..take }
            }
            _ => take,
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a callback presents, as the reference names it, and for an error whether it is the one of the session's end.
pub(super) fn callback(presented: &Presented) -> (String, Option<bool>) {
    match presented {
        Presented::Code(code) => (code.expose().to_owned(), None),
        Presented::Error { error, .. } => (format!("error {error}"), Some(error == "session_expired")),
    }
}

fn budget(terms: &BudgetTerms) -> (String, usize) {
    let name = Reference::budget_of(terms.kind, terms.credential.expose());
    (name, usize::try_from(terms.limit).unwrap_or(usize::MAX))
}

#[async_trait]
impl Store for Turnstile {
    async fn start(&self, now: Moment, new: NewSession) -> Result<Started, StoreError> {
        let fact = Fact::Start {
            now,
            id: new.id,
            client: new.client.clone(),
            caller: new.caller.clone(),
            secret: *new.secret.expose(),
            binding: new.binding.as_ref().map(|binding| binding.expose().to_owned()),
            request: new.request_id.clone(),
            arguments: format!(
                "{:?} {:?}",
                new.redirect_uri,
                new.binding.as_ref().map(|binding| binding.expose())
            ),
        };
        let inner = Arc::clone(&self.inner);
        self.pass(fact, async move { inner.start(now, new).await }, Said::started).await
    }

    async fn session(&self, now: Moment, viewer: &Viewer, lookup: &Lookup) -> Result<Session, StoreError> {
        self.reads(now);
        self.inner.session(now, viewer, lookup).await
    }

    async fn admit(&self, now: Moment, take: Take) -> Result<Admitted, StoreError> {
        self.reads(now);
        let admitted = self.inner.admit(now, self.presented(take)).await?;
        if self.bug == Some(Bug::NoSingleFlight) {
            let mut callback = admitted.callback;
            callback[..8].copy_from_slice(&self.unique.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            return Ok(Admitted { callback, ..admitted });
        }
        Ok(admitted)
    }

    async fn take(&self, now: Moment, take: Take, terms: &BudgetTerms) -> Result<Took, StoreError> {
        let (callback, error) = callback(&take.presented);
        let (budget, limit) = budget(terms);
        let fact = Fact::Take {
            now,
            id: take.state.session,
            viewer: take.viewer.clone(),
            secret: *take.state.secret.expose(),
            binding: take.binding.as_ref().map(|binding| binding.expose().to_owned()),
            callback,
            error,
            since: take.since,
            hint: take.provider_session.as_ref().map(ToString::to_string),
            budget,
            limit,
        };
        let (inner, take, terms) = (Arc::clone(&self.inner), self.presented(take), terms.clone());
        let (disk, lies) = (self.disk.clone(), self.bug == Some(Bug::SendBeforeCommit));
        let work = async move {
            // What was said to be durable, and is not until something else is.
            disk.lie(lies);
            let took = inner.take(now, take, &terms).await;
            disk.lie(false);
            took
        };
        self.pass(fact, work, Said::took).await
    }

    async fn end_exchange(
        &self,
        now: Moment,
        id: SessionId,
        slot: Slot,
        end: ExchangeEnd,
    ) -> Result<Session, StoreError> {
        let fact = Fact::EndExchange { now, id, slot, end: End::of(&end) };
        let inner = Arc::clone(&self.inner);
        let work = async move { inner.end_exchange(now, id, slot, end).await };
        self.pass(fact, work, |session| Said::Session(View::of(session))).await
    }

    async fn end_claims(&self, now: Moment, id: SessionId, end: ClaimsEnd) -> Result<Session, StoreError> {
        let fact = Fact::EndClaims { now, id, end: claims_end(&end) };
        let inner = Arc::clone(&self.inner);
        let work = async move { inner.end_claims(now, id, end).await };
        self.pass(fact, work, |session| Said::Session(View::of(session))).await
    }

    async fn cancel(&self, now: Moment, viewer: &Viewer, id: SessionId) -> Result<Session, StoreError> {
        let (inner, viewer) = (Arc::clone(&self.inner), viewer.clone());
        let fact = Fact::Cancel { now, id, viewer: viewer.clone() };
        let work = async move { inner.cancel(now, &viewer, id).await };
        self.pass(fact, work, |session| Said::Session(View::of(session))).await
    }

    async fn revoke(&self, now: Moment, viewer: &Viewer, id: SessionId) -> Result<Session, StoreError> {
        let (inner, viewer) = (Arc::clone(&self.inner), viewer.clone());
        let fact = Fact::Revoke { now, id, viewer: viewer.clone() };
        let work = async move { inner.revoke(now, &viewer, id).await };
        self.pass(fact, work, |session| Said::Session(View::of(session))).await
    }

    async fn revocations(&self, now: Moment) -> Result<Vec<Revocation>, StoreError> {
        self.inner.revocations(now).await
    }

    async fn end_revocation(&self, now: Moment, id: SessionId, how: RevocationEnd) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        let work = async move { inner.end_revocation(now, id, how).await };
        self.pass(Fact::EndRevocation { id, how }, work, |()| Said::Done).await
    }

    fn new_revocations(&self) -> watch::Receiver<()> {
        self.inner.new_revocations()
    }

    async fn claim(&self, now: Moment, terms: &BudgetTerms) -> Result<Slot, StoreError> {
        let (inner, terms) = (Arc::clone(&self.inner), terms.clone());
        let (budget, limit) = budget(&terms);
        let work = async move { inner.claim(now, &terms).await };
        self.pass(Fact::Claim { now, budget, limit }, work, |slot| Said::Claimed(Some(*slot))).await
    }

    async fn end_query(
        &self,
        now: Moment,
        id: SessionId,
        slot: Slot,
        end: &QueryEnd,
    ) -> Result<(), StoreError> {
        let fact = Fact::end_query(now, id, slot, end);
        let end = match end {
            QueryEnd::Status(status) => QueryEnd::Status(*status),
            QueryEnd::Refused { refusal, was_sent } => {
                QueryEnd::Refused { refusal: refusal.clone(), was_sent: *was_sent }
            }
        };
        let inner = Arc::clone(&self.inner);
        let work = async move { inner.end_query(now, id, slot, &end).await };
        self.pass(fact, work, |()| Said::Done).await
    }

    async fn outlook(&self, now: Moment, terms: &BudgetTerms) -> Result<Outlook, StoreError> {
        self.inner.outlook(now, terms).await
    }

    async fn sweep(&self, now: Moment) -> Result<Swept, StoreError> {
        let inner = Arc::clone(&self.inner);
        let fact = Fact::Sweep { now, retention: self.retention };
        self.pass(fact, async move { inner.sweep(now).await }, Said::swept).await
    }

    async fn live_sessions(&self, now: Moment, after: Option<SessionId>) -> Result<LiveSessions, StoreError> {
        self.reads(now);
        self.inner.live_sessions(now, after).await
    }

    async fn use_keys(&self, ring: KeyRing) -> Result<(), KeysError> {
        self.inner.use_keys(ring).await
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotation, StoreError> {
        self.inner.rotate(rotation).await
    }

    fn changes(&self, id: SessionId) -> watch::Receiver<()> {
        self.inner.changes(id)
    }

    async fn heartbeat(&self) -> Result<(), StoreError> {
        self.inner.heartbeat().await
    }

    fn status(&self) -> StoreStatus {
        self.inner.status()
    }

    fn metrics(&self) -> StoreMetrics {
        self.inner.metrics()
    }

    fn newest(&self) -> Timestamp {
        self.inner.newest()
    }

    async fn ended(&self) -> String {
        self.inner.ended().await
    }
}

#[async_trait]
impl Inbox for Turnstile {
    async fn ingest(&self, now: Moment, new: NewEvent) -> Result<Ingested, StoreError> {
        let fact = Fact::Ingest {
            now,
            client: new.client.clone(),
            body: new.body.clone(),
            about: new.envelope.provider_session.as_ref().map(ToString::to_string),
            status: new.envelope.status,
        };
        let inner = Arc::clone(&self.inner);
        self.pass(fact, async move { inner.ingest(now, new).await }, Said::kept).await
    }

    async fn list(
        &self,
        viewer: &Viewer,
        filter: &EventFilter,
        after: u64,
        most: usize,
    ) -> Result<EventPage, StoreError> {
        self.inner.list(viewer, filter, after, most).await
    }

    async fn read_on(
        &self,
        viewer: &Viewer,
        filter: &EventFilter,
        after: u64,
        most: usize,
    ) -> Result<EventPage, StoreError> {
        self.inner.read_on(viewer, filter, after, most).await
    }

    async fn open_consumer(&self, now: Moment, consumer: &Consumer) -> Result<u64, StoreError> {
        self.inner.open_consumer(now, consumer).await
    }

    async fn acknowledge(&self, consumer: &Consumer, sequence: u64) -> Result<(), StoreError> {
        self.inner.acknowledge(consumer, sequence).await
    }

    async fn delete_consumer(&self, consumer: &Consumer) -> Result<(), StoreError> {
        self.inner.delete_consumer(consumer).await
    }

    async fn pass_over(&self, consumer: &Consumer, told: u64, reached: u64) -> Result<bool, StoreError> {
        self.inner.pass_over(consumer, told, reached).await
    }

    async fn consumers(&self, client: &ClientName) -> Result<Vec<ConsumerStatus>, StoreError> {
        self.inner.consumers(client).await
    }

    async fn trim(&self, now: Moment, terms: TrimTerms<'_>) -> Result<Trimmed, StoreError> {
        let TrimTerms { limits, in_force, readers } = terms;
        let (inner, in_force, readers) = (Arc::clone(&self.inner), in_force.to_vec(), readers.clone());
        let work = async move {
            let terms = TrimTerms { limits, in_force: &in_force, readers: &readers };
            inner.trim(now, terms).await
        };
        self.pass(Fact::Other, work, |_| Said::Done).await
    }

    fn epoch(&self) -> u32 {
        self.inner.epoch()
    }

    fn arrivals(&self, client: &ClientName) -> watch::Receiver<()> {
        self.inner.arrivals(client)
    }
}

#[async_trait]
impl Care for Turnstile {
    fn backup(&self, now: Moment) -> Result<BoxStream<'static, Result<BackupPiece, StoreError>>, StoreError> {
        self.inner.backup(now)
    }

    fn check(&self, now: Moment) -> Result<BoxStream<'static, Result<Checked, StoreError>>, StoreError> {
        self.inner.check(now)
    }

    async fn compact(
        &self,
        is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Compacted, CompactError> {
        self.inner.compact(is_stopping).await
    }
}
