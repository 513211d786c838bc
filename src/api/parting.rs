//! Connections end without taking anything from who is at the other end. Once a socket is closed, its peer's writes fail, and
//! an HTTP/2 client has something to write at any time: an answer to a ping, the room that it has for more. gRPC's C core
//! takes a failed write for the end of the connection, whatever has arrived there that it has not read yet. Where it had read
//! the first half of an answer by then, the call has failed for good: the rules of retries forbid to repeat what was begun to
//! be answered. So our side ends first, and what still comes is taken until the peer has ended its own.

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

/// How long the peer may take to end its side.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that are taken at a time.
const CHUNK: usize = 4096;

/// A connection whose shutdown lasts until the peer has ended its side as well.
pub(super) struct Parting<S> {
    stream: S,
    /// There when our side has ended.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Parting<S> {
    /// A connection that goes on for now.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, deadline: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Parting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Parting<S> {
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
        let Self { stream, deadline } = &mut *self;
        let deadline = match deadline {
            Some(deadline) => deadline,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                deadline.insert(Box::pin(sleep(PATIENCE)))
            }
        };
        let mut chunk = [0; CHUNK];
        // Looked at before each read: who never stops writing is left all the same.
        while deadline.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut chunk);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Who is at the other end stays to be seen.
impl<S: Connected> Connected for Parting<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, advance},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_the_peer_still_writes_is_taken_until_it_has_ended() {
        let (mut client, server) = duplex(64);
        let mut server = Parting::new(server);
        server.write_all(b"the last answer").await.unwrap();
        let began = Instant::now();
        let parting = tokio::spawn(async move { server.shutdown().await.map(|()| Instant::now()) });
        // More than there is room for, behind what tells that nothing more comes.
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "the last answer");
        advance(PATIENCE / 2).await;
        for _ in 0..100 {
            client.write_all(&[7; 64]).await.unwrap();
        }
        assert!(!parting.is_finished(), "closed before the peer has ended");
        drop(client);
        assert_eq!(parting.await.unwrap().unwrap(), began + PATIENCE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_end_is_left() {
        let (_silent, server) = duplex(64);
        let began = Instant::now();
        Parting::new(server).shutdown().await.unwrap();
        assert_eq!(began.elapsed(), PATIENCE);

        let (mut client, server) = duplex(64);
        let talking = tokio::spawn(async move { while client.write_all(&[7; 64]).await.is_ok() {} });
        let mut server = Parting::new(server);
        let mut parting = Box::pin(server.shutdown());
        assert!(poll_fn(|context| Poll::Ready(parting.as_mut().poll(context).is_pending())).await);
        advance(PATIENCE).await;
        parting.await.unwrap();
        drop(server);
        talking.await.unwrap();
    }
}
