//! What strangers can bring about in any number, counted, and told once a second at most.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Moment;

/// How long the log says nothing of further ones, milliseconds.
const QUIET: u64 = 1000;

/// Counts something, and sees to it that a flood of it is none in the log.
#[derive(Debug, Default)]
pub struct Flood {
    count: AtomicU64,
    /// From when on the next one is told, milliseconds of the boot clock.
    quiet_until: AtomicU64,
}

impl Flood {
    /// One more; answers how many there were so far where the log is to hear of it.
    pub fn more(&self, now: Moment) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = now.boot.millis;
        let quiet_until = self.quiet_until.load(Ordering::Relaxed);
        let next = now.saturating_add(QUIET);
        let is_told = now >= quiet_until
            && self
                .quiet_until
                .compare_exchange(quiet_until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        is_told.then_some(count)
    }

    /// How many there were so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BootTime, Timestamp};

    #[test]
    fn a_flood_is_counted_and_told_once_a_second() {
        let at = |millis| Moment { wall: Timestamp::from_millis(0), boot: BootTime { boot: 1, millis } };
        let flood = Flood::default();
        assert_eq!(flood.more(at(5000)), Some(1));
        for _ in 0..1000 {
            assert_eq!(flood.more(at(5999)), None);
        }
        assert_eq!(flood.more(at(6000)), Some(1002), "with those that were not told");
        assert_eq!(flood.count(), 1002);
    }
}
