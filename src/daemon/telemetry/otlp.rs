//! Spans to a collector, by OTLP over HTTP. What is measured here decides nothing: a collector that is down, slow or wrong
//! costs spans and a line in the log, never a call.
//!
//! Set up by the variables that OpenTelemetry defines (`OTEL_…`), read by its own libraries as far as they know them.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{self as otel, SpanContext, TraceFlags, TraceState},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchSpanProcessor, Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents,
        SpanExporter as Exports, SpanLinks, SpanProcessor,
    },
};

use super::LAST_SPANS;
use crate::domain::{Attribute, EndedSpan, SpanKind, TraceContext, TraceId};

/// Where the collector is; without either there is none.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How it is spoken to: the one way that is built in.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const PROTOCOL: &str = "http/protobuf";

/// Hands spans to a collector, from a thread of its own and out of a queue that is bounded.
#[derive(Debug)]
pub(super) struct Export {
    processor: BatchSpanProcessor,
    sampling: Sampling,
    scope: InstrumentationScope,
}

impl Export {
    /// One where the environment names a collector; what is wrong there is told, and stops nothing.
    pub(super) fn from_environment() -> Option<Self> {
        ENDPOINTS.iter().find_map(|name| set(name))?;
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
        {
            return None;
        }
        if let Some(protocol) = PROTOCOLS.iter().find_map(|name| set(name)).filter(|set| set != PROTOCOL) {
            tracing::warn!(
                protocol,
                "no traces are exported: OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, which collectors take at port 4318"
            );
            return None;
        }
        let exporter = match SpanExporter::builder().with_http().build() {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::warn!(%error, "no traces are exported: what the OTEL_ variables say of it is wrong");
                return None;
            }
        };
        let mut processor =
            BatchSpanProcessor::builder(Told { exporter, is_down: AtomicBool::new(false) }).build();
        processor.set_resource(&resource());
        let scope = InstrumentationScope::builder("cairld").with_version(env!("CARGO_PKG_VERSION")).build();
        tracing::info!("traces are exported");
        Some(Self { processor, sampling: Sampling::from_environment(), scope })
    }

    /// Whether a span of a trace is recorded that begins here, or goes on from elsewhere.
    pub(super) fn samples(&self, trace: TraceId, parent: Option<&TraceContext>) -> bool {
        self.sampling.samples(trace, parent)
    }

    /// A span has ended just now.
    #[expect(clippy::disallowed_methods, reason = "a span is told by the wall clock, and decides nothing")]
    pub(super) fn ended(&self, span: EndedSpan) {
        let EndedSpan { context, kind, name, took, session, client, attributes, failed } = span;
        let end_time = SystemTime::now();
        let texts = [
            ("cairld.session", session.map(|id| id.to_string())),
            ("cairld.client", client.map(|name| name.to_string())),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some(KeyValue::new(name, text?)));
        let rest = attributes.into_iter().map(|(name, value)| KeyValue::new(name, value_of(value)));
        let error = failed.clone().map(|error| KeyValue::new("error.type", error));
        let kind_of_span = match kind {
            SpanKind::Served => otel::SpanKind::Server,
            SpanKind::Sent => otel::SpanKind::Client,
        };
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                otel::TraceId::from_bytes(*context.trace.as_bytes()),
                otel::SpanId::from_bytes(*context.span.as_bytes()),
                if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
                false,
                context.tracestate().and_then(|state| state.parse().ok()).unwrap_or(TraceState::NONE),
            ),
            parent_span_id: context
                .parent
                .map_or(otel::SpanId::INVALID, |id| otel::SpanId::from_bytes(*id.as_bytes())),
            parent_span_is_remote: kind == SpanKind::Served && context.parent.is_some(),
            span_kind: kind_of_span,
            name: name.into(),
            start_time: end_time.checked_sub(took).unwrap_or(end_time),
            end_time,
            attributes: texts.chain(rest).chain(error).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: failed.map_or(otel::Status::Unset, otel::Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Hands the last spans over. What a collector does not take in that moment is lost.
    pub(super) fn finish(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the collector did not take the last spans");
        }
    }
}

fn value_of(value: Attribute) -> Value {
    match value {
        Attribute::Text(text) => text.into(),
        Attribute::Number(number) => number.into(),
    }
}

/// What a variable is set to; the empty text means that it is not.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Who tells: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, and what is known without.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let said = Resource::builder().build();
    let is_named = said
        .iter()
        .any(|(key, value)| key.as_str() == "service.name" && !value.as_str().starts_with("unknown_service"));
    let resource = Resource::builder().with_attribute(version);
    if is_named { resource.build() } else { resource.with_service_name("cairld").build() }
}

/// Which traces are recorded.
#[derive(Debug)]
struct Sampling {
    /// Of those that begin here.
    own: Sampler,
    /// Whether those that go on from elsewhere are recorded as their beginning says.
    as_begun: bool,
}

impl Sampling {
    /// As `OTEL_TRACES_SAMPLER` has it: all that begin here, and the others as they began, by default.
    fn from_environment() -> Self {
        let (name, argument) = (set("OTEL_TRACES_SAMPLER"), set("OTEL_TRACES_SAMPLER_ARG"));
        let sampling = Self::of(name.as_deref(), argument.as_deref());
        sampling.unwrap_or_else(|| {
            tracing::warn!(
                name,
                argument,
                "OTEL_TRACES_SAMPLER or its _ARG is not understood: all traces are recorded that are not begun otherwise"
            );
            Self { own: Sampler::AlwaysOn, as_begun: true }
        })
    }

    fn of(name: Option<&str>, argument: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or("parentbased_always_on");
        let own = match name.strip_prefix("parentbased_").unwrap_or(name) {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => {
                let ratio = argument.map_or(Some(1.0), |text| text.parse().ok())?;
                Sampler::TraceIdRatioBased(Some(ratio).filter(|ratio| (0.0..=1.0).contains(ratio))?)
            }
            _ => return None,
        };
        Some(Self { own, as_begun: name.starts_with("parentbased_") })
    }

    fn samples(&self, trace: TraceId, parent: Option<&TraceContext>) -> bool {
        if let Some(parent) = parent.filter(|_| self.as_begun) {
            return parent.sampled;
        }
        let trace = otel::TraceId::from_bytes(*trace.as_bytes());
        let result = self.own.should_sample(None, trace, "", &otel::SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }
}

/// Tells when the collector stops taking spans, and when it takes them again, rather than each time.
#[derive(Debug)]
struct Told {
    exporter: SpanExporter,
    is_down: AtomicBool,
}

impl Exports for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let ended = self.exporter.export(batch).await;
        let was_down = self.is_down.swap(ended.is_err(), Ordering::Relaxed);
        match &ended {
            Err(error) if !was_down => tracing::warn!(
                %error,
                "the collector takes no spans; they are lost until it does, which is told here"
            ),
            Ok(()) if was_down => tracing::info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        ended
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SpanId;

    fn samples(name: Option<&str>, argument: Option<&str>, parent: Option<bool>) -> Option<bool> {
        let trace = TraceId::new([0x80; 16]).unwrap();
        let parent = parent.map(|sampled| TraceContext::root(trace, SpanId::new([1; 8]).unwrap(), sampled));
        Some(Sampling::of(name, argument)?.samples(trace, parent.as_ref()))
    }

    #[test]
    fn traces_are_sampled_as_the_variables_say() {
        assert_eq!(samples(None, None, None), Some(true));
        for begun in [true, false] {
            assert_eq!(samples(None, None, Some(begun)), Some(begun));
            assert_eq!(samples(Some("parentbased_always_off"), None, Some(begun)), Some(begun));
            assert_eq!(samples(Some("always_on"), None, Some(begun)), Some(true));
            assert_eq!(samples(Some("always_off"), None, Some(begun)), Some(false));
        }
        assert_eq!(samples(Some("parentbased_always_off"), None, None), Some(false));
        assert_eq!(samples(Some("traceidratio"), Some("0"), None), Some(false));
        assert_eq!(samples(Some("traceidratio"), Some("1.0"), None), Some(true));
        assert_eq!(samples(Some("parentbased_traceidratio"), None, None), Some(true));
        for (name, argument) in [("xray", None), ("traceidratio", Some("2")), ("traceidratio", Some("half"))]
        {
            assert_eq!(samples(Some(name), argument, None), None);
        }
    }
}
