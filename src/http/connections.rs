//! Connections: how many, how long, how much. They are served by hand, because each of these limits needs it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

use super::places::{Place, Places};

/// Longest head of a request, bytes; what is longer is answered with 431.
const MAX_HEAD: usize = 16 * 1024;
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How much of a request that was refused before it was read is taken all the same, so that its sender reads the answer:
/// closing with unread bytes resets the connection.
const MAX_LINGER: u64 = 1024 * 1024;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many there are at a time.
    pub(super) connections: usize,
    /// How long the head of a request may take, and the wait for it.
    pub(super) head: Duration,
    /// How long a request that has begun may take to be whole when the daemon stops.
    pub(super) last_call: Duration,
    /// How long what is left of a refused request is read.
    pub(super) linger: Duration,
}

/// Answers one request that came by a place.
pub(super) trait Answer: Clone + Send + Sync + Unpin + 'static {
    /// The answer; it never fails.
    fn answer(&self, request: Request<Incoming>, place: Arc<Place>) -> impl Future<Output = Response> + Send;
}

/// Serves until `shutdown` resolves and what was in hand then is answered.
pub(super) async fn serve(
    listener: TcpListener,
    limits: Limits,
    answer: impl Answer,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(limits.connections);
    let stopping = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match places.take() {
                Some(place) => {
                    let connection =
                        connection(stream, Arc::new(place), limits, answer.clone(), stopping.clone());
                    connections.spawn(connection);
                }
                None => tracing::warn!("a connection was closed at once: all places have a request in hand"),
            },
            Err(error) => {
                // Out of file descriptors, most likely: connections that end meanwhile give theirs back.
                tracing::error!(%error, "a connection could not be accepted; trying again in a second");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.cancel();
    let mut closed = pin!(async { while connections.join_next().await.is_some() {} });
    if time::timeout(limits.last_call, &mut closed).await.is_err() {
        places.send_away_waiting();
        closed.await;
    }
}

/// One connection, until it ends or its place is needed.
async fn connection(
    stream: TcpStream,
    place: Arc<Place>,
    limits: Limits,
    answer: impl Answer,
    stopping: CancellationToken,
) {
    let leave = Arc::clone(&place);
    tokio::select! {
        () = converse(stream, place, limits, answer, stopping) => {}
        () = leave.told_to_go() => tracing::debug!("a connection that waited was closed"),
    }
}

async fn converse(
    stream: TcpStream,
    place: Arc<Place>,
    limits: Limits,
    answer: impl Answer,
    stopping: CancellationToken,
) {
    let service = service_fn(move |request| {
        let (answer, place) = (answer.clone(), Arc::clone(&place));
        // Boxed, since the connection is taken apart when it ends, and so must be able to move.
        Box::pin(async move { Ok::<Response<Body>, Infallible>(answer.answer(request, place).await) })
    });
    let _ = stream.set_nodelay(true);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        // Some senders close their side behind the request, and still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut is_told = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            () = stopping.cancelled(), if !is_told => is_told = true,
        }
        // What is in hand is answered, and nothing is read behind it.
        Pin::new(&mut connection).graceful_shutdown();
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
    let mut stream = connection.into_parts().io.into_inner();
    if stream.shutdown().await.is_ok() {
        let mut rest = stream.take(MAX_LINGER);
        let _ = time::timeout(limits.linger, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{net::tcp::OwnedWriteHalf, sync::mpsc, task::JoinHandle};

    use super::*;

    /// Longer than anything here may take.
    const SURELY: Duration = Duration::from_secs(60);
    const LIMITS: Limits =
        Limits { connections: 2, head: SURELY, last_call: Duration::ZERO, linger: Duration::ZERO };

    /// Tells that a request is in hand, and answers with 200 as soon as it may.
    #[derive(Clone)]
    struct WhenAllowed {
        in_hand: mpsc::UnboundedSender<()>,
        allowed: CancellationToken,
    }

    impl Answer for WhenAllowed {
        async fn answer(&self, _: Request<Incoming>, place: Arc<Place>) -> Response {
            let _held = place.hold();
            self.in_hand.send(()).unwrap();
            self.allowed.cancelled().await;
            Response::new(Body::empty())
        }
    }

    struct Server {
        address: SocketAddr,
        in_hand: mpsc::UnboundedReceiver<()>,
        allowed: CancellationToken,
        stop: CancellationToken,
        ended: JoinHandle<()>,
    }

    async fn server(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, in_hand) = mpsc::unbounded_channel();
        let (stop, allowed) = (CancellationToken::new(), CancellationToken::new());
        let answer = WhenAllowed { in_hand: sender, allowed: allowed.clone() };
        let ended = tokio::spawn(serve(listener, limits, answer, stop.clone().cancelled_owned()));
        Server { address, in_hand, allowed, stop, ended }
    }

    impl Server {
        /// Says something on a connection of its own; answers all that comes back until its end.
        async fn says(&self, bytes: &[u8]) -> (OwnedWriteHalf, JoinHandle<String>) {
            let (mut reading, mut writing) = TcpStream::connect(self.address).await.unwrap().into_split();
            writing.write_all(bytes).await.unwrap();
            let answer = tokio::spawn(async move {
                let mut answer = Vec::new();
                // A reset is an end too.
                let _ = reading.read_to_end(&mut answer).await;
                String::from_utf8(answer).unwrap()
            });
            (writing, answer)
        }
    }

    async fn surely<T>(work: impl Future<Output = T>) -> T {
        time::timeout(SURELY, work).await.expect("it surely happens")
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test]
    async fn whoever_says_nothing_or_little_is_cut() {
        let server = server(Limits { head: Duration::from_millis(50), ..LIMITS }).await;
        server.allowed.cancel();
        for said in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nx: "] {
            let (_still_open, answer) = server.says(said).await;
            assert_eq!(surely(answer).await.unwrap(), "", "{said:?}");
        }
        let (_idle_afterwards, answer) = server.says(REQUEST).await;
        assert!(surely(answer).await.unwrap().starts_with("HTTP/1.1 200 "), "kept alive, and cut when idle");
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let server = server(Limits { linger: SURELY, ..LIMITS }).await;
        for head in [
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD)),
            format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)),
        ] {
            let (open, answer) = server.says(head.as_bytes()).await;
            drop(open);
            assert!(surely(answer).await.unwrap().starts_with("HTTP/1.1 431 "));
        }
    }

    #[tokio::test]
    async fn the_oldest_that_waits_makes_room() {
        let server = server(LIMITS).await;
        let (_open, silent) = server.says(b"GET / HT").await;
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(server.says(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await);
        }
        assert_eq!(surely(silent).await.unwrap(), "", "its place was needed");
        server.allowed.cancel();
        for (_open, answer) in answers {
            assert!(surely(answer).await.unwrap().starts_with("HTTP/1.1 200 "));
        }
    }

    #[tokio::test]
    async fn the_end_waits_for_what_is_in_hand_and_for_nobody_else() {
        let mut server = server(LIMITS).await;
        let (_open, silent) = server.says(b"GET / HT").await;
        let (_also_open, answer) = server.says(REQUEST).await;
        surely(server.in_hand.recv()).await.unwrap();
        server.stop.cancel();
        assert_eq!(surely(silent).await.unwrap(), "");
        assert!(!server.ended.is_finished());
        server.allowed.cancel();
        assert!(
            surely(answer).await.unwrap().starts_with("HTTP/1.1 200 "),
            "and closed, though it may be kept alive"
        );
        surely(server.ended).await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
