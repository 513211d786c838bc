//! Logs, to whatever standard error is, and traces.

mod destination;
mod json;
#[cfg_attr(not(feature = "otlp"), path = "without_otlp.rs")]
mod otlp;
mod tracer;

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal},
    sync::Arc,
};

use tracing::{Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt as _, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

pub(super) use self::destination::{Format, LogOptions, is_journal};
use self::{json::Json, otlp::Export, tracer::TraceKeeper};
use crate::domain::Tracer;

/// Dependencies that could print a header or a body: they never go below INFO, whatever `RUST_LOG` says.
const TALKATIVE: [&str; 8] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tonic", "tower", "axum"];

/// What the fields of the journal are called after, so that none is taken for another program's: `CAIRLD_SESSION`.
const PREFIX: &str = "CAIRLD";

/// Starts logging as `RUST_LOG` asks, as `default` has it where that says nothing.
pub(super) fn start(default: &str, options: &LogOptions) {
    let (filter, unreadable) = filter(default);
    let (layer, no_journal) = layer(options.format.unwrap_or_else(destination::by_itself));
    let log = tracing_subscriber::registry().with(layer.with_filter(filter_fn(may_speak))).with(filter);
    if let Err(error) = log.try_init() {
        tracing::debug!(%error, "logging had been started before");
    }
    if let Some(error) = no_journal {
        tracing::warn!(%error, "the journal does not take the log, which goes to standard error as JSON");
    }
    if let Some(error) = unreadable {
        tracing::warn!(error, default, "RUST_LOG is not understood, and as if it were not set");
    }
}

/// Callers' traces, and where spans go; by default nowhere.
#[derive(Clone, Default)]
pub(super) struct Traces {
    export: Option<Arc<Export>>,
}

impl Traces {
    /// To the collector that the environment names, where it names one.
    pub(super) fn from_environment() -> Self {
        Self { export: Export::from_environment().map(Arc::new) }
    }

    /// What carries traces on, and records spans where they are collected.
    pub(super) fn tracer(&self) -> Arc<dyn Tracer> {
        Arc::new(TraceKeeper::new(self.export.clone()))
    }

    /// Hands the last spans over, for a moment. Not to be called where the runtime waits.
    pub(super) fn finish(self) {
        if let Some(export) = self.export {
            export.finish();
        }
    }
}

/// What is logged, and what is wrong with `RUST_LOG`.
fn filter(default: &str) -> (EnvFilter, Option<String>) {
    match env::var(EnvFilter::DEFAULT_ENV) {
        Ok(asked) => match EnvFilter::try_new(&asked) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(default), Some(error.to_string())),
        },
        Err(env::VarError::NotPresent) => (EnvFilter::new(default), None),
        Err(error) => (EnvFilter::new(default), Some(error.to_string())),
    }
}

/// What writes the log, and why it is not the journal that was meant to.
fn layer<S>(format: Format) -> (Box<dyn Layer<S> + Send + Sync>, Option<io::Error>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let json = || fmt::layer().event_format(Json).fmt_fields(json::fields()).with_writer(io::stderr).boxed();
    match format {
        Format::Text => {
            let is_seen =
                io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
            (fmt::layer().with_ansi(is_seen).with_writer(io::stderr).boxed(), None)
        }
        Format::Json => (json(), None),
        Format::Journald => match tracing_journald::layer() {
            Ok(journal) => {
                // INFO is what journald calls so; the crate would have it one step louder.
                let levels = PriorityMappings {
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    ..PriorityMappings::new()
                };
                let journal = journal
                    .with_field_prefix(Some(PREFIX.to_owned()))
                    .with_syslog_identifier("cairld".to_owned())
                    .with_priority_mappings(levels);
                (journal.boxed(), None)
            }
            Err(error) => (json(), Some(error)),
        },
    }
}

fn may_speak(metadata: &Metadata<'_>) -> bool {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !TALKATIVE.contains(&krate)
}

/// A message for standard error, after which the process ends. The journal is told that it is an error, line by line
/// (sd-daemon(3)).
pub(super) fn last_words(message: impl Display) -> String {
    let message = format!("cairld: {message}");
    if is_journal() { message.lines().map(|line| format!("<3>{line}\n")).collect() } else { message + "\n" }
}
