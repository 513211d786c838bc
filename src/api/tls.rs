//! TLS on the network's listener.

use std::{io, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use rustls::ServerConfig;
use tokio::{net::TcpStream, sync::watch, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Handshakes at a time; who comes then waits to be accepted.
const AT_ONCE: usize = 512;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections whose handshake is done. One that fails is dropped, with a line in the log: it may be a scanner, or a caller
/// whose certificate has run out.
pub(super) fn handshakes(
    incoming: impl Stream<Item = io::Result<TcpStream>>,
    config: watch::Receiver<Arc<ServerConfig>>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let shake = move |accepted: io::Result<TcpStream>| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
        async move {
            let connection = accepted?;
            let peer = connection.peer_addr();
            match time::timeout(PATIENCE, acceptor.accept(connection)).await {
                Ok(Ok(connection)) => Ok(Some(connection)),
                Ok(Err(error)) => {
                    tracing::info!(?peer, %error, "a TLS handshake failed");
                    Ok(None)
                }
                Err(_) => {
                    tracing::info!(?peer, "a TLS handshake was not done in five seconds");
                    Ok(None)
                }
            }
        }
    };
    incoming.map(shake).buffer_unordered(AT_ONCE).filter_map(async |done: io::Result<_>| done.transpose())
}
