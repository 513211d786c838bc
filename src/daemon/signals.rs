//! The signals that the process obeys.

use std::{io, path::PathBuf, process, sync::mpsc, thread, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, Stream},
};
use sd_notify::NotifyState;
use sysexits::ExitCode;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::{
    config::{Config, Environment, Sockets, load},
    ending::{Cut, Ending, Phase, cut},
    exit::Failure,
    notify::notify,
    telemetry::{LAST_SPANS, Traces},
};

/// The exit code of a process that a second signal ended: what shells call an end by SIGINT.
const INSISTED: i32 = 130;
/// How long the words may take that say so: whatever reads the log may have stopped doing so.
const WORDS: Duration = Duration::from_secs(1);

/// The signals to stop: the first asks, the second insists.
///
/// They are heard on a thread of their own, which also ends the process where its end takes too long: whatever the thread
/// that serves is doing.
pub(super) struct Stop {
    asked: oneshot::Receiver<()>,
    ending: Ending,
}

impl Stop {
    /// SIGTERM and SIGINT. SIGHUP is left to [`reloads`]. `traces` are handed over where the process ends before its time.
    pub(super) fn on_signals(traces: Traces) -> Result<Self, Failure> {
        Self::on(&[SignalKind::terminate(), SignalKind::interrupt()], traces)
    }

    /// SIGTERM, SIGINT, and SIGHUP, for what has nothing to reload: its terminal has gone.
    pub(super) fn on_signals_and_hang_up(traces: Traces) -> Result<Self, Failure> {
        Self::on(&[SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()], traces)
    }

    fn on(kinds: &[SignalKind], traces: Traces) -> Result<Self, Failure> {
        let refused = |error: io::Error| Failure::new(ExitCode::OsErr, error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let signals = {
            let _runtime = runtime.enter();
            let listen = |kind: &SignalKind| signal(*kind).map(arrivals).map_err(refused);
            stream::select_all(kinds.iter().map(listen).collect::<Result<Vec<_>, _>>()?)
        };
        let (ask, asked) = oneshot::channel();
        let (ending, phases) = Ending::new();
        let hear = move || end_at_once(runtime.block_on(cut(signals, phases, ask)), traces);
        thread::Builder::new().name("signals".into()).spawn(hear).map_err(refused)?;
        Ok(Self { asked, ending })
    }

    /// Where it is to be said how far the end has come.
    pub(super) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    pub(super) async fn asked(self) {
        // The sender lives as long as the process.
        let _ = self.asked.await;
    }
}

/// A signal each time that it comes.
fn arrivals(signal: Signal) -> BoxStream<'static, ()> {
    let next = async |mut signal: Signal| signal.recv().await.map(|()| ((), signal));
    stream::unfold(signal, next).boxed()
}

/// Ends the process, and says what it does not wait for.
fn end_at_once(cut: Cut, traces: Traces) {
    match cut {
        Cut::Insisted => {
            for_at_most(WORDS, || tracing::warn!("a second signal: ending at once"));
            process::exit(INSISTED);
        }
        Cut::Overdue(phase) => {
            let left = match phase {
                Phase::Running | Phase::Stopping => "the threads that serve, which are stuck",
                Phase::Closing => "the store's last commit, which nobody was told of",
                Phase::Closed => "the last lines of the log, which nobody takes",
            };
            for_at_most(WORDS + LAST_SPANS, move || {
                tracing::error!(
                    left,
                    "ending without what is left: its disk does not answer, most likely; what was acknowledged is kept, and the \
                     next start puts the store in order"
                );
                traces.finish();
            });
            ExitCode::IoErr.exit();
        }
    }
}

/// Does what may hang, as a log does that nobody reads, and waits no longer for it than that.
fn for_at_most(patience: Duration, does: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel::<()>();
    let does = move || {
        does();
        drop(done);
    };
    // The end comes in any case: where there is no thread to be had, it is not said why.
    if thread::Builder::new().name("farewell".into()).spawn(does).is_ok() {
        let _ = is_done.recv_timeout(patience);
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
