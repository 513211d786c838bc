//! The tables, and one write transaction's handles to them.

use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use super::{
    super::{
        Consumer, StoreError,
        metrics::Transition,
        record::{
            BUDGETS, CODES, CONSUMERS, Codec, DIGESTS, EVENTS, INBOX_SPANS, META, PROVIDER_SESSIONS,
            REQUESTS, REVOCATIONS, SESSION_COUNTS, SESSIONS, SealedTable, StoredSession,
        },
    },
    counts::Moved,
    touched::Touched,
    watches::Subject,
};
use crate::domain::{ClientName, Reason, SessionId, Viewer};

// Names are never reused, not even for a table that is gone.
/// Session id → `SessionRecord`. Ids follow time, so the order of the table is the order of expiry.
pub(super) const SESSIONS_TABLE: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new(SESSIONS);
/// Keyed hash of a code → the session it was presented with: the code-use marker.
pub(super) const CODES_TABLE: TableDefinition<'_, [u8; 32], [u8; 16]> = TableDefinition::new(CODES);
/// Keyed hash of client and provider session id → `ProviderSessionRecord`.
pub(super) const PROVIDER_SESSIONS_TABLE: TableDefinition<'_, [u8; 32], &[u8]> =
    TableDefinition::new(PROVIDER_SESSIONS);
/// Keyed hash of caller, client and request id → `RequestRecord`, sealed.
pub(super) const REQUESTS_TABLE: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new(REQUESTS);
/// Id of the session that gave it up → `RevocationRecord`, sealed: a token that is to be revoked.
pub(super) const REVOCATIONS_TABLE: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new(REVOCATIONS);
/// Keyed hash of kind and credential → `BudgetRecord`.
pub(super) const BUDGETS_TABLE: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new(BUDGETS);
/// [`event_key`] → `EventRecord`.
pub(super) const EVENTS_TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(EVENTS);
/// Keyed hash of client and body → `DigestRecord`: what proves that a webhook is a duplicate.
pub(super) const DIGESTS_TABLE: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new(DIGESTS);
/// [`session_event_key`] → nothing: the events that are about a provider session.
pub(super) const SESSION_EVENTS_TABLE: TableDefinition<'_, [u8; 40], ()> =
    TableDefinition::new("session_events");
/// [`consumer_key`] → `ConsumerRecord`.
pub(super) const CONSUMERS_TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(CONSUMERS);
/// Keyed hash of client and inner id → sequence number of the first event that had it.
pub(super) const INNER_IDS_TABLE: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("inner_ids");
/// Client name → its [`InboxSpan`].
pub(super) const INBOXES_TABLE: TableDefinition<'_, &[u8], InboxSpan> = TableDefinition::new(INBOX_SPANS);
/// What [`super::counts`] counts.
pub(super) const COUNTS_TABLE: TableDefinition<'_, &[u8], u64> = TableDefinition::new(SESSION_COUNTS);
/// What concerns the file as a whole.
pub(super) const META_TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(META);

/// What an inbox holds: the sequence numbers of its oldest and its newest row, the bytes of all rows between them, and how
/// many of them are events, told for the first time. The oldest is one more than the newest where it is empty.
pub(super) type InboxSpan = (u64, u64, u64, u64);

/// What a client's inbox is before the first event.
pub(super) const EMPTY_INBOX: InboxSpan = (1, 0, 0, 0);

/// Key of an event in the index by provider session: the key of that in `provider_sessions`, and the sequence number.
pub(super) fn session_event_key(provider_session: &[u8; 32], sequence: u64) -> [u8; 40] {
    let mut key = [0; 40];
    let bytes = provider_session.iter().copied().chain(sequence.to_be_bytes());
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

/// Key of a consumer: caller, client and its own name, with zero bytes between.
pub(super) fn consumer_key(consumer: &Consumer) -> Vec<u8> {
    let Consumer { caller, client, name } = consumer;
    [caller.as_str().as_bytes(), &[0], client.as_str().as_bytes(), &[0], name.as_str().as_bytes()].concat()
}

/// Key of an event: client name, zero byte, sequence number. Names have no zero byte, so each client's events stand
/// together, in order.
pub(super) fn event_key(client: &ClientName, sequence: u64) -> Vec<u8> {
    [client.as_str().as_bytes(), &[0], &sequence.to_be_bytes()].concat()
}

/// Reads the key of an event; none where it is none.
pub(super) fn read_event_key(key: &[u8]) -> Option<(ClientName, u64)> {
    let (client, sequence) = key.split_last_chunk::<8>()?;
    let client = std::str::from_utf8(client.strip_suffix(&[0])?).ok()?;
    Some((ClientName::parse(client).ok()?, u64::from_be_bytes(*sequence)))
}

impl Change {
    /// What may be watched and is not what it was.
    pub(super) fn subject(&self) -> Option<Subject> {
        match self {
            Self::PutSession(id, _) => Some(Subject::Session(*id)),
            Self::PutRevocation(..) => Some(Subject::Revocations),
            Self::PutInbox(client, _) => Some(Subject::Inbox(client.clone())),
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
            | Self::RemoveEvent(_)
            | Self::PutDigest(..)
            | Self::RemoveDigest(_)
            | Self::PutSessionEvent(_)
            | Self::RemoveSessionEvent(_)
            | Self::PutInnerId(..)
            | Self::RemoveInnerId(_)
            | Self::PutConsumer(..)
            | Self::RemoveConsumer(_)
            | Self::PutMeta(..)
            | Self::RemoveMeta(_)
            | Self::Reseal(..) => None,
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
    pub(super) digests: Table<'t, [u8; 32], &'static [u8]>,
    pub(super) session_events: Table<'t, [u8; 40], ()>,
    pub(super) consumers: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) inner_ids: Table<'t, [u8; 32], u64>,
    pub(super) inboxes: Table<'t, &'static [u8], InboxSpan>,
    pub(super) meta: Table<'t, &'static [u8], &'static [u8]>,
    /// As they were before this transaction; [`Tables::finish`] writes down what has moved.
    pub(super) counts: Table<'t, &'static [u8], u64>,
    pub(super) moved: Moved,
    /// Where what is written is noted, while a copy of the database is made.
    pub(super) touched: Option<Touched>,
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
    RemoveEvent(Vec<u8>),
    PutDigest([u8; 32], Vec<u8>),
    RemoveDigest([u8; 32]),
    PutSessionEvent([u8; 40]),
    RemoveSessionEvent([u8; 40]),
    PutInnerId([u8; 32], u64),
    RemoveInnerId([u8; 32]),
    PutInbox(ClientName, InboxSpan),
    PutConsumer(Vec<u8>, Vec<u8>),
    RemoveConsumer(Vec<u8>),
    PutMeta(&'static [u8], Vec<u8>),
    RemoveMeta(&'static [u8]),
    /// The row is the same but for its seal.
    Reseal(SealedTable, Vec<u8>, Vec<u8>),
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
            digests: transaction.open_table(DIGESTS_TABLE)?,
            session_events: transaction.open_table(SESSION_EVENTS_TABLE)?,
            consumers: transaction.open_table(CONSUMERS_TABLE)?,
            inner_ids: transaction.open_table(INNER_IDS_TABLE)?,
            inboxes: transaction.open_table(INBOXES_TABLE)?,
            meta: transaction.open_table(META_TABLE)?,
            counts: transaction.open_table(COUNTS_TABLE)?,
            moved: Moved::default(),
            touched: None,
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

    /// The session of that id, where the viewer may see it.
    pub(super) fn visible_session(
        &self,
        codec: &Codec,
        viewer: &Viewer,
        id: SessionId,
    ) -> Result<StoredSession, OperationError> {
        let stored = self.session(codec, id, Reason::SessionNotFound)?;
        if viewer.sees(&stored.session) { Ok(stored) } else { Err(Reason::SessionNotFound.into()) }
    }

    /// Writes down what is kept up to the end of a transaction that changes something; answers what became of sessions in it.
    pub(super) fn finish(&mut self) -> Result<Vec<Transition>, StorageError> {
        std::mem::take(&mut self.moved).write(&mut self.counts)
    }

    pub(super) fn apply(&mut self, change: Change) -> Result<(), StorageError> {
        if let Some(touched) = &mut self.touched {
            touched.note(&change);
        }
        match change {
            Change::PutSession(id, record) => {
                let before = self.sessions.insert(id.as_bytes(), record.as_slice())?;
                let before = before.as_ref().map(|before| before.value());
                self.moved.note(&self.counts, before, Some(&record))?;
            }
            Change::RemoveSession(id) => {
                let before = self.sessions.remove(id.as_bytes())?;
                let before = before.as_ref().map(|before| before.value());
                self.moved.note(&self.counts, before, None)?;
            }
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
            Change::RemoveEvent(key) => drop(self.events.remove(key.as_slice())?),
            Change::PutDigest(key, record) => drop(self.digests.insert(&key, record.as_slice())?),
            Change::RemoveDigest(key) => drop(self.digests.remove(&key)?),
            Change::PutSessionEvent(key) => drop(self.session_events.insert(&key, ())?),
            Change::RemoveSessionEvent(key) => drop(self.session_events.remove(&key)?),
            Change::RemoveInnerId(key) => drop(self.inner_ids.remove(&key)?),
            Change::PutConsumer(key, record) => {
                drop(self.consumers.insert(key.as_slice(), record.as_slice())?);
            }
            Change::RemoveConsumer(key) => drop(self.consumers.remove(key.as_slice())?),
            Change::PutInnerId(key, sequence) => drop(self.inner_ids.insert(&key, sequence)?),
            Change::PutInbox(client, span) => {
                drop(self.inboxes.insert(client.as_str().as_bytes(), span)?);
            }
            Change::Reseal(table, key, row) => self.put_resealed(table, &key, &row)?,
            Change::PutMeta(row, value) => drop(self.meta.insert(row, value.as_slice())?),
            Change::RemoveMeta(row) => drop(self.meta.remove(row)?),
        }
        Ok(())
    }
}

/// The change that stores a session.
pub(super) fn put_session(codec: &Codec, stored: &StoredSession) -> Result<Change, StoreError> {
    Ok(Change::PutSession(stored.session.id, codec.session_bytes(stored)?))
}
