//! Connections. They are served here rather than by axum because a fault must be able to break one.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::Service;

/// Marks a response that must not be sent: the connection is reset instead.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the connection is to be reset")]
pub(super) struct NoAnswer;

impl NoAnswer {
    pub(super) fn response() -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Self);
        response
    }
}

/// Accepts and serves for as long as it is polled; dropping it drops every connection.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would only burn the processor.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = router.clone().call(request.map(Body::new));
        async move {
            let Ok(answer) = answer.await;
            match answer.extensions().get::<NoAnswer>() {
                Some(no_answer) => Err(no_answer.clone()),
                None => Ok(answer),
            }
        }
    });
    let _ = stream.set_nodelay(true);
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = (&mut connection).await {
        tracing::debug!(%error, "a connection broke");
        if error.is_user() {
            reset(connection.into_parts().io.into_inner());
        }
    }
}

/// Closes with a RST, as a crashed peer would, instead of a FIN.
fn reset(stream: TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection was closed instead of reset");
    }
}
