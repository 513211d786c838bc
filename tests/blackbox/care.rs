//! Care of the store while it serves: a backup under load that is restored elsewhere, a look at everything, and room that is
//! given back, across kills.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use cairld::{
    api::proto::{
        AcknowledgeEventsRequest, BackupStoreRequest, CompactStoreRequest, ExplainSessionRequest,
        ListEventsRequest, SessionStatus, VerifyStoreRequest, WatchEventsRequest,
    },
    daemon::SystemClock,
    domain::{BootTime, Clock, Moment, Timestamp},
    store::{MasterKey, Store},
};
use futures_util::future::join_all;
use redb::{Database, ReadableTable, TableDefinition};
use tonic::{Code, transport::Endpoint};

use crate::support::{Client, World, cairlctl, cairld, fill, output, refused, signature};

const SESSIONS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("sessions");

/// What a backup may and must hold of the sessions that were started around it.
#[derive(Default)]
struct Ledger {
    /// Acknowledged before it was asked for.
    before: BTreeSet<String>,
    /// Started after its first piece had come.
    after: BTreeSet<String>,
    /// Between the two.
    meanwhile: BTreeSet<String>,
}

const BEFORE: u8 = 0;
const BEGUN: u8 = 1;
const AFTER: u8 = 2;

/// Starts sessions until it is over, and takes down when each was.
async fn load(
    mut client: Client,
    phase: Arc<AtomicU8>,
    is_over: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
) {
    while !is_over.load(Ordering::SeqCst) {
        let asked = phase.load(Ordering::SeqCst);
        let id = client.started().await.session.unwrap().id;
        let answered = phase.load(Ordering::SeqCst);
        let mut ledger = ledger.lock().unwrap();
        match (asked, answered) {
            (_, BEFORE) => &mut ledger.before,
            (AFTER, _) => &mut ledger.after,
            _ => &mut ledger.meanwhile,
        }
        .insert(id);
    }
}

/// A client of whom the daemon knows how little he has read: a backup waits for him.
async fn slow_reader(world: &World) -> Client {
    let endpoint = Endpoint::from_shared(format!("unix:{}", world.path("cairld.sock").display())).unwrap();
    let endpoint = endpoint.origin("http://localhost".parse().unwrap());
    let narrow = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    Client::over(narrow.connect().await.unwrap(), None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_exactly_what_was_acknowledged_before_it() {
    let world = World::unlimited().await;
    world.show_all_events();
    // More than what is on its way to a reader who takes nothing.
    drop(fill(&world.path("cairld.redb"), ago(1), 8000).await);
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    let complete = client.completed(&callback).await.unwrap();
    let open = client.started().await;
    let body = br#"{"id":"e1","type":"vae.resolved"}"#;
    let before = client.ingest(body, &signature(body)).await.unwrap().event.unwrap().cursor;

    let (phase, is_over) = (Arc::new(AtomicU8::new(BEFORE)), Arc::new(AtomicBool::new(false)));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let loads: Vec<_> = (0..8)
        .map(|_| {
            let (phase, is_over, ledger) = (Arc::clone(&phase), Arc::clone(&is_over), Arc::clone(&ledger));
            tokio::spawn(load(client.clone(), phase, is_over, ledger))
        })
        .collect();
    let enough = |count: usize, part: fn(&Ledger) -> &BTreeSet<String>| {
        let ledger = Arc::clone(&ledger);
        async move {
            while part(&ledger.lock().unwrap()).len() < count {
                tokio::task::yield_now().await;
            }
        }
    };
    enough(300, |ledger| &ledger.before).await;
    phase.store(BEGUN, Ordering::SeqCst);
    let mut reader = slow_reader(&world).await;
    let request = reader.request(BackupStoreRequest {});
    let mut pieces = reader.admin.backup_store(request).await.unwrap().into_inner();
    let mut backup = pieces.message().await.unwrap().unwrap().chunk;
    phase.store(AFTER, Ordering::SeqCst);
    enough(100, |ledger| &ledger.after).await;
    let second = client.admin.backup_store(client.request(BackupStoreRequest {})).await;
    assert_eq!(refused(second).reason, "OVERLOADED", "one at a time");
    while let Some(piece) = pieces.message().await.unwrap() {
        assert!(piece.copied <= piece.total, "{} of {}", piece.copied, piece.total);
        backup.extend(piece.chunk);
    }
    is_over.store(true, Ordering::SeqCst);
    join_all(loads).await.into_iter().for_each(Result::unwrap);
    daemon.kill();

    // Another host, with the same key.
    let elsewhere = World::unlimited().await;
    elsewhere.show_all_events();
    fs::write(elsewhere.path("backup"), &backup).unwrap();
    let (from, to) = (elsewhere.path("backup"), elsewhere.path("cairld.redb"));
    let restore = output(cairlctl().arg("restore").arg(&from).arg("--to").arg(&to));
    assert!(restore.0.status.success(), "{}", restore.2);
    let daemon = elsewhere.daemon();
    daemon.says("restored a backup");
    let mut client = elsewhere.unix().await;
    let ledger = Arc::into_inner(ledger).unwrap().into_inner().unwrap();
    println!(
        "backup: {} bytes; {} sessions acknowledged before it, {} meanwhile, {} begun after its first piece",
        backup.len(),
        ledger.before.len(),
        ledger.meanwhile.len(),
        ledger.after.len()
    );
    for id in &ledger.before {
        assert_eq!(client.session(id).await.unwrap().status(), SessionStatus::Indeterminate, "{id}");
    }
    for id in &ledger.after {
        assert_eq!(refused(client.session(id).await).reason, "SESSION_NOT_FOUND", "{id}");
    }
    assert_eq!(client.session(&complete.id).await.unwrap(), complete, "with its claims");
    let id = open.session.unwrap().id;
    let request = client.request(ExplainSessionRequest { session_id: id.clone() });
    let told = client.integration.explain_session(request).await.unwrap().into_inner();
    assert_eq!(told.timeline.last().unwrap().kind, "restored");
    assert!(told.next_step.contains("StartAuthorization"), "{}", told.next_step);
    let request = client.request(ListEventsRequest::default());
    let events = client.integration.list_events(request).await.unwrap().into_inner().events;
    let cursor = &events.iter().find(|event| event.body == body).expect("it is there").cursor;
    let request = |cursor: &str| AcknowledgeEventsRequest {
        consumer: "billing".to_owned(),
        client: "shop".to_owned(),
        cursor: cursor.to_owned(),
    };
    let watch = WatchEventsRequest { consumer: "billing".to_owned(), ..WatchEventsRequest::default() };
    let watching = client.integration.watch_events(client.request(watch)).await.unwrap();
    watching.into_inner().message().await.unwrap().unwrap();
    let old = client.integration.acknowledge_events(client.request(request(&before))).await;
    assert_eq!(refused(old).reason, "CURSOR_INVALID", "its place is another event's by now, or will be");
    client.integration.acknowledge_events(client.request(request(cursor))).await.unwrap();

    // What the provider was asked meanwhile is not known.
    let (_, callback) = elsewhere.approved(&mut client).await;
    let closed = refused(client.within(Duration::from_secs(20)).completed(&callback).await);
    let delay = closed.retry_delay.unwrap();
    assert_eq!(closed.reason, "RATE_LIMITED");
    assert!(delay <= Duration::from_secs(61), "{delay:?}");

    let endpoint = format!("unix:{}", to.with_file_name("cairld.sock").display());
    let (ended, stdout, stderr) = output(cairlctl().args(["--endpoint", &endpoint, "store", "verify"]));
    assert!(ended.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("all of them sound"), "{stdout}");
    assert!(daemon.terminate().0.success());
    assert!(!fs::read(&to).unwrap().starts_with(b"cairld backup"), "the store is in its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_does_not_start() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    client.started().await;
    let (endpoint, file) = (format!("unix:{}", world.path("cairld.sock").display()), world.path("b"));
    let (ended, stdout, stderr) = output(cairlctl().args(["--endpoint", &endpoint, "backup"]).arg(&file));
    assert!(ended.status.success(), "{stderr}");
    assert!(stdout.contains("records"), "{stdout}");
    drop(daemon);
    let whole = fs::read(&file).unwrap();
    let start = |bytes: &[u8]| {
        fs::write(world.path("cairld.redb"), bytes).unwrap();
        let (ended, _, stderr) = output(cairld().arg("serve").arg("--config").arg(world.config()));
        assert_eq!(fs::read(world.path("cairld.redb")).unwrap(), bytes, "it is left alone");
        (ended.status.code(), stderr)
    };
    let (code, said) = start(&whole[..whole.len() - 1]);
    assert_eq!(code, Some(65), "EX_DATAERR, not to be started anew: {said}");
    assert!(
        said.contains("cairld.redb") && said.contains("cut short") && said.contains("put another"),
        "{said}"
    );
    world.write_secret("store.key", &MasterKey::new([9; 32]).expose());
    let (code, said) = start(&whole);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("put it back behind the first"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_found_and_named() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    client.started().await;
    client.started().await;
    assert!(daemon.terminate().0.success());
    let database = Database::open(world.path("cairld.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let key = {
        let mut sessions = transaction.open_table(SESSIONS).unwrap();
        let (key, mut record) = {
            let (key, record) = sessions.first().unwrap().unwrap();
            (key.value(), record.value().to_vec())
        };
        *record.last_mut().unwrap() ^= 1;
        sessions.insert(&key, record.as_slice()).unwrap();
        key
    };
    transaction.commit().unwrap();
    drop(database);

    let daemon = world.daemon();
    let endpoint = format!("unix:{}", world.path("cairld.sock").display());
    let (ended, stdout, _) = output(cairlctl().args(["--endpoint", &endpoint, "store", "verify"]));
    assert_eq!(ended.status.code(), Some(1), "{stdout}");
    let hex = data_encoding::HEXLOWER.encode(&key);
    assert_eq!(stdout.matches(&format!("sessions {hex}: ")).count(), 1, "{stdout}");
    assert!(stdout.contains("1 problems told"), "{stdout}");
    daemon.says(&hex);
    let mut client = world.unix().await;
    let request = client.request(VerifyStoreRequest {});
    let mut parts = client.admin.verify_store(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(part) = parts.message().await.unwrap() {
        last = Some(part);
    }
    let last = last.unwrap();
    assert_eq!(last.checked, last.total);
}

/// The time so many hours ago, in an earlier boot.
fn ago(hours: u64) -> Moment {
    let now = SystemClock::new().now().wall.as_millis();
    Moment { wall: Timestamp::from_millis(now - hours * 3_600_000), boot: BootTime { boot: 0, millis: 0 } }
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_given_back_while_calls_run_and_across_kills() {
    let world = World::unlimited().await;
    // Sessions of three days ago, which the sweep has removed: the file is mostly free within.
    let store = fill(&world.path("cairld.redb"), ago(72), 16_000).await;
    let mut later = ago(24);
    later.boot.boot = 1;
    while store.sweep(later).await.unwrap().more {}
    assert_eq!(store.status().sessions, 0);
    drop(store);
    drop(fill(&world.path("cairld.redb"), ago(0), 4000).await);
    let filled = fs::metadata(world.path("cairld.redb")).unwrap().len();
    let (mut acknowledged, mut met, mut kills) = (Vec::new(), 0, 0);
    let beside = world.path("cairld.redb.compacting");
    // Killed in the midst of it, thrice: now and then it is quicker.
    while met < 3 {
        kills += 1;
        assert!(kills < 20, "{met} of {kills} kills met a compaction");
        let daemon = world.daemon();
        let mut client = world.unix().await;
        let mut busy = client.clone();
        let compacting = tokio::spawn(async move {
            let request = client.request(CompactStoreRequest {});
            let _ = client.admin.compact_store(request).await;
        });
        while !beside.exists() && !compacting.is_finished() {
            acknowledged.push(busy.started().await.session.unwrap().id);
        }
        acknowledged.push(busy.started().await.session.unwrap().id);
        daemon.kill();
        met += u32::from(beside.exists());
        compacting.await.unwrap();
    }
    println!("compact: {met} of {kills} kills came while the copy was there");
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let endpoint = format!("unix:{}", world.path("cairld.sock").display());
    let compact = output(cairlctl().args(["--endpoint", &endpoint, "store", "compact", "--json"]));
    assert!(compact.0.status.success(), "{}", compact.2);
    let compacted: serde_json::Value = serde_json::from_str(&compact.1).unwrap();
    let size = fs::metadata(world.path("cairld.redb")).unwrap().len();
    assert_eq!(compacted["bytesAfter"], size.to_string());
    assert!(size < filled, "{filled}, then {size}");
    for id in &acknowledged {
        assert_eq!(client.session(id).await.unwrap().status(), SessionStatus::Pending, "{id}");
    }
    acknowledged.push(client.started().await.session.unwrap().id);
    daemon.kill();
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    for id in &acknowledged {
        client.session(id).await.unwrap();
    }
    let (ended, stdout, stderr) = output(cairlctl().args(["--endpoint", &endpoint, "store", "verify"]));
    assert!(ended.status.success(), "{stdout}{stderr}");
    let names = fs::read_dir(world.path("")).unwrap().map(|file| file.unwrap().file_name());
    let beside = names.filter(|name| name.to_string_lossy().contains(".compacting")).count();
    assert_eq!(beside, 0, "nothing is left over");
}

#[tokio::test(flavor = "multi_thread")]
async fn care_of_the_store_is_for_operators() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = Client::tcp(daemon.tcp(), Some(crate::support::OTHER)).await;
    let request = client.request(BackupStoreRequest {});
    let backup = refused(client.admin.backup_store(request).await);
    let request = client.request(VerifyStoreRequest {});
    let verify = refused(client.admin.verify_store(request).await);
    let request = client.request(CompactStoreRequest {});
    let compact = refused(client.admin.compact_store(request).await);
    for refusal in [backup, verify, compact] {
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::PermissionDenied, "RPC_NOT_GRANTED"));
    }
}

/// A store whose pages make no sense is not started again and again: the exit code is one that the unit leaves alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_stops_the_start_with_its_name_and_the_remedy() {
    let world = World::new().await;
    let store = world.path("cairld.redb");
    drop(fill(&store, Moment::default(), 100).await);
    let whole = fs::read(&store).unwrap();
    let start = |bytes: &[u8]| {
        fs::write(&store, bytes).unwrap();
        let (ended, _, stderr) = output(cairld().arg("serve").arg("--config").arg(world.config()));
        assert_eq!(ended.status.code(), Some(65), "EX_DATAERR: {stderr}");
        let told = stderr.lines().last().unwrap_or_default();
        assert!(told.contains("cairld.redb: damaged") && told.contains("restore a backup"), "{stderr}");
        told.to_owned()
    };
    // Behind the header, which redb looks at, come the pages, which it trusts.
    let mut zeroed = whole.clone();
    zeroed[4096..].fill(0);
    // Where it was noticed is told, and not where the program was built.
    let told = start(&zeroed);
    assert!(told.contains(", redb-") && told.contains(".rs:") && !told.contains("/redb-"), "{told}");
    start(&whole[..whole.len() / 2]);
}
