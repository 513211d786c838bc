//! Moments as two clocks see them, so that a clock set back never lengthens a life.

use std::{fmt, time::Duration};

/// How far in the future a stored moment of another boot may lie before it is taken for a wrong clock's.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Milliseconds since the Unix epoch on the wall clock, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp so many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Later by `span`; stops at the end of time instead of overflowing.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// Earlier by `span`; stops at the epoch.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

/// A reading of the clock that counts from boot, suspend included, and is never set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootTime {
    /// Which boot it counts from; readings of different boots cannot be compared.
    pub boot: u64,
    /// Milliseconds since that boot.
    pub millis: u64,
}

/// One moment, as the wall clock and the boot clock saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// What people read.
    pub wall: Timestamp,
    /// What lives are measured with, within one boot.
    pub boot: BootTime,
}

/// A moment lies over a minute in the future of a clock that it cannot be compared with: one of the two was wrong, and
/// what began then has no known age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromTheFuture;

impl Moment {
    /// How long ago `self` was at `now`: by the boot clock within one boot, by the wall clock across boots.
    ///
    /// # Errors
    /// [`FromTheFuture`] when, across boots, the wall clock stands more than a minute before `self`.
    pub fn age(self, now: Moment) -> Result<Duration, FromTheFuture> {
        if self.boot.boot == now.boot.boot {
            return Ok(Duration::from_millis(now.boot.millis.saturating_sub(self.boot.millis)));
        }
        match now.wall.0.checked_sub(self.wall.0) {
            Some(age) => Ok(Duration::from_millis(age)),
            None if self.wall <= now.wall.plus(CLOCK_TOLERANCE) => Ok(Duration::ZERO),
            None => Err(FromTheFuture),
        }
    }

    /// Whether `life` is over at `now`. What comes from the future counts as over.
    pub fn is_over(self, life: Duration, now: Moment) -> bool {
        self.age(now).map_or(true, |age| age >= life)
    }

    /// Both clocks later by `span`, in the same boot.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self {
            wall: self.wall.plus(span),
            boot: BootTime { boot: self.boot.boot, millis: self.boot.millis.saturating_add(millis(span)) },
        }
    }
}

/// Where the daemon reads the time. Injected, so that every rule about time is tested without waiting.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment. Within one process its wall part follows the boot clock from the start on.
    fn now(&self) -> Moment;
}

/// A span in whole milliseconds; stops at the end of time instead of overflowing.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: u64, boot: u64, millis: u64) -> Moment {
        Moment { wall: Timestamp::from_millis(wall), boot: BootTime { boot, millis } }
    }

    #[test]
    fn within_a_boot_the_wall_clock_does_not_matter() {
        let start = at(1_000_000, 7, 500);
        assert_eq!(start.age(at(0, 7, 1_500)), Ok(Duration::from_secs(1)), "wall set back");
        assert_eq!(start.age(at(u64::MAX, 7, 1_500)), Ok(Duration::from_secs(1)), "wall set forward");
        assert_eq!(start.age(at(1_000_000, 7, 0)), Ok(Duration::ZERO), "the boot clock never goes back");
    }

    #[test]
    fn across_boots_the_wall_clock_counts() {
        let start = at(1_000_000, 7, 500);
        assert_eq!(start.age(at(1_060_000, 8, 3)), Ok(Duration::from_secs(60)));
        assert_eq!(start.age(at(940_000, 8, 3)), Ok(Duration::ZERO), "a minute of difference is tolerated");
        assert_eq!(start.age(at(939_999, 8, 3)), Err(FromTheFuture));
        assert!(start.is_over(Duration::from_secs(9_999), at(0, 8, 3)), "no known age: over");
    }

    #[test]
    fn a_life_ends_to_the_millisecond() {
        let start = at(0, 1, 0);
        let life = Duration::from_secs(1800);
        assert!(!start.is_over(life, at(0, 1, 1_799_999)));
        assert!(start.is_over(life, at(0, 1, 1_800_000)));
    }
}
