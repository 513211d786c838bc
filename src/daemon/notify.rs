//! What systemd is told, where it listens (`sd_notify(3)`).

use std::time::Duration;

use sd_notify::NotifyState;

use crate::store::Opening;

/// For how long a start that goes on may say nothing more, whatever `TimeoutStartSec=` is.
const STEP: Duration = Duration::from_secs(600);

/// Tells systemd.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

/// Tells what the opening of the store is at, and asks for the time to do it: a start that is broken off would begin anew.
pub(super) fn opening(step: Opening) {
    let status = describe(step);
    tracing::info!("{status}");
    let patience = u32::try_from(STEP.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::ExtendTimeoutUsec(patience), NotifyState::Status(&status)]);
}

fn describe(step: Opening) -> String {
    match step {
        Opening::Repairing { percent } => format!("putting the store in order after a crash: {percent} %"),
        Opening::Restoring { percent } => format!("restoring a backup: {percent} %"),
        Opening::BringingUp => "bringing the store of an older version up to this one".to_owned(),
    }
}
