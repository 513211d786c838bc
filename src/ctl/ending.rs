//! What ends work from this side: a signal, or a reader that has gone away.

use std::{fs, io};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

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
    tokio::select! {
        () = signalled(SignalKind::interrupt()) => Ended::Interrupted,
        () = signalled(SignalKind::terminate()) => Ended::Interrupted,
        () = signalled(SignalKind::hangup()) => Ended::Interrupted,
        () = reader_gone() => Ended::ReaderGone,
    }
}

async fn signalled(kind: SignalKind) {
    if is_ignored(kind) {
        return std::future::pending().await;
    }
    // Where it cannot be listened for, it ends the process as it always would.
    if let Ok(mut signals) = signal(kind) {
        signals.recv().await;
    } else {
        std::future::pending().await
    }
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
    std::thread::spawn(move || {
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
