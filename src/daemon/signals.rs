//! The signals that the process obeys.

use std::process;

use sysexits::ExitCode;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::exit::Failure;

/// The signals to stop: the first asks, the second insists.
pub(super) struct Stop(oneshot::Receiver<()>);

impl Stop {
    pub(super) fn on_signals() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(ExitCode::OsErr, error));
        let (mut terminate, mut interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let mut hang_up = listen(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                tracing::warn!(
                    "SIGHUP changes nothing: the configuration is read at the start only; restart cairld"
                );
            }
        });
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            next().await;
            let _ = sender.send(());
            next().await;
            tracing::warn!("a second signal: ending at once");
            process::exit(130);
        });
        Ok(Self(receiver))
    }

    pub(super) async fn asked(self) {
        // The sender lives as long as the runtime.
        let _ = self.0.await;
    }
}
