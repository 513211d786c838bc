//! The tables, and one write transaction's handles to them.

use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use super::super::{
    StoreError,
    record::{Codec, EVENTS, META, REQUESTS, REVOCATIONS, SESSIONS, StoredSession},
};
use crate::domain::{ClientName, Reason, SessionId};

// Names are never reused, not even for a table that is gone.
/// Session id → `SessionRecord`. Ids follow time, so the order of the table is the order of expiry.
pub(super) const SESSIONS_TABLE: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new(SESSIONS);
/// Keyed hash of a code → the session it was presented with: the code-use marker.
pub(super) const CODES_TABLE: TableDefinition<'_, [u8; 32], [u8; 16]> = TableDefinition::new("codes");
/// Keyed hash of client and provider session id → `ProviderSessionRecord`.
pub(super) const PROVIDER_SESSIONS_TABLE: TableDefinition<'_, [u8; 32], &[u8]> =
    TableDefinition::new("provider_sessions");
/// Keyed hash of caller, client and request id → `RequestRecord`, sealed.
pub(super) const REQUESTS_TABLE: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new(REQUESTS);
/// Id of the session that gave it up → `RevocationRecord`, sealed: a token that is to be revoked.
pub(super) const REVOCATIONS_TABLE: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new(REVOCATIONS);
/// Keyed hash of kind and credential → `BudgetRecord`.
pub(super) const BUDGETS_TABLE: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("budgets");
/// [`event_key`] → `EventRecord`.
pub(super) const EVENTS_TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(EVENTS);
/// Keyed hash of client and body → sequence number of the event that brought it.
pub(super) const WEBHOOKS_TABLE: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("webhooks");
/// Keyed hash of client and inner id → sequence number of the first event that had it.
pub(super) const INNER_IDS_TABLE: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("inner_ids");
/// Client name → sequence number of its newest event.
pub(super) const INBOXES_TABLE: TableDefinition<'_, &[u8], u64> = TableDefinition::new("inboxes");
/// What concerns the file as a whole.
pub(super) const META_TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(META);

/// Key of an event: client name, zero byte, sequence number. Names have no zero byte, so each client's events stand
/// together, in order.
pub(super) fn event_key(client: &ClientName, sequence: u64) -> Vec<u8> {
    [client.as_str().as_bytes(), &[0], &sequence.to_be_bytes()].concat()
}

/// What of a committed change others want to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A session has changed.
    Session(SessionId),
    /// A token has joined the queue of those to be revoked.
    Revocation,
}

impl Change {
    /// What to tell once it is committed.
    pub(super) fn news(&self) -> Option<News> {
        match self {
            Self::PutSession(id, _) => Some(News::Session(*id)),
            Self::PutRevocation(..) => Some(News::Revocation),
            Self::RemoveSession(_)
            | Self::PutCode(..)
            | Self::RemoveCode(_)
            | Self::PutProviderSession(..)
            | Self::RemoveProviderSession(_)
            | Self::PutRequest(..)
            | Self::RemoveRequest(_)
            | Self::RemoveRevocation(_)
            | Self::PutBudget(..)
            | Self::RemoveBudget(_)
            | Self::PutEvent(..)
            | Self::PutWebhook(..)
            | Self::PutInnerId(..)
            | Self::PutInbox(..) => None,
        }
    }
}

/// Why an operation came to nothing.
#[derive(Debug)]
pub(super) enum OperationError {
    /// It was refused before it wrote; the others of its batch are not concerned.
    Refused(StoreError),
    /// The database failed; nothing of the batch counts.
    Database(StorageError),
}

impl<E: Into<StoreError>> From<E> for OperationError {
    fn from(refused: E) -> Self {
        Self::Refused(refused.into())
    }
}

/// What an operation comes to: its answer, and the changes that make it true.
pub(super) type Outcome<T> = Result<(T, Vec<Change>), OperationError>;

/// A database failure inside an operation.
pub(super) fn database(error: impl Into<StorageError>) -> OperationError {
    OperationError::Database(error.into())
}

/// One write transaction's tables, open.
pub(super) struct Tables<'t> {
    pub(super) sessions: Table<'t, [u8; 16], &'static [u8]>,
    pub(super) codes: Table<'t, [u8; 32], [u8; 16]>,
    pub(super) provider_sessions: Table<'t, [u8; 32], &'static [u8]>,
    pub(super) requests: Table<'t, [u8; 32], &'static [u8]>,
    pub(super) revocations: Table<'t, [u8; 16], &'static [u8]>,
    pub(super) budgets: Table<'t, [u8; 32], &'static [u8]>,
    pub(super) events: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) webhooks: Table<'t, [u8; 32], u64>,
    pub(super) inner_ids: Table<'t, [u8; 32], u64>,
    pub(super) inboxes: Table<'t, &'static [u8], u64>,
}

/// One change of one row. An operation reads, decides, and returns its changes as a whole: what is refused on the way has
/// written nothing.
#[derive(Debug)]
pub(super) enum Change {
    PutSession(SessionId, Vec<u8>),
    RemoveSession(SessionId),
    PutCode([u8; 32], SessionId),
    RemoveCode([u8; 32]),
    PutProviderSession([u8; 32], Vec<u8>),
    RemoveProviderSession([u8; 32]),
    PutRequest([u8; 32], Vec<u8>),
    RemoveRequest([u8; 32]),
    PutRevocation(SessionId, Vec<u8>),
    RemoveRevocation(SessionId),
    PutBudget([u8; 32], Vec<u8>),
    RemoveBudget([u8; 32]),
    PutEvent(Vec<u8>, Vec<u8>),
    PutWebhook([u8; 32], u64),
    PutInnerId([u8; 32], u64),
    PutInbox(ClientName, u64),
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS_TABLE)?,
            codes: transaction.open_table(CODES_TABLE)?,
            provider_sessions: transaction.open_table(PROVIDER_SESSIONS_TABLE)?,
            requests: transaction.open_table(REQUESTS_TABLE)?,
            revocations: transaction.open_table(REVOCATIONS_TABLE)?,
            budgets: transaction.open_table(BUDGETS_TABLE)?,
            events: transaction.open_table(EVENTS_TABLE)?,
            webhooks: transaction.open_table(WEBHOOKS_TABLE)?,
            inner_ids: transaction.open_table(INNER_IDS_TABLE)?,
            inboxes: transaction.open_table(INBOXES_TABLE)?,
        })
    }

    /// The session of that id; `missing` where there is none.
    pub(super) fn session(
        &self,
        codec: &Codec,
        id: SessionId,
        missing: Reason,
    ) -> Result<StoredSession, OperationError> {
        let record = self.sessions.get(id.as_bytes()).map_err(database)?.ok_or(StoreError::from(missing))?;
        Ok(codec.session(id, record.value())?)
    }

    pub(super) fn apply(&mut self, change: Change) -> Result<(), StorageError> {
        match change {
            Change::PutSession(id, record) => drop(self.sessions.insert(id.as_bytes(), record.as_slice())?),
            Change::RemoveSession(id) => drop(self.sessions.remove(id.as_bytes())?),
            Change::PutCode(key, id) => drop(self.codes.insert(&key, id.as_bytes())?),
            Change::RemoveCode(key) => drop(self.codes.remove(&key)?),
            Change::PutProviderSession(key, record) => {
                drop(self.provider_sessions.insert(&key, record.as_slice())?);
            }
            Change::RemoveProviderSession(key) => drop(self.provider_sessions.remove(&key)?),
            Change::PutRequest(key, record) => drop(self.requests.insert(&key, record.as_slice())?),
            Change::RemoveRequest(key) => drop(self.requests.remove(&key)?),
            Change::PutRevocation(id, record) => {
                drop(self.revocations.insert(id.as_bytes(), record.as_slice())?);
            }
            Change::RemoveRevocation(id) => drop(self.revocations.remove(id.as_bytes())?),
            Change::PutBudget(key, record) => drop(self.budgets.insert(&key, record.as_slice())?),
            Change::RemoveBudget(key) => drop(self.budgets.remove(&key)?),
            Change::PutEvent(key, record) => drop(self.events.insert(key.as_slice(), record.as_slice())?),
            Change::PutWebhook(key, sequence) => drop(self.webhooks.insert(&key, sequence)?),
            Change::PutInnerId(key, sequence) => drop(self.inner_ids.insert(&key, sequence)?),
            Change::PutInbox(client, sequence) => {
                drop(self.inboxes.insert(client.as_str().as_bytes(), sequence)?);
            }
        }
        Ok(())
    }
}

/// The change that stores a session.
pub(super) fn put_session(codec: &Codec, stored: &StoredSession) -> Result<Change, StoreError> {
    Ok(Change::PutSession(stored.session.id, codec.session_bytes(stored)?))
}
