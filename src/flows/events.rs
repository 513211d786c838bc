//! Events for whoever wants them: in pages to look at, and in order for consumers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::stream;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::{Client, Flows, watch::sleep};
use crate::{
    domain::{ClientName, ConsumerName, Moment, Reason, Refusal, SessionId, Viewer, WebhookSecret},
    store::{Consumer, ConsumerStatus, Event, EventFilter, EventPage, StoreError, TrimTerms, Trimmed},
};

/// Most events that a stream reads at once; with the bound on a page's bytes, what a slow consumer costs in memory.
const READ_AT_ONCE: usize = 64;

/// How often a stream lets the store know that it has passed over what is nothing for its consumer.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Which events to look at.
#[derive(Debug)]
pub struct EventQuery {
    /// Name of the client; empty for the only one.
    pub client: String,
    /// Only of this type; empty for all.
    pub kind: String,
    /// Only of this session.
    pub session: Option<SessionId>,
}

/// The streams that are open: one for each consumer.
#[derive(Debug, Default)]
pub(super) struct OpenStreams(Mutex<Streams>);

#[derive(Debug, Default)]
struct Streams {
    open: HashMap<Consumer, (u64, CancellationToken)>,
    next: u64,
}

/// A stream's place among the open ones; dropping it gives it up.
struct Registration {
    flows: Arc<Flows>,
    consumer: Consumer,
    number: u64,
    /// Cancelled when a newer stream of the same consumer has begun, or the consumer is deleted.
    superseded: CancellationToken,
}

impl OpenStreams {
    /// Opens a stream, and ends the one that was open for the same consumer.
    fn open(&self, consumer: &Consumer) -> (u64, CancellationToken) {
        let mut streams = self.lock();
        let number = streams.next;
        streams.next += 1;
        let superseded = CancellationToken::new();
        if let Some((_, older)) = streams.open.insert(consumer.clone(), (number, superseded.clone())) {
            older.cancel();
        }
        (number, superseded)
    }

    /// Ends the stream that is open for a consumer.
    fn end(&self, consumer: &Consumer) {
        if let Some((_, stream)) = self.lock().open.remove(consumer) {
            stream.cancel();
        }
    }

    fn close(&self, consumer: &Consumer, number: u64) {
        let mut streams = self.lock();
        if streams.open.get(consumer).is_some_and(|(open, _)| *open == number) {
            streams.open.remove(consumer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.flows.event_streams.close(&self.consumer, self.number);
    }
}

/// A consumer's stream.
struct EventStream {
    viewer: Viewer,
    filter: EventFilter,
    /// The last place that was read.
    reached: u64,
    /// The last place that was told, or that the consumer was done with before.
    told: u64,
    /// Up to where the store knows that nothing was for this consumer behind what was told.
    passed_over: u64,
    /// When the store was told so last.
    noted: Option<Moment>,
    read: VecDeque<Event>,
    arrivals: watch::Receiver<()>,
    registration: Registration,
}

impl Flows {
    /// Of the places of events, as they are told and read; another after each restore.
    pub fn epoch(&self) -> u32 {
        self.store.epoch()
    }

    /// A page of events behind a place, oldest first.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, the store's.
    pub async fn events(
        &self,
        viewer: &Viewer,
        query: EventQuery,
        after: impl FnOnce(&EventFilter) -> Result<u64, Refusal>,
        most: usize,
    ) -> Result<(EventFilter, EventPage), Refusal> {
        let client = self.client(viewer, &query.client)?.name.clone();
        let kinds = Some(query.kind).filter(|kind| !kind.is_empty()).into_iter().collect();
        let filter = EventFilter { client, kinds, session: query.session };
        let after = after(&filter)?;
        let page = self.store.list(viewer, &filter, after, most).await?;
        Ok((filter, page))
    }

    /// Streams the events of a client to a consumer from where it is done, each when the one before is taken. A newer stream
    /// of the same consumer ends this one with `CONSUMER_SUPERSEDED`.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, `OVERLOADED` when the caller has too many consumers, the store's.
    pub async fn watch_events(
        self: &Arc<Self>,
        viewer: Viewer,
        client: &str,
        name: ConsumerName,
        kinds: Vec<String>,
    ) -> Result<impl Stream<Item = Result<Event, Refusal>> + Send + use<>, Refusal> {
        let client = self.client(&viewer, client)?.name.clone();
        let consumer = Consumer { caller: viewer.caller.clone(), client: client.clone(), name };
        let arrivals = self.store.arrivals(&client);
        let reached = self.store.open_consumer(self.now(), &consumer).await?;
        let (number, superseded) = self.event_streams.open(&consumer);
        let registration = Registration { flows: Arc::clone(self), consumer, number, superseded };
        let filter = EventFilter { client, kinds, session: None };
        let stream = EventStream {
            viewer,
            filter,
            reached,
            told: reached,
            passed_over: reached,
            noted: None,
            read: VecDeque::new(),
            arrivals,
            registration,
        };
        Ok(stream::unfold(Some(stream), |stream| async {
            let mut stream = stream?;
            match stream.next().await {
                Ok(event) => Some((Ok(event), Some(stream))),
                Err(refusal) => Some((Err(refusal), None)),
            }
        }))
    }

    /// A consumer is done with all events up to a place.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, `CURSOR_INVALID`, the store's.
    pub async fn acknowledge(
        &self,
        viewer: &Viewer,
        client: &str,
        name: ConsumerName,
        place: impl FnOnce(&ClientName) -> Result<u64, Refusal>,
    ) -> Result<(), Refusal> {
        let client = self.client(viewer, client)?.name.clone();
        let sequence = place(&client)?;
        let consumer = Consumer { caller: viewer.caller.clone(), client, name };
        let acknowledged = self.store.acknowledge(&consumer, sequence).await;
        acknowledged.map_err(|error| match Refusal::from(error) {
            Refusal { reason: Reason::CursorInvalid, .. } => Refusal::field_with(
                Reason::CursorInvalid,
                "cursor",
                "must be the cursor of an event that WatchEvents has told this consumer",
            ),
            refusal => refusal,
        })
    }

    /// How far a client's consumers are.
    ///
    /// # Errors
    /// The store's.
    pub async fn consumers(&self, client: &ClientName) -> Result<Vec<ConsumerStatus>, Refusal> {
        Ok(self.store.consumers(client).await?)
    }

    /// Forgets a consumer, and ends its stream.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, the store's.
    pub async fn delete_consumer(
        &self,
        viewer: &Viewer,
        client: &str,
        name: ConsumerName,
    ) -> Result<(), Refusal> {
        let client = self.client(viewer, client)?.name.clone();
        let consumer = Consumer { caller: viewer.caller.clone(), client, name };
        self.store.delete_consumer(&consumer).await?;
        self.event_streams.end(&consumer);
        Ok(())
    }

    /// How many events this process has removed that a consumer had not acknowledged.
    pub fn unread_events_removed(&self) -> u64 {
        self.unread_removed.load(Ordering::Relaxed)
    }

    /// Removes events that were kept long enough.
    ///
    /// # Errors
    /// The store's; the next time begins where this one stopped.
    pub async fn trim_events(&self) -> Result<Trimmed, StoreError> {
        let now = self.now().wall;
        let in_force = |client: &Client| -> Vec<WebhookSecret> {
            let secrets = client.webhook_secrets.iter().filter(|secret| secret.is_in_force(now));
            secrets.map(|secret| secret.secret.clone()).collect()
        };
        let clients = self.clients.all();
        let secrets: Vec<_> = clients.values().flat_map(|client| in_force(client)).collect();
        let readers = clients.values().map(|client| (client.name.clone(), client.callers.clone())).collect();
        let mut sum = Trimmed::default();
        loop {
            let terms = TrimTerms { limits: self.event_limits, in_force: &secrets, readers: &readers };
            let bite = self.store.trim(self.now(), terms).await?;
            sum.removed += bite.removed;
            sum.unread += bite.unread;
            self.unread_removed.fetch_add(bite.unread, Ordering::Relaxed);
            if !bite.more {
                return Ok(sum);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl EventStream {
    async fn next(&mut self) -> Result<Event, Refusal> {
        let flows = Arc::clone(&self.registration.flows);
        loop {
            if self.registration.superseded.is_cancelled() {
                return Err(Reason::ConsumerSuperseded.into());
            }
            if let Some(event) = self.read.pop_front() {
                self.told = event.sequence;
                return Ok(event);
            }
            // Marked as seen before the look: what comes after it is not missed.
            self.arrivals.mark_unchanged();
            let page = flows.store.read_on(&self.viewer, &self.filter, self.reached, READ_AT_ONCE).await?;
            self.reached = page.reached;
            self.read.extend(page.events);
            if !self.read.is_empty() {
                continue;
            }
            if page.more {
                // Much that is not wanted may lie ahead: others go first, and the daemon may stop.
                tokio::task::yield_now().await;
                if flows.stopping.is_cancelled() {
                    return Err(Reason::ShuttingDown.into());
                }
                continue;
            }
            let wake = self.note_passed_over(&flows).await?;
            tokio::select! {
                arrived = self.arrivals.changed() => if arrived.is_err() {
                    return Err(Reason::StoreUnavailable.into());
                },
                () = self.registration.superseded.cancelled() => {}
                () = sleep(wake) => {}
                () = flows.stopping.cancelled() => return Err(Reason::ShuttingDown.into()),
            }
        }
    }

    /// Lets the store know what was passed over since it was nothing for this consumer, so that it need not be kept for
    /// him; now and then, since each time costs a write. Answers when to come again, if there is more to say.
    async fn note_passed_over(&mut self, flows: &Flows) -> Result<Option<Duration>, Refusal> {
        if self.reached <= self.told.max(self.passed_over) {
            return Ok(None);
        }
        let now = flows.now();
        let since = self.noted.and_then(|noted| noted.age(now).ok()).unwrap_or(NOTE_EVERY);
        if since < NOTE_EVERY {
            return Ok(Some(NOTE_EVERY - since));
        }
        self.noted = Some(now);
        if flows.store.pass_over(&self.registration.consumer, self.told, self.reached).await? {
            self.passed_over = self.reached;
            return Ok(None);
        }
        Ok(Some(NOTE_EVERY))
    }
}
