//! What a call costs: a real daemon with few and with millions of live sessions, beside an echo of the same messages that
//! stores nothing and beside Redis that syncs each write, each in a process of its own, in turns.
//!
//! `cargo bench --bench throughput` prints tables; with `-- --write` they go into `docs/benchmarks.md` too, and the plot
//! beside it is drawn. `-- --quick` has small stores and one turn, `-- --sizes 0,50000` others. `-- --against PROGRAM
//! [SESSIONS]` compares this build of the daemon with another; `-- --sealing` says which share of a start sealing has.
//! `scripts/benchmark.sh` installs what is needed and does it all.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![allow(
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a benchmark reads the clock, that is what it is for"
)]

mod against;
mod bed;
mod echo;
mod figures;
mod http2;
mod load;
#[path = "../watchers/machine.rs"]
mod machine;
mod plot;
mod prefill;
mod redis;
mod report;
mod sealing;
#[path = "../../tests/blackbox/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "made for the tests; this needs a part of it")]
mod support;

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use cairld::domain::SessionId;

use self::{
    bed::{Bed, Running, Transport, fdatasync_ms, measure},
    echo::Echo,
    figures::{Figures, Memory, Row},
    load::Span,
    prefill::Made,
    redis::Redis,
};

/// Live sessions that the store begins with.
const SIZES: [u64; 4] = [0, 10_000, 1_000_000, 5_000_000];
/// Those for which only the time to be ready is measured.
const READY_ONLY: u64 = 100_000;
const IN_FLIGHT: [usize; 3] = [1, 32, 256];
const TRANSPORTS: [Transport; 2] = [Transport::Unix, Transport::Tcp];
/// All is done so often, in turns; medians count.
const TURNS: usize = 3;
const SPAN: Span = Span { warm_up: Duration::from_millis(200), measured: Duration::from_secs(1) };
/// Up to here each run gets the store as it was filled; larger ones grow by what the runs start.
const PUT_BACK: u64 = 10_000;
/// Sessions past their retention for the sweep to remove.
const OLD: u64 = 100_000;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    machine::raise_open_files();
    // The temporary folder may be in memory, where a sync costs nothing.
    tempfile::env::override_temp_dir(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("set once");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [echo::WORD, socket] => echo::serve(socket),
        ["--against", program] => against::compare(Path::new(program), 1_000_000),
        ["--against", program, sessions] => {
            against::compare(Path::new(program), sessions.parse().expect("a number of sessions"));
        }
        ["--sealing"] => sealing::print(),
        [] => print(&all(&SIZES, TURNS)),
        ["--quick"] => print(&all(&SIZES[..2], 1)),
        ["--sizes", sizes] => print(&all(&numbers(sizes), 1)),
        ["--write"] => write(&all(&SIZES, TURNS)),
        ["--write", "--sizes", sizes] => write(&all(&numbers(sizes), 1)),
        _ => {
            eprintln!(
                "usage: cargo bench --bench throughput -- [--quick | [--write] [--sizes N,N,…] | --against PROGRAM [SESSIONS] | --sealing]"
            );
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(',').map(|number| number.parse().expect("numbers of sessions")).collect()
}

fn print(figures: &Figures) {
    println!("{}", report::text(figures));
}

/// Prints, and renews the page and its plot.
fn write(figures: &Figures) {
    print(figures);
    report::write(Path::new("docs/benchmarks.md"), &report::text(figures));
    fs::write("docs/benchmarks.svg", plot::draw(figures)).expect("docs/benchmarks.svg");
}

fn all(sizes: &[u64], turns: usize) -> Figures {
    let bed = Bed::new();
    let mut figures = Figures::begin(turns);
    if figures.redis.is_none() {
        eprintln!("redis-server is not installed: its column stays empty");
    }
    let filled = bed.path("filled.redb");
    let (mut kept, mut ids) = (0, Vec::new());
    for size in sizes.iter().copied() {
        eprintln!("{size} live sessions");
        if size > PUT_BACK && kept <= PUT_BACK {
            ids.extend(fill(&bed, &filled, &mut kept, READY_ONLY));
            bed.put_store(Some(&filled));
            ready(&bed, &mut figures, READY_ONLY, turns);
        }
        ids.extend(fill(&bed, &filled, &mut kept, size));
        if size <= PUT_BACK {
            small(&bed, &mut figures, size, turns, Some(filled.as_path()).filter(|_| size > 0), &ids);
        } else {
            // It is too large to be copied for each run, and the next size goes on from it.
            fs::rename(&filled, bed.store()).unwrap();
            large(&bed, &mut figures, size, turns, &ids);
            kept = kept.max(sessions_of(&bed, &mut figures, size, turns));
            fs::rename(bed.store(), &filled).unwrap();
        }
    }
    bed.put_store(None);
    sweep(&bed, &mut figures);
    figures.end();
    figures
}

/// Adds sessions until there are so many.
fn fill(bed: &Bed, path: &Path, kept: &mut u64, size: u64) -> Vec<SessionId> {
    let more = size.saturating_sub(*kept);
    *kept = size.max(*kept);
    if more == 0 { Vec::new() } else { bed.block_on(prefill::fill(path, &bed.key(), more, Made::Now)) }
}

/// All transports and numbers in flight, each run with the store as it was.
fn small(
    bed: &Bed,
    figures: &mut Figures,
    size: u64,
    turns: usize,
    filled: Option<&Path>,
    ids: &[SessionId],
) {
    let (echo, redis) = others(bed, figures);
    let reads = (!ids.is_empty()).then(|| bed.reads(ids));
    for _ in 0..turns {
        for (transport, in_flight) in scenes() {
            bed.put_store(filled);
            let (daemon, _) = bed.daemon();
            daemon.settle();
            if size == 0 {
                figures.idle_kib.push(machine::resident_kib(daemon.pid));
            }
            let row = figures.row(size, transport, in_flight);
            turn(bed, row, &daemon, &echo, redis.as_ref(), reads.as_ref());
            daemon.kill();
        }
        figures.fdatasync_ms.push(fdatasync_ms(&bed.path("")));
    }
}

/// The same with one daemon for all runs.
fn large(bed: &Bed, figures: &mut Figures, size: u64, turns: usize, ids: &[SessionId]) {
    let (echo, redis) = others(bed, figures);
    let reads = bed.reads(ids);
    let (daemon, _) = bed.daemon();
    let looked_through = daemon.settle();
    let before = machine::resident_kib(daemon.pid);
    for _ in 0..turns {
        for (transport, in_flight) in scenes() {
            let row = figures.row(size, transport, in_flight);
            turn(bed, row, &daemon, &echo, redis.as_ref(), Some(&reads));
        }
        figures.fdatasync_ms.push(fdatasync_ms(&bed.path("")));
    }
    figures.memory.push(Memory {
        sessions: size,
        looked_through,
        before_kib: before,
        most_kib: machine::most_resident_kib(daemon.pid),
        file_bytes: fs::metadata(bed.store()).unwrap().len(),
    });
    daemon.kill();
}

/// Starts of the daemon on the store where [`large`] left it; answers about how many sessions it has by now.
fn sessions_of(bed: &Bed, figures: &mut Figures, size: u64, turns: usize) -> u64 {
    let added = figures.started(size);
    ready(bed, figures, size, turns);
    size + added
}

fn scenes() -> impl Iterator<Item = (Transport, usize)> {
    TRANSPORTS.into_iter().flat_map(|transport| IN_FLIGHT.map(|in_flight| (transport, in_flight)))
}

fn others(bed: &Bed, figures: &Figures) -> (Echo, Option<Redis>) {
    let folder = bed.path("");
    (Echo::start(&folder), figures.redis.is_some().then(|| Redis::start(&folder)))
}

/// One run of each.
fn turn(
    bed: &Bed,
    row: &mut Row,
    daemon: &Running,
    echo: &Echo,
    redis: Option<&Redis>,
    reads: Option<&load::Work>,
) {
    let transport = row.transport;
    let all: Vec<_> = [daemon.pid, echo.pid()].into_iter().chain(redis.map(Redis::pid)).collect();
    let over = |unix, tcp| match transport {
        Transport::Unix => unix,
        Transport::Tcp => tcp,
    };
    let at_daemon = (daemon.address(transport), transport);
    let at_echo = (over(&echo.unix, &echo.tcp), transport);
    let how = (row.in_flight, SPAN);
    row.start.push(measure(daemon.pid, &all, at_daemon, &bed.starts, how));
    row.echo_start.push(measure(echo.pid(), &all, at_echo, &bed.starts, how));
    if let Some(redis) = redis {
        redis.flush();
        let at = (over(&redis.unix, &redis.tcp), transport);
        row.set.push(measure(redis.pid(), &all, at, bed.set(), how));
    }
    if let Some(reads) = reads {
        row.get.push(measure(daemon.pid, &all, at_daemon, reads, how));
        row.echo_get.push(measure(echo.pid(), &all, at_echo, reads, how));
    }
}

/// How long a daemon takes to be ready that was killed while 256 starts were in flight.
fn ready(bed: &Bed, figures: &mut Figures, size: u64, turns: usize) {
    let mut daemon = bed.daemon().0;
    for _ in 0..turns {
        daemon.kill_under(&bed.starts, 256);
        let (again, took) = bed.daemon();
        figures.ready(size, took);
        again.settle();
        daemon = again;
    }
    daemon.kill();
}

/// What removing many old sessions does to others: bite by bite in this process, and to calls while a daemon does it.
fn sweep(bed: &Bed, figures: &mut Figures) {
    let old = bed.path("old.redb");
    let key = bed.key();
    bed.block_on(prefill::fill(&old, &key, OLD, Made::LongAgo));
    bed.put_store(Some(&old));
    figures.bites = Some(bed.block_on(prefill::sweep(&old, &key)));
    let (daemon, _) = bed.daemon();
    let at = (daemon.address(Transport::Unix), Transport::Unix);
    figures.while_sweeping = measure(daemon.pid, &[daemon.pid], at, &bed.starts, (1, SPAN));
    daemon.kill();
}
