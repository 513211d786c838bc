//! What callers have of each other: how long a quiet caller's calls take alone and beside a greedy one, and whether the time
//! of an answer tells a session of somebody else's from one that is not there.
//!
//! `cargo bench --bench callers`. `docs/performance.md` says what came out, and where.

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

#[path = "../watchers/machine.rs"]
#[allow(dead_code, reason = "this needs a part of it")]
mod machine;
#[path = "../../tests/blackbox/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "made for the tests; this needs a part of it")]
mod support;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{net::UnixStream, runtime::Builder};
use tonic::Code;

use self::{
    machine::{Processors, median, raise_open_files},
    support::{CHECKOUT, Client, Daemon, OTHER, World, start_request},
};

/// How much the greedy caller may have at a time.
const LIMIT: usize = 256;
const SPAN: Duration = Duration::from_secs(3);
const TURNS: usize = 3;
/// Connections of the greedy caller.
const CONNECTIONS: usize = 4;
/// Pairs of questions about sessions that are not his, and that are not there.
const PAIRS: usize = 20_000;

/// What a caller's calls came to.
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
}

impl Figures {
    fn of(mut times: Vec<f64>, span: Duration) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        Self {
            per_second: times.len() as f64 / span.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            longest_ms: at(1.0),
        }
    }
}

fn main() {
    raise_open_files();
    // The temporary folder may be in memory, where a sync costs nothing.
    tempfile::env::override_temp_dir(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("set once");
    println!("{}", machine::describe());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = world().await;
        let daemon = world.daemon();
        let socket = UnixStream::connect(world.path("cairld.sock")).await.unwrap();
        let processors = Processors::of(&[socket.peer_cred().unwrap().pid().unwrap().cast_unsigned()]);
        println!("a caller with one start after the other, over TCP; beside it one that may have {LIMIT} at a time:");
        println!("| the greedy one tries | quiet starts/s | p50 ms | p99 ms | longest ms | greedy starts/s | refused/s |");
        println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        let tries = [0, LIMIT, 2 * LIMIT, 8 * LIMIT];
        let mut turns = tries.map(|_| Vec::new());
        for _ in 0..TURNS {
            for (tried, turns) in tries.into_iter().zip(&mut turns) {
                turns.push(beside(&daemon, tried).await);
            }
        }
        for (tried, turns) in tries.into_iter().zip(&turns) {
            let of = |figure: fn(&(Figures, f64, f64)) -> f64| median(turns.iter().map(figure));
            println!(
                "| {tried} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} | {:.0} |",
                of(|turn| turn.0.per_second),
                of(|turn| turn.0.p50_ms),
                of(|turn| turn.0.p99_ms),
                of(|turn| turn.0.longest_ms),
                of(|turn| turn.1),
                of(|turn| turn.2),
            );
        }
        unknown_and_forbidden(&daemon).await;
        println!("others had {:.1} % of the processors", processors.others_percent());
    });
}

async fn world() -> World {
    let world = World::unlimited().await;
    let text = fs::read_to_string(world.config()).unwrap();
    let token = "token_file = \"other.token\"";
    let limited = format!("{token}\nlimits = {{ concurrent_calls = {LIMIT} }}");
    // Nobody is to be refused for sessions that are left open.
    let text = text.replace(token, &limited).replace("[store]\n", "[store]\npending_sessions = 1000000000\n");
    fs::write(world.config(), text).unwrap();
    world
}

/// The quiet caller's figures beside a greedy one with so many calls at a time, and what that one got and was refused a
/// second.
async fn beside(daemon: &Daemon, tried: usize) -> (Figures, f64, f64) {
    let (stop, started, refused) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut greedy = Vec::new();
    for connection in 0..CONNECTIONS {
        let client = Client::tcp(daemon.tcp(), Some(OTHER)).await;
        for _ in (connection..tried).step_by(CONNECTIONS) {
            let mut client = client.clone();
            let (stop, started, refused) = (Arc::clone(&stop), Arc::clone(&started), Arc::clone(&refused));
            greedy.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match client.start(start_request()).await {
                        Ok(_) => started.fetch_add(1, Ordering::Relaxed),
                        Err(status) => {
                            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            }));
        }
    }
    let before = (started.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    let began = Instant::now();
    let times = quiet(daemon.tcp().to_owned()).await;
    let span = began.elapsed();
    let rate =
        |count: &AtomicU64, before: u64| (count.load(Ordering::Relaxed) - before) as f64 / span.as_secs_f64();
    let rates = (rate(&started, before.0), rate(&refused, before.1));
    stop.store(true, Ordering::Relaxed);
    for call in greedy {
        call.await.unwrap();
    }
    (Figures::of(times, span), rates.0, rates.1)
}

/// How long each of the quiet caller's calls takes, in ms. It has a thread of its own, so as not to wait for the greedy one's
/// tasks.
async fn quiet(address: String) -> Vec<f64> {
    let calls = async move {
        let mut client = Client::tcp(&address, Some(CHECKOUT)).await;
        client.started().await;
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < SPAN {
            let called = Instant::now();
            client.started().await;
            times.push(called.elapsed().as_secs_f64() * 1000.0);
        }
        times
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || runtime.block_on(calls)).await.unwrap()
}

/// How long answers take about sessions of another caller's, and about sessions that are not there, asked in turns.
async fn unknown_and_forbidden(daemon: &Daemon) {
    let mut owner = Client::tcp(daemon.tcp(), Some(CHECKOUT)).await;
    let mut stranger = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let foreign = owner.started().await.session.unwrap().id;
    // The same but for its last sign, which is random too.
    let last = if foreign.ends_with('0') { '1' } else { '0' };
    let unknown = format!("{}{last}", &foreign[..foreign.len() - 1]);
    let (mut of_foreign, mut of_unknown) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let mut both = [(&foreign, &mut of_foreign), (&unknown, &mut of_unknown)];
        if pair % 2 == 1 {
            both.reverse();
        }
        for (id, times) in both {
            let asked = Instant::now();
            let refusal = stranger.session(id).await.unwrap_err();
            times.push(asked.elapsed().as_secs_f64() * 1e6);
            assert_eq!(refusal.code(), Code::NotFound);
        }
    }
    let spread = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        (times[times.len() / 4], times[times.len() / 2], times[times.len() * 3 / 4])
    };
    println!();
    println!(
        "GetSession by a stranger, {PAIRS} times each, in turns, µs (a quarter, half, three quarters below):"
    );
    for (what, times) in [("another caller's session", &of_foreign), ("no session", &of_unknown)] {
        let (low, middle, high) = spread(times);
        println!("{what}: {low:.1}, {middle:.1}, {high:.1}");
    }
}
