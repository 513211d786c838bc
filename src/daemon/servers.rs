//! What listens, from the first call to the last.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time};

use super::{
    listener::{Listeners, SocketFile, UnixSocket},
    ops::Ops,
    run::Built,
};
use crate::http::serve_operations;

/// How long calls in flight may take to end after the signal to stop.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
/// How long connections may take to close after that, from both sides.
pub(super) const CLOSE: Duration = Duration::from_secs(1);

/// Shows how the daemon is, until this is dropped: from before the store is open until all calls have ended.
pub(super) fn watched(listener: Option<TcpListener>, ops: &Arc<Ops>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(listener) = listener {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "showing health and metrics");
        }
        tasks.spawn(serve_operations(listener, Arc::clone(ops), std::future::pending()));
    }
    tasks
}

/// What listens.
pub(super) struct Servers {
    pub(super) tasks: JoinSet<Result<(), tonic::transport::Error>>,
    stop: watch::Sender<bool>,
    /// The Unix socket's, which goes with this.
    _socket: Option<SocketFile>,
}

impl Servers {
    pub(super) fn spawn(built: &Built, listeners: Listeners) -> Self {
        let (stop, stopped) = watch::channel(false);
        let stopping = |mut stopped: watch::Receiver<bool>| async move {
            // An error means that the sender is gone: time to stop as well.
            let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
        };
        let mut tasks = JoinSet::new();
        let mut socket = None;
        let Listeners { unix, tcp, webhooks, ops: _ } = listeners;
        if let Some(UnixSocket { listener, file }) = unix {
            let is_inherited = file.is_inherited();
            tracing::info!(path = %file.path().display(), is_inherited, "serving gRPC on a Unix socket");
            tasks.spawn(built.server.clone().serve_unix(listener, stopping(stopped.clone())));
            socket = Some(file);
        }
        if let Some(listener) = tcp {
            let address =
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
            let (server, stopping) = (built.server.clone(), stopping(stopped.clone()));
            match &built.tls {
                Some(tls) => {
                    tracing::info!(address, "serving gRPC on TCP with TLS");
                    tasks.spawn(server.serve_tls(listener, tls.clone(), stopping));
                }
                None => {
                    tracing::info!(address, "serving gRPC on TCP");
                    tasks.spawn(server.serve_tcp(listener, stopping));
                }
            }
        }
        if let Some(listener) = webhooks {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "serving webhooks");
                if !address.ip().to_canonical().is_loopback() {
                    tracing::warn!(%address, "webhooks are received without TLS from other hosts: let a proxy in front end TLS");
                }
            }
            let serving = built.webhooks.clone().serve(listener, stopping(stopped));
            tasks.spawn(async move {
                serving.await;
                Ok(())
            });
        }
        Self { tasks, stop, _socket: socket }
    }

    /// Accepts nothing more, lets what is in flight end, for so long, and closes.
    pub(super) async fn drain(mut self, built: &Built) {
        let _ = self.stop.send(true);
        let drain = async {
            built.server.finish().await;
            built.webhooks.finish().await;
            built.flows.finish().await;
        };
        if time::timeout(DRAIN, drain).await.is_err() {
            tracing::warn!(
                calls = built.server.in_flight(),
                webhooks = built.webhooks.in_flight(),
                at_provider = built.flows.in_flight(),
                "calls were still in flight after ten seconds; what was sent without an answer is indeterminate"
            );
        }
        // The last answers are on their way; streams that stay open, those of health watchers say, are cut.
        let close = async { while self.tasks.join_next().await.is_some() {} };
        let _ = time::timeout(CLOSE, close).await;
    }
}
