//! What watchers cost: opens many `WatchSession` streams over the Unix socket of a real daemon, and prints its memory, its
//! processor time while nothing happens, and how long it takes until all have heard of a change.
//!
//! `cargo bench --bench watchers`, or with another number than 10,000: `cargo bench --bench watchers -- 1000`.
//! `docs/performance.md` says what came out, and where.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![allow(
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a benchmark reads the clock, that is what it is for"
)]

mod machine;
#[path = "../../tests/blackbox/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "made for the tests; this needs a part of it")]
mod support;

use std::{
    env, fs,
    time::{Duration, Instant},
};

use cairld::api::proto::{SessionStatus, WatchSessionRequest, WatchSessionResponse, watch_session_request};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::net::UnixStream;
use tonic::Streaming;

use self::{
    machine::{Processors, median, processor_ms, raise_open_files, resident_kib},
    support::{Client, World},
};

const WATCHERS: usize = 10_000;
/// Streams of one connection; the daemon takes 1024.
const STREAMS: usize = 100;
/// Calls under way at a time while sessions are started and cancelled.
const IN_FLIGHT: usize = 256;
const IDLE: Duration = Duration::from_secs(10);
/// Each scene is played so often, in turns; the medians count.
const TURNS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Scene {
    /// Each watches a session of his own, and all are cancelled.
    Own,
    /// All watch one session, and it is cancelled.
    One,
}

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
struct Figures {
    kib_before: f64,
    kib_with: f64,
    kib_after: f64,
    opened_ms: f64,
    idle_cpu_ms: f64,
    first_ms: f64,
    all_ms: f64,
    others_percent: f64,
}

fn main() {
    let number = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(WATCHERS);
    raise_open_files();
    println!("{}", machine::describe());
    println!("{number} watchers, {STREAMS} a connection, over the Unix socket; {TURNS} turns, medians last");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut turns = [(Scene::Own, Vec::new()), (Scene::One, Vec::new())];
    for _ in 0..TURNS {
        for (scene, figures) in &mut turns {
            let came_to = runtime.block_on(play(*scene, number));
            print(*scene, number, &came_to);
            figures.push(came_to);
        }
    }
    println!();
    for (scene, figures) in turns {
        let of = |figure: fn(&Figures) -> f64| median(figures.iter().map(figure));
        let medians = Figures {
            kib_before: of(|f| f.kib_before),
            kib_with: of(|f| f.kib_with),
            kib_after: of(|f| f.kib_after),
            opened_ms: of(|f| f.opened_ms),
            idle_cpu_ms: of(|f| f.idle_cpu_ms),
            first_ms: of(|f| f.first_ms),
            all_ms: of(|f| f.all_ms),
            others_percent: of(|f| f.others_percent),
        };
        print(scene, number, &medians);
    }
}

fn print(scene: Scene, number: usize, figures: &Figures) {
    let mib = |kib: f64| kib / 1024.0;
    println!(
        "{scene:?}: resident {:.1} MiB, with watchers {:.1} MiB ({:.2} KiB each), after {:.1} MiB; opened in {:.0} ms; \
         {:.0} ms of processor in {} idle seconds; first heard after {:.1} ms, all after {:.0} ms; others had {:.1} % of \
         the processors",
        mib(figures.kib_before),
        mib(figures.kib_with),
        (figures.kib_with - figures.kib_before) / number as f64,
        mib(figures.kib_after),
        figures.opened_ms,
        figures.idle_cpu_ms,
        IDLE.as_secs(),
        figures.first_ms,
        figures.all_ms,
        figures.others_percent,
    );
}

async fn play(scene: Scene, number: usize) -> Figures {
    let world = World::new().await;
    let text = fs::read_to_string(world.config()).unwrap();
    let limits = format!("admin = true\nlimits = {{ streams = {} }}", number + 1);
    fs::write(world.config(), text.replacen("admin = true", &limits, 1)).unwrap();
    let daemon = world.daemon();
    let pid = pid(&world).await;
    let processors = Processors::of(&[pid]);
    let client = world.unix().await;
    let sessions = start(&client, number).await;
    let kib_before = resident_kib(pid);

    let watched: Vec<&String> = match scene {
        Scene::Own => sessions.iter().collect(),
        Scene::One => vec![&sessions[0]; number],
    };
    let began = Instant::now();
    let streams = watch(&world, &watched).await;
    let opened_ms = millis(began);
    let kib_with = resident_kib(pid);

    let before = processor_ms(pid);
    tokio::time::sleep(IDLE).await;
    let idle_cpu_ms = processor_ms(pid) - before;

    let began = Instant::now();
    let listening: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(listen(stream, began))).collect();
    let cancelled = match scene {
        Scene::Own => &sessions[..],
        Scene::One => &sessions[..1],
    };
    cancel(&client, cancelled).await;
    let mut heard = Vec::new();
    for watcher in listening {
        heard.push(watcher.await.unwrap());
    }
    heard.sort_by(f64::total_cmp);
    let figures = Figures {
        kib_before,
        kib_with,
        kib_after: resident_kib(pid),
        opened_ms,
        idle_cpu_ms,
        first_ms: heard[0],
        all_ms: heard[heard.len() - 1],
        others_percent: processors.others_percent(),
    };
    daemon.kill();
    figures
}

/// The daemon's process, as the kernel names who is at the other end.
async fn pid(world: &World) -> u32 {
    let stream = UnixStream::connect(world.path("cairld.sock")).await.unwrap();
    stream.peer_cred().unwrap().pid().unwrap().cast_unsigned()
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// Starts so many sessions and reads each once, so that the store's cache is as it will be.
async fn start(client: &Client, number: usize) -> Vec<String> {
    let starting = stream::iter(0..number).map(|_| {
        let mut client = client.clone();
        async move {
            let id = client.started().await.session.unwrap().id;
            client.session(&id).await.map(|session| session.id)
        }
    });
    starting.buffer_unordered(IN_FLIGHT).try_collect().await.unwrap()
}

async fn cancel(client: &Client, sessions: &[String]) {
    let cancelling = stream::iter(sessions).map(|id| {
        let mut client = client.clone();
        async move { client.cancel(id).await.map(|_| ()) }
    });
    cancelling.buffer_unordered(IN_FLIGHT).try_collect::<()>().await.unwrap();
}

/// Watches each of the sessions; every watcher has been told where it stands.
async fn watch(world: &World, sessions: &[&String]) -> Vec<Streaming<WatchSessionResponse>> {
    let mut streams = Vec::with_capacity(sessions.len());
    for sessions in sessions.chunks(STREAMS) {
        let client = world.unix().await;
        let opening = sessions.iter().map(|id| {
            let mut client = client.clone();
            let lookup = Some(watch_session_request::Lookup::SessionId((*id).clone()));
            async move {
                let request = client.request(WatchSessionRequest { lookup });
                let mut stream = client.integration.watch_session(request).await.unwrap().into_inner();
                stream.message().await.unwrap().expect("the session as it stands");
                stream
            }
        });
        streams.extend(futures_util::future::join_all(opening).await);
    }
    streams
}

/// Waits for the end of the session; answers when it was heard of.
async fn listen(mut stream: Streaming<WatchSessionResponse>, began: Instant) -> f64 {
    let told = stream.message().await.unwrap().expect("a change").session.unwrap();
    let heard = millis(began);
    assert_eq!(told.status(), SessionStatus::Cancelled);
    assert!(stream.message().await.unwrap().is_none(), "closed after the terminal status");
    heard
}
