//! A file with a page that is not what was written: the store opens, or says which file is damaged, and nothing panics.

use std::fs;

use futures_util::StreamExt;

use super::*;
use crate::store::{Care, CompactError, Swept};

const PAGE: usize = 4096;

/// What a page can come to.
type Kind = (&'static str, fn(&mut [u8]));

const KINDS: [Kind; 3] = [
    ("zeroed", |page| page.fill(0)),
    ("garbled", |page| page.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= 0x5a ^ at as u8)),
    ("shifted", |page| page.rotate_left(8)),
];

/// A small store with something of everything.
async fn furnished() -> (InFolder, Vec<u8>) {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    varied(&store).await;
    drop(store);
    let bytes = fs::read(folder.path()).unwrap();
    (folder, bytes)
}

fn assert_told(folder: &InFolder, error: &OpenError, story: &str) {
    let told = error.to_string();
    assert!(matches!(error, OpenError::Damaged { .. }), "{story}: {error:?}");
    assert!(
        told.contains(&*folder.path().to_string_lossy()) && told.contains("restore a backup"),
        "{story}: {told}"
    );
}

/// Asks it for all that is asked of it beside calls: what is damaged is an error that says what to do, and a look at the
/// store ends with all that it found. Answers how much that is.
async fn used(store: &RedbStore, story: &str) -> usize {
    let told = |error: &StoreError| {
        let told = matches!(error, StoreError::Corrupt(told) if told.contains("cairlctl store verify"))
            || matches!(error, StoreError::Unavailable(_) if store.status().unwritable.is_some());
        assert!(told, "{story}: {error}");
    };
    let _ = store.status();
    let mut problems = 0;
    match store.check(at(1)) {
        Ok(mut parts) => {
            while let Some(part) = parts.next().await {
                let part = part.unwrap_or_else(|error| panic!("{story}: it looks at everything: {error}"));
                problems += part.problems.len();
            }
        }
        Err(error) => told(&error),
    }
    match store.backup(at(1)) {
        Ok(mut pieces) => {
            while let Some(piece) = pieces.next().await {
                drop(piece.inspect_err(told));
            }
        }
        Err(error) => told(&error),
    }
    if let Err(error) = store.compact(Box::new(|| false)).await {
        assert!(matches!(&error, CompactError::Store(error) if { told(error); true }), "{story}: {error}");
    }
    drop(store.sweep(at(1)).await.inspect_err(told));
    drop(store.revocations(at(1)).await.inspect_err(told));
    drop(store.live_sessions(at(1), None).await.inspect_err(told));
    drop(store.start(at(1), new_session(1, 200)).await.inspect_err(told));
    problems
}

#[tokio::test]
async fn a_page_that_is_not_what_was_written_is_told_with_the_file_and_the_remedy() {
    let (folder, whole) = furnished().await;
    let (mut opened, mut told, mut found) = (0, 0, 0);
    for (page, bytes) in whole.chunks(PAGE).enumerate() {
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        for (kind, damage) in KINDS {
            let mut damaged = whole.clone();
            damage(&mut damaged[page * PAGE..][..bytes.len()]);
            fs::write(folder.path(), damaged).unwrap();
            match folder.try_open(&[1]) {
                Ok(store) => {
                    opened += 1;
                    found += usize::from(used(&store, &format!("page {page}, {kind}")).await > 0);
                }
                Err(error) => {
                    told += 1;
                    assert_told(&folder, &error, &format!("page {page}, {kind}"));
                }
            }
        }
    }
    println!("{opened} opened, {told} told, {found} found by a look");
    // What is damaged of a page that is free harms nobody.
    assert!(opened > 10 && told > 5 && found > 5, "{opened} opened, {told} told, {found} found by a look");
}

/// redb trusts pages: one that is damaged while the store is open is a panic for whoever comes upon it.
#[tokio::test]
async fn damage_that_a_reader_meets_is_his_error_and_what_the_writer_meets_ends_the_store() {
    const SAID: &str = "Invalid page type byte 0";
    let folder = InFolder::new();
    let store = folder.try_open(&[1]).unwrap();
    let read: Result<(), _> = store.reading(|_| panic!("{SAID}"));
    let told = read.unwrap_err();
    assert!(matches!(&told, StoreError::Corrupt(told) if told.contains("cairlctl store verify")), "{told}");
    store.start(at(0), new_session(0, 1)).await.expect("all else goes on");

    let write = store.writer.write(|_| -> tables::Outcome<()> { panic!("{SAID}") }).await;
    assert!(matches!(write, Err(StoreError::Unavailable(_))), "{write:?}");
    let told = store.ended().await;
    for words in [SAID, "cairld.redb", "may be damaged", "cairlctl store verify", "restore a backup"] {
        assert!(told.contains(words), "{told}");
    }
}

/// Sweeps until nothing is left to do, as the flows do; none where the writer comes upon what makes no sense.
async fn swept_up(store: &RedbStore, seconds: u64) -> Option<Swept> {
    let mut sum = Swept { more: true, ..Swept::default() };
    for _ in 0..100 {
        let bite = store.sweep(at(seconds)).await.ok()?;
        sum.ended += bite.ended;
        sum.removed += bite.removed;
        sum.unreadable = bite.unreadable.or(sum.unreadable);
        sum.more = bite.more;
        if !sum.more {
            return Some(sum);
        }
    }
    panic!("it never ends: {sum:?}");
}

/// Each walk of the sweep goes as far as it comes, and what it has found by then is written down; but nothing is removed, which
/// would take the page that makes no sense along.
#[tokio::test]
async fn a_sweep_does_what_it_can_beside_a_page_that_makes_no_sense() {
    // So many that they are swept in several bites.
    const SESSIONS: u8 = 200;
    let folder = InFolder::new();
    let store = folder.open(run(1));
    for number in 0..SESSIONS {
        store.start(at(0), new_session(0, number)).await.unwrap();
    }
    drop(store);
    let whole = fs::read(folder.path()).unwrap();
    let (mut some, mut all) = (0, 0);
    for page in (0..whole.len()).step_by(PAGE) {
        let mut damaged = whole.clone();
        damaged[page..][..PAGE].fill(0);
        fs::write(folder.path(), damaged).unwrap();
        let Ok(store) = folder.try_open(&[1]) else { continue };
        let Some(swept) = swept_up(&store, 3600).await else { continue };
        let is_all = swept.ended == u64::from(SESSIONS);
        assert!(is_all || swept.unreadable.is_some(), "page {page}: {swept:?}");
        some += usize::from(!is_all && swept.ended > 0);
        all += usize::from(is_all);
        // Long past their retention.
        let Some(swept) = swept_up(&store, 1_000_000).await else { continue };
        let removed = if swept.unreadable.is_some() { 0 } else { u64::from(SESSIONS) };
        assert_eq!(swept.removed, removed, "page {page}: {swept:?}");
    }
    assert!(some > 0 && all > 0, "{some} times some, {all} times all");
}

#[tokio::test]
async fn a_file_cut_short_is_told_with_the_file_and_the_remedy() {
    let (folder, whole) = furnished().await;
    for length in [1, 100, PAGE, 2 * PAGE, whole.len() / 2, whole.len() - 1] {
        fs::write(folder.path(), &whole[..length]).unwrap();
        if let Err(error) = folder.try_open(&[1]) {
            assert_told(&folder, &error, &format!("cut to {length} bytes"));
        }
    }
}
