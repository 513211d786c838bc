//! Rotation: what is sealed under another key than the first is sealed anew under it, in bites, while everything else goes
//! on.
//!
//! A bite is found and sealed outside the writer, which then only sees whether a row is still what it was. Where it is not,
//! some operation has written it meanwhile, and it is looked at again there. New rows are under the first key already, so
//! that what a rotation has passed is done. How far it has come is kept nowhere: begun again, it passes quickly over what is
//! done.

use std::{collections::BTreeSet, ops::Bound};

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};

use super::{
    super::{
        Rotation, RotationEnd, StoreError,
        record::{Codec, META, Resealed, SealedTable, resealed, seal},
        seal::{KeyId, KeyRing, Place},
    },
    keys::{self, INDEX_KEY_ROW, KEYS_ROW},
    tables::{
        Change, EVENTS_TABLE, OperationError, Outcome, REQUESTS_TABLE, REVOCATIONS_TABLE, SESSIONS_TABLE,
        Tables, database,
    },
    unreadable,
};

/// Most rows that one bite seals anew, and bytes of them after which it ends; and most rows that a look passes.
const BITE: usize = 64;
const BITE_BYTES: usize = 128 * 1024;
const LOOKED_AT: usize = 256;

/// A row and what is to take its place.
#[derive(Debug)]
pub(super) struct Row {
    table: SealedTable,
    key: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Finds the next bite, and seals it. Reads outside the writer.
pub(super) fn find(
    store: &Database,
    ring: &KeyRing,
    rotation: &mut Rotation,
) -> Result<Vec<Row>, StoreError> {
    let Some(table) = rotation.table() else { return Ok(Vec::new()) };
    let transaction = store.begin_read().map_err(unreadable)?;
    rotation.total = total(&transaction).map_err(unreadable)?.max(rotation.checked);
    let after = rotation.passed.1.take();
    let mut look = Look { ring, table, rotation, bite: Vec::new(), bytes: 0, count: 0 };
    let after = after.as_deref();
    let is_over = match table {
        SealedTable::Sessions => look.over(&transaction, SESSIONS_TABLE, after),
        SealedTable::Requests => look.over(&transaction, REQUESTS_TABLE, after),
        SealedTable::Revocations => look.over(&transaction, REVOCATIONS_TABLE, after),
        SealedTable::Events => look.over(&transaction, EVENTS_TABLE, after),
    }?;
    let bite = look.bite;
    if is_over {
        rotation.passed = (rotation.passed.0 + 1, None);
    }
    Ok(bite)
}

/// Rows that may hold something sealed, and the index key.
fn total(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    let rows = [
        transaction.open_table(SESSIONS_TABLE)?.len()?,
        transaction.open_table(REQUESTS_TABLE)?.len()?,
        transaction.open_table(REVOCATIONS_TABLE)?.len()?,
        transaction.open_table(EVENTS_TABLE)?.len()?,
    ];
    Ok(rows.iter().sum::<u64>() + 1)
}

/// One look over a part of a table.
struct Look<'a> {
    ring: &'a KeyRing,
    table: SealedTable,
    rotation: &'a mut Rotation,
    bite: Vec<Row>,
    bytes: usize,
    count: usize,
}

impl Look<'_> {
    /// Looks at rows behind a key until it is enough; answers whether that were all.
    fn over<K: Key + 'static>(
        &mut self,
        transaction: &ReadTransaction,
        definition: TableDefinition<'_, K, &'static [u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let table = transaction.open_table(definition).map_err(unreadable)?;
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(K::from_bytes(key)));
        for row in table.range::<K::SelfType<'_>>((from, Bound::Unbounded)).map_err(unreadable)? {
            if self.count == LOOKED_AT || self.bite.len() == BITE || self.bytes >= BITE_BYTES {
                return Ok(false);
            }
            let (key, row) = row.map_err(unreadable)?;
            let key = K::as_bytes(&key.value()).as_ref().to_vec();
            self.at(key, row.value())?;
        }
        Ok(true)
    }

    fn at(&mut self, key: Vec<u8>, row: &[u8]) -> Result<(), StoreError> {
        self.count += 1;
        self.rotation.checked += 1;
        match resealed(self.ring, self.table, &key, row)? {
            Resealed::Same => {}
            Resealed::Anew(after) => {
                self.bytes += row.len();
                self.bite.push(Row { table: self.table, key: key.clone(), before: row.to_vec(), after });
            }
            Resealed::Unreadable { key, error } => {
                tracing::error!(%error, "a stored record does not open and stays under the key that it has");
                self.rotation.unreadable += 1;
                self.rotation.stuck.extend(key);
            }
        }
        self.rotation.passed.1 = Some(key);
        Ok(())
    }
}

/// Puts a bite in its place: how many rows are under that key now that were not. None are where another key seals meanwhile.
pub(super) fn apply(tables: &Tables<'_>, codec: &Codec, target: KeyId, bite: Vec<Row>) -> Outcome<u64> {
    let mut changes = Vec::new();
    let ring = codec.keys.ring();
    if ring.first() == target {
        for Row { table, key, before, after } in bite {
            // Gone, or written anew, since it was looked at.
            let Some(now) = tables.sealed_row(table, &key)? else { continue };
            if now == before {
                changes.push(Change::Reseal(table, key, after));
            } else if let Resealed::Anew(after) = resealed(&ring, table, &key, &now)? {
                changes.push(Change::Reseal(table, key, after));
            }
        }
    }
    Ok((changes.len() as u64, changes))
}

/// All rows are done: the index key comes last, and then the keys go that nothing is under any more. None where another key
/// seals meanwhile.
pub(super) fn end(
    tables: &Tables<'_>,
    codec: &Codec,
    target: KeyId,
    stuck: &BTreeSet<KeyId>,
) -> Outcome<Option<(RotationEnd, bool)>> {
    let ring = codec.keys.ring();
    if ring.first() != target {
        return Ok((None, Vec::new()));
    }
    let mut changes = Vec::new();
    let place = Place::whole(META, INDEX_KEY_ROW);
    let is_same = tables
        .meta
        .get(INDEX_KEY_ROW)
        .map_err(database)?
        .is_some_and(|row| KeyId::of_sealed(row.value()) == Some(target));
    if !is_same {
        let sealed = seal(&ring, place, codec.index.expose())?;
        changes.push(Change::PutMeta(INDEX_KEY_ROW, sealed));
    }
    let before = keys::in_use(tables)?;
    let mut in_use: keys::InUse = before.iter().copied().filter(|id| stuck.contains(id)).collect();
    in_use.insert(target);
    if in_use != before {
        changes.push(Change::PutMeta(KEYS_ROW, keys::encode(&in_use)));
    }
    let (kept, removable) = ring.ids().filter(|id| *id != target).partition(|id| in_use.contains(id));
    Ok((Some((RotationEnd { key: target, removable, kept }, !is_same)), changes))
}

impl Tables<'_> {
    /// A row of a table that holds something sealed.
    fn sealed_row(&self, table: SealedTable, key: &[u8]) -> Result<Option<Vec<u8>>, OperationError> {
        fn get<K: Key + 'static>(
            table: &impl ReadableTable<K, &'static [u8]>,
            key: &[u8],
        ) -> Result<Option<Vec<u8>>, OperationError> {
            let row = table.get(K::from_bytes(key)).map_err(database)?;
            Ok(row.map(|row| row.value().to_vec()))
        }
        match table {
            SealedTable::Sessions => get(&self.sessions, key),
            SealedTable::Requests => get(&self.requests, key),
            SealedTable::Revocations => get(&self.revocations, key),
            SealedTable::Events => get(&self.events, key),
        }
    }

    /// Puts a row in the place of one that is the same but for its seal.
    pub(super) fn put_resealed(
        &mut self,
        table: SealedTable,
        key: &[u8],
        row: &[u8],
    ) -> Result<(), redb::StorageError> {
        fn put<K: Key + 'static>(
            table: &mut redb::Table<'_, K, &'static [u8]>,
            key: &[u8],
            row: &[u8],
        ) -> Result<(), redb::StorageError> {
            table.insert(K::from_bytes(key), row).map(drop)
        }
        match table {
            SealedTable::Sessions => put(&mut self.sessions, key, row),
            SealedTable::Requests => put(&mut self.requests, key, row),
            SealedTable::Revocations => put(&mut self.revocations, key, row),
            SealedTable::Events => put(&mut self.events, key, row),
        }
    }
}
