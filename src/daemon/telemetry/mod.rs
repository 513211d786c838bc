//! Logs, to whatever standard error is, and traces.

mod destination;
mod filter;
mod json;
mod last_words;
#[cfg_attr(not(feature = "otlp"), path = "without_otlp.rs")]
mod otlp;
mod tracer;

use std::{
    env,
    io::{self, IsTerminal},
    panic,
    sync::Arc,
    time::Duration,
};

use tracing::{Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt as _, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use self::{destination::is_journal, filter::filter, json::Json, otlp::Export, tracer::TraceKeeper};
pub(super) use self::{
    destination::{Format, LogOptions},
    last_words::last_words,
};
use crate::domain::Tracer;

/// Dependencies that could print a header or a body: they never go below INFO, whatever `RUST_LOG` says.
const TALKATIVE: [&str; 8] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tonic", "tower", "axum"];

/// What the fields of the journal are called after, so that none is taken for another program's: `CAIRLD_SESSION`.
const PREFIX: &str = "CAIRLD";

/// How long the last spans may take when the daemon ends.
pub(super) const LAST_SPANS: Duration = Duration::from_secs(3);

/// Starts logging as `RUST_LOG` asks, as `default` has it where that says nothing. Panics are logged too from then on.
pub(super) fn start(default: &str, options: &LogOptions) {
    let (filter, wrong) = filter(env::var(EnvFilter::DEFAULT_ENV), default);
    let (layer, no_journal) = layer(options.form());
    let log = tracing_subscriber::registry().with(layer.with_filter(filter_fn(may_speak))).with(filter);
    if let Err(error) = log.try_init() {
        tracing::debug!(%error, "logging had been started before");
    }
    panic::set_hook(Box::new(last_words::report));
    if let Some(error) = no_journal {
        tracing::warn!(%error, "the journal does not take the log, which goes to standard error as JSON");
    }
    if let Some(wrong) = wrong {
        tracing::warn!(default, "RUST_LOG {wrong}");
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

    /// Hands the last spans over, for [`LAST_SPANS`]. Not to be called where the runtime waits.
    pub(super) fn finish(self) {
        if let Some(export) = self.export {
            export.finish();
        }
    }
}

/// What writes the log, and why it is not the journal that was meant to.
fn layer<S>(format: Format) -> (Box<dyn Layer<S> + Send + Sync>, Option<io::Error>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // A standard error that takes nothing any more is no reason to panic for, as the layer would by saying so there.
    let to_stderr = || fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let json = || to_stderr().event_format(Json).fmt_fields(json::fields()).boxed();
    match format {
        Format::Text => {
            let is_seen =
                io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
            (to_stderr().with_ansi(is_seen).boxed(), None)
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
