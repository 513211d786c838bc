//! What has the store's name is not always the store.

use std::fs;

use super::*;
use crate::store::Care;

#[tokio::test]
async fn a_file_that_takes_the_stores_place_is_noticed() {
    let folder = InFolder::new();
    let store = folder.try_open(&[1]).unwrap();
    let elsewhere = folder.path().with_extension("old");
    assert_eq!(store.status().trouble, None);

    fs::rename(folder.path(), &elsewhere).unwrap();
    let trouble = store.status().trouble.expect("there is none in its place");
    assert!(
        trouble.contains("not in its place any more") && trouble.contains("cairlctl backup"),
        "{trouble}"
    );
    fs::copy(&elsewhere, folder.path()).unwrap();
    let trouble = store.status().trouble.expect("it is another");
    assert!(trouble.contains("another file") && trouble.contains("cairld.redb"), "{trouble}");
    store.start(at(0), new_session(0, 1)).await.expect("who calls is served");
    assert_eq!(store.status().unwritable, None);

    fs::rename(&elsewhere, folder.path()).unwrap();
    assert_eq!(store.status().trouble, None, "it is back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_puts_another_file_there_and_nobody_sees_trouble() {
    let folder = InFolder::new();
    let store = Arc::new(folder.try_open(&[1]).unwrap());
    let before = store.own.id();
    let compacting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.compact(Box::new(|| false)).await }
    });
    while !compacting.is_finished() {
        assert_eq!(store.status().trouble, None);
        tokio::task::yield_now().await;
    }
    compacting.await.unwrap().unwrap();
    assert_ne!(store.own.id(), before, "it is another file");
    assert_eq!(store.status().trouble, None);
}
