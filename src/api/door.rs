//! The door: every call passes it, whatever its service.
//!
//! It recognises the caller, checks that the call is granted, hands the caller on as an extension, and sees to it that a
//! refusal made by the transport itself (a message too long, a body that is no message) tells as much as our own. A panic
//! behind it ends its own call alone.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio_util::task::TaskTracker;
use tonic::{
    Code, Status,
    body::Body,
    transport::server::{TcpConnectInfo, UdsConnectInfo},
};
use tower::{Layer, Service};

use super::{
    caller::{Callers, Peer},
    status::{REASON_TRAILER, status},
};
use crate::domain::{Reason, Refusal};

/// Puts the door before every service.
#[derive(Clone, Debug)]
pub(super) struct DoorLayer {
    callers: Arc<Callers>,
    calls: TaskTracker,
}

impl DoorLayer {
    /// `calls` counts those that are not answered yet; an open stream counts as answered.
    pub(super) fn new(callers: Callers, calls: TaskTracker) -> Self {
        Self { callers: Arc::new(callers), calls }
    }
}

impl<S> Layer<S> for DoorLayer {
    type Service = Door<S>;

    fn layer(&self, inner: S) -> Door<S> {
        Door { inner, callers: Arc::clone(&self.callers), calls: self.calls.clone() }
    }
}

/// A service behind the door.
#[derive(Clone, Debug)]
pub(super) struct Door<S> {
    inner: S,
    callers: Arc<Callers>,
    calls: TaskTracker,
}

impl<S> Door<S> {
    /// Lets a request in with its caller, or says why not.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<(), Refusal> {
        let peer = peer(request.extensions());
        let caller = self.callers.recognise(peer, request.headers()).ok_or(Reason::CallerUnknown)?;
        let mut path = request.uri().path().trim_start_matches('/').split('/');
        let (service, method) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        let is_ours = service.starts_with("cairld.");
        if is_ours && !caller.may(service, method) {
            tracing::warn!(caller = %caller.viewer.caller, service, method, "a call that is not granted was refused");
            return Err(Reason::RpcNotGranted.into());
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

fn peer(extensions: &http::Extensions) -> Peer {
    let unix = extensions.get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match (unix, extensions.get::<TcpConnectInfo>()) {
        (Some(peer), None) => Peer::Unix { uid: peer.uid(), gid: peer.gid() },
        (None, _) | (Some(_), Some(_)) => Peer::Network,
    }
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
        if let Err(refusal) = self.admit(&mut request) {
            let response = status(&refusal).into_http();
            return Box::pin(async move { Ok(response) });
        }
        let in_flight = self.calls.token();
        let response = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let _in_flight = in_flight;
            match response.await {
                Ok(response) => Ok(explain_transport_refusal(response?)),
                Err(_) => {
                    tracing::error!("a call ended by a panic; it is answered with INTERNAL");
                    Ok(status(&Reason::Internal.into()).into_http())
                }
            }
        })
    }
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
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => return response,
    };
    status(&refusal).into_http()
}
