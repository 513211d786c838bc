//! The whole flow, as the daemon does it and as a service would that a team writes for itself (`node/service.js`, with
//! `openid-client` and a Redis that syncs each write): start, the user's decision, callback, complete, session. Both run
//! against the same sandbox, in turns, and the medians count.
//!
//! `scripts/benchmark.sh flows`, which installs what it needs; docs/benchmarks.md says what came out, and where.

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
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use self::{
    machine::{Processors, median, processor_ms, resident_kib},
    support::{Client, Daemon, Provider, REDIRECT_URI, World},
};

/// The service's registration with the sandbox.
const CLIENT_ID: &str = "cairl_test_fedcba9876543210";
const CLIENT_SECRET: &str = "cs_fedcba9876543210fedcba9876543210";
/// Flows of one turn, and users at a time.
const FLOWS: usize = 2_000;
const USERS: usize = 32;
const TURNS: usize = 3;

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
struct Figures {
    flows_a_second: f64,
    /// Of the service, its store included.
    processor_ms_a_flow: f64,
    /// Of completing: from the callback to the claims.
    p50_ms: f64,
    p99_ms: f64,
    resident_mib: f64,
    others_percent: f64,
}

/// Something that completes flows.
trait Service: Clone + Send + Sync + 'static {
    /// The processes that it consists of.
    fn processes(&self) -> Vec<u32>;
    /// Answers the authorization URL.
    fn start(&mut self) -> impl Future<Output = String> + Send;
    /// Answers the session's id.
    fn complete(&mut self, callback: &str) -> impl Future<Output = String> + Send;
    /// Whether the session is complete.
    fn is_complete(&mut self, id: &str) -> impl Future<Output = bool> + Send;
}

#[derive(Clone)]
struct Cairld {
    client: Client,
    pid: u32,
}

impl Service for Cairld {
    fn processes(&self) -> Vec<u32> {
        vec![self.pid]
    }

    async fn start(&mut self) -> String {
        self.client.started().await.authorization_url
    }

    async fn complete(&mut self, callback: &str) -> String {
        self.client.completed(callback).await.unwrap().id
    }

    async fn is_complete(&mut self, id: &str) -> bool {
        self.client.session(id).await.unwrap().complete_time.is_some()
    }
}

#[derive(Clone)]
struct Team {
    http: reqwest::Client,
    url: String,
    pids: Vec<u32>,
}

impl Team {
    async fn ask(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }
}

impl Service for Team {
    fn processes(&self) -> Vec<u32> {
        self.pids.clone()
    }

    async fn start(&mut self) -> String {
        let started = self.ask(self.http.post(format!("{}/start", self.url))).await;
        started["authorization_url"].as_str().unwrap().to_owned()
    }

    async fn complete(&mut self, callback: &str) -> String {
        let request = self.http.post(format!("{}/callback", self.url)).body(callback.to_owned());
        self.ask(request).await["id"].as_str().unwrap().to_owned()
    }

    async fn is_complete(&mut self, id: &str) -> bool {
        self.ask(self.http.get(format!("{}/sessions/{id}", self.url))).await["status"] == "complete"
    }
}

/// A process that ends with the benchmark.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() {
    println!("{}", machine::describe());
    println!("{FLOWS} flows, {USERS} users at a time, {TURNS} turns, medians:");
    println!();
    let (mut daemon, mut team) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        daemon.push(as_the_daemon_does_it().await);
        team.push(as_a_team_would().await);
    }
    println!(
        "| | flows a second | processor a flow | callback to claims, p50 | p99 | resident | others had |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (daemon, team) = (medians(&daemon), medians(&team));
    for (name, figures) in [("cairld", daemon), ("Node.js, openid-client, Redis", team)] {
        println!(
            "| {name} | {:.0} | {:.2} ms | {:.1} ms | {:.1} ms | {:.0} MiB | {:.0} % |",
            figures.flows_a_second,
            figures.processor_ms_a_flow,
            figures.p50_ms,
            figures.p99_ms,
            figures.resident_mib,
            figures.others_percent,
        );
    }
    println!(
        "| ratio | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | |",
        daemon.flows_a_second / team.flows_a_second,
        daemon.processor_ms_a_flow / team.processor_ms_a_flow,
        daemon.p50_ms / team.p50_ms,
        daemon.p99_ms / team.p99_ms,
        daemon.resident_mib / team.resident_mib,
    );
}

fn medians(turns: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| median(turns.iter().map(figure));
    Figures {
        flows_a_second: of(|f| f.flows_a_second),
        processor_ms_a_flow: of(|f| f.processor_ms_a_flow),
        p50_ms: of(|f| f.p50_ms),
        p99_ms: of(|f| f.p99_ms),
        resident_mib: of(|f| f.resident_mib),
        others_percent: of(|f| f.others_percent),
    }
}

async fn as_the_daemon_does_it() -> Figures {
    let world = World::unlimited().await;
    let daemon: Daemon = world.daemon();
    let stream = UnixStream::connect(world.path("cairld.sock")).await.unwrap();
    let pid = stream.peer_cred().unwrap().pid().unwrap().cast_unsigned();
    let figures = measure(&world.provider, Cairld { client: world.unix().await, pid }).await;
    daemon.kill();
    figures
}

async fn as_a_team_would() -> Figures {
    let provider = Provider::unlimited().await;
    let client =
        json!({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": [REDIRECT_URI]});
    provider.post("clients", client).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let redis = redis(folder.path(), &socket);
    let node = Command::new("node")
        .arg("service.js")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/flows/node"))
        .env("PROVIDER", provider.url())
        .env("CLIENT_ID", CLIENT_ID)
        .env("CLIENT_SECRET", CLIENT_SECRET)
        .env("REDIRECT_URI", REDIRECT_URI)
        .env("REDIS", &socket)
        .stdout(Stdio::piped())
        .spawn();
    let mut node = Process(node.expect("Node.js; scripts/benchmark.sh installs what this needs"));
    let mut port = String::new();
    BufReader::new(node.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    assert!(!port.is_empty(), "the service did not start; run scripts/benchmark.sh flows");
    let pids = vec![node.0.id(), redis.0.id()];
    let team = Team { http: reqwest::Client::new(), url: format!("http://127.0.0.1:{}", port.trim()), pids };
    measure(&provider, team).await
}

/// A Redis that has written to the disk what it has acknowledged, as the daemon has.
fn redis(folder: &Path, socket: &Path) -> Process {
    let redis = Command::new("redis-server")
        .args(["--port", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .arg("--dir")
        .arg(folder)
        .arg("--unixsocket")
        .arg(socket)
        .stdout(Stdio::null())
        .spawn();
    let redis = Process(redis.expect("redis-server; scripts/benchmark.sh installs what this needs"));
    while fs::symlink_metadata(socket).is_err() {
        std::thread::yield_now();
    }
    redis
}

async fn measure<S: Service>(provider: &Provider, service: S) -> Figures {
    let provider = Arc::new(provider);
    // Some flows first: code is compiled, connections are open.
    flows(&provider, &service, FLOWS / 10).await;
    let processes = service.processes();
    let used = || processes.iter().map(|pid| processor_ms(*pid)).sum::<f64>();
    let processors = Processors::of(&processes);
    let (before, began) = (used(), Instant::now());
    let mut latencies = flows(&provider, &service, FLOWS).await;
    let elapsed = began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |share: f64| {
        let place = ((latencies.len() - 1) as f64 * share).round() as usize;
        latencies[place].as_secs_f64() * 1000.0
    };
    Figures {
        flows_a_second: FLOWS as f64 / elapsed,
        processor_ms_a_flow: (used() - before) / FLOWS as f64,
        p50_ms: percentile(0.5),
        p99_ms: percentile(0.99),
        resident_mib: processes.iter().map(|pid| resident_kib(*pid)).sum::<f64>() / 1024.0,
        others_percent: processors.others_percent(),
    }
}

/// So many whole flows; answers how long completing took in each.
async fn flows<S: Service>(provider: &Provider, service: &S, count: usize) -> Vec<Duration> {
    stream::iter(0..count)
        .map(|_| {
            let mut service = service.clone();
            async move {
                let url = service.start().await;
                let callback = provider.approve(&url).await;
                let began = Instant::now();
                let id = service.complete(&callback).await;
                let took = began.elapsed();
                assert!(service.is_complete(&id).await);
                took
            }
        })
        .buffer_unordered(USERS)
        .collect()
        .await
}
