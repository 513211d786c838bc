//! Whether there is an order of a session's calls, each at one moment between its beginning and its end, that explains all
//! answers: linearizability (Herlihy and Wing 1990), by the search of Wing and Gong (1993) with a memory of what was tried
//! (Lowe 2017).

use std::collections::HashSet;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// The callback with the code is presented: taken, and answered when the exchange has ended.
    Complete,
    /// An error callback is presented that ends the session as expired.
    Expire,
    Cancel,
    Get,
}

/// A call that has ended: what it was answered, and when it began and ended.
#[derive(Clone, Debug)]
pub struct Done {
    pub call: Call,
    /// A status of the session, or the reason of a refusal.
    pub answer: String,
    pub began: u64,
    pub ended: u64,
}

/// A session, as callers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Open,
    /// The token request may be on the wire.
    Sent,
    /// The token is here, the claims are not.
    Token,
    Complete,
    Cancelled {
        /// Whether its callback was presented before.
        is_spent: bool,
    },
    Expired,
}

/// What a call does to a session at one moment.
enum Step {
    /// It is answered, and leaves the session there.
    Answered(&'static str, Place),
    /// It has begun an exchange, or joins the one under way, and waits for its outcome.
    Waits(Place),
}

impl Place {
    fn status(self) -> &'static str {
        match self {
            Self::Open => "PENDING",
            Self::Sent | Self::Token => "EXCHANGING",
            Self::Complete => "COMPLETE",
            Self::Cancelled { .. } => "CANCELLED",
            Self::Expired => "EXPIRED",
        }
    }

    /// What the exchange does by itself, whoever waits for it.
    fn goes_on(self) -> Option<Self> {
        match self {
            Self::Sent => Some(Self::Token),
            Self::Token => Some(Self::Complete),
            Self::Open | Self::Complete | Self::Cancelled { .. } | Self::Expired => None,
        }
    }

    fn step(self, call: Call, is_waiting: bool) -> Step {
        use Step::{Answered, Waits};
        match (call, self) {
            (Call::Get, at) => Answered(at.status(), at),
            (Call::Cancel, Self::Open) => Answered("CANCELLED", Self::Cancelled { is_spent: false }),
            (Call::Cancel, Self::Token) => Answered("CANCELLED", Self::Cancelled { is_spent: true }),
            (Call::Cancel, Self::Cancelled { .. }) => Answered("CANCELLED", self),
            (Call::Cancel, Self::Sent) => Answered("EXCHANGE_IN_PROGRESS", self),
            (Call::Cancel, Self::Complete | Self::Expired) => Answered("SESSION_FINISHED", self),
            (Call::Complete, Self::Open) => Waits(Self::Sent),
            (Call::Complete, Self::Sent | Self::Token) => Waits(self),
            // Bound to a browser and within two minutes: whoever comes later has the same outcome.
            (Call::Complete, Self::Complete) => Answered("COMPLETE", self),
            (Call::Complete, Self::Cancelled { is_spent }) if is_spent || !is_waiting => {
                Answered("SESSION_CANCELLED", self)
            }
            (Call::Complete, Self::Cancelled { .. } | Self::Expired) => Answered("STATE_ALREADY_USED", self),
            (Call::Expire, Self::Open | Self::Expired) => Answered("SESSION_EXPIRED", Self::Expired),
            (Call::Expire, Self::Cancelled { is_spent: false }) => Answered("SESSION_CANCELLED", self),
            (
                Call::Expire,
                Self::Sent | Self::Token | Self::Complete | Self::Cancelled { is_spent: true },
            ) => Answered("STATE_ALREADY_USED", self),
        }
    }
}

/// Where a search stands: which calls are answered, which wait for the exchange, and where the session is.
type Standing = (u64, u64, Place);

/// Whether an order explains the answers.
pub fn is_linearizable(calls: &[Done]) -> bool {
    assert!(calls.len() <= 64, "a mask of 64 calls");
    let all = u64::MAX >> (64 - calls.len().max(1));
    let mut tried = HashSet::new();
    let mut open: Vec<Standing> = vec![(0, 0, Place::Open)];
    while let Some(standing) = open.pop() {
        let (answered, waiting, place) = standing;
        if calls.is_empty() || answered == all {
            return true;
        }
        if !tried.insert(standing) {
            continue;
        }
        open.extend(place.goes_on().map(|next| (answered, waiting, next)));
        let left = || calls.iter().enumerate().filter(|(place, _)| answered & (1 << place) == 0);
        // Nothing happens after the end of a call that is not answered yet.
        let first_end = left().map(|(_, call)| call.ended).min().unwrap_or(u64::MAX);
        for (number, call) in left().filter(|(_, call)| call.began < first_end) {
            let bit = 1 << number;
            match place.step(call.call, waiting & bit != 0) {
                Step::Answered(answer, next) if answer == call.answer => {
                    open.push((answered | bit, waiting & !bit, next));
                }
                Step::Waits(next) if waiting & bit == 0 => open.push((answered, waiting | bit, next)),
                Step::Answered(..) | Step::Waits(_) => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(calls: &[(Call, &str, u64, u64)]) -> Vec<Done> {
        let done = |(call, answer, began, ended): &(Call, &str, u64, u64)| Done {
            call: *call,
            answer: (*answer).to_owned(),
            began: *began,
            ended: *ended,
        };
        calls.iter().map(done).collect()
    }

    #[test]
    fn what_an_order_explains_is_accepted() {
        for history in [
            &[][..],
            &[(Call::Get, "PENDING", 0, 1), (Call::Cancel, "CANCELLED", 2, 3)],
            &[
                (Call::Complete, "COMPLETE", 0, 9),
                (Call::Get, "PENDING", 1, 2),
                (Call::Get, "EXCHANGING", 3, 4),
                (Call::Cancel, "EXCHANGE_IN_PROGRESS", 5, 6),
                (Call::Complete, "COMPLETE", 7, 10),
            ],
            &[(Call::Complete, "SESSION_CANCELLED", 0, 9), (Call::Cancel, "CANCELLED", 1, 8)],
            &[(Call::Expire, "STATE_ALREADY_USED", 0, 9), (Call::Complete, "COMPLETE", 1, 8)],
        ] {
            assert!(is_linearizable(&calls(history)), "{history:?}");
        }
    }

    #[test]
    fn what_no_order_explains_is_refused() {
        for history in [
            &[(Call::Cancel, "CANCELLED", 0, 1), (Call::Get, "PENDING", 2, 3)][..],
            &[(Call::Get, "COMPLETE", 0, 1)],
            &[
                (Call::Complete, "COMPLETE", 0, 9),
                (Call::Get, "EXCHANGING", 1, 2),
                (Call::Get, "PENDING", 3, 4),
            ],
            &[
                (Call::Cancel, "CANCELLED", 0, 5),
                (Call::Complete, "COMPLETE", 1, 6),
                (Call::Get, "COMPLETE", 7, 8),
            ],
            &[(Call::Cancel, "CANCELLED", 0, 5), (Call::Expire, "SESSION_EXPIRED", 1, 6)],
            &[(Call::Complete, "EXCHANGE_IN_PROGRESS", 0, 5), (Call::Complete, "COMPLETE", 1, 6)],
        ] {
            assert!(!is_linearizable(&calls(history)), "{history:?}");
        }
    }
}
