//! Compacting while others read and write.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::StreamExt;

use super::{
    backup::{bytes_of, consumer, problems, session, varied, varied_from},
    *,
};
use crate::store::{BackupPiece, Care, CompactError, Compacted, Inbox};

const MANY: u64 = 3000;

fn numbered(number: u64) -> NewSession {
    let random = [&[0; 2][..], &number.to_be_bytes()].concat().try_into().unwrap();
    NewSession { id: SessionId::new(at(0).wall, random), ..new_session(0, 1) }
}

/// A file most of which is free within.
async fn mostly_free(folder: &InFolder) -> Arc<RedbStore> {
    let settings =
        Settings { path: folder.path(), cache_bytes: 1 << 20, retention: RETENTION, keys: ring(&[1]) };
    let store = Arc::new(RedbStore::open(settings, run(1), at(0)).unwrap());
    let starts = (0..MANY).map(|number| store.start(at(0), numbered(number)));
    futures_util::future::try_join_all(starts).await.unwrap();
    while store.sweep(at(6000)).await.unwrap().more {}
    assert_eq!(store.status().sessions, 0);
    store
}

fn never() -> Box<dyn Fn() -> bool + Send + Sync> {
    Box::new(|| false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_shrinks_and_nothing_that_is_written_meanwhile_is_lost() {
    let folder = InFolder::new();
    let store = mostly_free(&folder).await;
    for number in 0..50 {
        store.start(at(6000), numbered(number)).await.unwrap();
    }
    let (is_over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing = tokio::spawn({
        let (store, is_over, written) = (Arc::clone(&store), Arc::clone(&is_over), Arc::clone(&written));
        async move {
            let mut number = 1000;
            while !is_over.load(Ordering::Relaxed) {
                let id = store.start(at(6001), numbered(number)).await.unwrap().session.id;
                if number % 3 == 0 {
                    store.cancel(at(6002), &viewer("checkout"), id).await.unwrap();
                }
                store.session(at(6002), &viewer("checkout"), &Lookup::Id(id)).await.unwrap();
                number += 1;
                written.store(number - 1000, Ordering::Relaxed);
            }
        }
    });
    while written.load(Ordering::Relaxed) < 20 {
        tokio::task::yield_now().await;
    }
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let compacted = store.compact(never()).await.unwrap();
        // Somebody writes all the time.
        assert!(compacted.after <= fs::metadata(folder.path()).unwrap().len());
        sizes.push((compacted.before, compacted.after));
        let so_far = written.load(Ordering::Relaxed);
        while written.load(Ordering::Relaxed) < so_far + 20 {
            tokio::task::yield_now().await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    assert!(sizes[0].1 < sizes[0].0 / 2, "{sizes:?}");

    let expected = 50 + written.load(Ordering::Relaxed);
    assert_eq!(store.status().sessions, expected);
    assert_eq!(problems(&*store).await, [""; 0]);
    let [counted, there] = store.session_counts();
    assert_eq!(counted, there);
    drop(store);
    let store = folder.try_open(&[1]).unwrap();
    assert_eq!(store.status().sessions, expected, "all of it is in the file of that name");
    assert_eq!(problems(&store).await, [""; 0]);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
}

/// Everything that can be written is, when the last table has been copied: what is noted then is all that the copy has of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_written_when_all_is_copied_is_in_the_new_file() {
    let folder = InFolder::new();
    let store = Arc::new(folder.try_open(&[1]).unwrap());
    let writing: Arc<dyn Store> = Arc::clone(&store) as _;
    varied(&writing).await;
    let tables = u64::try_from(care::names().len()).unwrap() - 1;
    let (runtime, asked) = (tokio::runtime::Handle::current(), AtomicU64::new(0));
    store
        .compact(Box::new(move || {
            // Asked once for each table, since each has few rows.
            if asked.fetch_add(1, Ordering::Relaxed) + 1 == tables {
                runtime.block_on(varied_from(&writing, 10));
            }
            false
        }))
        .await
        .unwrap();
    assert_eq!(problems(&*store).await, [""; 0]);
    assert_eq!(store.status().sessions, 12);
    assert_eq!((store.status().events, store.status().revocations), (10, 2));
    for number in 1..=6 {
        let [before, after] = [number, number + 10].map(async |number| session(&*store, at(9), number).await);
        assert_eq!(before.await.status(), after.await.status(), "{number}");
    }
    assert_eq!(store.open_consumer(at(9), &consumer()).await.unwrap(), 7);
    let duplicate = store.ingest(at(9), conformance::seen(12, "hvf_1")).await.unwrap();
    assert!(duplicate.duplicate, "digests are there");
    let used = store.take(at(9), conformance::take_of(11, "code-12"), &conformance::terms()).await;
    assert!(used.is_err(), "codes are there");
}

#[tokio::test]
async fn a_file_that_somebody_else_put_in_its_place_is_not_replaced() {
    let folder = InFolder::new();
    let store = mostly_free(&folder).await;
    fs::rename(folder.path(), folder.path().with_extension("old")).unwrap();
    fs::write(folder.path(), "somebody else's").unwrap();
    let refused = store.compact(never()).await.unwrap_err();
    assert!(refused.to_string().contains("another file has taken"), "{refused}");
    assert_eq!(fs::read(folder.path()).unwrap(), b"somebody else's");
    store.start(at(6000), numbered(1)).await.unwrap();
}

#[tokio::test]
async fn who_reads_the_old_file_reads_it_to_its_end() {
    let folder = InFolder::new();
    let store = mostly_free(&folder).await;
    for number in 0..50 {
        store.start(at(6000), numbered(number)).await.unwrap();
    }
    let expected = bytes_of(&*store, at(6001)).await.len();
    let mut pieces = store.backup(at(6001)).unwrap();
    let mut length = pieces.next().await.unwrap().unwrap().bytes.len();
    store.compact(never()).await.unwrap();
    store.start(at(6001), numbered(99)).await.unwrap();
    while let Some(BackupPiece { bytes, .. }) = pieces.next().await.map(Result::unwrap) {
        length += bytes.len();
    }
    assert_eq!(length, expected);
    assert_eq!(store.status().sessions, 51);
}

#[tokio::test]
async fn who_reads_the_old_file_does_not_hold_the_new_one() {
    let folder = InFolder::new();
    let store = mostly_free(&folder).await;
    let mut pieces = store.backup(at(6001)).unwrap();
    pieces.next().await.unwrap().unwrap();
    store.compact(never()).await.unwrap();
    drop(store);
    folder.try_open(&[1]).unwrap();
    drop(pieces);
}

#[tokio::test]
async fn one_that_is_broken_off_changes_nothing() {
    let folder = InFolder::new();
    let store = mostly_free(&folder).await;
    store.start(at(6000), numbered(1)).await.unwrap();
    let before = fs::metadata(folder.path()).unwrap().len();
    let stopped = store.compact(Box::new(|| true)).await.unwrap_err();
    assert!(matches!(stopped, CompactError::Stopped), "{stopped}");
    assert_eq!(fs::metadata(folder.path()).unwrap().len(), before);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1, "the copy has gone");
    store.start(at(6000), numbered(2)).await.unwrap();
    assert_eq!(store.status().sessions, 2);
    store.compact(never()).await.unwrap();
    assert_eq!(store.status().sessions, 2, "and it can be begun again");
}

#[tokio::test]
async fn a_copy_that_a_crash_left_behind_goes() {
    let folder = InFolder::new();
    drop(folder.try_open(&[1]).unwrap());
    let beside = folder.path().with_extension("redb.compacting");
    fs::write(&beside, "half of a store").unwrap();
    drop(folder.try_open(&[1]).unwrap());
    assert!(!beside.exists());
}

#[tokio::test]
async fn a_link_in_its_place_stays_one() {
    let (folder, other) = (InFolder::new(), tempfile::tempdir().unwrap());
    let store = mostly_free(&folder).await;
    drop(store);
    let elsewhere = other.path().join("elsewhere.redb");
    fs::copy(folder.path(), &elsewhere).unwrap();
    fs::remove_file(folder.path()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.path()).unwrap();
    let store = folder.try_open(&[1]).unwrap();
    let Compacted { before, after } = store.compact(never()).await.unwrap();
    assert!(after < before / 2, "{before}, {after}");
    assert_eq!(fs::metadata(&elsewhere).unwrap().len(), after);
    assert!(fs::symlink_metadata(folder.path()).unwrap().is_symlink());
}

#[tokio::test]
async fn a_copy_that_cannot_be_made_changes_nothing() {
    let folder = InFolder::new();
    let store = mostly_free(&folder).await;
    // A folder in the copy's place cannot be removed as a file can.
    let beside = folder.path().with_extension("redb.compacting");
    fs::create_dir(&beside).unwrap();
    let failed = store.compact(never()).await.unwrap_err();
    assert!(matches!(failed, CompactError::Copy(_)), "{failed}");
    store.start(at(6000), numbered(1)).await.unwrap();
    fs::remove_dir(&beside).unwrap();
    store.compact(never()).await.unwrap();
    assert_eq!(store.status().sessions, 1);
}
