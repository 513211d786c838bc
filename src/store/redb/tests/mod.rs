//! The embedded backend: the suite, its file, its keys, and a disk that fails.

mod backup;
mod check;
mod compact;
mod corrupt;
mod counts;
mod damage;
mod keys;
mod place;
mod rotate;

use std::path::PathBuf;

use redb::{Database, TableDefinition};

pub(super) use self::backup::{bytes_of, problems_at, varied};

use super::*;
use crate::store::{
    KeyRing, MasterKey,
    conformance::{self, Backend, RETENTION, at, new_session, run, viewer},
    disk::Disk,
    record::SCHEMA_VERSION,
};

struct InFolder(tempfile::TempDir);

impl InFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cairld.redb")
    }

    fn try_open(&self, keys: &[u8]) -> Result<RedbStore, OpenError> {
        self.try_open_telling(keys, |_| {})
    }

    fn try_open_telling(
        &self,
        keys: &[u8],
        tell: impl Fn(Opening) + Clone + 'static,
    ) -> Result<RedbStore, OpenError> {
        let keys = ring(keys);
        let settings = Settings { path: self.path(), cache_bytes: 1 << 20, retention: RETENTION, keys };
        RedbStore::open_telling(settings, run(1), at(0), tell)
    }
}

/// A ring of keys that each are one byte over and over.
fn ring(keys: &[u8]) -> KeyRing {
    let keys: Vec<_> = keys.iter().map(|seed| MasterKey::new([*seed; 32])).collect();
    KeyRing::new(&keys[0], &keys[1..])
}

impl Backend for InFolder {
    fn open_at(&self, run: RunId, now: Moment) -> Arc<dyn Store> {
        let keys = ring(&[1]);
        let settings = Settings { path: self.path(), cache_bytes: 1 << 20, retention: RETENTION, keys };
        Arc::new(RedbStore::open(settings, run, now).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::suite(InFolder::new).await;
}

#[tokio::test]
async fn nothing_secret_stands_in_the_file() {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    let new = NewSession {
        binding: Some(crate::domain::Binding::new("canary-binding")),
        request_id: Some("canary-request".into()),
        ..new_session(0, 1)
    };
    store.start(at(0), new).await.unwrap();
    // What a callback brings, and an event's body.
    store.start(at(0), new_session(0, 4)).await.unwrap();
    store.take(at(1), conformance::take_of(4, "canary-code"), &conformance::terms()).await.unwrap();
    let body = r#"{"id":"canary-id","type":"t","session_id":"hvf_1","note":"canary"}"#;
    store.ingest(at(1), conformance::event(1, body)).await.unwrap();
    // A token and claims in a session; a token in the queue of those to be revoked.
    conformance::complete(&store, 2, 600).await;
    let id = conformance::complete(&store, 3, 600).await;
    store.revoke(at(4), &viewer("checkout"), id).await.unwrap();
    assert_eq!(store.status().revocations, 1);
    drop(store);
    let bytes = std::fs::read(folder.path()).unwrap();
    for canary in [&b"canary"[..], &[1; 32]] {
        assert!(!bytes.windows(canary.len()).any(|window| window == canary), "{canary:?}");
    }
    assert!(bytes.windows(8).any(|window| window == b"checkout"), "the search itself works");
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = InFolder::new();
    drop(folder.try_open(&[1]).unwrap());
    assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// As a copy of a backup is that root has made.
#[test]
fn a_file_that_is_another_users_is_told_with_what_to_do() {
    let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let folder = InFolder::new();
    drop(folder.try_open(&[1]).unwrap());
    let user = rustix::process::geteuid().as_raw();
    let (store, missing) = (folder.path(), folder.path().with_extension("new"));
    let (file, lies) = (store.display(), store.parent().unwrap().display());
    for (path, told) in [
        (&store, format!("`chown {user}: {lies} {file}`")),
        // There is none yet, and its folder takes none.
        (&missing, format!("`chown {user}: {lies}`")),
    ] {
        let refused = std::io::Error::from(refused.kind());
        let error = open::explain(&path.display().to_string(), redb::Error::Io(refused));
        assert!(matches!(error, OpenError::NotPermitted { .. }), "{error:?}");
        assert!(error.to_string().contains(&told), "{error}");
    }
}

#[test]
fn a_second_opening_is_refused() {
    let folder = InFolder::new();
    let _first = folder.try_open(&[1]).unwrap();
    let second = folder.try_open(&[1]).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    assert!(second.to_string().contains("cairld.redb"));
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = InFolder::new();
    drop(folder.try_open(&[1]).unwrap());
    let database = Database::open(folder.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    let newer = (SCHEMA_VERSION + 1).to_be_bytes();
    transaction.open_table(tables::META_TABLE).unwrap().insert(&b"schema_version"[..], &newer[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(
        matches!(folder.try_open(&[1]), Err(OpenError::NewerSchema { found, .. }) if found == SCHEMA_VERSION + 1)
    );
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = InFolder::new();
    std::fs::write(folder.path(), [7; 8192]).unwrap();
    let error = folder.try_open(&[1]).unwrap_err();
    assert!(error.to_string().contains("restore a backup"), "{error}");
    assert_eq!(std::fs::read(folder.path()).unwrap(), [7; 8192], "and left alone");
}

/// Flips a bit in the last byte of every row of a table.
fn damage<K: redb::Key + 'static>(folder: &InFolder, table: TableDefinition<'_, K, &'static [u8]>)
where
    for<'k> K::SelfType<'k>: Clone,
{
    let database = Database::open(folder.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(table).unwrap();
        let rows = table.extract_if(|_, _| true).unwrap().map(|row| row.unwrap());
        let rows: Vec<_> = rows
            .map(|(key, value)| (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec()))
            .collect();
        for (key, mut value) in rows {
            *value.last_mut().unwrap() ^= 1;
            table.insert(K::from_bytes(&key), value.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_named_and_never_returned() {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    let id = store.start(at(0), new_session(0, 1)).await.unwrap().session.id;
    drop(store);
    damage(&folder, SESSIONS_TABLE);
    let store: Arc<dyn Store> = folder.open(run(2));
    let error = store.session(at(1), &viewer("checkout"), &Lookup::Id(id)).await.unwrap_err();
    let hex = data_encoding::HEXLOWER.encode(id.as_bytes());
    assert!(
        matches!(&error, StoreError::Corrupt(what) if what.contains("sessions") && what.contains(&hex)),
        "{error}"
    );
    assert!(matches!(store.cancel(at(1), &viewer("checkout"), id).await, Err(StoreError::Corrupt(_))));
    store.start(at(1), new_session(1, 2)).await.expect("others are not concerned");
    assert_eq!(store.sweep(at(5500)).await.unwrap().removed, 2, "nor is the sweep");
}

#[tokio::test]
async fn a_damaged_row_beside_a_session_stops_neither_it_nor_the_sweep() {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    let new = NewSession { request_id: Some("r".into()), ..new_session(0, 1) };
    let id = store.start(at(0), new).await.unwrap().session.id;
    let new = NewSession { request_id: Some("s".into()), ..new_session(0, 2) };
    store.start(at(0), new).await.unwrap();
    drop(store);
    damage(&folder, tables::REQUESTS_TABLE);
    let store: Arc<dyn Store> = folder.open(run(2));
    store.cancel(at(1), &viewer("checkout"), id).await.unwrap();
    let swept = store.sweep(at(1801)).await.unwrap();
    assert_eq!(swept.ended, 1);
    assert_eq!(store.sweep(at(5401)).await.unwrap().removed, 2);
}

#[tokio::test]
async fn a_damaged_row_of_the_queue_stops_neither_the_others_nor_its_own_removal() {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    let damaged = conformance::complete(&store, 1, 600).await;
    store.revoke(at(4), &viewer("checkout"), damaged).await.unwrap();
    drop(store);
    damage(&folder, tables::REVOCATIONS_TABLE);
    let store: Arc<dyn Store> = folder.open(run(2));
    let sound = conformance::complete(&store, 2, 600).await;
    store.revoke(at(5), &viewer("checkout"), sound).await.unwrap();
    let queue = store.revocations(at(6)).await.unwrap();
    assert_eq!(queue.iter().map(|waiting| waiting.session).collect::<Vec<_>>(), [sound]);
    assert_eq!(store.status().revocations, 2, "it is kept: the right key may come back");
    store.end_revocation(at(7), damaged, RevocationEnd::RanOut).await.unwrap();
    assert_eq!(store.status().revocations, 1);
}

#[tokio::test]
async fn a_damaged_event_goes_with_those_behind_it() {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    for number in 1..=3 {
        store.ingest(at(1), conformance::seen(number, "hvf_1")).await.unwrap();
    }
    drop(store);
    let database = Database::open(folder.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    let key = tables::event_key(&conformance::client(), 1);
    transaction.open_table(tables::EVENTS_TABLE).unwrap().insert(key.as_slice(), &[0xff; 90][..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store: Arc<dyn Store> = folder.open(run(2));
    assert_eq!(conformance::trim_all(&store, 1000, conformance::LIMITS, &[]).await, (0, 0));
    assert_eq!(conformance::trim_all(&store, 1001, conformance::LIMITS, &[]).await, (3, 0));
    assert_eq!(store.status().events, 0);
}

#[tokio::test]
async fn a_table_that_is_younger_than_the_file_is_added() {
    let folder = InFolder::new();
    drop(folder.try_open(&[1]).unwrap());
    let database = Database::open(folder.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(tables::REVOCATIONS_TABLE).unwrap());
    transaction.commit().unwrap();
    drop(database);
    let store = folder.try_open(&[1]).unwrap();
    assert_eq!(store.status().unwritable, None);
    assert!(store.revocations(at(0)).await.unwrap().is_empty());
}

#[test]
fn each_start_notes_its_run_in_the_file() {
    let disk = Disk::default();
    for number in [1, 2] {
        let store = RedbStore::open_on(disk.plug(), ring(&[1]), RETENTION, run(number), at(0)).unwrap();
        let read = store.database.get().begin_read().unwrap();
        let noted = read.open_table(tables::META_TABLE).unwrap().get(begin::RUN_ROW).unwrap().unwrap();
        assert!(noted.value().starts_with(run(number).as_bytes()));
    }
}

#[test]
fn an_empty_file_is_no_new_store() {
    let folder = InFolder::new();
    std::fs::write(folder.path(), "").unwrap();
    assert!(matches!(folder.try_open(&[1]), Err(OpenError::Damaged { .. })));
}

#[test]
fn of_first_starts_at_the_same_moment_one_has_the_store() {
    for _ in 0..20 {
        let folder = InFolder::new();
        let begin = std::sync::Barrier::new(3);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                begin.wait();
                folder.try_open(&[1])
            };
            let starts = [(); 3].map(|()| scope.spawn(start));
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1, "{opened:?}");
        let is_refused =
            |opened: &Result<_, OpenError>| matches!(opened, Ok(_) | Err(OpenError::InUse { .. }));
        assert!(opened.iter().all(is_refused), "{opened:?}");
        drop(opened);
        assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1, "nothing is left over");
        folder.try_open(&[1]).unwrap();
    }
}

#[test]
fn a_link_to_where_no_store_is_yet_stays_one() {
    let (folder, other) = (InFolder::new(), tempfile::tempdir().unwrap());
    let elsewhere = other.path().join("elsewhere.redb");
    std::os::unix::fs::symlink(&elsewhere, folder.path()).unwrap();
    drop(folder.try_open(&[1]).unwrap());
    assert!(elsewhere.metadata().unwrap().len() > 0);
    assert!(folder.path().is_symlink());
}

#[tokio::test]
async fn a_failed_commit_latches() {
    let disk = Disk::default();
    let store = RedbStore::open_on(disk.plug(), ring(&[1]), RETENTION, run(1), at(0)).unwrap();
    store.start(at(0), new_session(0, 1)).await.unwrap();
    assert_eq!(store.status().unwritable, None);

    disk.fail_after(0);
    let failed = store.start(at(0), new_session(0, 2)).await.unwrap_err();
    assert!(matches!(failed, StoreError::Unavailable(_)), "{failed}");
    disk.mend();
    let latched = store.start(at(0), new_session(0, 3)).await.unwrap_err();
    assert!(matches!(latched, StoreError::Unavailable(_)), "until it is opened again: {latched}");
    let reason = store.status().unwritable.expect("the reason is kept");
    let ended = store.ended().await;
    assert!(
        ended.contains("a write failed") && ended.contains(&reason),
        "the process is told to end: {ended}"
    );
}

#[tokio::test]
async fn a_heartbeat_waits_behind_a_writer_that_is_stuck() {
    let disk = Disk::default();
    let store = Arc::new(RedbStore::open_on(disk.plug(), ring(&[1]), RETENTION, run(1), at(0)).unwrap());
    store.heartbeat().await.unwrap();

    disk.hold();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.start(at(0), new_session(0, 1)).await }
    });
    while !disk.is_waited_for() {
        tokio::task::yield_now().await;
    }
    let mut heartbeat = Box::pin(store.heartbeat());
    assert!(futures_util::poll!(&mut heartbeat).is_pending());
    // Whatever else the runtime does meanwhile, no answer comes while the disk gives none.
    store.session(at(0), &viewer("checkout"), &Lookup::Id(SessionId::from_bytes([0; 16]))).await.unwrap_err();
    assert!(futures_util::poll!(&mut heartbeat).is_pending());
    disk.release();
    heartbeat.await.unwrap();
    writing.await.unwrap().unwrap();

    disk.fail_after(0);
    store.start(at(0), new_session(0, 2)).await.unwrap_err();
    assert!(matches!(store.heartbeat().await, Err(StoreError::Unavailable(_))), "no writes, no heartbeat");
}
