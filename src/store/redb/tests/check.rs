//! Looks at everything: what is sound is found sound, and what is not is named.

use futures_util::StreamExt;
use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    backup::{id, problems, problems_at, varied},
    *,
};
use crate::store::Care;

fn change(folder: &InFolder, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(folder.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

async fn sound() -> InFolder {
    let folder = InFolder::new();
    let store: Arc<dyn Store> = folder.open(run(1));
    varied(&store).await;
    assert_eq!(problems(&*store).await, [""; 0]);
    folder
}

async fn found(folder: &InFolder) -> Vec<String> {
    problems(&folder.try_open(&[1]).unwrap()).await
}

#[tokio::test]
async fn every_table_that_can_be_damaged_is_looked_at() {
    // Budgets are not among them: a damaged one is mended when the store is opened.
    for table in ["sessions", "requests", "revocations", "events", "provider_sessions", "digests"] {
        let folder = sound().await;
        let rows = match table {
            "sessions" => damaged(&folder, SESSIONS_TABLE),
            "requests" => damaged(&folder, tables::REQUESTS_TABLE),
            "revocations" => damaged(&folder, tables::REVOCATIONS_TABLE),
            "events" => damaged(&folder, tables::EVENTS_TABLE),
            "provider_sessions" => cut(&folder, PROVIDER_SESSIONS_TABLE),
            _ => cut(&folder, tables::DIGESTS_TABLE),
        };
        let found = found(&folder).await;
        assert_eq!(found.len(), rows, "{table}: {found:?}");
        assert!(found.iter().all(|line| line.starts_with(&format!("{table} "))), "{found:?}");
    }
}

#[tokio::test]
async fn a_look_ends_however_many_sessions_begin_meanwhile() {
    let folder = sound().await;
    let store = folder.try_open(&[1]).unwrap();
    let mut parts = store.check(at(10)).unwrap();
    let mut looks = 0;
    while let Some(part) = parts.next().await {
        assert_eq!(part.unwrap().problems, [""; 0]);
        looks += 1;
        assert!(looks <= care::names().len() + 1, "each table is small");
        store.start(at(10), new_session(10, 100 + u8::try_from(looks).unwrap())).await.unwrap();
    }
}

/// Flips a bit in each row; answers how many there are.
fn damaged<K: redb::Key + 'static>(
    folder: &InFolder,
    table: TableDefinition<'static, K, &'static [u8]>,
) -> usize
where
    for<'k> K::SelfType<'k>: Clone,
{
    damage(folder, table);
    rows(folder, table)
}

fn rows<K: redb::Key + 'static>(
    folder: &InFolder,
    table: TableDefinition<'static, K, &'static [u8]>,
) -> usize {
    let database = Database::open(folder.path()).unwrap();
    let rows = database.begin_read().unwrap().open_table(table).unwrap().len().unwrap();
    usize::try_from(rows).unwrap()
}

/// Puts what is no record into a table without a seal.
fn cut(folder: &InFolder, table: TableDefinition<'static, [u8; 32], &'static [u8]>) -> usize {
    change(folder, |transaction| {
        transaction.open_table(table).unwrap().insert(&[7; 32], &[0xff; 3][..]).unwrap();
    });
    1
}

#[tokio::test]
async fn what_belongs_together_is_held_against_each_other() {
    let folder = sound().await;
    change(&folder, |transaction| {
        transaction.open_table(SESSIONS_TABLE).unwrap().remove(id(3).as_bytes()).unwrap();
        let mut inboxes = transaction.open_table(tables::INBOXES_TABLE).unwrap();
        inboxes.insert(&b"shop"[..], (1, 9, 0, 9)).unwrap();
        let mut codes = transaction.open_table(tables::CODES_TABLE).unwrap();
        let own = codes.iter().unwrap().map(Result::unwrap);
        let own: Vec<_> = own.filter(|(_, session)| session.value() == *id(2).as_bytes()).collect();
        let key = own[0].0.value();
        drop(own);
        codes.remove(&key).unwrap();
    });
    let found = found(&folder).await;
    let hex = |number| data_encoding::HEXLOWER.encode(id(number).as_bytes());
    let orphans: Vec<_> =
        found.iter().filter(|line| line.contains(&format!("its session {} is not there", hex(3)))).collect();
    assert!(
        orphans.len() == 2
            && orphans[0].starts_with("codes ")
            && orphans[1].starts_with("provider_sessions "),
        "{found:?}"
    );
    for expected in [
        format!("sessions {}: its code is not marked as used", hex(2)),
        "inbox_spans shop: event 9 is not there".to_owned(),
        "session_counts exchanging: 2 counted, 1 there".to_owned(),
    ] {
        assert_eq!(found.iter().filter(|line| line.contains(&expected)).count(), 1, "{expected}: {found:?}");
    }
    assert_eq!(found.len(), 5, "{found:?}");

    // Once the session would be gone anyway, what is left of it is no damage.
    let store = folder.try_open(&[1]).unwrap();
    let later = problems_at(&store, at(1800 + 3600 + 601)).await;
    assert!(!later.iter().any(|line| line.contains(&hex(3))), "{later:?}");
    assert_eq!(later.len(), 3, "{later:?}");
}
