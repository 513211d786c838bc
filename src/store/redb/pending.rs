//! How many open sessions each caller has, and all have together: counted where sessions are written and removed, whatever
//! writes them, in the same transaction.
//!
//! So the caps of a start hold however many come at once, and whether a million sessions live or none, a start reads two
//! numbers. A session that time has ended counts until the sweep has written that down.

use std::collections::BTreeMap;

use prost::Message;
use redb::{ReadableTable, StorageError, Table};

use super::{
    super::{PendingLimits, SWEEP_EVERY, record::stored},
    tables::{OperationError, Tables, database},
};
use crate::domain::{CallerName, Reason, Refusal};

/// The row of all callers together; no caller has so short a name.
const ALL: &str = "";

/// The counts that a transaction has moved, by caller, to be written at its end.
#[derive(Debug, Default)]
pub(super) struct Moved(BTreeMap<String, u64>);

/// Whose open session a record is; none where it is none, or does not say.
fn owner_of_open(record: &[u8]) -> Option<String> {
    let gist = stored::SessionGist::decode(record).ok()?;
    let is_open = matches!(gist.stage.and_then(|stage| stage.at), Some(stored::stage::At::Open(_)));
    is_open.then_some(gist.caller)
}

impl Moved {
    fn now(
        &self,
        counts: &impl ReadableTable<&'static [u8], u64>,
        caller: &str,
    ) -> Result<u64, StorageError> {
        if let Some(count) = self.0.get(caller) {
            return Ok(*count);
        }
        Ok(counts.get(caller.as_bytes())?.map_or(0, |count| count.value()))
    }

    /// Notes that a record takes the place of another, or of none, or is removed.
    pub(super) fn note(
        &mut self,
        counts: &Table<'_, &'static [u8], u64>,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        let (before, after) = (before.and_then(owner_of_open), after.and_then(owner_of_open));
        if before == after {
            return Ok(());
        }
        for (caller, by) in [(before, -1), (after, 1)] {
            let Some(caller) = caller else { continue };
            for row in [caller.as_str(), ALL] {
                let count = self.now(counts, row)?.saturating_add_signed(by);
                self.0.insert(row.to_owned(), count);
            }
        }
        Ok(())
    }

    /// Writes down what has moved.
    pub(super) fn write(self, counts: &mut Table<'_, &'static [u8], u64>) -> Result<(), StorageError> {
        for (caller, count) in self.0 {
            if count == 0 {
                counts.remove(caller.as_bytes())?;
            } else {
                counts.insert(caller.as_bytes(), count)?;
            }
        }
        Ok(())
    }
}

impl Tables<'_> {
    /// Whether one more session of a caller may be open.
    pub(super) fn admit(&self, caller: &CallerName, limits: PendingLimits) -> Result<(), OperationError> {
        let now = |row| self.moved.now(&self.open_sessions, row).map_err(database);
        if now(caller.as_str())? < limits.caller && now(ALL)? < limits.all {
            return Ok(());
        }
        Err(Refusal { retry_after: Some(SWEEP_EVERY), ..Reason::Overloaded.into() }.into())
    }

    /// Counts all anew, in a file that is older than its table of counts.
    pub(super) fn count_open_sessions(&mut self) -> Result<(), StorageError> {
        let mut moved = Moved::default();
        for row in self.sessions.iter()? {
            moved.note(&self.open_sessions, None, Some(row?.1.value()))?;
        }
        moved.write(&mut self.open_sessions)
    }
}

#[cfg(test)]
impl super::RedbStore {
    /// What is counted, and what there is to count.
    pub(crate) fn open_sessions(&self) -> [BTreeMap<String, u64>; 2] {
        use redb::ReadableDatabase;

        use super::tables::{OPEN_SESSIONS_TABLE, SESSIONS_TABLE};
        use crate::domain::{At, SessionId};
        let read = self.database.begin_read().unwrap();
        let (mut counted, mut there) = (BTreeMap::new(), BTreeMap::new());
        for row in read.open_table(OPEN_SESSIONS_TABLE).unwrap().iter().unwrap() {
            let (caller, count) = row.unwrap();
            counted.insert(String::from_utf8(caller.value().to_vec()).unwrap(), count.value());
        }
        for row in read.open_table(SESSIONS_TABLE).unwrap().iter().unwrap() {
            let (id, record) = row.unwrap();
            let session =
                self.codec.session(SessionId::from_bytes(id.value()), record.value()).unwrap().session;
            if matches!(session.at, At::Open(_)) {
                for caller in [session.caller.as_str(), ALL] {
                    *there.entry(caller.to_owned()).or_insert(0) += 1;
                }
            }
        }
        [counted, there]
    }
}
