//! Every table of the file, whatever its keys and values are: for what is done with all of them alike. Rows are the bytes
//! that stand in the file.

use std::ops::Bound;

use redb::{
    Key, ReadTransaction, ReadableTableMetadata, TableDefinition, TableHandle, Value, WriteTransaction,
};

use super::super::tables::{
    BUDGETS_TABLE, CODES_TABLE, CONSUMERS_TABLE, COUNTS_TABLE, DIGESTS_TABLE, EVENTS_TABLE, INBOXES_TABLE,
    INNER_IDS_TABLE, META_TABLE, PROVIDER_SESSIONS_TABLE, REQUESTS_TABLE, REVOCATIONS_TABLE,
    SESSION_EVENTS_TABLE, SESSIONS_TABLE,
};

/// A row: its key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// Work on one table of whatever type.
trait OnTable {
    type Answer;

    fn on<K: Key + 'static, V: Value + 'static>(
        self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<Self::Answer, redb::Error>;
}

/// Lists the tables, in the order in which they are gone through.
macro_rules! tables {
    ($($table:ident),* $(,)?) => {
        /// Their names.
        pub(in crate::store::redb) fn names() -> Vec<&'static str> {
            vec![$(TableHandle::name(&$table)),*]
        }

        /// Does the work on the table of that name; none where there is no such table.
        fn on_table<W: OnTable>(name: &str, work: W) -> Result<Option<W::Answer>, redb::Error> {
            $(if name == TableHandle::name(&$table) {
                return work.on($table).map(Some);
            })*
            Ok(None)
        }
    };
}

tables! {
    META_TABLE, COUNTS_TABLE, SESSIONS_TABLE, CODES_TABLE, PROVIDER_SESSIONS_TABLE, REQUESTS_TABLE,
    REVOCATIONS_TABLE, BUDGETS_TABLE, INBOXES_TABLE, EVENTS_TABLE, SESSION_EVENTS_TABLE, DIGESTS_TABLE,
    INNER_IDS_TABLE, CONSUMERS_TABLE,
}

/// Rows of all tables together.
pub(super) fn count(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    struct Count<'a>(&'a ReadTransaction);
    impl OnTable for Count<'_> {
        type Answer = u64;
        fn on<K: Key + 'static, V: Value + 'static>(
            self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<u64, redb::Error> {
            Ok(self.0.open_table(table)?.len()?)
        }
    }
    let mut all = 0;
    for name in names() {
        all += on_table(name, Count(transaction))?.unwrap_or(0);
    }
    Ok(all)
}

/// Some rows of a table.
pub(super) struct Part {
    pub(super) rows: Vec<Row>,
    /// Whether the table ended with them. Whoever reads on until none are left would never end where some come without end.
    pub(super) is_last: bool,
}

/// Rows of a table behind a key, in their order, until they are so many bytes.
pub(super) fn read_on(
    transaction: &ReadTransaction,
    name: &str,
    after: Option<&[u8]>,
    bytes: usize,
) -> Result<Part, redb::Error> {
    struct ReadOn<'a>(&'a ReadTransaction, Option<&'a [u8]>, usize);
    impl OnTable for ReadOn<'_> {
        type Answer = Part;
        fn on<K: Key + 'static, V: Value + 'static>(
            self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<Part, redb::Error> {
            let Self(transaction, after, enough) = self;
            let table = transaction.open_table(table)?;
            let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(K::from_bytes(key)));
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for row in table.range::<K::SelfType<'_>>((from, Bound::Unbounded))? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                let row = (K::as_bytes(&key).as_ref().to_vec(), V::as_bytes(&value).as_ref().to_vec());
                bytes += row.0.len() + row.1.len();
                rows.push(row);
                if bytes >= enough {
                    return Ok(Part { rows, is_last: false });
                }
            }
            Ok(Part { rows, is_last: true })
        }
    }
    let nothing = Part { rows: Vec::new(), is_last: true };
    Ok(on_table(name, ReadOn(transaction, after, bytes))?.unwrap_or(nothing))
}

/// A row of a table.
pub(super) fn get(
    transaction: &ReadTransaction,
    name: &str,
    key: &[u8],
) -> Result<Option<Vec<u8>>, redb::Error> {
    struct Get<'a>(&'a ReadTransaction, &'a [u8]);
    impl OnTable for Get<'_> {
        type Answer = Option<Vec<u8>>;
        fn on<K: Key + 'static, V: Value + 'static>(
            self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<Option<Vec<u8>>, redb::Error> {
            let row = self.0.open_table(table)?.get(K::from_bytes(self.1))?;
            Ok(row.map(|row| V::as_bytes(&row.value()).as_ref().to_vec()))
        }
    }
    Ok(on_table(name, Get(transaction, key))?.flatten())
}

/// Puts rows into a table as they are, or removes those without a value. False where there is no such table, or a row does
/// not fit in it; nothing is written then.
pub(super) fn put(
    transaction: &WriteTransaction,
    name: &str,
    rows: &[(Vec<u8>, Option<Vec<u8>>)],
) -> Result<bool, redb::Error> {
    struct Put<'a>(&'a WriteTransaction, &'a [(Vec<u8>, Option<Vec<u8>>)]);
    impl OnTable for Put<'_> {
        type Answer = bool;
        fn on<K: Key + 'static, V: Value + 'static>(
            self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<bool, redb::Error> {
            let fits = |width: Option<usize>, bytes: &[u8]| width.is_none_or(|width| width == bytes.len());
            let all_fit = self.1.iter().all(|(key, value)| {
                fits(K::fixed_width(), key)
                    && value.as_ref().is_none_or(|value| fits(V::fixed_width(), value))
            });
            if !all_fit {
                return Ok(false);
            }
            let mut table = self.0.open_table(table)?;
            for (key, value) in self.1 {
                let key = K::from_bytes(key);
                match value {
                    Some(value) => drop(table.insert(key, V::from_bytes(value))?),
                    None => drop(table.remove(key)?),
                }
            }
            Ok(true)
        }
    }
    Ok(on_table(name, Put(transaction, rows))?.unwrap_or(false))
}
