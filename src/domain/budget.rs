//! Arithmetic of the rate budgets: how many requests the provider takes in a minute, counted so that no window of its
//! clock can hold more.
//!
//! The provider counts a request somewhere between its first byte and its answer; where, and in which kind of window,
//! nobody outside knows. So each request holds a slot from before it is sent until 60 s after its **answer** was read.
//! Whatever is sent while at most `limit` slots are held can share no 60 s with more than `limit` requests. A token bucket
//! would let twice that through some windows.

use std::{fmt, time::Duration};

use super::{
    reason::Reason,
    secret::ApiKey,
    time::Moment,
    transition::{ExchangeEnd, QueryEnd},
};

/// The span that the provider's limits speak of (the error page, "Rate limits").
const WINDOW: Duration = Duration::from_secs(60);
/// How long a slot is held after its request's answer: moments are whole milliseconds, cut off, so that one more is needed.
const HOLD: Duration = Duration::from_millis(60_001);
/// Shortest and longest time that a `Retry-After` can close a budget for.
const CLOSED_AT_LEAST: Duration = Duration::from_secs(1);
const CLOSED_AT_MOST: Duration = Duration::from_secs(3600);
/// Longest time that a 429 without `Retry-After` closes a budget for; the first closes it for one window.
const UNTOLD_AT_MOST: Duration = Duration::from_secs(15 * 60);

/// What the provider limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BudgetKind {
    /// Token requests of a client.
    Token,
    /// Session queries of an API key.
    Session,
}

impl BudgetKind {
    /// Its name, for people and for the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
        }
    }
}

/// Whose budget it is, and how much it holds.
#[derive(Clone)]
pub struct BudgetTerms {
    /// What is limited.
    pub kind: BudgetKind,
    /// By what the provider tells its clients apart: whoever shares it shares the budget.
    pub credential: ApiKey,
    /// Requests in any 60 s.
    pub limit: u32,
    /// How long a request may take at most until it is answered or given up.
    pub patience: Duration,
}

impl fmt::Debug for BudgetTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetTerms")
            .field("kind", &self.kind)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Number of a slot, unique within its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(pub u64);

/// A slot that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSlot {
    /// Its number.
    pub id: SlotId,
    /// Since when its hold counts: since its request was answered, or while it is not, since it was taken.
    pub since: Moment,
    /// How long it is held from then.
    pub hold: Duration,
    /// Whether its request was answered, or given up.
    pub is_answered: bool,
}

impl HeldSlot {
    fn remaining(&self, now: Moment) -> Duration {
        remaining(self.since, self.hold, now)
    }
}

/// The provider said 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closure {
    /// When.
    pub since: Moment,
    /// For how long nothing is sent.
    pub span: Duration,
}

/// How a slot's request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotEnd {
    /// It was never made: the provider counted nothing.
    Unused,
    /// It was answered, or its answer is no longer waited for.
    Answered,
    /// It was answered with 429.
    Limited {
        /// What its `Retry-After` said, if it had one.
        retry_after: Option<Duration>,
    },
}

impl From<&ExchangeEnd> for SlotEnd {
    fn from(end: &ExchangeEnd) -> Self {
        match end {
            ExchangeEnd::NeverSent { .. } => Self::Unused,
            ExchangeEnd::Refused { verdict, said } if verdict.reason == Reason::RateLimited => {
                Self::Limited { retry_after: said.retry_after }
            }
            ExchangeEnd::Token { .. } | ExchangeEnd::Refused { .. } | ExchangeEnd::Lost { .. } => {
                Self::Answered
            }
        }
    }
}

impl From<&QueryEnd> for SlotEnd {
    fn from(end: &QueryEnd) -> Self {
        match end {
            QueryEnd::Refused { was_sent: false, .. } => Self::Unused,
            QueryEnd::Refused { refusal, .. } if refusal.reason == Reason::RateLimited => {
                Self::Limited { retry_after: refusal.said.as_ref().and_then(|said| said.retry_after) }
            }
            QueryEnd::Status(_) | QueryEnd::Refused { .. } => Self::Answered,
        }
    }
}

/// One budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// The slots that are held, and some that are free by now.
    pub held: Vec<HeldSlot>,
    /// The number that the next slot gets.
    pub next: u64,
    /// Set once the provider has said 429, until it answers otherwise.
    pub closed: Option<Closure>,
    /// How many 429 without `Retry-After` followed one another.
    pub strikes: u32,
}

/// When slots are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// How many slots are held.
    pub used: u32,
    /// For how long the provider has closed the budget.
    pub closed_for: Option<Duration>,
    /// Before this time none is to be had, whatever happens.
    pub not_before: Duration,
    /// How long until the first is to be had, until the second, and so on, once requests under way take as long as they
    /// may. One entry for each request that the limit allows.
    frees: Vec<Duration>,
}

impl Outlook {
    /// How long until whoever comes behind `ahead` others gets a slot, once requests under way take as long as they may and
    /// later ones no time.
    pub fn wait_behind(&self, ahead: usize) -> Duration {
        let Some(rounds) = ahead.checked_div(self.frees.len()) else { return WINDOW };
        let in_round = self.frees.get(ahead % self.frees.len()).copied().unwrap_or(WINDOW);
        in_round.saturating_add(WINDOW.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX)))
    }
}

impl Budget {
    /// A budget of which it is not known what was sent: closed for as long as that can matter.
    pub fn of_unknown_past(now: Moment) -> Self {
        Self { closed: Some(Closure { since: now, span: HOLD }), ..Self::default() }
    }

    /// The store was restored from a backup: what was sent since it was made is not known. Closed for as long as that can
    /// matter, or longer where the provider said so.
    pub fn restored(&mut self, now: Moment) {
        self.restarted(now);
        if self.closed_for(now).is_none_or(|left| left < HOLD) {
            self.closed = Some(Closure { since: now, span: HOLD });
        }
    }

    /// Takes a slot for a request that is about to be sent, and that will be answered or given up within `patience`.
    ///
    /// # Errors
    /// When slots are to be had again; nothing is changed then.
    pub fn take(&mut self, now: Moment, terms: &BudgetTerms) -> Result<SlotId, Outlook> {
        let outlook = self.outlook(now, terms.limit);
        if outlook.closed_for.is_some() || outlook.used >= terms.limit {
            return Err(outlook);
        }
        self.held.retain(|slot| !slot.remaining(now).is_zero());
        let id = SlotId(self.next);
        self.next += 1;
        let hold = terms.patience.saturating_add(HOLD);
        self.held.push(HeldSlot { id, since: now, hold, is_answered: false });
        Ok(id)
    }

    /// The request of a slot ended.
    pub fn end(&mut self, now: Moment, id: SlotId, end: SlotEnd) {
        match end {
            SlotEnd::Unused => self.held.retain(|slot| slot.id != id),
            SlotEnd::Answered | SlotEnd::Limited { .. } => {
                if let Some(slot) = self.held.iter_mut().find(|slot| slot.id == id) {
                    *slot = HeldSlot { id, since: now, hold: HOLD, is_answered: true };
                }
            }
        }
        match end {
            SlotEnd::Limited { retry_after } => self.close(now, retry_after),
            // An answer to what was sent before the 429 says nothing about the time after it.
            SlotEnd::Answered if self.closed_for(now).is_none() => (self.closed, self.strikes) = (None, 0),
            SlotEnd::Answered | SlotEnd::Unused => {}
        }
    }

    fn close(&mut self, now: Moment, retry_after: Option<Duration>) {
        let present = self.closed_for(now);
        let span = match retry_after {
            Some(told) => told.clamp(CLOSED_AT_LEAST, CLOSED_AT_MOST),
            None => {
                // Requests that were under way together are refused together: that is one strike.
                if present.is_none() {
                    self.strikes = self.strikes.saturating_add(1);
                }
                let doublings = self.strikes.saturating_sub(1).min(8);
                WINDOW.saturating_mul(1 << doublings).min(UNTOLD_AT_MOST)
            }
        };
        if present.is_none_or(|present| present < span) {
            self.closed = Some(Closure { since: now, span });
        }
    }

    /// For how long it is still closed; none when it is open.
    fn closed_for(&self, now: Moment) -> Option<Duration> {
        let Closure { since, span } = self.closed?;
        Some(remaining(since, span, now)).filter(|left| !left.is_zero())
    }

    /// When slots are to be had.
    pub fn outlook(&self, now: Moment, limit: u32) -> Outlook {
        let closed_for = self.closed_for(now);
        let closed = closed_for.unwrap_or_default();
        let held: Vec<_> = self.held.iter().filter(|slot| !slot.remaining(now).is_zero()).collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let free = limit.saturating_sub(held.len());
        // Where more are held than the limit, which was lowered, those must be given back first.
        let surplus = held.len().saturating_sub(limit);
        let mut frees: Vec<_> = held.iter().map(|slot| slot.remaining(now).max(closed)).collect();
        frees.sort_unstable();
        let frees: Vec<_> =
            std::iter::repeat_n(closed, free).chain(frees.into_iter().skip(surplus)).collect();
        // A slot whose request turns out never to have been made is free at once.
        let may_free_early = held.iter().any(|slot| !slot.is_answered);
        let soonest = if may_free_early { closed } else { frees.first().copied().unwrap_or(WINDOW) };
        Outlook {
            used: u32::try_from(held.len()).unwrap_or(u32::MAX),
            closed_for,
            not_before: soonest,
            frees,
        }
    }

    /// The daemon was started anew. What was under way then counts from now, like all that a clock of another boot has
    /// measured: how long the machine was down is not known for certain.
    pub fn restarted(&mut self, now: Moment) {
        for slot in &mut self.held {
            if !slot.is_answered || slot.since.boot.boot != now.boot.boot {
                *slot = HeldSlot { id: slot.id, since: now, hold: HOLD, is_answered: true };
            }
        }
        // A short one begins anew, since another boot's clock may be ahead by more than that.
        if let Some(closure) = &mut self.closed
            && (closure.since.age(now).is_err()
                || (closure.since.boot.boot != now.boot.boot && closure.span <= HOLD))
        {
            closure.since = now;
        }
    }

    /// Whether it says no more than a new one would.
    pub fn is_idle(&self, now: Moment) -> bool {
        self.closed_for(now).is_none() && self.held.iter().all(|slot| slot.remaining(now).is_zero())
    }
}

fn remaining(since: Moment, span: Duration, now: Moment) -> Duration {
    since.age(now).map_or(span, |age| span.saturating_sub(age))
}

#[cfg(test)]
mod tests;
