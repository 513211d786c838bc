//! A collector of OTLP over HTTP: it keeps what it is sent, and answers as it is told to. The messages are written down here
//! again, as far as they are looked at (opentelemetry/proto/trace/v1/trace.proto), so that the exporter's library does not
//! vouch for itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc};

use crate::support::SURELY;

#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<WireStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct WireStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// A span as it arrived, its ids in hexadecimal.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub is_server: bool,
    pub is_error: bool,
    pub attributes: BTreeMap<String, String>,
    pub service: BTreeMap<String, String>,
    pub start: u64,
    pub end: u64,
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let read = |pair: &KeyValue| {
        let value = match pair.value.clone().and_then(|value| value.value) {
            Some(Value::Text(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            None => "?".to_owned(),
        };
        (pair.key.clone(), value)
    };
    list.iter().map(read).collect()
}

fn spans(body: &[u8]) -> Vec<Span> {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let mut spans = Vec::new();
    for group in Export::decode(body).unwrap().resources {
        let service = attributes(&group.resource.unwrap().attributes);
        for span in group.scopes.into_iter().flat_map(|scope| scope.spans) {
            assert!(matches!(span.kind, 2 | 3), "{span:?}");
            spans.push(Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                is_server: span.kind == 2,
                is_error: span.status.is_some_and(|status| status.code == 2),
                attributes: attributes(&span.attributes),
                service: service.clone(),
                start: span.start,
                end: span.end,
            });
        }
    }
    spans
}

/// What arrived: a request's headers and body.
type Arrived = (HeaderMap, Bytes);

#[derive(Clone)]
struct Desk {
    arrived: mpsc::UnboundedSender<Arrived>,
    status: Arc<AtomicU16>,
}

/// A collector in this process.
pub struct Collector {
    pub url: String,
    status: Arc<AtomicU16>,
    arrived: mpsc::UnboundedReceiver<Arrived>,
    /// All that has arrived, as bytes, for a search.
    pub bytes: Vec<u8>,
    pub headers: Vec<HeaderMap>,
    spans: Vec<Span>,
}

async fn take(State(desk): State<Desk>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = StatusCode::from_u16(desk.status.load(Ordering::Relaxed)).unwrap();
    if status.is_success() {
        let _ = desk.arrived.send((headers, body));
    }
    status
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, arrived) = mpsc::unbounded_channel();
        let status = Arc::new(AtomicU16::new(200));
        let desk = Desk { arrived: sender, status: Arc::clone(&status) };
        let app = Router::new().route("/v1/traces", post(take)).with_state(desk);
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { url, status, arrived, bytes: Vec::new(), headers: Vec::new(), spans: Vec::new() }
    }

    /// What it answers from now on; what it refuses it does not keep.
    pub fn answers(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// All spans so far, once they are as they should be.
    pub async fn spans(&mut self, are_there: impl Fn(&[Span]) -> bool) -> &[Span] {
        while !are_there(&self.spans) {
            let next = tokio::time::timeout(SURELY, self.arrived.recv()).await;
            let (headers, body) = next.unwrap_or_else(|_| panic!("more than {:#?}", self.spans)).unwrap();
            self.spans.extend(spans(&body));
            self.bytes.extend_from_slice(&body);
            self.headers.push(headers);
        }
        &self.spans
    }
}
