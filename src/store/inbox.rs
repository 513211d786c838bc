//! The inbox: what the provider's webhooks brought, kept for whoever wants it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::StoreError;
use crate::domain::{
    CallerName, ClientName, ConsumerName, Envelope, EventId, Moment, ProviderSessionId, Session, SessionId,
    Viewer, WebhookSecret,
};

/// A verified webhook.
#[derive(Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// The client it came for.
    pub client: ClientName,
    /// Its body, verbatim.
    pub body: Vec<u8>,
    /// What could be read from the body.
    pub envelope: Envelope,
    /// The secret that it was signed with.
    pub secret: WebhookSecret,
}

/// A kept event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// The client it came for.
    pub client: ClientName,
    /// Its place in the client's inbox, from 1.
    pub sequence: u64,
    /// The provider's type; empty for none.
    pub kind: String,
    /// The provider's session it is about.
    pub provider_session: Option<ProviderSessionId>,
    /// When it was received.
    pub received: Moment,
    /// Whether its body is a JSON object.
    pub parsed: bool,
    /// Whether an earlier event had the same inner id and other bytes.
    pub id_reused: bool,
    /// The session that it belongs to, once one is known, and who started it.
    pub session: Option<(SessionId, CallerName)>,
    /// Its body, verbatim.
    pub body: Vec<u8>,
}

impl Event {
    /// Whether a viewer may see it: one of a session as that session, one of none with leave to see such.
    pub fn is_seen_by(&self, viewer: &Viewer) -> bool {
        match &self.session {
            Some((_, owner)) => viewer.sees_of(&self.client, owner),
            None => viewer.clients.contains(&self.client) && viewer.sees_unlinked,
        }
    }
}

/// What became of a webhook.
#[derive(Debug)]
pub struct Ingested {
    /// The event; for a duplicate the one kept before.
    pub event: Event,
    /// Whether it was kept before.
    pub duplicate: bool,
    /// The session it belongs to, as it now stands, where one is known.
    pub session: Option<Session>,
}

/// Which events of a client are wanted.
#[derive(Clone, Debug)]
pub struct EventFilter {
    /// The client.
    pub client: ClientName,
    /// Only of these types; of all where there is none.
    pub kinds: Vec<String>,
    /// Only of this session.
    pub session: Option<SessionId>,
}

/// Some events of an inbox.
#[derive(Debug)]
pub struct EventPage {
    /// Those that were wanted, in order.
    pub events: Vec<Event>,
    /// The last place that was looked at.
    pub reached: u64,
    /// Whether there may be more behind it.
    pub more: bool,
}

/// Whoever reads a client's events one after the other, for one caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// Whose it is.
    pub caller: CallerName,
    /// Whose events it reads.
    pub client: ClientName,
    /// What the caller calls it.
    pub name: ConsumerName,
}

/// How long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// For so long.
    pub retention: Duration,
    /// While those of one client take no more than so many bytes.
    pub bytes: u64,
    /// What a consumer has not acknowledged is kept longer, up to so many bytes.
    pub unread_bytes: u64,
}

/// By what trimming goes.
#[derive(Clone, Copy, Debug)]
pub struct TrimTerms<'a> {
    /// How long events are kept.
    pub limits: EventLimits,
    /// The secrets in force: what was signed with one of them can come again.
    pub in_force: &'a [WebhookSecret],
    /// The callers of each client, whose consumers are waited for. Those of a caller that has left the configuration keep
    /// their place, and hold nothing up.
    pub readers: &'a BTreeMap<ClientName, BTreeSet<CallerName>>,
}

/// How far a consumer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    /// Which one.
    pub consumer: Consumer,
    /// Places of the inbox that it is not done with.
    pub behind: u64,
}

/// What one bite of trimming did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Events removed.
    pub removed: u64,
    /// Those of them that some consumer had not acknowledged.
    pub unread: u64,
    /// Whether more is to do.
    pub more: bool,
}

/// The part of the memory that keeps events. As with [`super::Store`], every method is one atomic fact.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// A webhook was received: it is kept once, and an open session that it is about has moved.
    ///
    /// # Errors
    /// The store's own.
    async fn ingest(&self, now: Moment, new: NewEvent) -> Result<Ingested, StoreError>;

    /// At most `most` events behind a place that are wanted and that the viewer may see, each once. Only reads, and a
    /// bounded part of the inbox.
    ///
    /// # Errors
    /// The store's own.
    async fn list(
        &self,
        viewer: &Viewer,
        filter: &EventFilter,
        after: u64,
        most: usize,
    ) -> Result<EventPage, StoreError>;

    /// The same for a consumer that reads on: an event that found its session late is told anew at the place where it did
    /// to whoever could not see it before.
    ///
    /// # Errors
    /// The store's own.
    async fn read_on(
        &self,
        viewer: &Viewer,
        filter: &EventFilter,
        after: u64,
        most: usize,
    ) -> Result<EventPage, StoreError>;

    /// A consumer exists; answers up to where it is done. A new one is done with nothing.
    ///
    /// # Errors
    /// `OVERLOADED` when the caller has too many, or the store's own.
    async fn open_consumer(&self, now: Moment, consumer: &Consumer) -> Result<u64, StoreError>;

    /// A consumer is done up to a place; never less far than it was.
    ///
    /// # Errors
    /// `CURSOR_INVALID` for a consumer that does not exist or a place that the inbox has not reached, or the store's own.
    async fn acknowledge(&self, consumer: &Consumer, sequence: u64) -> Result<(), StoreError>;

    /// A consumer was told nothing behind `told` up to `reached`, since nothing there is for it: if it is done with `told`,
    /// it is done with all of that. Answers whether it is.
    ///
    /// # Errors
    /// The store's own.
    async fn pass_over(&self, consumer: &Consumer, told: u64, reached: u64) -> Result<bool, StoreError>;

    /// How far a client's consumers are. Only reads.
    ///
    /// # Errors
    /// The store's own. A row that does not open is logged and left out.
    async fn consumers(&self, client: &ClientName) -> Result<Vec<ConsumerStatus>, StoreError>;

    /// A consumer does not exist.
    ///
    /// # Errors
    /// The store's own.
    async fn delete_consumer(&self, consumer: &Consumer) -> Result<(), StoreError>;

    /// One bite of trimming: what is kept long enough is removed, oldest first. What proves that a webhook is a duplicate
    /// stays while a secret is in force that it was signed with.
    ///
    /// # Errors
    /// The store's own.
    async fn trim(&self, now: Moment, terms: TrimTerms<'_>) -> Result<Trimmed, StoreError>;

    /// Told with each place of an inbox: another after each restore, since places are then given to other events. A place of
    /// another epoch is none.
    fn epoch(&self) -> u32;

    /// Hears of each event of a client that is durable from now on; several that follow quickly may be heard as one.
    fn arrivals(&self, client: &ClientName) -> watch::Receiver<()>;
}
