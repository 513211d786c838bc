//! Which rows are written while a copy of the database is made.

use std::collections::{BTreeMap, BTreeSet};

use redb::TableHandle;

use super::tables::{
    BUDGETS_TABLE, CODES_TABLE, CONSUMERS_TABLE, Change, DIGESTS_TABLE, EVENTS_TABLE, INBOXES_TABLE,
    INNER_IDS_TABLE, META_TABLE, PROVIDER_SESSIONS_TABLE, REQUESTS_TABLE, REVOCATIONS_TABLE,
    SESSION_EVENTS_TABLE, SESSIONS_TABLE,
};

/// Most rows that are remembered: some hundred MiB at the most.
const MOST: usize = 2_000_000;

/// The rows, by table: not what was written, which is read again.
#[derive(Debug, Default)]
pub(super) struct Touched {
    rows: BTreeMap<&'static str, BTreeSet<Vec<u8>>>,
    count: usize,
}

impl Touched {
    pub(super) fn note(&mut self, change: &Change) {
        if self.count < MOST {
            let (table, key) = change.row();
            self.count += usize::from(self.rows.entry(table).or_default().insert(key));
        }
    }

    /// How many rows they are; none where they are too many to be remembered.
    pub(super) fn count(&self) -> Option<usize> {
        (self.count < MOST).then_some(self.count)
    }

    pub(super) fn into_rows(self) -> impl Iterator<Item = (&'static str, BTreeSet<Vec<u8>>)> {
        self.rows.into_iter()
    }
}

impl Change {
    /// The row that it changes: its table, and its key.
    fn row(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::PutSession(id, _) | Self::RemoveSession(id) => {
                (TableHandle::name(&SESSIONS_TABLE), id.as_bytes().to_vec())
            }
            Self::PutCode(key, _) | Self::RemoveCode(key) => (TableHandle::name(&CODES_TABLE), key.to_vec()),
            Self::PutProviderSession(key, _) | Self::RemoveProviderSession(key) => {
                (TableHandle::name(&PROVIDER_SESSIONS_TABLE), key.to_vec())
            }
            Self::PutRequest(key, _) | Self::RemoveRequest(key) => {
                (TableHandle::name(&REQUESTS_TABLE), key.to_vec())
            }
            Self::PutRevocation(id, _) | Self::RemoveRevocation(id) => {
                (TableHandle::name(&REVOCATIONS_TABLE), id.as_bytes().to_vec())
            }
            Self::PutBudget(key, _) | Self::RemoveBudget(key) => {
                (TableHandle::name(&BUDGETS_TABLE), key.to_vec())
            }
            Self::PutEvent(key, _) | Self::RemoveEvent(key) => {
                (TableHandle::name(&EVENTS_TABLE), key.clone())
            }
            Self::PutDigest(key, _) | Self::RemoveDigest(key) => {
                (TableHandle::name(&DIGESTS_TABLE), key.to_vec())
            }
            Self::PutSessionEvent(key) | Self::RemoveSessionEvent(key) => {
                (TableHandle::name(&SESSION_EVENTS_TABLE), key.to_vec())
            }
            Self::PutInnerId(key, _) | Self::RemoveInnerId(key) => {
                (TableHandle::name(&INNER_IDS_TABLE), key.to_vec())
            }
            Self::PutInbox(client, _) => {
                (TableHandle::name(&INBOXES_TABLE), client.as_str().as_bytes().to_vec())
            }
            Self::PutConsumer(key, _) | Self::RemoveConsumer(key) => {
                (TableHandle::name(&CONSUMERS_TABLE), key.clone())
            }
            Self::PutMeta(row, _) | Self::RemoveMeta(row) => (TableHandle::name(&META_TABLE), row.to_vec()),
            Self::Reseal(table, key, _) => (table.name(), key.clone()),
        }
    }
}
