//! The real clocks.

use std::time::{Duration, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

use crate::domain::{BootTime, Clock, Moment, Timestamp, millis};

/// Where Linux tells which boot this is: another text after each.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The wall clock read once, carried on by the boot clock: setting the wall clock while the daemon runs changes nothing.
#[derive(Debug)]
pub struct SystemClock {
    boot: u64,
    wall_at_boot: Duration,
}

impl SystemClock {
    /// Reads the clocks.
    #[expect(clippy::disallowed_methods, reason = "this is where the injected clock reads the real one")]
    pub fn new() -> Self {
        let wall = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { boot: boot(), wall_at_boot: wall.saturating_sub(since_boot()) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let since_boot = since_boot();
        Moment {
            wall: Timestamp::from_millis(millis(self.wall_at_boot + since_boot)),
            boot: BootTime { boot: self.boot, millis: millis(since_boot) },
        }
    }
}

/// Time since boot, suspend included.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Which boot this is. Where that cannot be read, every run counts as one of its own, so that the wall clock decides
/// between runs.
fn boot() -> u64 {
    let text = std::fs::read(BOOT_ID).unwrap_or_else(|_| {
        let mut random = [0; 16];
        // Where even that fails, so does everything else that follows.
        let _ = getrandom::fill(&mut random);
        random.to_vec()
    });
    Sha256::digest(text).iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_stays_in_its_boot() {
        let (clock, other) = (SystemClock::new(), SystemClock::new());
        let (first, second) = (clock.now(), other.now());
        assert_eq!(first.boot.boot, second.boot.boot);
        assert!(first.boot.millis <= second.boot.millis);
        assert!(first.wall.as_millis() > 1_700_000_000_000, "{first:?}");
    }
}
