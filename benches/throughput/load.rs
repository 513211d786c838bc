//! Closed-loop load: so many calls in flight, each followed by the next as soon as it is answered.

use std::{
    cell::RefCell,
    io,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::LocalSet,
};

use super::http2::Connection;

/// Most connections of a gRPC client: calls share them, as a service's channel does.
const CONNECTIONS: usize = 4;

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Address {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// What is called.
#[derive(Clone)]
pub enum Work {
    /// A gRPC call: its path, the token it carries, and its messages, taken in turn.
    Grpc { path: &'static str, token: Option<&'static str>, messages: Arc<Vec<Vec<u8>>> },
    /// `SET key value EX 1800`, each key once.
    Redis { value: Arc<Vec<u8>> },
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Operations a second.
    pub throughput: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub longest_ms: f64,
    /// All operations, those of the warm-up included.
    pub operations: u64,
}

/// What the connections of a run have seen.
struct Seen {
    began: Instant,
    span: Span,
    /// Of each operation that ended within the measured time, in nanoseconds.
    latencies: Vec<u64>,
    operations: u64,
}

impl Seen {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.span.warm_up + self.span.measured
    }

    fn add(&mut self, since: Instant) {
        self.operations += 1;
        let now = Instant::now();
        let at = now - self.began;
        if at >= self.span.warm_up && at < self.span.warm_up + self.span.measured {
            self.latencies.push(u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn sum_up(mut self) -> Run {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let place = (self.latencies.len() as f64 * share) as usize;
            self.latencies
                .get(place.min(self.latencies.len().saturating_sub(1)))
                .map_or(0.0, |n| *n as f64 / 1e6)
        };
        Run {
            throughput: self.latencies.len() as f64 / self.span.measured.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            longest_ms: at(1.0),
            operations: self.operations,
        }
    }
}

/// Puts a server under load, from this one thread.
pub fn run(address: &Address, work: &Work, in_flight: usize, span: Span) -> io::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Seen { began: Instant::now(), span, latencies: Vec::with_capacity(1 << 20), operations: 0 };
    let seen = Rc::new(RefCell::new(seen));
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut connections = tokio::task::JoinSet::new();
        match work {
            Work::Grpc { path, token, messages } => {
                let number = CONNECTIONS.min(in_flight);
                for place in 0..number {
                    let share = in_flight / number + usize::from(place < in_flight % number);
                    let stream = address.connect().await?;
                    let connection = Connection::new(path, *token);
                    let messages = Messages { all: Arc::clone(messages), next: place, step: number };
                    connections.spawn_local(grpc(stream, connection, messages, share, Rc::clone(&seen)));
                }
            }
            Work::Redis { value } => {
                for place in 0..in_flight {
                    let stream = address.connect().await?;
                    connections.spawn_local(redis(stream, place, Arc::clone(value), Rc::clone(&seen)));
                }
            }
        }
        while let Some(ended) = connections.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok::<_, io::Error>(())
    }))?;
    drop(tasks);
    Ok(Rc::into_inner(seen).expect("all connections have ended").into_inner().sum_up())
}

/// The messages of one connection: every so many of all, round and round.
struct Messages {
    all: Arc<Vec<Vec<u8>>>,
    next: usize,
    step: usize,
}

impl Messages {
    fn next(&mut self) -> &[u8] {
        let message = &self.all[self.next % self.all.len()];
        self.next += self.step;
        message
    }
}

async fn grpc(
    mut stream: Box<dyn Stream>,
    mut connection: Connection<Instant>,
    mut messages: Messages,
    in_flight: usize,
    seen: Rc<RefCell<Seen>>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..in_flight {
        connection.call(Instant::now(), messages.next());
    }
    while connection.in_flight() > 0 {
        let out = connection.take_out();
        if !out.is_empty() {
            stream.write_all(&out).await?;
        }
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut answered = 0;
        connection.read(&buffer[..length], |since| {
            seen.borrow_mut().add(since);
            answered += 1;
        })?;
        if !seen.borrow().is_over() {
            for _ in 0..answered {
                connection.call(Instant::now(), messages.next());
            }
        }
    }
    Ok(())
}

async fn redis(
    mut stream: Box<dyn Stream>,
    place: usize,
    value: Arc<Vec<u8>>,
    seen: Rc<RefCell<Seen>>,
) -> io::Result<()> {
    let mut buffer = [0; 64];
    let mut command = Vec::new();
    for number in 0_u64.. {
        command.clear();
        command.extend(
            format!("*5\r\n$3\r\nSET\r\n$30\r\nses_{place:04}{number:022}\r\n${}\r\n", value.len())
                .as_bytes(),
        );
        command.extend(value.iter());
        command.extend(b"\r\n$2\r\nEX\r\n$4\r\n1800\r\n");
        let since = Instant::now();
        stream.write_all(&command).await?;
        let length = stream.read(&mut buffer).await?;
        if &buffer[..length] != b"+OK\r\n" {
            return Err(io::Error::other(String::from_utf8_lossy(&buffer[..length]).into_owned()));
        }
        seen.borrow_mut().add(since);
        if seen.borrow().is_over() {
            break;
        }
    }
    Ok(())
}
