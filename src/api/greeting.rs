//! Connections have to greet. Whoever connects and does not send HTTP/2's preface would hold a file descriptor for ever:
//! nothing in the HTTP/2 library ends the wait for it. Once it is there, the library's own pings tell the living from the
//! dead.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;

/// How long the preface may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Length of the preface that every client sends first (RFC 9113 §3.4), bytes.
const PREFACE: usize = 24;

/// A connection that ends when its preface does not come in time.
pub(super) struct Greeted<S> {
    stream: S,
    missing: usize,
    /// Gone when the preface is there.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Greeted<S> {
    /// A connection that was accepted just now.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, missing: PREFACE, deadline: Some(Box::pin(sleep(PATIENCE))) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
            if self.missing == 0 {
                self.deadline = None;
            }
            return Poll::Ready(read);
        }
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(context));
        tracing::debug!("a connection that did not begin to speak HTTP/2 was closed");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Who is at the other end stays to be seen.
impl<S: Connected> Connected for Greeted<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::advance,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_so_does_half_a_preface() {
        for beginning in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let (mut client, server) = duplex(64);
            let mut server = Greeted::new(server);
            client.write_all(beginning).await.unwrap();
            let mut heard = vec![0; beginning.len()];
            server.read_exact(&mut heard).await.unwrap();
            let (ended, ()) = tokio::join!(server.read_u8(), advance(PATIENCE));
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut, "{beginning:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_greeted_may_be_silent() {
        let (mut client, server) = duplex(64);
        let mut server = Greeted::new(server);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut heard = [0; PREFACE];
        server.read_exact(&mut heard).await.unwrap();
        let later = async {
            advance(PATIENCE * 100).await;
            client.write_u8(7).await.unwrap();
        };
        let (read, ()) = tokio::join!(server.read_u8(), later);
        assert_eq!(read.unwrap(), 7);
    }
}
