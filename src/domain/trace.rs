//! W3C trace context, level 1: which trace of its caller's a call belongs to, and how the trace goes on from here.
//!
//! What a caller says of it is read strictly and bounded, since it goes on to the provider: whatever is not as the
//! recommendation has it counts as not said (<https://www.w3.org/TR/trace-context-1/>).

use std::{fmt, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;

use super::{id::SessionId, name::ClientName};

/// Longest `tracestate` that is passed on, bytes: as much as everybody has to be able to carry.
const MAX_STATE: usize = 512;
/// Most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// Declares an id of random bytes that are not all zero, written in lower-case hexadecimal.
macro_rules! hex_id {
    ($(#[$meta:meta])* $name:ident, $length:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The id of these bytes; none where all are zero, which is no id.
            pub fn new(bytes: [u8; $length]) -> Option<Self> {
                bytes.iter().any(|byte| *byte != 0).then_some(Self(bytes))
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            fn parse(text: &str) -> Option<Self> {
                // Upper case is refused, as it has to be.
                Self::new(HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()?)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&HEXLOWER.encode_display(&self.0), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex_id! {
    /// Id of a trace.
    TraceId, 16
}
hex_id! {
    /// Id of one span of a trace.
    SpanId, 8
}

/// One span of a trace: what belongs to it, and what its parts say of where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// The span that it is a part of.
    pub parent: Option<SpanId>,
    /// Whether the trace is recorded, as far as whoever began it says.
    pub sampled: bool,
    /// What others along the way want carried, as it came.
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// The beginning of a trace.
    pub fn root(trace: TraceId, span: SpanId, sampled: bool) -> Self {
        Self { trace, span, parent: None, sampled, state: None }
    }

    /// Reads what headers say: all that are called `traceparent`, of which there has to be one, and all that are called
    /// `tracestate`. A `tracestate` that is not as it has to be is left out, and does no harm to the rest.
    pub fn said<'s>(
        parents: impl IntoIterator<Item = &'s str>,
        states: impl IntoIterator<Item = &'s str>,
    ) -> Option<Self> {
        let mut parents = parents.into_iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        Some(Self { state: state(states), ..Self::parse(parent)? })
    }

    fn parse(parent: &str) -> Option<Self> {
        let (version, rest) = (parent.get(..2)?, parent.get(2..LENGTH)?);
        let [version]: [u8; 1] = HEXLOWER.decode(version.as_bytes()).ok()?.try_into().ok()?;
        // Of a later version the beginning counts, and what may follow it.
        let is_whole = match version {
            0 => parent.len() == LENGTH,
            0xff => false,
            _ => matches!(parent.as_bytes().get(LENGTH), None | Some(b'-')),
        };
        if !is_whole || parent.bytes().any(|byte| byte.is_ascii_uppercase()) || !parent.is_ascii() {
            return None;
        }
        let mut parts = rest.strip_prefix('-')?.split('-');
        let (trace, span) = (TraceId::parse(parts.next()?)?, SpanId::parse(parts.next()?)?);
        let [flags]: [u8; 1] = HEXLOWER.decode(parts.next()?.as_bytes()).ok()?.try_into().ok()?;
        if parts.next().is_some() {
            return None;
        }
        Some(Self { trace, span, parent: None, sampled: flags & 1 == 1, state: None })
    }

    /// A part of this span.
    #[must_use]
    pub fn child(&self, span: SpanId) -> Self {
        Self { span, parent: Some(self.span), ..self.clone() }
    }

    /// How it is said as `traceparent`. Of the flags only the one that the recommendation defines goes on.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    /// What goes with it as `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// The members of all `tracestate` headers, as one.
fn state<'s>(headers: impl IntoIterator<Item = &'s str>) -> Option<Arc<str>> {
    let mut state = String::new();
    for header in headers {
        if header.len() > MAX_STATE {
            return None;
        }
        for member in header.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            if !is_member(member) || state.len() + 1 + member.len() > MAX_STATE {
                return None;
            }
            if !state.is_empty() {
                state.push(',');
            }
            state.push_str(member);
        }
    }
    let keys = || state.split(',').filter_map(|member| member.split('=').next());
    let is_sound = !state.is_empty()
        && keys().count() <= MAX_MEMBERS
        && keys().enumerate().all(|(place, key)| keys().skip(place + 1).all(|other| other != key));
    is_sound.then(|| state.as_str().into())
}

/// Whether a text is a `key=value` as the recommendation has them.
fn is_member(text: &str) -> bool {
    let Some((key, value)) = text.split_once('=') else { return false };
    let (tenant, system) = key.split_once('@').map_or((None, key), |(tenant, system)| (Some(tenant), system));
    let is_simple = |text: &str, most: usize, may_begin: fn(u8) -> bool| {
        (1..=most).contains(&text.len())
            && text.bytes().next().is_some_and(may_begin)
            && text.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'_' | b'-' | b'*' | b'/')
            })
    };
    let is_key = match tenant {
        None => is_simple(system, 256, |first| first.is_ascii_lowercase()),
        Some(tenant) => {
            is_simple(tenant, 241, |first| first.is_ascii_lowercase() || first.is_ascii_digit())
                && is_simple(system, 14, |first| first.is_ascii_lowercase())
        }
    };
    let is_printable = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
    is_key && (1..=256).contains(&value.len()) && value.bytes().all(is_printable)
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Something that was asked of the daemon.
    Served,
    /// A request that the daemon sent.
    Sent,
}

/// What is told of a span besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A text. Never a secret, nor what others wrote.
    Text(String),
    /// A number.
    Number(i64),
}

/// A span that has ended just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSpan {
    /// Where it belongs.
    pub context: TraceContext,
    /// What it is of.
    pub kind: SpanKind,
    /// Its name, out of a small set.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// The session that it is about, where one is known.
    pub session: Option<SessionId>,
    /// The client that it is about, where one is known.
    pub client: Option<ClientName>,
    /// The rest, by the names of OpenTelemetry's conventions.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed, where it did: a reason, or an HTTP status.
    pub failed: Option<String>,
}

/// Carries traces on, and records spans where somebody collects them. Injected, as clocks are: new ids are random.
pub trait Tracer: Send + Sync + fmt::Debug {
    /// A new span within `parent`. Without one it begins a trace, where spans are recorded, and is none where not.
    fn span(&self, parent: Option<&TraceContext>) -> Option<TraceContext>;

    /// Whether a span is recorded.
    fn records(&self, span: &TraceContext) -> bool;

    /// A recorded span has ended.
    fn ended(&self, span: EndedSpan);
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
