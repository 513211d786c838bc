//! Remembers. The only rooms that name a database.
//!
//! [`Store`] has one method for each atomic fact, not get and put: inside its own write transaction a method reads again,
//! asks the domain's transition, writes, and answers only when that is durable. What a caller read before serves to
//! refuse early, nothing more.

mod care;
#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod disk;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::record::fuzzing;
mod inbox;
mod keys;
mod metrics;
mod panics;
mod record;
mod redb;
mod seal;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;

use self::care::BACKUP_OF_ANY_VERSION;
pub(crate) use self::panics::{is_told_by_the_store, said};
pub use self::{
    care::{BACKUP_MAGIC, BackupPiece, Care, Checked, CompactError, Compacted},
    inbox::{
        Consumer, ConsumerStatus, Event, EventFilter, EventLimits, EventPage, Inbox, Ingested, NewEvent,
        TrimTerms, Trimmed,
    },
    keys::{KeysError, MissingKeys, Rotation, RotationEnd},
    metrics::StoreMetrics,
    redb::{Closing, OpenError, Opening, RedbStore, Settings},
    seal::{KeyId, KeyRing, MasterKey, MasterKeyError},
};
use crate::domain::{
    AccessToken, Binding, BudgetTerms, CallerName, ClaimsEnd, ClientName, CodeVerifier, ExchangeEnd, Moment,
    Outlook, Presented, ProviderSessionId, QueryEnd, Reason, Refusal, Revocation, RevocationEnd, Scope,
    Session, SessionId, SlotId, State, StateSecret, Status, Timestamp, Viewer,
};

/// Why a fact did not come about.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The domain said no; nothing was written.
    #[error("refused: {}", .0.reason)]
    Refused(Refusal),
    /// The rate budget has no slot for the request that would be sent; nothing was written.
    #[error("the rate budget is spent")]
    BudgetSpent(Outlook),
    /// More is waiting than the store takes.
    #[error("the store's queue is full")]
    Overloaded,
    /// No writes until the store is opened again; the text is for the operator.
    #[error("the store takes no writes: {0}")]
    Unavailable(String),
    /// A record that does not open; the text names it for the operator.
    #[error("a stored record is damaged: {0}")]
    Corrupt(String),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Reason> for StoreError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// What a new session is made of.
#[derive(Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The client it runs for.
    pub client: ClientName,
    /// Who starts it.
    pub caller: CallerName,
    /// What is asked for.
    pub scopes: Vec<Scope>,
    /// Where the provider sends the browser back to.
    pub redirect_uri: String,
    /// The caller's correlation text; empty for none.
    pub reference: String,
    /// Whether the client's key is a test key.
    pub test_mode: bool,
    /// The secret half of its state.
    pub secret: StateSecret,
    /// Its PKCE verifier.
    pub verifier: CodeVerifier,
    /// What ties it to a browser session.
    pub binding: Option<Binding>,
    /// What makes its start idempotent.
    pub request_id: Option<String>,
    /// How many sessions may be open, this one included.
    pub limits: PendingLimits,
}

/// How many sessions may be open at a time: neither presented nor ended. One that time has ended counts until the sweep has
/// written that down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLimits {
    /// Of the caller that starts one.
    pub caller: u64,
    /// Of all callers together.
    pub all: u64,
}

impl PendingLimits {
    /// A cap for all; a caller without one of its own may have a tenth of them.
    pub const fn of_all(all: u64) -> Self {
        Self { caller: all.div_ceil(10), all }
    }
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self::of_all(1_000_000)
    }
}

/// A session that was started, now or before.
#[derive(Debug)]
pub struct Started {
    /// The session as it stands.
    pub session: Session,
    /// Its state and verifier, while the state can still be used.
    pub usable: Option<(State, CodeVerifier)>,
}

/// How a session is named.
#[derive(Debug)]
pub enum Lookup {
    /// By its id.
    Id(SessionId),
    /// By its state, both halves of which must be right.
    State(State),
    /// By the provider's id.
    ProviderSession(ProviderSessionId),
}

/// A callback that is presented.
#[derive(Clone, Debug)]
pub struct Take {
    /// Who presents it.
    pub viewer: Viewer,
    /// Its state.
    pub state: State,
    /// What it presents.
    pub presented: Presented,
    /// Since when: it may have waited in line.
    pub since: Moment,
    /// The binding given with it.
    pub binding: Option<Binding>,
    /// The provider's session id in it, a hint.
    pub provider_session: Option<ProviderSessionId>,
}

/// What a callback comes to that may be presented.
#[derive(Debug)]
pub struct Admitted {
    /// The session as it stands.
    pub session: Session,
    /// What tells this callback from all others.
    pub callback: [u8; 32],
}

/// What taking comes to.
#[derive(Debug)]
pub struct Took {
    /// The session as it now stands.
    pub session: Session,
    /// What is to be done.
    pub next: Next,
}

/// What a taken callback asks for.
#[derive(Debug)]
pub enum Next {
    /// Send the token request: the session is SENT.
    Send {
        /// The verifier to send.
        verifier: CodeVerifier,
        /// What the request uses of the rate budget.
        slot: Slot,
    },
    /// Fetch the claims: the token is held.
    FetchClaims {
        /// The token to fetch them with.
        token: AccessToken,
    },
    /// Nothing: the session has ended, now or before, and its outcome is the answer.
    Answer,
}

/// A slot of a rate budget, held for one request. Whoever has it says how that request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    budget: [u8; 32],
    id: SlotId,
}

/// How often [`Store::sweep`] is to be called, bite after bite until nothing is left to do.
pub const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What one bite of the sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions whose end by time was written down, their verifiers erased.
    pub ended: u64,
    /// Sessions removed with all that belongs to them.
    pub removed: u64,
    /// Whether more is to do.
    pub more: bool,
    /// Why some sessions could not be looked at; none where all could.
    pub unreadable: Option<String>,
}

/// A part of the sessions that have not ended.
#[derive(Debug)]
pub struct LiveSessions {
    /// Those that were found, as they stand.
    pub sessions: Vec<Session>,
    /// Behind which one to look on; none at the end.
    pub next: Option<SessionId>,
}

/// How the store is.
#[derive(Clone, Debug, Default)]
pub struct StoreStatus {
    /// Name of the backend.
    pub backend: &'static str,
    /// Why it takes no writes; none while it does.
    pub unwritable: Option<String>,
    /// What is wrong with its file although it takes writes, and what to do; none while nothing is.
    pub trouble: Option<String>,
    /// Size of what it occupies, bytes.
    pub bytes: u64,
    /// Room that is left where it is, bytes; none where that cannot be told.
    pub free_bytes: Option<u64>,
    /// Operations that wait for their turn to be written.
    pub waiting: u64,
    /// Sessions kept.
    pub sessions: u64,
    /// How many of them stand how; a status that none has is left out.
    pub by_status: BTreeMap<Status, u64>,
    /// Events kept.
    pub events: u64,
    /// Tokens that wait to be revoked.
    pub revocations: u64,
    /// Version of the stored form.
    pub schema_version: u32,
}

/// Memory of the daemon: every method one atomic fact, durable when it answers.
///
/// A method that answers with an error has written nothing, except that after [`StoreError::Unavailable`] a fact may or
/// may not have come about; the store then takes no more writes.
#[async_trait]
pub trait Store: Inbox + Care {
    /// A new session exists; with a known request id and the same arguments, the session that it made before.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED`, `OVERLOADED` where too many sessions are open, or the store's own.
    async fn start(&self, now: Moment, new: NewSession) -> Result<Started, StoreError>;

    /// Reads a session that the viewer may see, as it stands at `now`.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `STATE_UNKNOWN`, or the store's own.
    async fn session(&self, now: Moment, viewer: &Viewer, lookup: &Lookup) -> Result<Session, StoreError>;

    /// Whether a callback may be presented at all: what must be so before it may share what another call with it brings
    /// about. Only reads.
    ///
    /// # Errors
    /// The refusals of [`Session::admit`], or the store's own.
    async fn admit(&self, now: Moment, take: Take) -> Result<Admitted, StoreError>;

    /// A callback was presented: its state is bound to it, what is to be sent is marked as sent, and has a slot of the rate
    /// budget. Durable **before** the first byte is sent.
    ///
    /// # Errors
    /// The refusals of [`Session::take`], [`StoreError::BudgetSpent`], or the store's own.
    async fn take(&self, now: Moment, take: Take, terms: &BudgetTerms) -> Result<Took, StoreError>;

    /// A token request ended, and so did the use of its slot.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_FINISHED`, or the store's own.
    async fn end_exchange(
        &self,
        now: Moment,
        id: SessionId,
        slot: Slot,
        end: ExchangeEnd,
    ) -> Result<Session, StoreError>;

    /// Fetching the claims ended.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, or the store's own.
    async fn end_claims(&self, now: Moment, id: SessionId, end: ClaimsEnd) -> Result<Session, StoreError>;

    /// A session was cancelled; the token that it held, if any, has joined the queue of those to be revoked.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, the refusals of [`Session::cancel`], or the store's own.
    async fn cancel(&self, now: Moment, viewer: &Viewer, id: SessionId) -> Result<Session, StoreError>;

    /// A session's token was revoked as far as the daemon's callers are concerned: it has left the session, where nobody
    /// can read it any more, and joined the queue of those to be revoked at the provider. It stays there until
    /// [`Store::end_revocation`], whatever becomes of the session.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, the refusals of [`Session::revoke`], or the store's own.
    async fn revoke(&self, now: Moment, viewer: &Viewer, id: SessionId) -> Result<Session, StoreError>;

    /// The queue: tokens that wait to be revoked at the provider, the soonest to run out first. Only reads.
    ///
    /// # Errors
    /// The store's own. A row that does not open is logged and left out.
    async fn revocations(&self, now: Moment) -> Result<Vec<Revocation>, StoreError>;

    /// The revocation of that session's token has ended, and so has the token's place in the queue. Ended again, it
    /// stays so.
    ///
    /// # Errors
    /// The store's own.
    async fn end_revocation(&self, now: Moment, id: SessionId, how: RevocationEnd) -> Result<(), StoreError>;

    /// Hears of each token that joins the queue from now on and is durable there; several may be heard as one.
    fn new_revocations(&self) -> watch::Receiver<()>;

    /// A request is about to be sent that nothing else need be known of.
    ///
    /// # Errors
    /// [`StoreError::BudgetSpent`], or the store's own.
    async fn claim(&self, now: Moment, terms: &BudgetTerms) -> Result<Slot, StoreError>;

    /// The provider was asked how its session stands, with a slot from [`Store::claim`]; what it said has moved an open
    /// session.
    ///
    /// # Errors
    /// The store's own.
    async fn end_query(
        &self,
        now: Moment,
        id: SessionId,
        slot: Slot,
        end: &QueryEnd,
    ) -> Result<(), StoreError>;

    /// When a budget has slots. Only reads.
    ///
    /// # Errors
    /// The store's own.
    async fn outlook(&self, now: Moment, terms: &BudgetTerms) -> Result<Outlook, StoreError>;

    /// One bite of the sweep: ends by time are written down, what is past its retention is removed. Holds up other writes
    /// for two milliseconds at most.
    ///
    /// # Errors
    /// The store's own.
    async fn sweep(&self, now: Moment) -> Result<Swept, StoreError>;

    /// The sessions that have not ended: of all callers, and a bounded part of them at a time, behind `after`. Only reads.
    ///
    /// # Errors
    /// The store's own. A record that does not open is logged and left out.
    async fn live_sessions(&self, now: Moment, after: Option<SessionId>) -> Result<LiveSessions, StoreError>;

    /// The first key of another ring seals from now on, and all of its keys open. What is sealed already stays as it is.
    /// Looking things up by keyed hashes goes on as before.
    ///
    /// # Errors
    /// [`KeysError::Missing`] when stored records are sealed under a key that the ring has not, or the store's own. Then the
    /// store goes on with the ring that it had.
    async fn use_keys(&self, ring: KeyRing) -> Result<(), KeysError>;

    /// One bite of a rotation, which begins with [`Rotation::default`] and is given back until it has an end: what is sealed
    /// under another key than the first is sealed under that, and nothing else about it changes. Holds up other writes for
    /// two milliseconds at most. When the ring is exchanged meanwhile, it begins anew by itself; so it may, at no harm,
    /// after a crash.
    ///
    /// # Errors
    /// The store's own.
    async fn rotate(&self, rotation: Rotation) -> Result<Rotation, StoreError>;

    /// Hears of each change of a session that is durable from now on; changes that follow quickly may be heard as one.
    fn changes(&self, id: SessionId) -> watch::Receiver<()>;

    /// Resolves when all that was to be written before has been: those who write are at work, and not stuck. Changes
    /// nothing.
    ///
    /// # Errors
    /// The store's own.
    async fn heartbeat(&self) -> Result<(), StoreError>;

    /// How the store is.
    fn status(&self) -> StoreStatus;

    /// What it counts of its own work.
    fn metrics(&self) -> StoreMetrics;

    /// The newest session's time: ids never go back behind it.
    fn newest(&self) -> Timestamp;

    /// Resolves when the store has stopped for good, with what stopped it: the process should end.
    async fn ended(&self) -> String;
}
