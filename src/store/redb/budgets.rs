//! What happens to rate budgets inside a write transaction.

use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, StorageError, TableError};

use super::{
    super::{
        Slot, StoreError,
        record::{Codec, decode_budget, decode_moment, encode_budget, encode_moment},
        seal::Purpose,
    },
    sessions::log_damage,
    tables::{BUDGETS_TABLE, Change, META_TABLE, OperationError, Outcome, Tables, database},
};
use crate::domain::{Budget, BudgetTerms, Moment, Outlook, SlotEnd};

/// The row of `meta` that says when the store was restored from a backup, for as long as budgets are closed for that.
const RESTORED_ROW: &[u8] = b"restored";
/// By how much two boots' clocks do not differ.
const LONG_AGO: Duration = Duration::from_secs(24 * 3600);

/// Key of a budget: whoever uses the same credential shares it.
pub(super) fn budget_key(codec: &Codec, terms: &BudgetTerms) -> [u8; 32] {
    let parts = [terms.kind.as_str().as_bytes(), terms.credential.expose().as_bytes()];
    *codec.index.hash(Purpose::Budget, &parts).as_bytes()
}

/// Takes a slot, for a request that is about to be sent.
pub(super) fn take(
    tables: &Tables<'_>,
    now: Moment,
    key: [u8; 32],
    terms: &BudgetTerms,
) -> Result<(Slot, Change), OperationError> {
    let mut budget = stored(&tables.budgets, &tables.meta, now, &key).map_err(database)?;
    let id = budget.take(now, terms).map_err(StoreError::BudgetSpent)?;
    Ok((Slot { budget: key, id }, Change::PutBudget(key, encode_budget(&budget))))
}

/// [`take`] as an operation of its own.
pub(super) fn claim(tables: &Tables<'_>, now: Moment, key: [u8; 32], terms: &BudgetTerms) -> Outcome<Slot> {
    take(tables, now, key, terms).map(|(slot, change)| (slot, vec![change]))
}

/// The request of a slot ended.
pub(super) fn end(
    tables: &Tables<'_>,
    now: Moment,
    slot: Slot,
    end: SlotEnd,
) -> Result<Change, OperationError> {
    let mut budget = stored(&tables.budgets, &tables.meta, now, &slot.budget).map_err(database)?;
    budget.end(now, slot.id, end);
    Ok(Change::PutBudget(slot.budget, encode_budget(&budget)))
}

/// When slots of a budget are to be had.
pub(super) fn outlook(
    store: &Database,
    now: Moment,
    key: [u8; 32],
    terms: &BudgetTerms,
) -> Result<Outlook, redb::Error> {
    let transaction = store.begin_read()?;
    let budgets = match transaction.open_table(BUDGETS_TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Budget::default().outlook(now, terms.limit)),
        opened => opened?,
    };
    let meta = transaction.open_table(META_TABLE)?;
    Ok(stored(&budgets, &meta, now, &key)?.outlook(now, terms.limit))
}

/// A new run begins: what an ended one had under way counts from now; what says nothing any more goes.
pub(super) fn restarted(tables: &Tables<'_>, now: Moment) -> Result<Vec<Change>, StorageError> {
    let mut changes = Vec::new();
    if let Some(restored) = tables.meta.get(RESTORED_ROW)?.map(|row| decode_moment(row.value())) {
        changes.push(match restored.filter(|at| at.boot.boot == now.boot.boot) {
            Some(at) if Budget::of_unknown_past(at).is_idle(now) => Change::RemoveMeta(RESTORED_ROW),
            Some(at) => Change::PutMeta(RESTORED_ROW, encode_moment(at)),
            // How long ago that was a clock of another boot does not tell for certain, but for what is long ago.
            None if restored.is_some_and(|at| at.is_over(LONG_AGO, now)) => Change::RemoveMeta(RESTORED_ROW),
            None => Change::PutMeta(RESTORED_ROW, encode_moment(now)),
        });
    }
    for row in tables.budgets.iter()? {
        let (key, row) = row?;
        let key = key.value();
        let mut budget = readable(now, &key, row.value());
        budget.restarted(now);
        changes.push(if budget.is_idle(now) {
            Change::RemoveBudget(key)
        } else {
            Change::PutBudget(key, encode_budget(&budget))
        });
    }
    Ok(changes)
}

/// The store was restored from a backup now: closes all budgets, those included that it knows nothing of.
pub(super) fn restored(tables: &Tables<'_>, now: Moment) -> Result<Vec<Change>, StorageError> {
    let mut changes = vec![Change::PutMeta(RESTORED_ROW, encode_moment(now))];
    for row in tables.budgets.iter()? {
        let (key, row) = row?;
        let key = key.value();
        let mut budget = readable(now, &key, row.value());
        budget.restored(now);
        changes.push(Change::PutBudget(key, encode_budget(&budget)));
    }
    Ok(changes)
}

fn stored(
    budgets: &impl ReadableTable<[u8; 32], &'static [u8]>,
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
    now: Moment,
    key: &[u8; 32],
) -> Result<Budget, StorageError> {
    match budgets.get(key)? {
        Some(row) => Ok(readable(now, key, row.value())),
        None => never_used(meta, now),
    }
}

/// What a budget begins as. Where the store was restored, what was sent before that is not known.
fn never_used(
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
    now: Moment,
) -> Result<Budget, StorageError> {
    Ok(match meta.get(RESTORED_ROW)? {
        Some(row) => Budget::of_unknown_past(decode_moment(row.value()).unwrap_or(now)),
        None => Budget::default(),
    })
}

/// A budget that does not open is as good as spent: nobody knows what was sent. It is closed until all of that is old.
fn readable(now: Moment, key: &[u8; 32], bytes: &[u8]) -> Budget {
    decode_budget(key, bytes).unwrap_or_else(|error| {
        log_damage(error);
        Budget::of_unknown_past(now)
    })
}
