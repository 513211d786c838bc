//! Exchanging the key ring, and keys that cannot be dropped.

use prost::Message;
use redb::ReadableTable;

use super::{super::keys::KEYS_ROW, *};
use crate::store::{conformance::state, record::stored::SessionRecord, seal::KeyId};

pub(super) fn id(key: u8) -> KeyId {
    ring(&[key]).first()
}

/// The keys that an opening misses.
fn missed(folder: &InFolder, keys: &[u8]) -> Vec<KeyId> {
    match folder.try_open(keys) {
        Err(OpenError::WrongKey { keys, .. }) => keys.missing,
        Err(other) => panic!("{other}"),
        Ok(_) => Vec::new(),
    }
}

/// The key that a session is sealed under.
fn sealed_under(store: &RedbStore, session: SessionId) -> KeyId {
    let read = store.database.get().begin_read().unwrap();
    let row = read.open_table(SESSIONS_TABLE).unwrap().get(session.as_bytes()).unwrap().unwrap();
    KeyId::of_sealed(&SessionRecord::decode(row.value()).unwrap().sealed).unwrap()
}

async fn start(store: &RedbStore, number: u8) -> SessionId {
    store.start(at(0), new_session(0, number)).await.unwrap().session.id
}

async fn is_readable(store: &RedbStore, session: SessionId) -> bool {
    store.session(at(1), &viewer("checkout"), &Lookup::Id(session)).await.is_ok()
}

#[test]
fn only_a_ring_with_the_right_key_opens_it() {
    let folder = InFolder::new();
    drop(folder.try_open(&[1]).unwrap());
    let error = folder.try_open(&[2]).unwrap_err().to_string();
    let expected = format!(
        "records are sealed under key {}, which keys.files does not have (it has {}, in this order); put it back behind \
         the first, run `cairlctl key rotate`, and then drop it",
        id(1),
        id(2)
    );
    assert!(error.contains("cairld.redb: ") && error.ends_with(&expected), "{error}");
    drop(folder.try_open(&[2, 1]).unwrap());
    assert_eq!(missed(&folder, &[1]), [id(2)], "it may have sealed since");
    assert_eq!(missed(&folder, &[2]), [id(1)]);
}

#[tokio::test]
async fn the_first_key_of_another_ring_seals_from_then_on_and_all_of_its_keys_open() {
    let folder = InFolder::new();
    let store = folder.try_open(&[1]).unwrap();
    let before = start(&store, 1).await;
    store.use_keys(ring(&[2, 1])).await.unwrap();
    let after = start(&store, 2).await;
    assert_eq!([before, after].map(|session| sealed_under(&store, session)), [id(1), id(2)]);
    store.cancel(at(1), &viewer("checkout"), before).await.unwrap();
    assert_eq!(sealed_under(&store, before), id(2), "what is written anew");
    store.session(at(1), &viewer("checkout"), &Lookup::State(state(2, 0))).await.unwrap();
    drop(store);

    assert_eq!(missed(&folder, &[1]), [id(2)]);
    assert_eq!(missed(&folder, &[2]), [id(1)]);
    assert_eq!(missed(&folder, &[3]).len(), 2);
    let store = folder.try_open(&[2, 1]).unwrap();
    assert!(is_readable(&store, before).await && is_readable(&store, after).await);
}

#[tokio::test]
async fn a_ring_without_a_key_in_use_is_refused_and_changes_nothing() {
    let folder = InFolder::new();
    let store = folder.try_open(&[1]).unwrap();
    let before = start(&store, 1).await;
    let refused = store.use_keys(ring(&[2])).await.unwrap_err();
    assert!(matches!(&refused, KeysError::Missing(keys) if keys.missing == [id(1)]), "{refused}");
    assert!(refused.to_string().contains("put it back"));
    assert!(is_readable(&store, before).await);
    let after = start(&store, 2).await;
    assert_eq!(sealed_under(&store, after), id(1));
    drop(store);
    assert_eq!(missed(&folder, &[1]), []);
}

#[tokio::test]
async fn what_was_prepared_before_an_exchange_is_sealed_under_the_new_key() {
    let folder = InFolder::new();
    let store = folder.try_open(&[1]).unwrap();
    let new = NewSession { request_id: Some("r".into()), ..new_session(0, 1) };
    let prepared = sessions::prepare_start(&store.codec, at(0), new).unwrap();
    store.use_keys(ring(&[2, 1])).await.unwrap();
    let codec = Arc::clone(&store.codec);
    let write = store.writer.write(move |tables| prepared.apply(tables, &codec, at(0), run(1)));
    let started = write.await.unwrap().session.id;
    assert_eq!(sealed_under(&store, started), id(2));
    let read = store.database.get().begin_read().unwrap();
    let requests = read.open_table(tables::REQUESTS_TABLE).unwrap();
    let (_, row) = requests.first().unwrap().unwrap();
    assert_eq!(KeyId::of_sealed(row.value()), Some(id(2)));
}

#[test]
fn a_file_without_a_row_of_keys_has_all_under_the_key_of_its_index_key() {
    let folder = InFolder::new();
    drop(folder.try_open(&[1]).unwrap());
    let database = Database::open(folder.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.open_table(tables::META_TABLE).unwrap().remove(KEYS_ROW).unwrap().is_some());
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(missed(&folder, &[2]), [id(1)]);
    drop(folder.try_open(&[2, 1]).unwrap());
    assert_eq!(missed(&folder, &[1]), [id(2)], "from then on it has one");
}
