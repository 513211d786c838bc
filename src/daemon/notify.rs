//! What systemd is told, where it listens (`sd_notify(3)`).

use sd_notify::NotifyState;

/// Tells systemd.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
