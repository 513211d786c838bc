//! Logs: to standard error, for people on a terminal, as JSON lines anywhere else.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Dependencies that could print a header or a body: they never go below INFO, whatever `RUST_LOG` says.
const TALKATIVE: [&str; 8] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tonic", "tower", "axum"];

/// Starts logging as `RUST_LOG` asks, `info` by default. The first call counts.
pub(super) fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let output = if io::stderr().is_terminal() {
        fmt::layer().with_writer(io::stderr).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed()
    };
    let started =
        tracing_subscriber::registry().with(output.with_filter(filter_fn(may_speak))).with(filter).try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "logging had been started before");
    }
}

fn may_speak(metadata: &Metadata<'_>) -> bool {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !TALKATIVE.contains(&krate)
}
