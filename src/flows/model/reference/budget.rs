//! A rate budget as the rules have it.

use super::*;

/// Millisecond by which a moment may have been cut off.
const CUT: u64 = 1;

/// A rate budget.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    /// The slots, and when they were answered.
    pub(super) slots: Vec<(Option<Slot>, Option<Moment>)>,
    /// What the last 429 may have come to: since when nothing is sent, and for how long. One without `Retry-After` closes for
    /// longer each time, and how often it came is not counted here.
    closed: Vec<(Moment, u64)>,
}

impl Budget {
    fn held(&self, now: Moment, hold: u64) -> usize {
        let is_held = |answered: &Option<Moment>| answered.is_none_or(|at| !is_over(at, hold, now));
        self.slots.iter().filter(|(_, answered)| is_held(answered)).count()
    }

    /// Whether a request may be made, and whether it may be refused.
    pub(super) fn allows(&self, now: Moment, limit: usize) -> (bool, bool) {
        let is_closed = |(since, span): &(Moment, u64)| age(*since, now).is_none_or(|age| age < *span);
        let may_be_open = self.closed.is_empty() || !self.closed.iter().all(is_closed);
        let may_make = self.held(now, WINDOW) < limit && may_be_open;
        let may_refuse = self.held(now, WINDOW + CUT) >= limit || self.closed.iter().any(is_closed);
        (may_make, may_refuse)
    }

    pub(super) fn end(&mut self, now: Moment, slot: Slot, was_made: bool, limited: Option<Option<u64>>) {
        if was_made {
            self.slots
                .iter_mut()
                .filter(|(known, _)| *known == Some(slot))
                .for_each(|(_, end)| *end = Some(now));
        } else {
            self.slots.retain(|(known, _)| *known != Some(slot));
        }
        if let Some(retry_after) = limited {
            let spans = match retry_after {
                Some(seconds) => vec![seconds.clamp(1, 3600) * 1000],
                None => [1, 2, 4, 8, 15].map(|windows| windows * WINDOW).to_vec(),
            };
            let present = std::mem::take(&mut self.closed);
            let left = |(since, span): (Moment, u64)| span.saturating_sub(age(since, now).unwrap_or(0));
            // Of two closures the longer one counts.
            self.closed = if present.is_empty() {
                spans.iter().map(|span| (now, *span)).collect()
            } else {
                let both = spans.iter().flat_map(|span| present.iter().map(move |present| (span, *present)));
                both.map(|(span, present)| if left(present) < *span { (now, *span) } else { present })
                    .collect()
            };
        }
    }

    /// What clocks of another boot measured counts from the restart, but for what lasts longer than they may be wrong.
    pub(super) fn restart(&mut self, now: Moment) {
        let is_of_another = |at: Moment| at.boot.boot != now.boot.boot;
        for (_, answered) in &mut self.slots {
            // What was under way counts from the restart, too.
            if answered.is_none_or(is_of_another) {
                *answered = Some(now);
            }
        }
        for (since, span) in &mut self.closed {
            if age(*since, now).is_none() || (is_of_another(*since) && *span <= WINDOW + CUT) {
                *since = now;
            }
        }
    }
}
