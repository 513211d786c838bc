//! `cairlctl events` and `cairlctl session watch`, as an operator's shell runs them against a daemon.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{CLIENT_ID, SURELY, World, cairlctl, parameter, send_signal, signature};

/// Runs `cairlctl` to its end: exit code, output, errors.
fn run(world: &World, arguments: &[&str]) -> (i32, String, String) {
    Running::start(world, arguments).end()
}

/// What surely comes, or the test fails.
fn surely<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(SURELY).expect("it comes to its end")
}

/// A command that may go on, read line by line; killed when dropped.
struct Running {
    process: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let endpoint = format!("unix:{}", world.path("cairld.sock").display());
        let mut command = cairlctl();
        command.arg("--endpoint").arg(endpoint).args(arguments);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = process.stdout.take().map(BufReader::new);
        Self { process, stdout }
    }

    fn line(&mut self) -> String {
        let mut stdout = self.stdout.take().unwrap();
        let (line, stdout) = surely(|| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            (line, stdout)
        });
        self.stdout = Some(stdout);
        line
    }

    /// Reads on to its end: exit code, what was left to read, errors.
    fn end(mut self) -> (i32, String, String) {
        let (stdout, mut stderr) = (self.stdout.take(), self.process.stderr.take().unwrap());
        let (rest, errors) = surely(move || {
            let (mut rest, mut errors) = (String::new(), String::new());
            if let Some(mut stdout) = stdout {
                stdout.read_to_string(&mut rest).unwrap();
            }
            stderr.read_to_string(&mut errors).unwrap();
            (rest, errors)
        });
        (self.process.wait().unwrap().code().unwrap(), rest, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn deliver(world: &World, bodies: &[Vec<u8>]) {
    let mut client = world.unix().await;
    for body in bodies {
        client.ingest(body, &signature(body)).await.unwrap();
    }
}

fn bodies() -> Vec<Vec<u8>> {
    let event = |number: u32, kind: &str| {
        json!({"id": format!("e{number}"), "type": kind, "session_id": format!("hvf_{number}")}).to_string()
    };
    vec![
        event(1, "vae.resolved").into_bytes(),
        event(2, "billing.low").into_bytes(),
        b"\x1b]0;owned\x07 is no JSON".to_vec(),
        b"\xff\xfe".to_vec(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_where_it_acknowledged_after_a_kill() {
    let world = World::new().await;
    world.show_all_events();
    let daemon = world.daemon();
    deliver(&world, &bodies()).await;

    let (code, listed, errors) = run(&world, &["events", "list", "--body"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 8, "{listed}");
    assert!(lines[0].contains(" vae.resolved session=- provider_session=hvf_1 id=evt_"), "{listed}");
    assert!(lines[4].contains(" - session=- ") && lines[4].ends_with(" parsed=no"), "{listed}");
    assert_eq!(lines[5], "  body: \\u{1b}]0;owned\\u{7} is no JSON");
    assert_eq!(lines[7], "  body, 2 bytes that are no UTF-8, in base64: //4=");
    let (_, listed, _) = run(&world, &["events", "list", "--json", "--type", "billing.low"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["events"].as_array().unwrap().len(), 1);
    assert_eq!(listed["events"][0]["providerSessionId"], "hvf_2");

    let watch = ["--json", "events", "watch", "--consumer", "night", "--count"];
    let watch = |rest: &[&str]| {
        let (code, told, errors) = run(&world, &[&watch, rest].concat());
        assert_eq!((code, errors.as_str()), (0, ""));
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].clone();
        told.lines().map(parse).collect::<Vec<_>>()
    };
    let first = watch(&["1"]);
    assert_eq!(watch(&["2", "--ack"])[0], first[0], "unless acknowledged it is told again");
    daemon.kill();

    let daemon = world.daemon();
    let rest = watch(&["2"]);
    assert_eq!([&rest[0]["body"], &rest[1]["body"]], ["G10wO293bmVkByBpcyBubyBKU09O", "//4="]);
    let (code, done, _) =
        run(&world, &["events", "ack", "--consumer", "night", rest[0]["cursor"].as_str().unwrap()]);
    assert_eq!(code, 0, "{done}");
    daemon.kill();

    let _daemon = world.daemon();
    assert_eq!(watch(&["1"])[0]["id"], rest[1]["id"]);
    assert_eq!(run(&world, &["events", "forget", "--consumer", "night"]).0, 0);
    assert_eq!(watch(&["1"])[0]["id"], first[0]["id"], "begins anew");
    let (code, _, errors) = run(&world, &["events", "ack", "--consumer", "night", "nonsense"]);
    assert_eq!(code, 65, "EX_DATAERR: {errors}");
    assert!(errors.contains("CURSOR_INVALID") && errors.contains("field   cursor: "), "{errors}");
}

/// The provider doubles them, swaps them and signs one with a secret that nobody has; then the callback comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_misbehaving_provider_delivers_is_told_once_and_with_its_session() {
    let world = World::new().await;
    world.show_all_events();
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    world.provider.deliver_webhooks_to(&format!("http://{}/webhooks/shop", daemon.webhooks())).await;
    let session = parameter(&callback, "session_id");
    let hook = |word: &str, more: Value| {
        let body = json!({"type": format!("session.{word}"), "session_id": session, "status": word});
        let mut hook = json!({"client_id": CLIENT_ID, "body": body});
        hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        hook
    };
    let list = json!([
        hook("complete", json!({})),
        hook("failed", json!({"webhook_secret": "whsec_of_somebody_else"})),
        hook("authenticated", json!({"times": 3})),
        hook("complete", json!({})),
    ]);
    world.provider.send_webhooks(list).await;
    world.provider.webhooks_are_delivered(5).await;
    let told = |rest: &[&str]| {
        let (code, told, errors) = run(&world, &[&["events", "list"], rest].concat());
        assert_eq!((code, errors.as_str()), (0, ""));
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let of_session = format!(" session=- provider_session={session} ");
    let early = told(&[]);
    assert!(early[0].contains(&format!(" session.complete{of_session}")), "{early:?}");
    assert!(early[1].contains(&format!(" session.authenticated{of_session}")), "{early:?}");
    assert_eq!(early.len(), 2, "each once, and not the forged one: {early:?}");

    client.completed(&callback).await.unwrap();
    let late = told(&["--session", &id]);
    assert_eq!(
        late,
        early.iter().map(|line| line.replace("session=- ", &format!("session={id} "))).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_by_a_signal_by_its_reader_and_by_the_daemon() {
    let world = World::new().await;
    world.show_all_events();
    let daemon = world.daemon();
    let watch =
        |consumer: &str| Running::start(&world, &["events", "watch", "--consumer", consumer, "--ack"]);
    let (mut interrupted, mut unread, mut superseded, mut broken) =
        (watch("a"), watch("b"), watch("c"), watch("d"));
    deliver(&world, &bodies()[..1]).await;
    for watching in [&mut interrupted, &mut unread, &mut superseded, &mut broken] {
        assert!(watching.line().contains(" vae.resolved "));
    }

    send_signal(&interrupted.process, Signal::INT);
    assert_eq!(interrupted.end(), (0, String::new(), String::new()), "Ctrl-C is its usual end");

    // No further event comes that it could fail to write.
    unread.stdout = None;
    assert_eq!(unread.end(), (0, String::new(), String::new()), "`| head` has read enough");

    let newer = watch("c");
    let (code, rest, errors) = superseded.end();
    assert_eq!((code, rest.as_str()), (1, ""));
    assert!(errors.contains("CONSUMER_SUPERSEDED") && errors.contains("remedy"), "{errors}");
    drop(newer);

    daemon.kill();
    let (code, _, errors) = broken.end();
    assert_eq!(code, 69, "EX_UNAVAILABLE: {errors}");
    assert!(errors.contains("Run the same command again"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_watched_to_its_end() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    let mut text = Running::start(&world, &["session", "watch", &id]);
    let mut json = Running::start(&world, &["--json", "session", "watch", &id]);
    let mut waiting =
        Running::start(&world, &["session", "watch", &client.started().await.session.unwrap().id]);
    assert!(text.line().contains(&format!(" {id} pending: ")));
    let first: Value = serde_json::from_str(&json.line()).unwrap();
    assert_eq!(first["session"]["status"], "SESSION_STATUS_PENDING");

    client.completed(&callback).await.unwrap();
    let (code, rest, errors) = text.end();
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(rest.lines().last().unwrap().ends_with(&format!(" {id} complete")), "{rest}");
    let (code, rest, _) = json.end();
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!((code, &last["session"]["status"]), (0, &json!("SESSION_STATUS_COMPLETE")));
    assert_eq!(last["session"]["claims"]["age_18_plus"], json!({"boolValue": true}));

    assert!(waiting.line().contains(" pending: "));
    send_signal(&waiting.process, Signal::INT);
    assert_eq!(waiting.end(), (130, String::new(), String::new()), "it has not seen the end");
    let (code, _, errors) = run(&world, &["session", "watch", "ses_00000000000000000000000000"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("WatchSession: ") && errors.contains("SESSION_NOT_FOUND"), "{errors}");
    let open = client.started().await.session.unwrap().id;
    let mut stopped = Running::start(&world, &["session", "watch", &open]);
    assert!(stopped.line().contains(" pending: "));
    assert!(daemon.terminate().0.success());
    let (code, _, errors) = stopped.end();
    assert_eq!(code, 75, "EX_TEMPFAIL: {errors}");
    assert!(errors.contains("SHUTTING_DOWN"), "{errors}");
}
