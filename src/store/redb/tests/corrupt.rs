//! Records that are not what was written, or not where: never returned, never a panic, and named without their content.

use std::io;

use super::*;
use crate::store::{
    EventFilter, Inbox,
    conformance::{client, complete, event, state},
    record::SealedTable,
};

/// Two rows of each table that holds something sealed.
async fn furnish(store: &Arc<RedbStore>) {
    let all: Arc<dyn Store> = Arc::clone(store) as _;
    for number in [1, 2] {
        let request_id = Some(format!("r-{number}"));
        store.start(at(0), NewSession { request_id, ..new_session(0, number) }).await.unwrap();
        let revoked = complete(&all, 10 + number, 600).await;
        store.revoke(at(4), &viewer("checkout"), revoked).await.unwrap();
        let body = format!(r#"{{"id":"e{number}","type":"t","session_id":"hvf_{number}","note":"canary"}}"#);
        store.ingest(at(1), event(number, &body)).await.unwrap();
    }
}

/// Keys and bytes of a table's rows.
fn rows(store: &RedbStore, table: SealedTable) -> Vec<(Vec<u8>, Vec<u8>)> {
    let read = store.database.get().begin_read().unwrap();
    macro_rules! rows {
        ($definition:expr) => {
            read.open_table($definition)
                .unwrap()
                .iter()
                .unwrap()
                .map(|row| row.map(|(key, row)| (key.value().to_vec(), row.value().to_vec())).unwrap())
                .collect()
        };
    }
    use redb::ReadableTable;
    match table {
        SealedTable::Sessions => rows!(SESSIONS_TABLE),
        SealedTable::Requests => rows!(tables::REQUESTS_TABLE),
        SealedTable::Revocations => rows!(tables::REVOCATIONS_TABLE),
        SealedTable::Events => rows!(tables::EVENTS_TABLE),
    }
}

async fn put(store: &RedbStore, table: SealedTable, key: &[u8], row: &[u8]) {
    let change = tables::Change::Reseal(table, key.to_vec(), row.to_vec());
    store.writer.write(move |_| Ok(((), vec![change]))).await.unwrap();
}

/// What the call says that reads the first row of a table; none where that is refused, or the row is left out.
async fn first(store: &RedbStore, table: SealedTable) -> Option<String> {
    match table {
        SealedTable::Sessions => {
            let read = store.session(at(5), &viewer("checkout"), &Lookup::Id(state(1, 0).session)).await;
            refused_as_corrupt(
                read.map(|session| format!("{session:?} {:?}", session.verifier.as_ref().unwrap().expose())),
            )
        }
        SealedTable::Requests => {
            // The request that the first row belongs to: keys are hashes, in no order that is known here.
            let (key, _) = &rows(store, table)[0];
            let mut found = None;
            for number in [1_u8, 2] {
                let parts =
                    ["checkout", "shop", &format!("r-{number}")].map(str::as_bytes).map(<[u8]>::to_vec);
                let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
                if store.codec.index.hash(crate::store::seal::Purpose::Request, &parts).as_bytes()[..]
                    == key[..]
                {
                    let request_id = Some(format!("r-{number}"));
                    let again = store.start(at(5), NewSession { request_id, ..new_session(0, 99) }).await;
                    let told = again.map(|started| {
                        format!("{:?} {:?}", started.session.id, started.usable.unwrap().0.expose())
                    });
                    found = Some(refused_as_corrupt(told));
                }
            }
            found.unwrap()
        }
        SealedTable::Revocations => {
            let queue = store.revocations(at(5)).await.unwrap();
            let first = queue.into_iter().find(|waiting| waiting.session == state(11, 0).session);
            first.map(|waiting| format!("{waiting:?} {}", waiting.token.expose()))
        }
        SealedTable::Events => {
            let filter = EventFilter { client: client(), kinds: Vec::new(), session: None };
            let auditor = Viewer { sees_unlinked: true, ..viewer("checkout") };
            let page = store.list(&auditor, &filter, 0, 9).await.unwrap();
            page.events.into_iter().find(|event| event.sequence == 1).map(|event| format!("{event:?}"))
        }
    }
}

fn refused_as_corrupt(read: Result<String, StoreError>) -> Option<String> {
    match read {
        Ok(read) => Some(read),
        Err(StoreError::Corrupt(what)) => {
            assert!(!what.contains("canary"), "{what}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// A table's first row replaced by others: what the reading call said of each that it did not refuse.
async fn accepted(
    store: &RedbStore,
    table: SealedTable,
    instead: impl IntoIterator<Item = Vec<u8>>,
) -> Vec<String> {
    let (key, row) = rows(store, table).swap_remove(0);
    let mut accepted = Vec::new();
    for other in instead {
        put(store, table, &key, &other).await;
        accepted.extend(first(store, table).await);
    }
    put(store, table, &key, &row).await;
    accepted
}

async fn store() -> Arc<RedbStore> {
    let store =
        Arc::new(RedbStore::open_on(Disk::default().plug(), ring(&[1]), RETENTION, run(1), at(0)).unwrap());
    furnish(&store).await;
    store
}

#[tokio::test]
async fn a_record_in_anothers_place_is_not_returned() {
    let store = store().await;
    for table in SealedTable::ALL {
        assert!(first(&store, *table).await.is_some(), "{table:?}");
        let mut others = vec![rows(&store, *table)[1].1.clone()];
        for other in SealedTable::ALL.iter().filter(|other| *other != table) {
            others.extend(rows(&store, *other).into_iter().map(|(_, row)| row));
        }
        assert_eq!(accepted(&store, *table, others).await, [""; 0], "{table:?}");
        assert!(first(&store, *table).await.is_some(), "{table:?}: nothing else is the matter");
    }
}

#[tokio::test]
async fn a_record_cut_short_or_with_any_bit_flipped_is_not_returned() {
    let store = store().await;
    for table in SealedTable::ALL {
        let before = first(&store, *table).await.unwrap();
        let row = rows(&store, *table).swap_remove(0).1;
        let cut = (0..row.len()).map(|length| row[..length].to_vec());
        assert_eq!(accepted(&store, *table, cut).await, [""; 0], "{table:?}");
        let flipped = (0..row.len()).map(|byte| {
            let mut row = row.clone();
            row[byte] ^= 1 << (byte % 8);
            row
        });
        // A number can be written in more than one way: what means the same is the same.
        for other in accepted(&store, *table, flipped).await {
            assert_eq!(other, before, "{table:?}");
        }
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_record_that_does_not_open_is_named_by_table_and_key_alone() {
    let store = store().await;
    for table in SealedTable::ALL {
        let log = Log::default();
        let sink = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || sink.clone()).with_ansi(false).finish();
        let (key, row) = rows(&store, *table).swap_remove(0);
        let mut damaged = row.clone();
        *damaged.last_mut().unwrap() ^= 1;
        put(&store, *table, &key, &damaged).await;
        let logging = tracing::subscriber::set_default(subscriber);
        // As a call hears of it, which is where it is logged if it fails for it.
        if let Err(error) = store.read(state(1, 0).session) {
            let refusal = crate::domain::Refusal::from(error);
            assert_eq!(refusal.reason, Reason::RecordCorrupt);
        }
        match table {
            SealedTable::Sessions | SealedTable::Requests => {}
            SealedTable::Revocations | SealedTable::Events => assert_eq!(first(&store, *table).await, None),
        }
        if *table == SealedTable::Requests {
            let (key, row) = rows(&store, *table).swap_remove(0);
            let error = store.codec.request(&key.try_into().unwrap(), &row).err().unwrap();
            assert_eq!(crate::domain::Refusal::from(error).reason, Reason::RecordCorrupt);
        }
        drop(logging);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let named = format!("{} {}", table.name(), data_encoding::HEXLOWER.encode(&key));
        assert!(text.contains(&named), "{named}: {text}");
        assert!(!text.contains("canary"), "{text}");
        put(&store, *table, &key, &row).await;
    }
}
