//! Backups, and stores that are made of them.

use std::fs;

use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    domain::{
        AccessToken, ApiKey, ConsumerName, ExchangeEnd, Happening, Presented, Status, Terminal, TokenStanding,
    },
    store::{BackupPiece, Consumer, EventFilter, Inbox},
};

/// All pieces of a backup, one behind the other.
pub(in crate::store::redb) async fn bytes_of(store: &dyn Store, now: Moment) -> Vec<u8> {
    let pieces: Vec<_> = store.backup(now).unwrap().collect().await;
    pieces.into_iter().flat_map(|piece| piece.unwrap().bytes).collect()
}

/// What `check` finds wrong.
pub(super) async fn problems(store: &dyn Store) -> Vec<String> {
    problems_at(store, at(10)).await
}

pub(in crate::store::redb) async fn problems_at(store: &dyn Store, now: Moment) -> Vec<String> {
    let parts: Vec<_> = store.check(now).unwrap().collect().await;
    let last = parts.last().unwrap().as_ref().unwrap();
    assert_eq!(last.checked, last.total, "it looks at everything");
    parts.into_iter().flat_map(|part| part.unwrap().problems).collect()
}

/// A session in each place, events with a consumer, and budgets in use: everything that is ever written.
pub(in crate::store::redb) async fn varied(store: &Arc<dyn Store>) {
    varied_from(store, 0).await;
}

/// The same with sessions and events of other numbers, behind that one.
pub(super) async fn varied_from(store: &Arc<dyn Store>, first: u8) {
    let new = |number| new_session(0, first + number);
    let take = |number: u8| Take {
        provider_session: conformance::hint(&format!("hvf_own_{}", first + number)),
        ..conformance::take_of(first + number, &format!("code-{}", first + number))
    };
    let requested = NewSession { request_id: Some(format!("r-{}", first + 1)), ..new(1) };
    store.start(at(0), requested).await.unwrap();
    store.start(at(0), new(2)).await.unwrap();
    store.take(at(1), take(2), &conformance::terms()).await.unwrap();
    store.start(at(0), new(3)).await.unwrap();
    let took = store.take(at(1), take(3), &conformance::terms()).await.unwrap();
    let crate::store::Next::Send { slot, .. } = took.next else { panic!("{took:?}") };
    let end =
        ExchangeEnd::Token { token: AccessToken::new("canary-token-3"), life: Duration::from_secs(3600) };
    store.end_exchange(at(2), took.session.id, slot, end).await.unwrap();
    let complete = conformance::complete(store, first + 4, 3600).await;
    conformance::complete(store, first + 5, 3600).await;
    store.revoke(at(4), &viewer("checkout"), complete).await.unwrap();
    store.start(at(0), new(6)).await.unwrap();
    store.cancel(at(5), &viewer("checkout"), id(first + 6)).await.unwrap();
    for number in 1..=5 {
        store.ingest(at(5), conformance::seen(first + number, "hvf_1")).await.unwrap();
    }
    store.open_consumer(at(5), &consumer()).await.unwrap();
    store.acknowledge(&consumer(), u64::from(first) / 2 + 2).await.unwrap();
}

pub(super) fn id(number: u8) -> SessionId {
    conformance::state(number, 0).session
}

pub(super) fn consumer() -> Consumer {
    Consumer {
        caller: viewer("checkout").caller,
        client: conformance::client(),
        name: ConsumerName::parse("billing").unwrap(),
    }
}

pub(super) async fn session(store: &dyn Store, now: Moment, number: u8) -> Session {
    store.session(now, &viewer("checkout"), &Lookup::Id(id(number))).await.unwrap()
}

/// A moment in the boot after that of all the others.
fn later(seconds: u64) -> Moment {
    let mut moment = at(86_400 + seconds);
    moment.boot.boot = 2;
    moment.boot.millis = seconds * 1000;
    moment
}

async fn backed_up() -> Vec<u8> {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    varied(&store).await;
    bytes_of(&*store, at(6)).await
}

fn restored(bytes: &[u8], keys: &[u8], now: Moment) -> (InFolder, Result<RedbStore, OpenError>) {
    let folder = InFolder::new();
    fs::write(folder.path(), bytes).unwrap();
    let settings = Settings {
        path: folder.path(),
        cache_bytes: 1 << 20,
        retention: Duration::from_secs(7 * 86_400),
        keys: ring(keys),
    };
    let store = RedbStore::open(settings, run(2), now);
    (folder, store)
}

#[tokio::test]
async fn what_had_ended_is_there_and_what_had_not_is_indeterminate() {
    let (folder, store) = restored(&backed_up().await, &[1], later(0));
    let store = store.unwrap();
    for (number, status) in [
        (1, Terminal::Indeterminate),
        (2, Terminal::Indeterminate),
        (3, Terminal::Indeterminate),
        (4, Terminal::Complete),
        (5, Terminal::Complete),
        (6, Terminal::Cancelled),
    ] {
        let session = session(&store, later(1), number).await;
        assert_eq!(session.status(), Status::Ended(status), "{number}");
        let is_restored = session.timeline.entries().iter().any(|entry| entry.kind == Happening::Restored);
        assert_eq!(is_restored, status == Terminal::Indeterminate, "{number}");
    }
    assert_eq!(store.status().by_status.values().sum::<u64>(), 6);
    let complete = session(&store, later(1), 5).await;
    assert!(complete.userinfo.is_some(), "claims are back");
    assert!(matches!(complete.token, TokenStanding::Expired), "an hour is long over");
    let waiting: Vec<_> =
        store.revocations(later(1)).await.unwrap().into_iter().map(|waiting| waiting.session).collect();
    assert_eq!(
        waiting.len(),
        2,
        "one given up before, one held for claims that nobody can fetch: {waiting:?}"
    );
    assert!(waiting.contains(&id(4)) && waiting.contains(&id(3)));

    let again = NewSession { request_id: Some("r-1".into()), ..new_session(0, 1) };
    let again = store.start(later(1), again).await.unwrap();
    assert!(again.usable.is_none() && again.session.id == id(1), "its state was erased");
    let used = store.take(later(1), conformance::take_of(6, "code-2"), &conformance::terms()).await;
    assert!(used.is_err(), "codes that were seen stay seen");

    let filter = EventFilter { client: conformance::client(), kinds: Vec::new(), session: None };
    let overseer = Viewer { sees_unlinked: true, ..viewer("checkout") };
    let done = store.open_consumer(later(1), &consumer()).await.unwrap();
    assert_eq!(done, 2, "consumers go on where they were");
    assert_eq!(store.read_on(&overseer, &filter, done, 10).await.unwrap().events.len(), 3);
    assert_ne!(store.epoch(), 0, "and their places are told anew");
    assert_eq!(problems(&store).await, [""; 0]);
    drop(store);
    let names: Vec<_> =
        fs::read_dir(folder.0.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["cairld.redb"], "nothing is left over");
    let bytes = fs::read(folder.path()).unwrap();
    assert!(!bytes.starts_with(crate::store::BACKUP_MAGIC), "the store is in its place");
}

#[tokio::test]
async fn budgets_are_closed_for_a_minute_after_it_across_a_restart() {
    let (folder, store) = restored(&backed_up().await, &[1], later(0));
    let store = store.unwrap();
    let unknown = BudgetTerms { credential: ApiKey::new("cairl_live_other"), ..conformance::terms() };
    for terms in [conformance::terms(), unknown.clone()] {
        let Err(StoreError::BudgetSpent(outlook)) = store.claim(later(10), &terms).await else {
            panic!("not closed")
        };
        assert_eq!(outlook.closed_for, Some(Duration::from_millis(50_001)));
    }
    drop(store);
    let store = RedbStore::open(settings_of(&folder), run(3), later(20)).unwrap();
    for terms in [conformance::terms(), unknown] {
        assert!(matches!(store.claim(later(60), &terms).await, Err(StoreError::BudgetSpent(_))));
        store.claim(later(61), &terms).await.unwrap();
    }
    drop(store);
    let store = RedbStore::open(settings_of(&folder), run(4), later(500)).unwrap();
    let meta = store.database.get().begin_read().unwrap().open_table(tables::META_TABLE).unwrap();
    assert!(meta.get(&b"restored"[..]).unwrap().is_none(), "and then it is forgotten");
}

#[tokio::test]
async fn another_boot_whose_clock_is_ahead_opens_no_budget() {
    let (folder, store) = restored(&backed_up().await, &[1], later(0));
    drop(store.unwrap());
    let rebooted = |seconds: u64| {
        let mut moment = later(3600);
        moment.boot = crate::domain::BootTime { boot: 3, millis: seconds * 1000 };
        moment
    };
    let store = RedbStore::open(settings_of(&folder), run(3), rebooted(0)).unwrap();
    for credential in ["cairl_live_other", "cairl_test_canary_key"] {
        let terms = BudgetTerms { credential: ApiKey::new(credential), ..conformance::terms() };
        assert!(matches!(store.claim(rebooted(60), &terms).await, Err(StoreError::BudgetSpent(_))));
        store.claim(rebooted(61), &terms).await.unwrap();
    }
}

fn settings_of(folder: &InFolder) -> Settings {
    Settings { path: folder.path(), cache_bytes: 1 << 20, retention: RETENTION, keys: ring(&[1]) }
}

#[tokio::test]
async fn it_holds_what_was_durable_when_it_began_and_nothing_later() {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let mut pieces = store.backup(at(1)).unwrap();
    let mut bytes = pieces.next().await.unwrap().unwrap().bytes;
    // Written while it is read.
    store.cancel(at(2), &viewer("checkout"), id(1)).await.unwrap();
    store.start(at(2), new_session(2, 2)).await.unwrap();
    while let Some(BackupPiece { bytes: more, .. }) = pieces.next().await.map(Result::unwrap) {
        bytes.extend(more);
    }
    let (_folder, store) = restored(&bytes, &[1], later(0));
    let store = store.unwrap();
    assert_eq!(store.status().sessions, 1);
    assert_eq!(session(&store, later(0), 1).await.status(), Status::Ended(Terminal::Indeterminate));
}

#[tokio::test]
async fn what_is_not_whole_is_refused_and_left_alone() {
    let bytes = backed_up().await;
    assert!(bytes.len() > 4000);
    let cuts = (0..24).map(|part| bytes.len() * part / 24).chain([bytes.len() - 1]);
    for cut in cuts.filter(|cut| *cut >= 16) {
        refused(&bytes[..cut], "is cut short");
    }
    for place in (16..bytes.len()).step_by(bytes.len() / 40) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        refused(&flipped, "cannot be restored");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&longer, "is not what was written");
    let mut other = bytes;
    other[14] = b'2';
    refused(&other, "of another version");
}

#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    let (folder, store) = restored(bytes, &[1], later(0));
    let error = store.unwrap_err();
    assert!(matches!(error, OpenError::BadBackup { .. }) && error.to_string().contains(why), "{error}");
    assert_eq!(fs::read(folder.path()).unwrap(), bytes, "it is left alone");
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1, "and nothing lies beside it");
}

/// Whoever can write a backup can make its sum fit; without the store's keys he cannot make its hash fit.
#[tokio::test]
async fn what_somebody_else_changed_is_refused() {
    let mut bytes = backed_up().await;
    let name = b"inbox_spans";
    let place = bytes.windows(name.len()).position(|window| window == name).unwrap();
    // The name of its only row.
    let shop = place + bytes[place..].windows(4).position(|window| window == b"shop").unwrap();
    bytes[shop + 3] = b'q';
    let whole = bytes.len() - 32;
    let sum = Sha256::digest(&bytes[..whole]);
    bytes[whole..].copy_from_slice(&sum);
    refused(&bytes, "was changed, or is of another store");
}

#[tokio::test]
async fn it_opens_with_the_right_keys_alone() {
    let bytes = backed_up().await;
    let (folder, store) = restored(&bytes, &[2], later(0));
    assert!(matches!(store, Err(OpenError::WrongKey { .. })), "{store:?}");
    assert_eq!(fs::read(folder.path()).unwrap(), bytes);
    let (_folder, store) = restored(&bytes, &[2, 1], later(0));
    assert_eq!(store.unwrap().status().sessions, 6);
}

#[tokio::test]
async fn one_that_was_cut_off_begins_anew() {
    let folder = InFolder::new();
    fs::write(folder.path(), backed_up().await).unwrap();
    let beside = folder.path().with_extension("redb.restoring");
    fs::write(&beside, "half of a store").unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&steps);
    let store = folder.try_open_telling(&[1], move |step| told.lock().unwrap().push(step)).unwrap();
    assert_eq!(store.status().sessions, 6);
    assert_eq!(*steps.lock().unwrap(), [Opening::Restoring { percent: 0 }], "and says what it is at");
    assert!(!beside.exists());
}

#[tokio::test]
async fn another_process_that_restores_is_left_to_it() {
    let folder = InFolder::new();
    let bytes = backed_up().await;
    fs::write(folder.path(), &bytes).unwrap();
    let theirs = Database::create(folder.path().with_extension("redb.restoring")).unwrap();
    let refused = folder.try_open(&[1]).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(folder.path().with_extension("redb.restoring").exists(), "and what it writes stays");
    drop(theirs);
    assert_eq!(folder.try_open(&[1]).unwrap().status().sessions, 6);
}

#[tokio::test]
async fn nothing_secret_stands_in_it() {
    let bytes = backed_up().await;
    for canary in [&b"canary"[..], &[1; 32]] {
        assert!(!bytes.windows(canary.len()).any(|window| window == canary), "{canary:?}");
    }
    assert!(bytes.windows(8).any(|window| window == b"checkout"), "the search itself works");
}

#[tokio::test]
async fn an_error_callback_in_a_backup_has_no_code_to_be_marked() {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let presented = Presented::Error { error: "access_denied".to_owned(), description: String::new() };
    let take = Take { presented, ..conformance::take_of(1, "") };
    store.take(at(1), take, &conformance::terms()).await.unwrap();
    assert_eq!(problems(&*store).await, [""; 0]);
    let (_folder, store) = restored(&bytes_of(&*store, at(2)).await, &[1], later(0));
    let session = session(&store.unwrap(), later(0), 1).await;
    assert_eq!(session.status(), Status::Ended(Terminal::Failed));
}
