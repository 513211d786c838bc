//! The sandbox's own time: the machine's, moved forward on request, so that nobody waits for an expiry.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// A point in time, in milliseconds since 1970. All rules take one as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// Later than all.
    pub(super) const NEVER: Self = Self(u64::MAX);

    #[cfg(test)]
    pub(super) fn at(millis: u64) -> Self {
        Self(millis)
    }

    pub(super) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to here; nothing if `earlier` is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// RFC 3339 in UTC with milliseconds, as the provider writes its times.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}

/// Runs from the wall clock at start, at the pace of the monotonic one, so it never goes back.
pub(super) struct Clock {
    origin: Moment,
    started: Instant,
    advanced: Duration,
}

impl Clock {
    /// The furthest the clock can be moved: a century, well inside what RFC 3339 can write.
    pub(super) const FURTHEST: Duration = Duration::from_secs(100 * 365 * 86_400);

    #[expect(clippy::disallowed_methods, reason = "the sandbox's clock has to begin somewhere")]
    pub(super) fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { origin: Moment(0).plus(wall), started: Instant::now(), advanced: Duration::ZERO }
    }

    pub(super) fn now(&self) -> Moment {
        self.origin.plus(self.started.elapsed()).plus(self.advanced)
    }

    /// Moves the clock forward; refuses (and stays) beyond [`Self::FURTHEST`].
    pub(super) fn advance(&mut self, by: Duration) -> bool {
        match self.advanced.checked_add(by).filter(|sum| *sum <= Self::FURTHEST) {
            Some(sum) => {
                self.advanced = sum;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        assert_eq!(Moment::at(1_700_000_000_007).to_string(), "2023-11-14T22:13:20.007Z");
        assert_eq!(Moment::at(1_700_000_000_000).to_string(), "2023-11-14T22:13:20.000Z");
    }

    #[test]
    fn the_clock_moves_forward_by_at_least_what_was_asked_and_not_past_its_end() {
        let mut clock = Clock::start();
        let before = clock.now();
        assert!(clock.advance(Duration::from_secs(60)));
        assert!(clock.now().since(before) >= Duration::from_secs(60));
        assert!(!clock.advance(Duration::MAX));
        assert!(!clock.advance(Clock::FURTHEST));
    }
}
