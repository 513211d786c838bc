//! How many sessions there are, by how they stand, and how many of them each caller has open: counted where sessions are
//! written and removed, whatever writes them, in the same transaction.
//!
//! So the caps of a start hold however many come at once, and whether a million sessions live or none, a start reads two
//! numbers. A session that time has ended counts as it stood until the sweep has written that down.

use std::collections::BTreeMap;

use redb::{ReadableTable, StorageError, Table};

use super::{
    super::{PendingLimits, SWEEP_EVERY, metrics::Transition, record},
    tables::{OperationError, Tables, database},
};
use crate::domain::{CallerName, Reason, Refusal, Status};

/// The row of all open sessions together; no caller has so short a name.
const ALL_OPEN: &str = "";

/// The row of all sessions that stand so. No caller's name begins like that.
fn row_of(status: Status) -> String {
    format!("\0{}", status.as_str())
}

const fn is_open(status: Status) -> bool {
    match status {
        Status::Pending | Status::Authenticated | Status::Verified => true,
        Status::Exchanging | Status::Ended(_) => false,
    }
}

/// The counts that a transaction has moved, by row, to be written at its end; and what moved them.
#[derive(Debug, Default)]
pub(super) struct Moved {
    counts: BTreeMap<String, u64>,
    transitions: Vec<Transition>,
}

/// The rows that a session which stands so counts in.
pub(super) fn rows_of(caller: &str, status: Status) -> Vec<String> {
    let mut rows = vec![row_of(status)];
    if is_open(status) {
        rows.extend([caller.to_owned(), ALL_OPEN.to_owned()]);
    }
    rows
}

impl Moved {
    fn now(&self, counts: &impl ReadableTable<&'static [u8], u64>, row: &str) -> Result<u64, StorageError> {
        if let Some(count) = self.counts.get(row) {
            return Ok(*count);
        }
        Ok(counts.get(row.as_bytes())?.map_or(0, |count| count.value()))
    }

    /// Notes that a record takes the place of another, or of none, or is removed.
    pub(super) fn note(
        &mut self,
        counts: &Table<'_, &'static [u8], u64>,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        let (before, after) = (before.and_then(record::gist), after.and_then(record::gist));
        let stood = |gist: &Option<(String, Status)>| gist.as_ref().map(|(_, status)| *status);
        let transition = Transition { from: stood(&before), to: stood(&after) };
        if transition.from == transition.to {
            return Ok(());
        }
        self.transitions.push(transition);
        for (gist, by) in [(before, -1), (after, 1)] {
            let Some((caller, status)) = gist else { continue };
            for row in rows_of(&caller, status) {
                let count = self.now(counts, &row)?.saturating_add_signed(by);
                self.counts.insert(row, count);
            }
        }
        Ok(())
    }

    /// Writes down what has moved; answers what moved it.
    pub(super) fn write(
        self,
        counts: &mut Table<'_, &'static [u8], u64>,
    ) -> Result<Vec<Transition>, StorageError> {
        for (row, count) in self.counts {
            if count == 0 {
                counts.remove(row.as_bytes())?;
            } else {
                counts.insert(row.as_bytes(), count)?;
            }
        }
        Ok(self.transitions)
    }
}

impl Tables<'_> {
    /// Whether one more session of a caller may be open.
    pub(super) fn admit(&self, caller: &CallerName, limits: PendingLimits) -> Result<(), OperationError> {
        let now = |row| self.moved.now(&self.counts, row).map_err(database);
        if now(caller.as_str())? < limits.caller && now(ALL_OPEN)? < limits.all {
            return Ok(());
        }
        Err(Refusal { retry_after: Some(SWEEP_EVERY), ..Reason::Overloaded.into() }.into())
    }

    /// Counts all anew, in a file that is older than its table of counts.
    pub(super) fn count_sessions(&mut self) -> Result<(), StorageError> {
        let mut moved = Moved::default();
        for row in self.sessions.iter()? {
            moved.note(&self.counts, None, Some(row?.1.value()))?;
            moved.transitions.clear();
        }
        moved.write(&mut self.counts).map(drop)
    }
}

/// How many sessions stand how; a status that none has is left out.
pub(super) fn by_status(
    counts: &impl ReadableTable<&'static [u8], u64>,
) -> Result<BTreeMap<Status, u64>, StorageError> {
    let mut all = BTreeMap::new();
    for status in Status::ALL {
        if let Some(count) = counts.get(row_of(*status).as_bytes())? {
            all.insert(*status, count.value());
        }
    }
    Ok(all)
}

#[cfg(test)]
impl super::RedbStore {
    /// What is counted, and what there is to count.
    pub(crate) fn session_counts(&self) -> [BTreeMap<String, u64>; 2] {
        use redb::ReadableDatabase;

        use super::tables::{COUNTS_TABLE, SESSIONS_TABLE};
        use crate::domain::SessionId;
        let read = self.database.get().begin_read().unwrap();
        let (mut counted, mut there) = (BTreeMap::new(), BTreeMap::new());
        for row in read.open_table(COUNTS_TABLE).unwrap().iter().unwrap() {
            let (row, count) = row.unwrap();
            counted.insert(String::from_utf8(row.value().to_vec()).unwrap(), count.value());
        }
        for row in read.open_table(SESSIONS_TABLE).unwrap().iter().unwrap() {
            let (id, record) = row.unwrap();
            let session =
                self.codec.session(SessionId::from_bytes(id.value()), record.value()).unwrap().session;
            for row in rows_of(session.caller.as_str(), session.at.into()) {
                *there.entry(row).or_insert(0) += 1;
            }
        }
        [counted, there]
    }
}
