//! The end of the process, which waits for nothing without a limit: not for a disk that hangs, nor for a thread that is stuck
//! behind it.
//!
//! It is watched from a thread of its own (`signals`), since where there are two processors the thread that serves is the one
//! that would have to notice.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{Stream, StreamExt, future};
use tokio::{
    sync::{oneshot, watch},
    time::{self, Instant},
};

use super::{
    run::Stage,
    servers::{CLOSE, DRAIN},
    telemetry::LAST_SPANS,
};
use crate::store::Closing;

/// How long calls in flight and connections may take to end: what `servers` gives them, and some seconds, since a machine under
/// load hears late that they are over.
const STOPPING: Duration = DRAIN.saturating_add(CLOSE).saturating_add(Duration::from_secs(4));
/// How long the store may take after that for its last commit, and to let its file go: some syncs, of which a disk that others
/// keep busy does one a second.
const CLOSING: Duration = Duration::from_secs(10);
/// How long the last lines of the log and the last spans may take: who reads the log may have stopped doing so.
const CLOSED: Duration = LAST_SPANS.saturating_add(Duration::from_secs(1));

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not begun.
    Running,
    /// Calls in flight end.
    Stopping,
    /// The store lets its file go.
    Closing,
    /// The last is said.
    Closed,
}

impl Phase {
    /// How long it may last.
    fn patience(self) -> Option<Duration> {
        match self {
            Self::Running => None,
            Self::Stopping => Some(STOPPING),
            Self::Closing => Some(CLOSING),
            Self::Closed => Some(CLOSED),
        }
    }
}

/// Where it is said how far the end has come.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    phase: watch::Sender<Phase>,
    /// What is waited for while it closes; none where there never was one.
    store: Arc<OnceLock<Closing>>,
}

impl Ending {
    /// It has not begun; and where it is heard that it has.
    pub(super) fn new() -> (Self, watch::Receiver<Phase>) {
        let (phase, phases) = watch::channel(Phase::Running);
        (Self { phase, store: Arc::default() }, phases)
    }

    /// The daemon says what it is at.
    pub(super) fn follow(&self, stage: &Stage) {
        match stage {
            Stage::Serving(_) => {}
            Stage::Stopping => drop(self.phase.send_replace(Phase::Stopping)),
            Stage::Closing(store) => {
                // There is but one.
                let _ = self.store.set(store.clone());
                self.phase.send_replace(Phase::Closing);
            }
        }
    }

    /// The runtime has ended. Waits for the store, whose last owner may have been a thread of the runtime that was left behind
    /// with it; after that all but the log has ended.
    pub(super) fn closed(&self) {
        if let Some(store) = self.store.get() {
            store.wait();
        }
        self.phase.send_replace(Phase::Closed);
    }
}

/// Why the process ends without waiting any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A second signal.
    Insisted,
    /// This took too long.
    Overdue(Phase),
}

/// Hands the first signal on, and resolves when what is left is not to be waited for: at the second one, or when a phase of
/// the end takes too long, whatever began it.
pub(super) async fn cut(
    mut signals: impl Stream<Item = ()> + Unpin,
    mut phases: watch::Receiver<Phase>,
    asked: oneshot::Sender<()>,
) -> Cut {
    let (mut asked, mut deadline) = (Some(asked), None);
    loop {
        let overdue = async {
            match deadline {
                Some(deadline) => time::sleep_until(deadline).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = signals.next() => match asked.take() {
                Some(asked) => {
                    let _ = asked.send(());
                    // From now on, since who is stuck does not say that he has heard it.
                    if *phases.borrow() == Phase::Running {
                        deadline = Some(Instant::now() + STOPPING);
                    }
                }
                None => return Cut::Insisted,
            },
            Ok(()) = phases.changed() => {
                deadline = phases.borrow_and_update().patience().map(|patience| Instant::now() + patience);
            }
            () = overdue => return Cut::Overdue(*phases.borrow()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;
    use crate::{
        daemon::Readiness,
        domain::{Moment, RunId},
        store::{KeyRing, MasterKey, RedbStore, disk::Disk},
    };

    /// A process whose end is watched.
    struct Watched {
        signals: mpsc::UnboundedSender<()>,
        ending: Ending,
        asked: oneshot::Receiver<()>,
        cut: tokio::task::JoinHandle<(Cut, Duration)>,
    }

    fn watched() -> Watched {
        let (signals, heard) = mpsc::unbounded_channel();
        let (ending, phases) = Ending::new();
        let (ask, asked) = oneshot::channel();
        let cut = async move {
            let began = Instant::now();
            let cut = cut(UnboundedReceiverStream::new(heard), phases, ask).await;
            (cut, began.elapsed())
        };
        Watched { signals, ending, asked, cut: tokio::spawn(cut) }
    }

    /// What is said of a store that lets its file go at once.
    fn closing() -> Stage {
        let keys = KeyRing::new(&MasterKey::new([1; 32]), &[]);
        let (run, now) = (RunId::new([1; 16]), Moment::default());
        let store = RedbStore::open_on(Disk::default().plug(), keys, Duration::ZERO, run, now).unwrap();
        Stage::Closing(store.closing())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_asks_and_the_second_insists() {
        let Watched { signals, ending, asked, cut } = watched();
        signals.send(()).unwrap();
        asked.await.unwrap();
        ending.follow(&Stage::Stopping);
        signals.send(()).unwrap();
        assert_eq!(cut.await.unwrap(), (Cut::Insisted, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_hear_the_signal_is_not_waited_for() {
        let Watched { signals, ending: _ending, asked: _asked, cut } = watched();
        signals.send(()).unwrap();
        assert_eq!(cut.await.unwrap(), (Cut::Overdue(Phase::Running), STOPPING));
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_time_whatever_began_the_end() {
        let Watched { signals: _signals, ending, asked: _asked, cut } = watched();
        ending.follow(&Stage::Serving(Readiness::AsConfigured));
        time::sleep(Duration::from_secs(3600)).await;
        ending.follow(&Stage::Stopping);
        time::sleep(STOPPING - Duration::from_secs(1)).await;
        ending.follow(&closing());
        let (cut, took) = cut.await.unwrap();
        assert_eq!(cut, Cut::Overdue(Phase::Closing));
        assert_eq!(took, Duration::from_secs(3599) + STOPPING + CLOSING);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_begins_by_itself_takes_no_longer_for_a_signal() {
        let Watched { signals, ending, asked, cut } = watched();
        ending.follow(&Stage::Stopping);
        time::sleep(STOPPING / 2).await;
        signals.send(()).unwrap();
        asked.await.unwrap();
        assert_eq!(cut.await.unwrap(), (Cut::Overdue(Phase::Stopping), STOPPING));
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_nobody_reads_is_not_waited_for() {
        let Watched { signals, ending, asked: _asked, cut } = watched();
        signals.send(()).unwrap();
        ending.follow(&closing());
        ending.closed();
        assert_eq!(cut.await.unwrap(), (Cut::Overdue(Phase::Closed), CLOSED));
    }
}
