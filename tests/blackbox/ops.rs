//! How the daemon shows how it is: `/livez`, `/readyz`, `/metrics`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    Client, Daemon, OTHER, World, cairlctl, cairld,
    http::{Answer, exchange, request},
    output, signature, start_request,
};

async fn get(address: &str, path: &str) -> Answer {
    exchange(address, &request(&format!("GET {path} HTTP/1.1"), &[], b"")).await
}

/// What `/metrics` says: all samples by name and labels, as they are written, and the types by name.
struct Metrics {
    samples: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Metrics {
    /// Reads them, and holds them to the rules of the format.
    async fn read(address: &str) -> Self {
        let answer = get(address, "/metrics").await;
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type").unwrap();
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert!(answer.body.ends_with("# EOF\n"));
        let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
        for line in answer.body.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} twice");
            }
        }
        Self { samples, types }
    }

    fn value(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or_else(|| panic!("no {sample} in {:#?}", self.samples))
    }

    #[track_caller]
    fn are(&self, expected: &[(&str, f64)]) {
        for (sample, value) in expected {
            assert!(
                (self.value(sample) - value).abs() < 1e-9,
                "{sample} is {}, not {value}",
                self.value(sample)
            );
        }
    }

    /// The names that the documentation has: as samples have them, but for what histograms add.
    fn names(&self) -> BTreeSet<String> {
        let names = self.types.iter().map(|(name, kind)| match kind.as_str() {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.clone(),
        });
        names.collect()
    }
}

/// The names in the tables of docs/metrics.md.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_came_of_everything() {
    let world = World::new().await;
    let daemon = world.daemon();
    let ops = daemon.ops();
    let mut client = world.unix().await;
    Metrics::read(&ops)
        .await
        .are(&[("cairld_sessions{status=\"pending\"}", 0.0), ("cairld_store_writable", 1.0)]);

    let (id, callback) = world.approved(&mut client).await;
    client.completed(&callback).await.unwrap();
    let declined = client.started().await;
    let callback = world.provider.decide(&declined.authorization_url, "decline").await;
    client.completed(&callback).await.unwrap_err();
    // Its state is known to nobody, and nothing is sent.
    client.completed(&callback.replace("state=", "state=AAAA")).await.unwrap_err();
    let (_, callback) = world.approved(&mut client).await;
    world.provider.faults(&[json!({"endpoint": "token", "times": 1, "status": 402, "body": "{\"error\":\"payment_required\"}"})]).await;
    client.completed(&callback).await.unwrap_err();
    let cancelled = client.started().await.session.unwrap().id;
    client.cancel(&cancelled).await.unwrap();
    client.started().await;
    let body = br#"{"id":"evt_1","event":"verification.completed","session_id":"hvf_nobody"}"#;
    for _ in 0..2 {
        client.ingest(body, &signature(body)).await.unwrap();
    }
    client.ingest(body, "sha256=00").await.unwrap_err();
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    other.session(&id).await.unwrap_err();
    let _watching = client.status().await.unwrap();

    let metrics = Metrics::read(&ops).await;
    metrics.are(&[
        ("cairld_sessions{status=\"complete\"}", 1.0),
        ("cairld_sessions{status=\"failed\"}", 1.0),
        ("cairld_sessions{status=\"cancelled\"}", 1.0),
        ("cairld_sessions{status=\"exchanging\"}", 0.0),
        ("cairld_session_transitions_total{from=\"new\",to=\"pending\"}", 5.0),
        ("cairld_session_transitions_total{from=\"exchanging\",to=\"complete\"}", 1.0),
        ("cairld_session_transitions_total{from=\"pending\",to=\"cancelled\"}", 1.0),
        ("cairld_exchanges_total{client=\"shop\",outcome=\"COMPLETE\"}", 1.0),
        ("cairld_exchanges_total{client=\"shop\",outcome=\"PAYMENT_REQUIRED\"}", 1.0),
        ("cairld_provider_requests_total{client=\"shop\",endpoint=\"token\",outcome=\"2xx\"}", 1.0),
        ("cairld_provider_requests_total{client=\"shop\",endpoint=\"token\",outcome=\"4xx\"}", 1.0),
        ("cairld_provider_requests_total{client=\"shop\",endpoint=\"userinfo\",outcome=\"2xx\"}", 1.0),
        ("cairld_provider_request_duration_seconds_count{client=\"shop\",endpoint=\"token\"}", 2.0),
        ("cairld_call_duration_seconds_count{method=\"StartAuthorization\"}", 5.0),
        ("cairld_call_duration_seconds_count{method=\"CompleteAuthorization\"}", 4.0),
        ("cairld_call_errors_total{method=\"CompleteAuthorization\",reason=\"ACCESS_DENIED\"}", 1.0),
        ("cairld_call_errors_total{method=\"CompleteAuthorization\",reason=\"STATE_UNKNOWN\"}", 1.0),
        ("cairld_call_errors_total{method=\"CompleteAuthorization\",reason=\"PAYMENT_REQUIRED\"}", 1.0),
        ("cairld_call_errors_total{method=\"GetSession\",reason=\"SESSION_NOT_FOUND\"}", 1.0),
        ("cairld_webhooks_total{client=\"shop\",result=\"kept\"}", 1.0),
        ("cairld_webhooks_total{client=\"shop\",result=\"duplicate\"}", 1.0),
        ("cairld_webhooks_total{client=\"shop\",result=\"refused\"}", 1.0),
        ("cairld_webhooks_verified_total{client=\"shop\",secret=\"0\"}", 2.0),
        ("cairld_budget_used{client=\"shop\",budget=\"token\"}", 2.0),
        ("cairld_budget_limit{client=\"shop\",budget=\"token\"}", 30.0),
        ("cairld_events", 1.0),
        ("cairld_config_last_reload_successful", 1.0),
        ("cairld_build_info{version=\"0.1.0\"}", 1.0),
    ]);
    let open: f64 = ["pending", "authenticated", "verified"]
        .map(|status| metrics.value(&format!("cairld_sessions{{status=\"{status}\"}}")))
        .iter()
        .sum();
    assert!(
        (open - 2.0).abs() < 1e-9,
        "the one whose exchange did not count, and the one that was only started: {open}"
    );
    // Commits are shared, so there are no more of them than operations.
    let (commits, operations) = (
        metrics.value("cairld_store_commit_duration_seconds_count"),
        metrics.value("cairld_store_batch_operations_sum"),
    );
    assert!(commits >= 1.0 && commits <= operations, "{commits} for {operations}");
    for sample in
        ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds", "tokio_workers"]
    {
        assert!(metrics.value(sample) > 0.0, "{sample}");
    }

    let (named, documented) = (metrics.names(), documented());
    assert_eq!(
        named.difference(&documented).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not in docs/metrics.md"
    );
    // What the page says is left out while there is nothing to tell.
    let left_out =
        ["cairld_budget_closed_until_timestamp_seconds", "cairld_event_consumer_behind"].map(str::to_owned);
    assert_eq!(documented.difference(&named).cloned().collect::<BTreeSet<_>>(), left_out.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_sessions_outlive_the_process() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    client.started().await;
    let (_, callback) = world.approved(&mut client).await;
    client.completed(&callback).await.unwrap();
    daemon.kill();
    let daemon = world.daemon();
    let metrics = Metrics::read(&daemon.ops()).await;
    metrics
        .are(&[("cairld_sessions{status=\"pending\"}", 1.0), ("cairld_sessions{status=\"complete\"}", 1.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_looks_are_answered() {
    let world = World::new().await;
    let daemon = world.daemon();
    let ops = daemon.ops();
    for path in ["/livez", "/readyz"] {
        let brief = get(&ops, path).await;
        assert_eq!((brief.status, brief.body.as_str()), (200, "ok\n"), "{path}");
        let long = get(&ops, &format!("{path}?verbose")).await;
        assert!(long.status == 200 && long.body.contains("[+]writer ok\n"), "{long:?}");
        assert!(long.body.ends_with(&format!("{} check passed\n", &path[1..])), "{long:?}");
        for query in ["verbose=1", "probe=a&verbose", "verbose="] {
            assert_eq!(get(&ops, &format!("{path}?{query}")).await.body, long.body, "{query}");
        }
        assert_eq!(get(&ops, &format!("{path}?not=verbose")).await.body, "ok\n", "{path}");
    }
    let other = get(&ops, "/healthz").await;
    assert!(other.status == 404 && other.body.contains("/readyz"), "{other:?}");
    let post =
        exchange(&ops, &request("POST /metrics HTTP/1.1", &["content-length: 0".to_owned()], b"")).await;
    assert_eq!((post.status, post.header("allow")), (405, Some("get, head")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_says_so_while_calls_end() {
    let world = World::new().await;
    let daemon = world.daemon();
    let ops = daemon.ops();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    world.provider.hold("token").await;
    let completing = tokio::spawn(async move { client.completed(&callback).await });
    world.provider.token_request_arrives().await;
    daemon.signal(Signal::TERM);
    daemon.says("stopping: no new calls");
    let ready = get(&ops, "/readyz").await;
    assert!(
        ready.status == 503 && ready.body.contains("[-]serving failed: the daemon is stopping"),
        "{ready:?}"
    );
    assert_eq!(get(&ops, "/livez").await.status, 200, "a restart would not help");
    world.provider.no_more_faults().await;
    completing.await.unwrap().expect("it was in flight");
    let (status, log) = tokio::task::spawn_blocking(move || daemon.wait()).await.unwrap();
    assert!(status.success(), "{log}");
    tokio::net::TcpStream::connect(&ops).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_is_refused_is_a_warning_until_one_is_not() {
    let world = World::new().await;
    let daemon = Daemon::start_told(&world.config(), &[]);
    let (ops, good) = (daemon.ops(), fs::read_to_string(world.config()).unwrap());
    fs::write(world.config(), format!("{good}\nwhat = 1\n")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("cannot be reloaded");
    // It is told to systemd behind that.
    daemon.tells("serving as before", 1);
    let ready = get(&ops, "/readyz?verbose").await;
    assert!(
        ready.status == 200 && ready.body.contains("[!]configuration: what was read last is not in force"),
        "{ready:?}"
    );
    Metrics::read(&ops).await.are(&[("cairld_config_last_reload_successful", 0.0)]);
    fs::write(world.config(), good).unwrap();
    daemon.signal(Signal::HUP);
    daemon.tells("STATUS=serving gRPC", 2);
    let ready = get(&ops, "/readyz?verbose").await;
    assert!(ready.body.contains("[+]configuration ok"), "{ready:?}");
    Metrics::read(&ops).await.are(&[("cairld_config_last_reload_successful", 1.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_alerts_watch_is_there_from_zero_on_for_new_clients_too() {
    let world = World::new().await;
    let daemon = Daemon::start_told(&world.config(), &[]);
    let from_zero = |client: &str| {
        [
            format!("cairld_exchanges_total{{client=\"{client}\",outcome=\"INVALID_CLIENT\"}}"),
            format!("cairld_exchanges_total{{client=\"{client}\",outcome=\"OUTCOME_UNKNOWN\"}}"),
            format!(
                "cairld_provider_requests_total{{client=\"{client}\",endpoint=\"token\",outcome=\"unreachable\"}}"
            ),
            format!("cairld_webhooks_total{{client=\"{client}\",result=\"refused\"}}"),
        ]
    };
    let metrics = Metrics::read(&daemon.ops()).await;
    for sample in from_zero("shop") {
        metrics.are(&[(&sample, 0.0)]);
    }
    metrics.are(&[("cairld_call_errors_total{method=\"GetSession\",reason=\"INTERNAL\"}", 0.0)]);
    assert!(!metrics.samples.keys().any(|sample| sample.contains("\"second\"")));

    let second = "[[client]]\nname = \"second\"\nbase_url = \"https://cairl.app\"\nclient_id_file = \"client.id\"\n\
                  client_secret_file = \"client.secret\"\nredirect_uris = [\"https://second.example/callback\"]\n";
    fs::write(world.config(), format!("{}{second}", world.config_text())).unwrap();
    daemon.signal(Signal::HUP);
    daemon.tells("STATUS=serving gRPC", 2);
    let metrics = Metrics::read(&daemon.ops()).await;
    for sample in from_zero("second") {
        metrics.are(&[(&sample, 0.0)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_is_a_warning() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    world.provider.faults(&[json!({"endpoint": "token", "times": 1, "fault": "reset_after"})]).await;
    client.completed(&callback).await.unwrap_err();
    let ready = get(&daemon.ops(), "/readyz?verbose").await;
    assert!(
        ready.status == 200 && ready.body.contains("[!]providers: no answer to the last request of shop"),
        "{ready:?}"
    );
    let metrics = Metrics::read(&daemon.ops()).await;
    metrics.are(&[("cairld_exchanges_total{client=\"shop\",outcome=\"OUTCOME_UNKNOWN\"}", 1.0)]);
}

/// What takes no write is no store to be ready with: a start that let callers in would end with the first of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_is_never_ready_and_heals() {
    let world = World::new().await;
    let daemon = world.daemon();
    let kept = world.unix().await.started().await.session.unwrap().id;
    assert!(daemon.terminate().0.success());

    // The header, which says that somebody has the file open, can be written, and nothing behind it: opening a file that was
    // closed well needs no more than that.
    let mut command = full(8);
    let (ended, _, stderr) = output(command.arg("serve").arg("--config").arg(world.config()));
    assert_eq!(ended.status.code(), Some(74), "EX_IOERR, for systemd to start it anew: {stderr}");
    assert!(stderr.contains("cairld.redb") && stderr.contains("free space"), "{stderr}");
    assert!(!stderr.contains("serving gRPC"), "{stderr}");

    let _daemon = world.daemon();
    world.unix().await.session(&kept).await.expect("there is room again, and what was acknowledged is there");
}

/// A command that becomes `cairld` on a disk that ends behind so many blocks of 512 bytes of each file: a write beyond that
/// fails, as one to a full disk does, and does not kill.
fn full(blocks: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    command.arg(cairld().get_program());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_takes_the_stores_place_is_told_while_it_serves() {
    let world = World::new().await;
    let daemon = world.daemon();
    let ops = daemon.ops();
    let (store, elsewhere) = (world.path("cairld.redb"), world.path("cairld.redb.old"));
    fs::rename(&store, &elsewhere).unwrap();
    fs::copy(&elsewhere, &store).unwrap();
    daemon.says("another file stands in the store's place");
    Metrics::read(&ops).await.are(&[("cairld_store_trouble", 1.0)]);
    let ready = get(&ops, "/readyz").await;
    assert!(
        ready.status == 503
            && ready.body.contains("[-]store failed: another file stands in the store's place"),
        "{ready:?}"
    );
    let mut client = world.unix().await;
    client.started().await;
    let status = client.status().await.unwrap().store.unwrap();
    assert!(status.writable && status.trouble.contains("cairlctl backup"), "{status:?}");
    let endpoint = format!("unix:{}", world.path("cairld.sock").display());
    let (_, stdout, stderr) = output(cairlctl().args(["--endpoint", &endpoint, "status"]));
    assert!(stdout.contains("another file stands in the store's place"), "{stdout}{stderr}");
    fs::rename(&elsewhere, &store).unwrap();
    assert_eq!(get(&ops, "/readyz").await.status, 200, "it is back");
    Metrics::read(&ops).await.are(&[("cairld_store_trouble", 0.0)]);

    fs::rename(&store, &elsewhere).unwrap();
    let (_, log) = tokio::task::spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(log.contains("the daemon ends while the store's file is not as it should be"), "{log}");
}

/// A full disk ends the daemon, and keeps it down with a word that says what to do; with room again it is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_heals() {
    let world = World::new().await;
    let daemon = world.daemon();
    let kept = world.unix().await.started().await.session.unwrap().id;
    assert_eq!(get(&daemon.ops(), "/readyz").await.status, 200);
    daemon.kill();

    let blocks = fs::metadata(world.path("cairld.redb")).unwrap().len() / 512;
    let daemon = Daemon::start_by(full(blocks), &world.config());
    let mut client = world.unix().await;
    while client.start(start_request()).await.is_ok() {}
    let (status, log) = tokio::task::spawn_blocking(move || daemon.wait()).await.unwrap();
    assert_eq!(status.code(), Some(74), "EX_IOERR, for systemd to start it anew: {log}");
    assert!(log.contains("the store takes no more writes"), "{log}");

    let mut command = full(0);
    let (ended, _, stderr) = output(command.arg("serve").arg("--config").arg(world.config()));
    assert_eq!(ended.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("cairld.redb") && stderr.contains("free space"), "{stderr}");

    let daemon = world.daemon();
    assert_eq!(get(&daemon.ops(), "/readyz").await.status, 200, "there is room again");
    world.unix().await.session(&kept).await.expect("what was acknowledged is there");
    world.unix().await.started().await;
}
