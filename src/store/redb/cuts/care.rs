//! A first start, compacting, and restoring: files whose names change.

use std::{
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
};

use super::{folder::Folder, *};
use crate::store::{
    Care, CompactError, Lookup,
    conformance::state,
    redb::tests::{bytes_of, problems_at, varied},
};

const STORE: &str = "/var/lib/cairld/cairld.redb";
/// When all of it happens, and when the store is opened again.
const NOW: u64 = 6;
/// Numbers of the sessions that begin meanwhile.
const MEANWHILE: u8 = 100;

fn open(folder: &Folder, run_number: u8) -> Result<RedbStore, OpenError> {
    let settings = Settings { path: STORE.into(), cache_bytes: 1 << 20, retention: RETENTION, keys: keys() };
    RedbStore::open_in(folder.mount(), settings, run(run_number), at(NOW), |_| {})
}

/// A folder with a store in it that has something of everything.
async fn furnished() -> Folder {
    let folder = Folder::default();
    varied(&(Arc::new(open(&folder, 1).unwrap()) as _)).await;
    folder.pull(Loss::All);
    folder
}

/// Sessions that are begun one after the other, and which of them were acknowledged.
#[derive(Default)]
struct Begun {
    next: AtomicU8,
    acknowledged: Mutex<Vec<u8>>,
}

impl Begun {
    /// One more.
    async fn one(&self, store: &RedbStore) {
        let number = MEANWHILE + self.next.fetch_add(1, Ordering::Relaxed);
        if store.start(at(NOW), new_session(NOW, number)).await.is_ok() {
            self.acknowledged.lock().unwrap().push(number);
        }
    }

    /// The first of those that were acknowledged that the store has not.
    async fn missing_in(&self, store: &RedbStore) -> Option<u8> {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        for number in acknowledged {
            let id = Lookup::Id(state(number, NOW).session);
            if store.session(at(NOW), &viewer("checkout"), &id).await.is_err() {
                return Some(number);
            }
        }
        None
    }
}

/// What a store says that is opened on a copy of the folder, after it has proved to be sound and to go on.
async fn opened(folder: &Folder, story: &str) -> (RedbStore, String) {
    let folder = folder.copy();
    let store = open(&folder, 2).unwrap_or_else(|error| panic!("{story}: {error}"));
    assert_eq!(problems_at(&store, at(NOW)).await, [""; 0], "{story}");
    assert_eq!(folder.names(), [Path::new(STORE)], "{story}: nothing is left over");
    let all = all_of(&store, NOW).await;
    store.start(at(NOW), new_session(NOW, 250)).await.unwrap();
    (store, all)
}

/// The rows that stay what they are whatever begins: all but the counts.
fn rows(all: &str) -> impl Iterator<Item = &str> {
    all.lines().filter(|row| !row.starts_with("  {"))
}

const LOSSES: [fn(u64) -> Loss; 4] = [|_| Loss::All, |_| Loss::Nothing, Loss::Some, |cut| Loss::Some(!cut)];

/// Where the way of cutting of that number cuts: everywhere, if it is the first, else here and there.
fn cuts(way: usize) -> impl Iterator<Item = u64> {
    let step = match way {
        0 => 1,
        _ if is_thorough() => 3,
        _ => 7,
    };
    (way as u64..).step_by(step)
}

#[tokio::test]
async fn what_a_new_store_acknowledged_is_there() {
    let (mut count, mut acknowledged) = (0, 0);
    for (way, loss) in LOSSES.into_iter().enumerate() {
        for cut in cuts(way) {
            let (folder, begun) = (Folder::default(), Begun::default());
            folder.fail_after(cut);
            let store = open(&folder, 1);
            if let Ok(store) = &store {
                begun.one(store).await;
                begun.one(store).await;
            }
            let has_failed = folder.fails();
            folder.pull(loss(cut));
            drop(store);
            let story = format!("a first start, cut at operation {cut}, {:?}", loss(cut));
            acknowledged += begun.acknowledged.lock().unwrap().len();
            // However it was cut off, it is a store or none, and the next makes it one.
            let again = open(&folder, 2).unwrap_or_else(|error| panic!("{story}: {error}"));
            begun.one(&again).await;
            folder.pull(Loss::All);
            drop(again);
            let (store, _) = opened(&folder, &story).await;
            assert_eq!(begun.missing_in(&store).await, None, "{story}");
            count += 1;
            if !has_failed {
                break;
            }
        }
    }
    println!("{count} first starts that are cut");
    assert!(count > 50 && acknowledged > 10, "{count}, {acknowledged}");
}

#[tokio::test]
async fn a_compaction_that_is_cut_anywhere_loses_nothing() {
    let furnished = furnished().await;
    let (_, before) = opened(&furnished, "before").await;
    let (mut count, mut compacted) = (0, 0);
    let ways = LOSSES.into_iter().flat_map(|loss| [(loss, false), (loss, true)]);
    for (way, (loss, is_mended)) in ways.enumerate() {
        for cut in cuts(way) {
            let (folder, begun) = (furnished.copy(), Arc::new(Begun::default()));
            let store = Arc::new(open(&folder, 1).unwrap());
            folder.fail_after(cut);
            let done = {
                let (store_beside, begun) = (Arc::downgrade(&store), Arc::clone(&begun));
                let runtime = tokio::runtime::Handle::current();
                let meanwhile = move || {
                    let store = store_beside.upgrade().unwrap();
                    runtime.block_on(begun.one(&store));
                    false
                };
                store.compact(Box::new(meanwhile)).await
            };
            let has_failed = folder.fails();
            let story = format!("compacting, cut at operation {cut}, {:?}, mended: {is_mended}", loss(cut));
            if is_mended {
                folder.mend();
            }
            begun.one(&store).await;
            if is_mended && matches!(done, Err(CompactError::Copy(_))) {
                let last = MEANWHILE + begun.next.load(Ordering::Relaxed) - 1;
                let is_going_on = begun.acknowledged.lock().unwrap().contains(&last);
                assert!(
                    is_going_on || store.status().unwritable.is_some(),
                    "{story}: it goes on, or says why not"
                );
            }
            folder.pull(loss(cut));
            drop(store);
            let (store, found) = opened(&folder, &story).await;
            assert_eq!(begun.missing_in(&store).await, None, "{story}");
            let lost = rows(&before).find(|row| !found.contains(row));
            assert_eq!(lost, None, "{story}\n{found}");
            count += 1;
            if !has_failed {
                compacted += u64::from(done.is_ok());
                break;
            }
        }
    }
    println!("{count} compactions that are cut");
    assert!(count > 300 && compacted == 8, "{count}, {compacted}");
}

#[tokio::test]
async fn a_restore_that_is_cut_anywhere_begins_anew() {
    let backup = bytes_of(&open(&furnished().await, 1).unwrap(), at(NOW)).await;
    let folder = Folder::default();
    folder.put(Path::new(STORE), backup);
    let (_, expected) = opened(&folder, "restoring").await;
    let mut count = 0;
    for (way, loss) in LOSSES.into_iter().enumerate() {
        for cut in cuts(way) {
            let (folder, begun) = (folder.copy(), Begun::default());
            folder.fail_after(cut);
            let store = open(&folder, 2);
            if let Ok(store) = &store {
                begun.one(store).await;
            }
            let has_failed = folder.fails();
            folder.pull(loss(cut));
            drop(store);
            let story = format!("restoring, cut at operation {cut}, {:?}", loss(cut));
            let (store, found) = opened(&folder, &story).await;
            assert_eq!(begun.missing_in(&store).await, None, "{story}");
            let lost = rows(&expected).find(|row| !found.contains(row));
            assert_eq!(lost, None, "{story}\n{found}");
            count += 1;
            if !has_failed {
                assert!(!begun.acknowledged.lock().unwrap().is_empty());
                break;
            }
        }
    }
    println!("{count} restores that are cut");
    assert!(count > 100, "{count}");
}
