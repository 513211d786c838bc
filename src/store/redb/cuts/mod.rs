//! Cut off at every write and every sync, twice in a row too: what was acknowledged is there, and nothing is half done.
//!
//! Each write and sync of what is done is cut in turn, by a kill, by a power cut that loses all that was not synced, and by
//! some that lose a part of it. The store is opened again, and asked what it has. Opening it again is cut in the same way
//! before.

mod care;
mod facts;
mod folder;

use std::{fmt::Write as _, time::Duration};

use redb::{ReadableDatabase, ReadableTable, TableHandle};

use super::*;
use crate::store::{
    EventFilter, Inbox, KeyRing, MasterKey, NewSession,
    conformance::{RETENTION, at, client, new_session, run, viewer},
    disk::{Disk, Loss},
};

/// Whether there is time for every cut.
fn is_thorough() -> bool {
    std::env::var_os("CAIRLD_MODEL_HISTORIES").is_some()
}

fn keys() -> KeyRing {
    KeyRing::new(&MasterKey::new([1; 32]), &[])
}

/// All that the store says: each row's key, and what it comes to where it opens.
pub(super) async fn all_of(store: &RedbStore, seconds: u64) -> String {
    let mut all = String::new();
    let read = store.database.get().begin_read().unwrap();
    for table in read.list_tables().unwrap() {
        let name = table.name().to_owned();
        let _ = writeln!(all, "{name}");
        macro_rules! rows {
            ($table:expr, $key:ty) => {
                for row in read.open_table($table).unwrap().iter().unwrap() {
                    let (key, value) = row.unwrap();
                    let _ = writeln!(all, "  {:?} {:?}", key.value(), value.value());
                }
            };
        }
        macro_rules! keys {
            ($table:expr) => {
                for row in read.open_table($table).unwrap().iter().unwrap() {
                    let _ = writeln!(all, "  {:?}", row.unwrap().0.value());
                }
            };
        }
        match name.as_str() {
            "sessions" => {
                for row in read.open_table(SESSIONS_TABLE).unwrap().iter().unwrap() {
                    let id = SessionId::from_bytes(row.unwrap().0.value());
                    let session = store.read(id).unwrap().unwrap();
                    let _ = writeln!(all, "  {session:?}");
                }
            }
            "codes" => rows!(tables::CODES_TABLE, [u8; 32]),
            "provider_sessions" => rows!(PROVIDER_SESSIONS_TABLE, [u8; 32]),
            "budgets" => rows!(tables::BUDGETS_TABLE, [u8; 32]),
            "digests" => rows!(tables::DIGESTS_TABLE, [u8; 32]),
            "inner_ids" => rows!(tables::INNER_IDS_TABLE, [u8; 32]),
            "inbox_spans" => rows!(tables::INBOXES_TABLE, &[u8]),
            "consumers" => rows!(tables::CONSUMERS_TABLE, &[u8]),
            "session_counts" => {
                let [counted, there] = store.session_counts();
                assert_eq!(counted, there);
                let _ = writeln!(all, "  {counted:?}");
            }
            "requests" => keys!(tables::REQUESTS_TABLE),
            "events" => keys!(tables::EVENTS_TABLE),
            "session_events" => keys!(tables::SESSION_EVENTS_TABLE),
            "revocations" => {
                let _ = writeln!(all, "  {:?}", store.revocations(at(seconds)).await.unwrap());
            }
            "meta" => keys!(tables::META_TABLE),
            other => panic!("{other}: say how its rows are shown"),
        }
    }
    let filter = EventFilter { client: client(), kinds: Vec::new(), session: None };
    let auditor = Viewer { sees_unlinked: true, ..viewer("checkout") };
    let page = store.list(&auditor, &filter, 0, 1000).await.unwrap();
    let _ = writeln!(all, "{:?}", page.events);
    all
}
