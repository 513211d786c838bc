//! TLS on the network's listener.

use std::{io, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use rustls::ServerConfig;
use tokio::{net::TcpStream, sync::watch, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::domain::{Clock, Flood};

/// Handshakes at a time; who comes then waits to be accepted.
const AT_ONCE: usize = 512;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections whose handshake is done. One that fails is dropped, which the log tells once a second at most: it may be a
/// scanner, or a caller whose certificate has run out.
pub(super) fn handshakes(
    incoming: impl Stream<Item = io::Result<TcpStream>>,
    config: watch::Receiver<Arc<ServerConfig>>,
    clock: Arc<dyn Clock>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let failures = Arc::new(Flood::default());
    let shake = move |accepted: io::Result<TcpStream>| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
        let (failures, clock) = (Arc::clone(&failures), Arc::clone(&clock));
        async move {
            let connection = accepted?;
            let peer = connection.peer_addr().ok();
            let error = match time::timeout(PATIENCE, acceptor.accept(connection)).await {
                Ok(Ok(connection)) => return Ok(Some(connection)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not done in {} seconds", PATIENCE.as_secs()),
            };
            if let Some(failed) = failures.more(clock.now()) {
                tracing::info!(
                    peer = peer.map(display),
                    error,
                    failed,
                    "a TLS handshake failed; `failed` counts all since the start"
                );
            }
            Ok(None)
        }
    };
    incoming.map(shake).buffer_unordered(AT_ONCE).filter_map(async |done: io::Result<_>| done.transpose())
}
