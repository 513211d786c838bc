//! What a process says when it fails: before it ends, and when a thread of it panics.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    panic::PanicHookInfo,
    thread,
};

use tracing_subscriber::layer::SubscriberExt as _;

use super::{Format, is_journal, layer};
use crate::store;

/// What the log of a panic says that it comes from.
pub(super) const TARGET: &str = module_path!();

/// Says why the process ends, in the form of its log; as plain text where it has none.
pub(in crate::daemon) fn last_words(format: Option<Format>, message: &str) {
    match format {
        None | Some(Format::Text) => {
            // Where it cannot be said, the exit code still says it.
            let _ = io::stderr().write_all(plain(message).as_bytes());
        }
        Some(format @ (Format::Json | Format::Journald)) => {
            // A log of its own, so that no `RUST_LOG` keeps it quiet.
            let (layer, _) = layer(format);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::error!(target: "cairld", "{message}");
            });
        }
    }
}

/// The journal is told that it is an error, line by line (sd-daemon(3)).
fn plain(message: &str) -> String {
    let message = format!("cairld: {message}");
    if is_journal() { message.lines().map(|line| format!("<3>{line}\n")).collect() } else { message + "\n" }
}

/// Logs a panic, as anything else is logged; none that the store tells of, with its file and what to do.
pub(super) fn report(panic: &PanicHookInfo<'_>) {
    if store::is_told_by_the_store(panic) {
        return;
    }
    let backtrace = Backtrace::capture();
    let thread = thread::current();
    tracing::error!(
        target: TARGET,
        thread = thread.name(),
        location = panic.location().map(tracing::field::display),
        backtrace =
            (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace)),
        "a panic, which is a bug; report it: {}",
        store::said(panic.payload())
    );
}

#[cfg(test)]
mod tests {
    use std::{
        panic,
        sync::{Mutex, PoisonError},
    };

    use tracing_subscriber::fmt;

    use super::{
        super::{
            filter::filter,
            json::{self, tests::Lines},
        },
        *,
    };

    /// Panics, and answers what the log says of it with the default `RUST_LOG`.
    fn logged(panics: impl FnOnce()) -> serde_json::Value {
        logged_under("info", panics)
    }

    fn logged_under(rust_log: &str, panics: impl FnOnce()) -> serde_json::Value {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().event_format(json::Json).fmt_fields(json::fields());
        let (filter, _) = filter(Ok(rust_log.into()), "info");
        let log = tracing_subscriber::registry().with(layer.with_writer(move || writer.clone())).with(filter);
        // The process has one hook: of two who exchange it at once one would lose his. Other tests panic as before meanwhile.
        static EXCHANGED: Mutex<()> = Mutex::new(());
        let exchanged = EXCHANGED.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, own) = (panic::take_hook(), thread::current().id());
        panic::set_hook(Box::new(
            move |panic| {
                if thread::current().id() == own { report(panic) } else { before(panic) }
            },
        ));
        tracing::subscriber::with_default(log, || {
            let session = tracing::error_span!("call", session = "ses_1").entered();
            panic::catch_unwind(panic::AssertUnwindSafe(panics)).unwrap_err();
            drop(session);
        });
        drop(exchanged);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let number = 1;
        let line = logged(|| panic!("number {number}"));
        assert_eq!(line["message"], "a panic, which is a bug; report it: number 1");
        assert_eq!((&line["level"], &line["session"]), (&"ERROR".into(), &"ses_1".into()), "{line}");
        assert!(
            line["location"].as_str().unwrap().starts_with("src/daemon/telemetry/last_words.rs:"),
            "{line}"
        );
        assert!(line["thread"].as_str().unwrap().contains("a_panic_is_a_line"), "{line}");
    }

    #[test]
    fn a_panic_quotes_no_value_that_was_not_expected() {
        let bytes = || String::from_utf8(b"secret\xff".to_vec());
        let line = logged(|| drop(bytes().unwrap()));
        let cut = "a panic, which is a bug; report it: called `Result::unwrap()` on an `Err` value:";
        assert_eq!(line["message"], cut);
    }

    #[test]
    fn no_filter_keeps_a_panic_quiet() {
        for rust_log in ["", "off", "hyper=info", "cairld=off", "[call]=debug", &format!("{TARGET}=off")] {
            let line = logged_under(rust_log, || panic!("number 1"));
            assert_eq!(line["message"], "a panic, which is a bug; report it: number 1", "{rust_log}");
        }
    }
}
