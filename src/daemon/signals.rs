//! The signals that the process obeys.

use std::{path::PathBuf, process};

use futures_util::{
    future,
    stream::{self, Stream},
};
use sd_notify::NotifyState;
use sysexits::ExitCode;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{
    config::{Config, Environment, Sockets, load},
    exit::Failure,
    notify::notify,
};

/// The signals to stop: the first asks, the second insists.
pub(super) struct Stop(oneshot::Receiver<()>);

impl Stop {
    /// SIGTERM and SIGINT. SIGHUP is left to [`reloads`].
    pub(super) fn on_signals() -> Result<Self, Failure> {
        Self::on(&[SignalKind::terminate(), SignalKind::interrupt()])
    }

    /// SIGTERM, SIGINT, and SIGHUP, for what has nothing to reload: its terminal has gone.
    pub(super) fn on_signals_and_hang_up() -> Result<Self, Failure> {
        Self::on(&[SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()])
    }

    fn on(kinds: &[SignalKind]) -> Result<Self, Failure> {
        let listen = |kind: &SignalKind| signal(*kind).map_err(|error| Failure::new(ExitCode::OsErr, error));
        let mut signals = kinds.iter().map(listen).collect::<Result<Vec<_>, _>>()?;
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let mut next = async || {
                let any = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
                future::select_all(any).await;
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

/// SIGHUP: the configuration as it is then; none where something is wrong with it, which the log tells.
pub(super) fn reloads(
    config: PathBuf,
    sockets: Sockets,
) -> Result<impl Stream<Item = Option<Config>>, Failure> {
    let hang_ups = signal(SignalKind::hangup()).map_err(|error| Failure::new(ExitCode::OsErr, error))?;
    Ok(stream::unfold((hang_ups, config, sockets), |(mut hang_ups, path, sockets)| async {
        hang_ups.recv().await?;
        // Together, as systemd's notify-reload wants it.
        let moment = NotifyState::monotonic_usec_now().ok();
        let reading = [NotifyState::Reloading, NotifyState::Status("reading the configuration anew")];
        notify(&reading.into_iter().chain(moment).collect::<Vec<_>>());
        let (file, environment) = (path.clone(), Environment::from_process(sockets.clone()));
        let loaded = match tokio::task::spawn_blocking(move || load(&file, &environment)).await {
            Ok(Ok(config)) => Some(config),
            Ok(Err(problems)) => {
                // In the message itself, which is all that `journalctl` shows without being asked for more.
                for problem in &problems {
                    tracing::error!("the configuration cannot be reloaded, all is as before: {problem}");
                }
                None
            }
            Err(error) => {
                tracing::error!(%error, "reading the configuration ended by a panic: all is as before");
                None
            }
        };
        Some((loaded, (hang_ups, path, sockets)))
    }))
}
