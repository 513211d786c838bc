//! What tests of the flows share: a clock that a test can stop.

use std::sync::mpsc;

use tokio::time::Instant;

use crate::domain::{BootTime, Clock, Moment, Timestamp};

/// Follows the runtime's clock, which a test can stop.
#[derive(Debug)]
pub(super) struct RuntimeClock(Instant);

impl RuntimeClock {
    /// One that begins now.
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Moment {
        let millis = u64::try_from(self.0.elapsed().as_millis()).unwrap();
        let wall = Timestamp::from_millis(1_800_000_000_000 + millis);
        Moment { wall, boot: BootTime { boot: 1, millis } }
    }
}

/// Keeps a paused clock from going on by itself while the store's thread is at work: the runtime, which knows nothing of
/// that thread, thinks itself idle then. Time passes where the test says so, until this is dropped.
pub(super) struct TimeStands(
    #[expect(dead_code, reason = "dropping it ends the task that holds time")] mpsc::Sender<()>,
);

impl TimeStands {
    pub(super) fn still() -> Self {
        let (sender, receiver) = mpsc::channel();
        // The clock of a runtime does not go on while a blocking task runs.
        tokio::task::spawn_blocking(move || receiver.recv());
        Self(sender)
    }
}
