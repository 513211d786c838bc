//! Time does not go back in the store.
//!
//! What is to be written brings the time at which it was asked for, and waits for its turn. Meanwhile a session's time may
//! have come, and somebody may have read so: what has ended before his eyes must not be moved by what was asked for earlier.

use std::sync::{Mutex, PoisonError};

use crate::domain::Moment;

/// The latest time that anything was read or written at, in this run.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Option<Moment>>);

impl Latest {
    /// The later one of a time and the latest so far, which it then is.
    pub(super) fn after(&self, now: Moment) -> Moment {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *latest {
            Some(before) if before.boot.boot == now.boot.boot && before.boot.millis > now.boot.millis => {
                before
            }
            _ => {
                *latest = Some(now);
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BootTime, Timestamp};

    #[test]
    fn time_goes_on_and_never_back() {
        let at = |wall, boot, millis| Moment {
            wall: Timestamp::from_millis(wall),
            boot: BootTime { boot, millis },
        };
        let latest = Latest::default();
        assert_eq!(latest.after(at(10, 1, 10)), at(10, 1, 10));
        assert_eq!(latest.after(at(50, 1, 5)), at(10, 1, 10), "the boot clock counts");
        assert_eq!(latest.after(at(11, 1, 11)), at(11, 1, 11));
        assert_eq!(latest.after(at(0, 2, 0)), at(0, 2, 0), "of another boot nothing is known");
    }
}
