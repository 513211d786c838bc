//! `/livez`, `/readyz` and `/metrics`: what orchestrators and monitoring ask. Read only, and nothing in it is secret.

use std::{fmt::Write, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        Method, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    },
    response::Response,
};
use futures_util::FutureExt;
use hyper::{Request, body::Incoming};
use tokio::net::TcpListener;

use super::{
    connections::{self, Answer, Limits},
    places::Place,
};

/// Enough for several who watch at once; whoever is too many is closed in favour of who asks.
const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(5),
    last_call: Duration::from_secs(1),
    linger: Duration::from_secs(1),
};
/// OpenMetrics as text.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GET: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// What one look at the daemon found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub finding: Finding,
}

/// How something is; the text is for operators, and says what to do where it is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Well,
    /// It works, and somebody should see to it.
    Warning(String),
    /// It does not work.
    Failed(String),
}

/// The daemon, for who watches it.
pub trait Operations: Send + Sync + 'static {
    /// Whether the process is at work; where it is not, nothing but a restart helps.
    fn live(&self) -> impl Future<Output = Vec<Check>> + Send;

    /// Whether calls should be sent to it now.
    fn ready(&self) -> impl Future<Output = Vec<Check>> + Send;

    /// All metrics, as OpenMetrics text; none before there is anything to measure.
    fn metrics(&self) -> impl Future<Output = Option<String>> + Send;
}

/// Answers over HTTP/1 until `shutdown` resolves.
pub async fn serve_operations(
    listener: TcpListener,
    operations: Arc<impl Operations>,
    shutdown: impl Future<Output = ()>,
) {
    connections::serve(listener, LIMITS, OpsServer(operations), shutdown).await;
}

struct OpsServer<O>(Arc<O>);

impl<O> Clone for OpsServer<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O: Operations> OpsServer<O> {
    async fn respond(&self, request: &Request<Incoming>) -> Response {
        let path = request.uri().path();
        if !matches!(path, "/livez" | "/readyz" | "/metrics") {
            return text(StatusCode::NOT_FOUND, "there is /livez, /readyz (?verbose) and /metrics\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            refused.headers_mut().insert(ALLOW, GET);
            return refused;
        }
        // With a value or without one, as it stands in others' probes.
        let asks = |word| {
            let query = request.uri().query().unwrap_or_default();
            query.split('&').any(|pair| pair.split('=').next() == Some(word))
        };
        match path {
            "/metrics" => match self.0.metrics().await {
                Some(metrics) => with_type(StatusCode::OK, OPEN_METRICS, metrics),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting\n"),
            },
            "/livez" => report("livez", &self.0.live().await, asks("verbose")),
            _ => report("readyz", &self.0.ready().await, asks("verbose")),
        }
    }
}

impl<O: Operations> Answer for OpsServer<O> {
    async fn answer(&self, request: Request<Incoming>, place: Arc<Place>) -> Response {
        let _held = place.hold();
        AssertUnwindSafe(self.respond(&request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("a look at the daemon's state ended by a panic; it is answered with 500");
            text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
        })
    }
}

/// What was found: at length where somebody asks for that, or where something failed.
fn report(what: &str, checks: &[Check], is_verbose: bool) -> Response {
    let failed = checks.iter().any(|check| matches!(check.finding, Finding::Failed(_)));
    if !failed && !is_verbose {
        return text(StatusCode::OK, "ok\n");
    }
    let mut all = String::new();
    for Check { name, finding } in checks {
        // Writing to a string does not fail.
        let _ = match finding {
            Finding::Well => writeln!(all, "[+]{name} ok"),
            Finding::Warning(why) => writeln!(all, "[!]{name}: {why}"),
            Finding::Failed(why) => writeln!(all, "[-]{name} failed: {why}"),
        };
    }
    let (status, verdict) =
        if failed { (StatusCode::SERVICE_UNAVAILABLE, "failed") } else { (StatusCode::OK, "passed") };
    let _ = writeln!(all, "{what} check {verdict}");
    text(status, all)
}

fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    with_type(status, TEXT, body)
}

fn with_type(status: StatusCode, kind: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    // A state of a moment ago is of no use to anybody.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
