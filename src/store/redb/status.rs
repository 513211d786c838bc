//! How the store is, for people and for who watches it.

use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use super::{
    super::{StoreStatus, record::SCHEMA_VERSION},
    RedbStore, counts,
    file_system::Home,
    inbox,
    tables::{COUNTS_TABLE, REVOCATIONS_TABLE, SESSIONS_TABLE},
    unreadable,
};

/// Reads it. What cannot be read is told as trouble, and counts as nothing.
pub(super) fn read(store: &RedbStore) -> StoreStatus {
    let count = |database: &Database| -> Result<_, redb::Error> {
        let read = database.begin_read()?;
        let sessions = read.open_table(SESSIONS_TABLE)?.len()?;
        let events = inbox::spans(database)?.into_iter().map(|(_, (.., events))| events).sum();
        let by_status = counts::by_status(&read.open_table(COUNTS_TABLE)?)?;
        Ok((sessions, by_status, events, read.open_table(REVOCATIONS_TABLE)?.len()?))
    };
    let counted = store.reading(|database| count(database).map_err(unreadable));
    let unreadable = counted.as_ref().err().map(|error| format!("it cannot be counted: {error}"));
    let (sessions, by_status, events, revocations) = counted.unwrap_or_default();
    let size = |home: &Home| home.files.look(&home.path).ok().map(|(_, length)| length);
    StoreStatus {
        backend: "redb",
        unwritable: store.writer.latch().reason().map(str::to_owned),
        trouble: store.home.as_ref().and_then(|home| store.own.trouble(home)).or(unreadable),
        bytes: store.home.as_ref().and_then(size).unwrap_or_default(),
        free_bytes: store.home.as_ref().and_then(|home| home.files.free_bytes(&home.path)),
        waiting: store.writer.waiting() as u64,
        sessions,
        by_status,
        events,
        revocations,
        schema_version: SCHEMA_VERSION,
    }
}
