//! The door: every call passes it, whatever its service.
//!
//! It recognises the caller, checks that the call is granted, hands the caller on as an extension, and sees to it that a
//! refusal made by the transport itself (a message too long, a body that is no message) tells as much as our own. A panic
//! behind it ends its own call alone.

use std::{
    future::{self, Future},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use http_body::Body as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Code, Status,
    body::Body,
    transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo},
};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{
    callers::{Callers, Known, Peer},
    lasting::Lasting,
    status::{REASON_TRAILER, status},
    tally::Tally,
    visit::Visit,
};
use crate::domain::{Reason, Refusal, Tracer};

/// How long a call may take whose caller set no deadline.
const NO_DEADLINE: Duration = Duration::from_secs(60);

/// Until when a call waits in line: a little before its deadline, so that its caller hears why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(pub(super) Instant);

/// Longest time by which patience ends before the deadline.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Longest time by which the door gives a call up before its deadline: at that, tonic ends it with a bare CANCELLED.
const AHEAD: Duration = Duration::from_millis(10);
/// How long what a refused call still sends is waited for, and how much of it is taken, bytes.
const HEARING: Duration = Duration::from_secs(1);
const MAX_HEARD: usize = 256 * 1024;
/// Longest time that a call waits in line, whatever its deadline.
const MAX_PATIENCE: Duration = Duration::from_secs(3600);

/// Puts the door before every service.
#[derive(Clone, Debug)]
pub(super) struct DoorLayer {
    callers: Callers,
    calls: TaskTracker,
    stopping: CancellationToken,
    tally: Arc<Tally>,
    tracer: Arc<dyn Tracer>,
}

impl DoorLayer {
    /// `calls` counts those that are not answered yet; an open stream counts as answered.
    /// Once `stopping` is cancelled nobody is let in any more. Errors are counted in `tally`, but those that end a stream.
    pub(super) fn new(
        callers: Callers,
        calls: TaskTracker,
        stopping: CancellationToken,
        tally: Arc<Tally>,
        tracer: Arc<dyn Tracer>,
    ) -> Self {
        Self { callers, calls, stopping, tally, tracer }
    }
}

impl<S> Layer<S> for DoorLayer {
    type Service = Door<S>;

    fn layer(&self, inner: S) -> Door<S> {
        Door {
            inner,
            callers: self.callers.clone(),
            calls: self.calls.clone(),
            stopping: self.stopping.clone(),
            tally: Arc::clone(&self.tally),
            tracer: Arc::clone(&self.tracer),
        }
    }
}

/// A service behind the door.
#[derive(Clone, Debug)]
pub(super) struct Door<S> {
    inner: S,
    callers: Callers,
    calls: TaskTracker,
    stopping: CancellationToken,
    tally: Arc<Tally>,
    tracer: Arc<dyn Tracer>,
}

impl<S> Door<S> {
    /// Lets a request in with its caller, or says why not.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<Admission, Refusal> {
        let peer = peer(request.extensions());
        let known = self.callers.recognise(&peer, request.headers()).ok_or(Reason::CallerUnknown)?;
        let (service, method) = called(request.uri());
        if is_ours(service) && !known.caller.may(service, method) {
            let (reason, caller) = (Reason::RpcNotGranted, &known.caller.viewer.caller);
            tracing::warn!(%reason, %caller, service, method, "a call that is not granted was refused");
            return Err(reason.into());
        }
        if self.stopping.is_cancelled() {
            return Err(Reason::ShuttingDown.into());
        }
        // Of health and reflection all are streams but these two.
        let is_stream =
            if is_ours(service) { self.tally.is_stream(method) } else { !matches!(method, "Check" | "List") };
        let places = if is_stream { &known.streams } else { &known.calls };
        // A stream is no call that is in flight, nor the other way round: each has its own limit.
        let place = Semaphore::try_acquire_owned(Arc::clone(places)).map_err(|_| Reason::Overloaded)?;
        request.extensions_mut().insert(Arc::clone(&known));
        Ok(Admission { known, place, is_stream })
    }
}

/// A call that was let in.
struct Admission {
    known: Arc<Known>,
    /// One of those that its caller may have at a time.
    place: OwnedSemaphorePermit,
    is_stream: bool,
}

/// Service and method of a call.
fn called(uri: &http::Uri) -> (&str, &str) {
    let mut path = uri.path().trim_start_matches('/').split('/');
    (path.next().unwrap_or_default(), path.next().unwrap_or_default())
}

/// Whether a service is of the contract; health and reflection are not.
fn is_ours(service: &str) -> bool {
    service.starts_with("cairld.")
}

fn peer(extensions: &http::Extensions) -> Peer {
    let unix = extensions.get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    if let (Some(peer), None) = (unix, extensions.get::<TcpConnectInfo>()) {
        return Peer::Unix { uid: peer.uid(), gid: peer.gid() };
    }
    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
    Peer::Network { shown: tls.and_then(TlsConnectInfo::peer_certs) }
}

impl<S> Service<http::Request<Body>> for Door<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // Counted before it is admitted: whoever waits for the count sees every call that was let in.
        let in_flight = self.calls.token();
        let (service, method) = called(request.uri());
        let method = if is_ours(service) { method } else { "" };
        let (tally, call) = (Arc::clone(&self.tally), self.tally.call(method));
        let admission = match self.admit(&mut request) {
            Ok(admission) => admission,
            Err(refusal) => {
                tally.add(call, refusal.reason);
                let response = status(&refusal).into_http();
                return Box::pin(async move {
                    hear_out(request.into_body()).await;
                    Ok(response)
                });
            }
        };
        let visit = Visit::new(&self.tracer, &tally, call, &admission.known, request.headers());
        visit.extend(request.extensions_mut());
        let (span, began) = (visit.span(), visit.began());
        let deadline = deadline(request.headers());
        let patience = deadline - LAST_WORDS.min(deadline / 10);
        // A deadline of centuries is none.
        let patience = began + patience.min(MAX_PATIENCE);
        request.extensions_mut().insert(Patience(patience));
        let response = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        let answer = async move {
            let _in_flight = in_flight;
            let answer = match time::timeout(deadline - AHEAD.min(deadline / 20), response).await {
                Ok(Ok(response)) => explain_transport_refusal(response?),
                Ok(Err(_)) => {
                    let reason = Reason::Internal;
                    tracing::error!(%reason, "a call ended by a panic");
                    status(&reason.into()).into_http()
                }
                Err(_) => status(&Reason::DeadlineExceeded.into()).into_http(),
            };
            tally.note(call, answer.headers());
            visit.answered(answer.headers());
            let Admission { known, place, is_stream } = admission;
            tally.took(call, began.elapsed());
            if !is_stream {
                return Ok(answer);
            }
            let held = (place, tally.opened(call));
            Ok(answer.map(|body| Lasting::body(body, held, &known.changed)))
        };
        Box::pin(answer.instrument(span))
    }
}

/// Takes what a refused call still sends, for a moment. An answer before the end of its request resets the stream, and the
/// HTTP/2 library ends the whole connection, with all of its calls, when what was reset so goes on to arrive too often.
async fn hear_out(mut body: Body) {
    let mut left = MAX_HEARD;
    let to_the_end = async {
        while let Some(Ok(frame)) = future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
            if left == 0 {
                break;
            }
        }
    };
    let _ = time::timeout(HEARING, to_the_end).await;
}

/// How long the call may take: what its caller says (`grpc-timeout`), or a minute.
fn deadline(headers: &http::HeaderMap) -> Duration {
    let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    asked.unwrap_or(NO_DEADLINE)
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (the gRPC protocol over HTTP/2, "Requests").
fn parse_timeout(value: &str) -> Option<Duration> {
    let unit = value.chars().next_back()?;
    let digits = value.strip_suffix(unit).filter(|digits| (1..=8).contains(&digits.len()))?;
    let amount: u64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some(match unit {
        'H' => Duration::from_secs(amount * 3600),
        'M' => Duration::from_secs(amount * 60),
        'S' => Duration::from_secs(amount),
        'm' => Duration::from_millis(amount),
        'u' => Duration::from_micros(amount),
        'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// The transport's own refusals say what is wrong in words only; these carry a reason like all others.
fn explain_transport_refusal(response: http::Response<Body>) -> http::Response<Body> {
    if response.headers().contains_key(REASON_TRAILER) {
        return response;
    }
    let Some(bare) = Status::from_header_map(response.headers()) else { return response };
    let refusal = match bare.code() {
        Code::OutOfRange => Refusal::field("", "the message is longer than 128 KiB, the most that is taken"),
        Code::Internal => {
            Refusal::field("", "the request is not a message of this call; generate the client anew")
        }
        Code::Unimplemented => Reason::Unimplemented.into(),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => return response,
    };
    status(&refusal).into_http()
}

#[cfg(test)]
mod tests;
