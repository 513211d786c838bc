//! The use cases, one file each: refuse early → one atomic fact in the store → act at the provider → one atomic fact.
//!
//! What was begun belongs to the daemon: a caller that goes away ends its own waiting, never a request in flight.

mod cancel;
mod care;
mod clients;
mod complete;
mod events;
mod flight;
mod gate;
mod ids;
mod line;
mod metrics;
#[cfg(test)]
mod model;
mod reconcile;
mod retry;
mod revoke;
mod rotate;
mod session;
mod start;
mod sweep;
#[cfg(test)]
mod testing;
mod token;
mod watch;
mod webhook;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use self::{clients::Clients, events::OpenStreams, flight::Flights, ids::IdSource};
pub use self::{
    clients::Registered,
    complete::Complete,
    events::EventQuery,
    gate::BudgetStatus,
    metrics::FlowMetrics,
    reconcile::ReconciliationStatus,
    start::{Start, StartAnswer},
    webhook::{Forgery, IngestAnswer, Webhook, WebhookCounts},
};
use crate::{
    domain::{
        ApiKey, BudgetTerms, CallerName, ClientName, Clock, Moment, Reason, Refusal, Session, SessionId,
        SigningSecret, Timestamp, Viewer,
    },
    provider::Provider,
    store::{EventLimits, PendingLimits, Store, StoreError, StoreStatus, Swept},
};

/// A configured client of the provider, as the flows use it.
pub struct Client {
    /// Its name.
    pub name: ClientName,
    /// The provider's base URL, for people.
    pub base_url: Url,
    /// Where the browser goes.
    pub authorize: Url,
    /// Further fixed parameters of the authorization URL.
    pub authorize_params: BTreeMap<String, String>,
    /// The client id; the authorization URL shows it.
    pub client_id: ApiKey,
    /// Where the provider may send the browser back to.
    pub redirect_uris: Vec<String>,
    /// Whether a start must be tied to a browser session.
    pub require_binding: bool,
    /// Whether the key is a test key.
    pub test_mode: bool,
    /// What a callback's `iss` must be (RFC 9207), where it is checked.
    pub issuer: Option<String>,
    /// Who may use it.
    pub callers: BTreeSet<CallerName>,
    /// The secrets that webhooks may be signed with, those included whose end has come.
    pub webhook_secrets: Vec<SigningSecret>,
    /// How many token requests the provider takes.
    pub token_budget: BudgetTerms,
    /// How many session queries it takes.
    pub session_budget: BudgetTerms,
    /// The way to the provider.
    pub provider: Arc<dyn Provider>,
}

/// The use cases with all that they need.
pub struct Flows {
    store: Arc<dyn Store>,
    clients: Clients,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    last_sweep: std::sync::Mutex<Option<(Moment, Swept)>>,
    /// How long events are kept.
    event_limits: EventLimits,
    /// How many sessions may be open.
    pending: PendingLimits,
    /// Events removed although a consumer had not acknowledged them.
    unread_removed: AtomicU64,
    /// Consumers' streams that are open.
    event_streams: OpenStreams,
    /// Cancelled when the daemon stops.
    stopping: CancellationToken,
    /// What goes on after its caller has gone.
    tasks: TaskTracker,
    /// The rotation of the store's keys that goes on, or went on last.
    rotation: rotate::LastRotation,
    /// Backups, checks and compactions of the store.
    caretaking: care::Caretaking,
    metrics: FlowMetrics,
    /// Callbacks on their way to an outcome, by session and callback.
    completions: Flights<(SessionId, [u8; 32]), Landing<Session>>,
    /// Questions to the provider under way, by session.
    refreshes: Flights<SessionId, Landing<()>>,
}

/// What a flight that several callers share comes to.
type Landing<T> = Result<Result<T, Refusal>, Abandoned>;

/// It ended before it began, since nobody waited for it any more. Who joined it in that moment begins anew.
#[derive(Clone, Copy, Debug)]
struct Abandoned;

impl Flows {
    /// Flows over a store, for the given clients.
    pub fn new(
        store: Arc<dyn Store>,
        clients: Vec<Client>,
        event_limits: EventLimits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ids = IdSource::after(store.newest());
        let tasks = TaskTracker::new();
        let stopping = CancellationToken::new();
        let clients = Clients::new(clients, Arc::clone(&store), Arc::clone(&clock), stopping.clone());
        Self {
            store,
            clients,
            clock,
            ids,
            last_sweep: std::sync::Mutex::default(),
            completions: Flights::new(tasks.clone()),
            refreshes: Flights::new(tasks.clone()),
            event_limits,
            pending: PendingLimits::default(),
            unread_removed: AtomicU64::default(),
            event_streams: OpenStreams::default(),
            stopping,
            tasks,
            rotation: rotate::LastRotation::default(),
            caretaking: care::Caretaking::default(),
            metrics: FlowMetrics::default(),
        }
    }

    /// The same flows with other caps on open sessions.
    #[must_use]
    pub fn with_pending_limits(self, pending: PendingLimits) -> Self {
        Self { pending, ..self }
    }

    /// How the store is.
    pub fn store_status(&self) -> StoreStatus {
        self.store.status()
    }

    /// What is counted of the flows.
    pub fn metrics(&self) -> &FlowMetrics {
        &self.metrics
    }

    /// How the rate budgets of a client stand.
    ///
    /// # Errors
    /// The store's.
    pub async fn budgets(&self, client: &ClientName) -> Result<[BudgetStatus; 2], Refusal> {
        let client = self.clients.get(client).ok_or(Reason::ClientUnknown)?;
        Ok([client.gates.token.status().await?, client.gates.session.status().await?])
    }

    /// The configured clients, by name.
    pub fn clients(&self) -> Vec<Arc<Registered>> {
        self.clients.all().values().cloned().collect()
    }

    /// From here on these are the clients. What was begun goes on with what it began with.
    pub fn reload(&self, clients: Vec<Client>) {
        self.clients.replace(clients);
    }

    /// The client that a call names; an empty name means the only one that the caller may use.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, also for a client that is not this caller's; `INVALID_ARGUMENT` where a name is needed.
    pub fn client(&self, viewer: &Viewer, name: &str) -> Result<Arc<Registered>, Refusal> {
        let unknown = || {
            Refusal::field_with(Reason::ClientUnknown, "client", "must be one of the clients of this caller")
        };
        if name.is_empty() {
            let mut own = viewer.clients.iter();
            let (Some(only), None) = (own.next(), own.next()) else {
                return Err(Refusal::field(
                    "client",
                    "is needed, since this caller may use more than one client, or none",
                ));
            };
            return self.clients.get(only).ok_or_else(unknown);
        }
        let name =
            ClientName::parse(name).map_err(|rule| Refusal::field("client", format!("must be {rule}")))?;
        viewer.clients.get(&name).and_then(|name| self.clients.get(name)).ok_or_else(unknown)
    }

    /// The client of that name, for whoever is no caller: the sender of a webhook shows by its signature who he is.
    pub fn client_named(&self, name: &str) -> Option<Arc<Registered>> {
        self.clients.get(&ClientName::parse(name).ok()?)
    }

    /// Ends what would go on for ever, streams, and what would begin anew, retries. Call it when the daemon stops.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Cancelled when the daemon stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Waits until all that was begun at the provider has ended and is recorded. Call it when no new work comes in. Not
    /// waited for are revocations, which are durable, and are asked for again.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How much of what was begun at the provider has not ended yet.
    pub fn in_flight(&self) -> usize {
        self.tasks.len()
    }

    /// The present time.
    pub fn time(&self) -> Timestamp {
        self.now().wall
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }
}

impl From<StoreError> for Refusal {
    /// What a caller hears of the store's errors. Their text is for the log.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal,
            StoreError::BudgetSpent(outlook) => {
                Self { retry_after: Some(outlook.wait_behind(0)), ..Reason::RateLimited.into() }
            }
            StoreError::Overloaded => Reason::Overloaded.into(),
            StoreError::Unavailable(why) => {
                let reason = Reason::StoreUnavailable;
                tracing::error!(%reason, %why, "a call was refused by the store");
                reason.into()
            }
            StoreError::Corrupt(what) => {
                let reason = Reason::RecordCorrupt;
                tracing::error!(%reason, %what, "a stored record does not open");
                reason.into()
            }
        }
    }
}
