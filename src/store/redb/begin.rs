//! A run of the daemon begins: it says so in the file, durable before anybody is let in. A disk that takes no writes shows
//! then, and not when the first caller has been let in.

use redb::{Database, ReadableTable, StorageError};

use super::{
    super::record::{decode_moment, encode_moment},
    budgets,
    tables::{Change, Tables},
};
use crate::domain::{Moment, RunId, Timestamp};

/// The row of `meta` with the run that has the file, or had it last: its id, and when it began.
pub(super) const RUN_ROW: &[u8] = b"run";

/// Begins a run; answers when the one before it began, where there was one.
pub(super) fn begin(database: &Database, now: Moment, run: RunId) -> Result<Option<Timestamp>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let before = {
        let mut tables = Tables::open(&transaction)?;
        let before = before(&tables)?;
        for change in budgets::restarted(&tables, now)? {
            tables.apply(change)?;
        }
        let row = [run.as_bytes().as_slice(), &encode_moment(now)].concat();
        tables.apply(Change::PutMeta(RUN_ROW, row))?;
        before
    };
    transaction.commit()?;
    Ok(before)
}

fn before(tables: &Tables<'_>) -> Result<Option<Timestamp>, StorageError> {
    let row = tables.meta.get(RUN_ROW)?;
    let began = row.and_then(|row| decode_moment(row.value().split_first_chunk::<16>()?.1));
    Ok(began.map(|began| began.wall))
}
