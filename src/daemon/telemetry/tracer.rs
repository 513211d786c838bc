//! Where traces go on: new spans, and their ends told to whoever collects them.

use std::sync::Arc;

use super::otlp::Export;
use crate::domain::{EndedSpan, SpanId, TraceContext, TraceId, Tracer};

/// Carries callers' traces on; records spans, and begins traces, where there is a collector.
#[derive(Debug)]
pub(super) struct TraceKeeper {
    export: Option<Arc<Export>>,
}

impl TraceKeeper {
    pub(super) fn new(export: Option<Arc<Export>>) -> Self {
        Self { export }
    }
}

/// Random bytes for an id; none where the operating system gives none, or one of the two ids that are not allowed.
fn random<const N: usize, I>(make: impl Fn([u8; N]) -> Option<I>) -> Option<I> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    make(bytes)
}

impl Tracer for TraceKeeper {
    fn span(&self, parent: Option<&TraceContext>) -> Option<TraceContext> {
        let export = self.export.as_deref();
        if parent.is_none() && export.is_none() {
            return None;
        }
        let span = random(SpanId::new)?;
        match parent {
            Some(parent) => {
                let mut child = parent.child(span);
                child.sampled =
                    export.map_or(parent.sampled, |export| export.samples(parent.trace, Some(parent)));
                Some(child)
            }
            None => {
                let (export, trace) = (export?, random(TraceId::new)?);
                Some(TraceContext::root(trace, span, export.samples(trace, None)))
            }
        }
    }

    fn records(&self, span: &TraceContext) -> bool {
        span.sampled && self.export.is_some()
    }

    fn ended(&self, span: EndedSpan) {
        if let Some(export) = &self.export {
            export.ended(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_and_none_begins_where_nobody_collects_them() {
        let tracer = TraceKeeper::new(None);
        assert_eq!(tracer.span(None), None);
        let root = TraceContext::root(TraceId::new([1; 16]).unwrap(), SpanId::new([2; 8]).unwrap(), true);
        let (one, other) = (tracer.span(Some(&root)).unwrap(), tracer.span(Some(&root)).unwrap());
        assert_eq!((one.trace, one.parent, one.sampled), (root.trace, Some(root.span), true));
        assert_ne!(one.span, other.span);
        assert!(!tracer.records(&one));
    }
}
