//! `POST /webhooks/{client}`: what the provider delivers, acknowledged when it is durable.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap, Method, StatusCode,
        header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    },
    response::Response,
};
use futures_util::{FutureExt, StreamExt};
use hyper::{Request, body::Incoming};
use tokio::{
    net::TcpListener,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, field::display};

use super::{
    connections::{self, Answer, Limits},
    places::Place,
};
use crate::{
    domain::{Attribute, EndedSpan, MAX_WEBHOOK_BYTES, Reason, Refusal, SpanKind, TraceContext, Tracer},
    flows::{Flows, Forgery, Registered},
    store::Ingested,
};

/// The header with the signature.
const SIGNATURE: &str = "x-cairl-signature";
/// How long a body may take. The provider waits ten seconds for its answer, head and all.
const BODY: Duration = Duration::from_secs(5);
/// When the sender should try again, seconds; the provider has a schedule of its own.
const TRY_AGAIN: HeaderValue = HeaderValue::from_static("10");
/// Generous for a sender that delivers over a few connections, and far below the file descriptors that a process has.
const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(5),
    last_call: Duration::from_secs(1),
    linger: Duration::from_secs(1),
};

/// Receives webhooks over HTTP/1.
#[derive(Clone)]
pub struct WebhookServer {
    flows: Arc<Flows>,
    requests: TaskTracker,
    tracer: Arc<dyn Tracer>,
}

impl WebhookServer {
    /// A server over the flows; `tracer` carries the provider's traces on, where it says of any.
    pub fn new(flows: Arc<Flows>, tracer: Arc<dyn Tracer>) -> Self {
        Self { flows, requests: TaskTracker::new(), tracer }
    }

    /// Serves until `shutdown` resolves and what was in hand then is answered.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        connections::serve(listener, LIMITS, self, shutdown).await;
    }

    /// Waits until every request is answered. Call it when no new ones come in.
    pub async fn finish(&self) {
        self.requests.close();
        self.requests.wait().await;
    }

    /// How many requests are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Answers a request, or says why not.
    async fn receive(&self, request: Request<Incoming>, place: &Place) -> Result<Response, Refused> {
        let name = request.uri().path().strip_prefix("/webhooks/").ok_or(Refused::NotFound)?;
        let client = self.flows.client_named(name).ok_or(Refused::NotFound)?;
        if request.method() != Method::POST {
            return Err(Refused::NotPost);
        }
        if self.flows.stopping().is_cancelled() {
            return Err(Refused::Later);
        }
        if declared_length(request.headers()).is_some_and(|length| length > MAX_WEBHOOK_BYTES as u64) {
            return Err(Refused::TooLong);
        }
        let (head, body) = request.into_parts();
        let Some(signature) = the_one_signature(&head.headers) else {
            return Err(self.flows.forged(&client, Forgery::NotOneSignature, 0).into());
        };
        let body = time::timeout(BODY, read(body)).await.map_err(|_| Refused::TooSlow)??;
        let (trace, began) = (self.tracer.span(said(&head.headers).as_ref()), Instant::now());
        let (trace_id, span_id) =
            (trace.as_ref().map(|own| display(own.trace)), trace.as_ref().map(|own| display(own.span)));
        let span = tracing::error_span!("webhook", trace_id, span_id);
        let taken = self.take_in(&client, body, signature, place).instrument(span).await?;
        self.told(&client, &taken, trace, began.elapsed());
        let text = format!(r#"{{"event":"{}","duplicate":{}}}"#, taken.event.id, taken.duplicate);
        Ok(json(StatusCode::OK, text))
    }

    /// A webhook was taken in, and is a span. Others are none: anybody may send them.
    fn told(&self, client: &Registered, taken: &Ingested, trace: Option<TraceContext>, took: Duration) {
        let Some(context) = trace.filter(|span| self.tracer.records(span)) else { return };
        let attributes = vec![
            ("http.request.method", Attribute::Text("POST".to_owned())),
            ("http.route", Attribute::Text("/webhooks/{client}".to_owned())),
            ("http.response.status_code", Attribute::Number(200)),
        ];
        self.tracer.ended(EndedSpan {
            context,
            kind: SpanKind::Served,
            name: "POST /webhooks/{client}".to_owned(),
            took,
            session: taken.session.as_ref().map(|session| session.id),
            client: Some(client.name.clone()),
            attributes,
            failed: None,
        });
    }

    async fn take_in(
        &self,
        client: &Registered,
        body: Vec<u8>,
        signature: &str,
        place: &Place,
    ) -> Result<Ingested, Refused> {
        // From here on there is something to lose. A forgery is found out before anything is waited for.
        let _held = place.hold();
        Ok(self.flows.take_in(client, body, signature).await?)
    }
}

impl Answer for WebhookServer {
    async fn answer(&self, request: Request<Incoming>, place: Arc<Place>) -> Response {
        let _in_flight = self.requests.token();
        let answer = AssertUnwindSafe(self.receive(request, &place)).catch_unwind().await;
        answer.map_or_else(
            |_| {
                tracing::error!("a webhook's handling ended by a panic; it is answered with 500");
                Refused::Internal.into_response()
            },
            |answer| answer.unwrap_or_else(Refused::into_response),
        )
    }
}

/// Why a request is not answered with 200. None is ever 429: the provider would not come back for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NotFound,
    NotPost,
    TooLong,
    TooSlow,
    Unreadable,
    /// The same whatever is wrong with the signature.
    Forged,
    /// Not now.
    Later,
    Internal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        if refusal.reason == Reason::WebhookSignatureInvalid {
            Self::Forged
        } else if refusal.reason.is_retryable() {
            Self::Later
        } else {
            Self::Internal
        }
    }
}

impl Refused {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not found"),
            Self::NotPost => (StatusCode::METHOD_NOT_ALLOWED, "only POST"),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "longer than 64 KiB"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too slow"),
            Self::Unreadable => (StatusCode::BAD_REQUEST, "the body cannot be read"),
            Self::Forged => (StatusCode::BAD_REQUEST, "bad signature"),
            Self::Later => (StatusCode::SERVICE_UNAVAILABLE, "not now; try again"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal error; try again"),
        };
        let mut response = json(status, format!(r#"{{"error":"{error}"}}"#));
        if self == Self::NotPost {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if self == Self::Later {
            response.headers_mut().insert(RETRY_AFTER, TRY_AGAIN);
        }
        response
    }
}

fn json(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The signature, where there is one and no other: of two, a proxy in front might have checked the wrong one.
fn the_one_signature(headers: &HeaderMap) -> Option<&str> {
    let mut signatures = headers.get_all(SIGNATURE).iter();
    let (Some(only), None) = (signatures.next(), signatures.next()) else { return None };
    only.to_str().ok()
}

/// What a request says of the span that it is a part of. It is not signed; it grants nothing either.
fn said(headers: &HeaderMap) -> Option<TraceContext> {
    // What is no text is no trace either, and counts as said all the same.
    let texts = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
    TraceContext::said(texts("traceparent"), texts("tracestate"))
}

/// The body as it comes, whatever it claims to be encoded in.
async fn read(body: Incoming) -> Result<Vec<u8>, Refused> {
    let mut pieces = Body::new(body).into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refused::Unreadable)?;
        if bytes.len() + piece.len() > MAX_WEBHOOK_BYTES {
            return Err(Refused::TooLong);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(signatures: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for signature in signatures {
            headers.append(SIGNATURE, HeaderValue::from_bytes(signature).unwrap());
        }
        headers
    }

    #[test]
    fn there_is_exactly_one_signature() {
        assert_eq!(the_one_signature(&headers(&[b"sha256=00"])), Some("sha256=00"));
        assert_eq!(the_one_signature(&headers(&[])), None);
        assert_eq!(the_one_signature(&headers(&[b"sha256=00", b"sha256=00"])), None);
        assert_eq!(the_one_signature(&headers(&[b"sha256=\xff"])), None, "no text");
    }

    #[test]
    fn what_may_work_later_is_503_and_nothing_is_429() {
        let status = |reason: Reason| {
            let response = Refused::from(Refusal::from(reason)).into_response();
            let status = response.status().as_u16();
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503, "{reason}");
            status
        };
        for reason in [Reason::StoreUnavailable, Reason::Overloaded, Reason::ShuttingDown] {
            assert_eq!(status(reason), 503, "{reason}");
        }
        assert_eq!(status(Reason::WebhookSignatureInvalid), 400);
        assert_eq!(status(Reason::Internal), 500);
        for reason in Reason::ALL {
            assert!(matches!(status(*reason), 400 | 500 | 503), "{reason}");
        }
    }
}
