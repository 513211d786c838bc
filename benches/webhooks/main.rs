//! What webhooks cost: delivers them over HTTP to a real daemon, each verified and durable before its answer, and prints
//! how many a second, how many for a second of the daemon's processor time, and the latencies; then those at a steady rate
//! while every call to the provider hangs.
//!
//! `cargo bench --bench webhooks`. `docs/performance.md` says what came out, and where.

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
#[allow(dead_code, reason = "shared by the benchmarks; this needs a part of it")]
mod machine;
#[path = "../../tests/blackbox/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "made for the tests; this needs a part of it")]
mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{net::UnixStream, sync::mpsc, task::JoinSet, time};

use self::{
    machine::{Processors, median, processor_ms, resident_kib, written_bytes},
    support::{
        Client, Daemon, World,
        http::{Connection, post, signed},
        signature,
    },
};

/// Webhooks of one turn.
const WEBHOOKS: usize = 20_000;
/// Connections that deliver at a time; the daemon takes 256.
const IN_FLIGHT: [usize; 3] = [1, 32, 128];
/// At one connection fewer do.
const ALONE: usize = 2_000;
const TURNS: usize = 3;
/// The steady load: webhooks a second, for so long, while so many completions hang at the provider.
const RATE: u32 = 500;
const STEADY: Duration = Duration::from_secs(30);
const HANGING: usize = 256;

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
struct Figures {
    a_second: f64,
    a_processor_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    bytes_written: f64,
    resident_mib: f64,
    others_percent: f64,
}

#[tokio::main]
async fn main() {
    println!("{}", machine::describe());
    println!("webhooks of {} bytes, {TURNS} turns, medians:", body(0).len());
    println!();
    println!(
        "| connections | a second | for each second of the daemon's processor time | p50 | p99 | written for each | resident | others had |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for connections in IN_FLIGHT {
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push(flood(connections).await);
        }
        let of = |figure: fn(&Figures) -> f64| median(turns.iter().map(figure));
        println!(
            "| {connections} | {:.0} | {:.0} | {:.2} ms | {:.2} ms | {:.1} KiB | {:.0} MiB | {:.0} % |",
            of(|f| f.a_second),
            of(|f| f.a_processor_second),
            of(|f| f.p50_ms),
            of(|f| f.p99_ms),
            of(|f| f.bytes_written) / 1024.0,
            of(|f| f.resident_mib),
            of(|f| f.others_percent),
        );
    }
    println!();
    steadily().await;
}

/// A webhook of the usual size and form.
fn body(number: usize) -> String {
    let claims = json!({"age_18_plus": true, "identity_verified": true, "document_active": null});
    let session = format!("hvf_{number:032}");
    json!({
        "id": format!("evt_{number:024}"), "type": "vae.resolved", "created_at": "2026-11-01T00:00:00.000Z",
        "data": {"session_id": session, "status": "complete", "claims": claims, "filler": "x".repeat(300)}
    })
    .to_string()
}

fn requests(count: usize) -> Vec<Vec<u8>> {
    let request = |number| {
        let body = body(number);
        post("/webhooks/shop", &[signed(&signature(body.as_bytes()))], body.as_bytes())
    };
    (0..count).map(request).collect()
}

async fn scene() -> (World, Daemon, u32) {
    let world = World::unlimited().await;
    let daemon = world.daemon();
    let stream = UnixStream::connect(world.path("cairld.sock")).await.unwrap();
    let pid = stream.peer_cred().unwrap().pid().unwrap().cast_unsigned();
    (world, daemon, pid)
}

/// As many as go, over so many connections.
async fn flood(connections: usize) -> Figures {
    let (world, daemon, pid) = scene().await;
    let count = if connections == 1 { ALONE } else { WEBHOOKS };
    let address = daemon.webhooks();
    let mut lanes: Vec<Vec<Vec<u8>>> = vec![Vec::new(); connections];
    for (number, request) in requests(count).into_iter().enumerate() {
        lanes[number % connections].push(request);
    }
    let mut open = Vec::new();
    for lane in lanes {
        open.push((Connection::open(&address).await, lane));
    }
    let processors = Processors::of(&[pid]);
    let (daemon_before, written_before, began) = (processor_ms(pid), written_bytes(pid), Instant::now());
    let at_work: Vec<_> = open
        .into_iter()
        .map(|(mut connection, lane)| {
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(lane.len());
                for request in lane {
                    let began = Instant::now();
                    deliver(&mut connection, &request).await;
                    latencies.push(began.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for lane in at_work {
        latencies.extend(lane.await.unwrap());
    }
    let elapsed = began.elapsed().as_secs_f64();
    let figures = Figures {
        a_second: count as f64 / elapsed,
        a_processor_second: count as f64 * 1000.0 / (processor_ms(pid) - daemon_before),
        p50_ms: percentile(&mut latencies, 0.5),
        p99_ms: percentile(&mut latencies, 0.99),
        bytes_written: (written_bytes(pid) - written_before) / count as f64,
        resident_mib: resident_kib(pid) / 1024.0,
        others_percent: processors.others_percent(),
    };
    assert_eq!(kept(&world).await, count, "each is kept");
    figures
}

async fn deliver(connection: &mut Connection, request: &[u8]) {
    connection.say(request).await;
    assert_eq!(connection.answer().await.expect("an answer").status, 200);
}

async fn kept(world: &World) -> usize {
    let status = world.unix().await.status().await.unwrap();
    usize::try_from(status.store.unwrap().events).unwrap()
}

fn percentile(latencies: &mut [Duration], share: f64) -> f64 {
    latencies.sort_unstable();
    let place = ((latencies.len() - 1) as f64 * share).round() as usize;
    latencies[place].as_secs_f64() * 1000.0
}

/// At a steady rate, each at its time whether or not those before it were answered, while the provider hangs.
async fn steadily() {
    let (world, daemon, pid) = scene().await;
    world.provider.fault(json!({"endpoint": "token", "times": 100_000, "fault": "hang"})).await;
    let world = Arc::new(world);
    let mut hanging = JoinSet::new();
    for _ in 0..HANGING {
        hanging.spawn(hang(Arc::clone(&world), world.unix().await));
    }
    while world.provider.token_requests().await < HANGING {}

    let count = usize::try_from(RATE).unwrap() * usize::try_from(STEADY.as_secs()).unwrap();
    let (give_back, mut idle) = mpsc::unbounded_channel();
    for _ in 0..IN_FLIGHT[IN_FLIGHT.len() - 1] {
        give_back.send(Connection::open(&daemon.webhooks()).await).unwrap();
    }
    let requests = requests(count);
    let processors = Processors::of(&[pid]);
    let daemon_before = processor_ms(pid);
    let mut under_way = Vec::with_capacity(count);
    let began = Instant::now();
    for (number, request) in requests.into_iter().enumerate() {
        let due = began + Duration::from_secs(1) / RATE * u32::try_from(number).unwrap();
        time::sleep_until(due.into()).await;
        let mut connection = idle.recv().await.unwrap();
        let give_back = give_back.clone();
        under_way.push(tokio::spawn(async move {
            deliver(&mut connection, &request).await;
            let latency = due.elapsed();
            let _ = give_back.send(connection);
            latency
        }));
    }
    let mut latencies = Vec::with_capacity(count);
    for delivery in under_way {
        latencies.push(delivery.await.unwrap());
    }
    hanging.shutdown().await;
    println!(
        "{RATE} a second for {} s, {HANGING} completions hanging at the provider: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, \
         longest {:.2} ms; the daemon used {:.1} % of a processor, others had {:.0} % of all",
        STEADY.as_secs(),
        percentile(&mut latencies, 0.5),
        percentile(&mut latencies, 0.99),
        percentile(&mut latencies, 0.999),
        percentile(&mut latencies, 1.0),
        (processor_ms(pid) - daemon_before) / began.elapsed().as_secs_f64() / 10.0,
        processors.others_percent(),
    );
    assert_eq!(kept(&world).await, count);
}

/// Completes one session after the other, none of which the provider answers before the daemon gives up.
async fn hang(world: Arc<World>, mut client: Client) {
    loop {
        let callback = world.approved(&mut client).await.1;
        let _ = client.completed(&callback).await;
    }
}
