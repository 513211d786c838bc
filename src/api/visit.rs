//! One call at the door: what is told of it when it is answered, in the log and to whoever collects traces.

use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use tokio::time::Instant;
use tracing::{Span, field::display};

use super::{
    callers::Known,
    status::REASON_TRAILER,
    tally::{Call, Tally},
};
use crate::domain::{Attribute, EndedSpan, SessionId, SpanKind, TraceContext, Tracer, millis};

/// Where the transport writes a status' number that comes without a message.
const STATUS_TRAILER: &str = "grpc-status";
/// CANCELLED, which nobody hears.
const CANCELLED: i64 = 1;

/// What a call is about: its handler says so as soon as it knows.
#[derive(Clone, Debug, Default)]
pub(super) struct About(Arc<OnceLock<SessionId>>);

impl About {
    /// It is about this session, or what its caller says is one.
    pub(super) fn session(&self, id: SessionId) {
        // The first word counts; the answer's is the same.
        let _ = self.0.set(id);
    }
}

/// A call that was let in, until it is answered, or dropped since its caller has gone.
pub(super) struct Visit {
    tracer: Arc<dyn Tracer>,
    tally: Arc<Tally>,
    call: Call,
    known: Arc<Known>,
    context: Option<TraceContext>,
    about: About,
    began: Instant,
    is_over: bool,
}

impl Visit {
    /// A call that was let in just now, with what its headers say of a trace. A call that is not of the contract, such as
    /// one for health, begins no trace of its own.
    pub(super) fn new(
        tracer: &Arc<dyn Tracer>,
        tally: &Arc<Tally>,
        call: Call,
        known: &Arc<Known>,
        headers: &HeaderMap,
    ) -> Self {
        let context = tally.name(call).and_then(|_| tracer.span(said(headers).as_ref()));
        Self {
            tracer: Arc::clone(tracer),
            tally: Arc::clone(tally),
            call,
            known: Arc::clone(known),
            context,
            about: About::default(),
            began: Instant::now(),
            is_over: false,
        }
    }

    /// What the handler is handed.
    pub(super) fn extend(&self, extensions: &mut http::Extensions) {
        extensions.insert(self.about.clone());
        if let Some(context) = &self.context {
            extensions.insert(context.clone());
        }
    }

    /// What is logged about the call on its way has these fields.
    pub(super) fn span(&self) -> Span {
        let method = self.tally.name(self.call).map(|(_, method)| method);
        let (caller, context) = (&self.known.caller.viewer.caller, self.context.as_ref());
        let (trace_id, span_id) =
            (context.map(|own| display(own.trace)), context.map(|own| display(own.span)));
        tracing::error_span!("call", method, %caller, trace_id, span_id)
    }

    /// When it was let in.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// It is answered; a stream has begun.
    pub(super) fn answered(mut self, answer: &HeaderMap) {
        let text = |name| answer.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        self.is_over = true;
        let reason = text(REASON_TRAILER);
        self.ended(reason, text(STATUS_TRAILER).and_then(|code| code.parse().ok()).unwrap_or_default());
    }

    fn ended(&self, reason: Option<&str>, code: i64) {
        let Some((service, method)) = self.tally.name(self.call) else { return };
        let took = self.began.elapsed();
        let session = self.about.0.get().copied();
        let took_ms = millis(took);
        if code == CANCELLED {
            tracing::debug!(session = session.map(display), took_ms, "a caller went away before its answer");
        } else {
            tracing::debug!(session = session.map(display), reason, code, took_ms, "a call is answered");
        }
        let Some(context) = self.context.as_ref().filter(|own| self.tracer.records(own)) else { return };
        let text = |text: &str| Attribute::Text(text.to_owned());
        let attributes = vec![
            ("rpc.system", text("grpc")),
            ("rpc.service", text(service)),
            ("rpc.method", text(method)),
            ("rpc.grpc.status_code", Attribute::Number(code)),
            ("cairld.caller", text(self.known.caller.viewer.caller.as_str())),
        ];
        self.tracer.ended(EndedSpan {
            context: context.clone(),
            kind: SpanKind::Served,
            name: format!("{service}/{method}"),
            took,
            session,
            client: None,
            attributes,
            failed: reason.map(str::to_owned).or_else(|| (code == CANCELLED).then(|| "CANCELLED".to_owned())),
        });
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.is_over {
            self.ended(None, CANCELLED);
        }
    }
}

/// What a call's headers say of the span that it is a part of.
fn said(headers: &HeaderMap) -> Option<TraceContext> {
    // What is no text is no trace either, and counts as said all the same.
    let texts = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
    TraceContext::said(texts("traceparent"), texts("tracestate"))
}
