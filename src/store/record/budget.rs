//! The stored form of a rate budget. Nothing in it is secret, and its key is a keyed hash.

use std::time::Duration;

use prost::Message;

use super::{super::StoreError, BUDGETS, Damage, moment, read_moment, stored};
use crate::domain::{Budget, Closure, HeldSlot, SlotId, millis};

pub(crate) fn encode_budget(budget: &Budget) -> Vec<u8> {
    let held = budget.held.iter().map(|slot| stored::HeldSlot {
        id: slot.id.0,
        since: Some(moment(slot.since)),
        hold_ms: millis(slot.hold),
        answered: slot.is_answered,
    });
    let closed = budget
        .closed
        .map(|closure| stored::Closure { since: Some(moment(closure.since)), span_ms: millis(closure.span) });
    let record =
        stored::BudgetRecord { held: held.collect(), next: budget.next, closed, strikes: budget.strikes };
    record.encode_to_vec()
}

pub(crate) fn decode_budget(key: &[u8; 32], bytes: &[u8]) -> Result<Budget, StoreError> {
    read_budget(bytes).map_err(|damage| damage.of(BUDGETS, key))
}

fn read_budget(bytes: &[u8]) -> Result<Budget, Damage> {
    let stored::BudgetRecord { held, next, closed, strikes } = stored::BudgetRecord::decode(bytes)?;
    let held = held.into_iter().map(|slot| {
        Ok(HeldSlot {
            id: SlotId(slot.id),
            since: read_moment(slot.since)?,
            hold: Duration::from_millis(slot.hold_ms),
            is_answered: slot.answered,
        })
    });
    let closed = closed.map(|closure| {
        let since = read_moment(closure.since)?;
        Ok::<_, Damage>(Closure { since, span: Duration::from_millis(closure.span_ms) })
    });
    Ok(Budget { held: held.collect::<Result<_, Damage>>()?, next, closed: closed.transpose()?, strikes })
}
