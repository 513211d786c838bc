//! What ends work from this side: a signal, or a reader that has gone away.

use std::{fs, future::poll_fn, io, process, sync::mpsc, task::Poll, thread, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::exit::Exit;

/// How long the process has to end by itself after a signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nobody waits any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// SIGINT (Ctrl-C), SIGTERM, or SIGHUP (the terminal has gone).
    Interrupted,
    /// Whoever read standard output has closed it: `| head` has read enough.
    ReaderGone,
}

/// Resolves when nobody waits any more; polled inside a runtime.
pub(super) type Ending<'a> = &'a mut (dyn Future<Output = Ended> + Unpin);

/// What ends a watch of this process.
pub(super) async fn of_this_process() -> Ended {
    // First, so that there is no signal which only the one hears that may be stuck.
    insist();
    tokio::select! {
        () = any_of(signals()) => Ended::Interrupted,
        () = reader_gone() => Ended::ReaderGone,
    }
}

/// Has the process end some time after a signal even where its work does not hear of it: the thread that it is done on may
/// sit in a write which nobody takes.
fn insist() {
    let (told, listens) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        // Without it a stuck process is left to SIGKILL; nothing else depends on it.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let signals = signals();
            let _ = told.send(());
            any_of(signals).await;
        });
        thread::sleep(PATIENCE);
        process::exit(Exit::Interrupted.code().into());
    });
    // An error is that nobody insists.
    let _ = listens.recv();
}

/// Listens from now on to what ends a process.
fn signals() -> Vec<Signal> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    // One that cannot be listened for ends the process as it always would.
    kinds.into_iter().filter(|kind| !is_ignored(*kind)).filter_map(|kind| signal(kind).ok()).collect()
}

async fn any_of(mut signals: Vec<Signal>) {
    poll_fn(|context| {
        let is_any = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if is_any { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Whether whoever started this process has it ignore the signal, as nohup(1) does. To listen would undo that.
fn is_ignored(kind: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    ignored >> (kind.as_raw_value() - 1) & 1 == 1
}

/// Without this, `| head -1` would wait for the next event just to find that nobody reads it.
async fn reader_gone() {
    let (told, gone) = oneshot::channel();
    // A thread of its own, which the process does not wait for: the runtime cannot wait for an error alone.
    thread::spawn(move || {
        let stdout = io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        let polled = loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                polled => break polled,
            }
        };
        polled.map(|_| told.send(()))
    });
    // Where it cannot be waited for, a write will find out.
    if gone.await.is_err() {
        std::future::pending().await
    }
}
