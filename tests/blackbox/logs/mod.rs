//! The log: one session followed through it, the form that it has, and where it goes.

mod journal;

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{
    Client, Daemon, OTHER, World, cairld,
    http::{exchange, post, signed},
    output, refused, signature,
};

/// The lines about a session, as `select(.session == "ses_…")` finds them.
fn about(log: &str, session: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["session"] == session).collect()
}

fn told(lines: &[Value]) -> Vec<String> {
    let told = lines.iter().map(|line| {
        let what = line["message"].as_str().unwrap();
        let beside = ["method", "endpoint", "reason", "status"].map(|key| line[key].as_str().unwrap_or("-"));
        format!("{what} ({})", beside.join(" "))
    });
    told.collect()
}

/// The story with its end in the order of the alphabet: from the revocation on, the caller's call and the request to the
/// provider run side by side.
fn from_revoking_sorted(mut story: Vec<String>) -> Vec<String> {
    let last = story.iter().rposition(|line| line.starts_with("a webhook is kept")).unwrap();
    story[last + 1..].sort_unstable();
    story
}

/// A session from its start to the webhook after it and the end of its token; beside it others, whose lines are theirs.
async fn a_session_s_life(world: &World, daemon: &Daemon) -> String {
    let mut client = world.unix().await;
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    other.cancel(&other.clone().started().await.session.unwrap().id).await.unwrap();
    let (id, callback) = world.approved(&mut client).await;
    world.approved(&mut client).await;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 402})).await;
    refused(client.completed(&callback).await);
    let provider_session = client.session(&id).await.unwrap().provider_session_id;
    let webhook = async |kind: &str| {
        let body = json!({"id": kind, "type": kind, "session_id": provider_session, "status": "verified"});
        let body = body.to_string();
        let request = post("/webhooks/shop", &[signed(&signature(body.as_bytes()))], body.as_bytes());
        assert_eq!(exchange(&daemon.webhooks(), &request).await.status, 200);
    };
    webhook("session.verified").await;
    client.completed(&callback).await.unwrap();
    webhook("vae.resolved").await;
    client.revoke(&id).await.unwrap();
    client.no_revocation_waits().await;
    daemon.says("the provider has revoked a token");
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_finds_the_whole_story_of_a_session_in_order() {
    let world = World::new().await;
    let daemon = Daemon::start_with(&world.config(), &[("RUST_LOG", "info,cairld=debug")]);
    let id = a_session_s_life(&world, &daemon).await;
    let log = daemon.kill();
    let lines = about(&log, &id);
    let story = from_revoking_sorted(told(&lines));
    assert_eq!(
        story,
        [
            "an authorization is started (StartAuthorization - - -)",
            "a call is answered (StartAuthorization - - -)",
            "the provider answered (CompleteAuthorization token - -)",
            "a callback did not complete (CompleteAuthorization - PROVIDER_REFUSED -)",
            "a call is answered (CompleteAuthorization - PROVIDER_REFUSED -)",
            "a call is answered (GetSession - - -)",
            "a webhook is kept (- - - verified)",
            "the provider answered (CompleteAuthorization token - -)",
            "the provider answered (CompleteAuthorization userinfo - -)",
            "a session is complete (CompleteAuthorization - - -)",
            "a call is answered (CompleteAuthorization - - -)",
            "a webhook is kept (- - - complete)",
            "a call is answered (RevokeToken - - -)",
            "a token is given up, and waits to be revoked by the provider (RevokeToken - - -)",
            "the provider answered (- revoke - -)",
            "the provider has revoked a token (- - - -)",
        ],
        "{log}"
    );
    for line in &lines {
        let has = |key: &str, value: &str| line.get(key).is_none_or(|found| found == value);
        assert!(has("client", "shop") && has("caller", "checkout"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_told_without_being_asked_for() {
    let world = World::new().await;
    let daemon = world.daemon();
    let id = a_session_s_life(&world, &daemon).await;
    let log = daemon.kill();
    assert_eq!(
        from_revoking_sorted(told(&about(&log, &id))),
        [
            "a callback did not complete (CompleteAuthorization - PROVIDER_REFUSED -)",
            "a webhook is kept (- - - verified)",
            "a session is complete (CompleteAuthorization - - -)",
            "a webhook is kept (- - - complete)",
            "a token is given up, and waits to be revoked by the provider (RevokeToken - - -)",
            "the provider has revoked a token (- - - -)",
        ]
    );
    let cancelled = log.lines().filter(|line| line.contains("a session is cancelled")).count();
    assert_eq!(cancelled, 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_comes_before_its_session_is_known_is_found_under_it() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let started = client.started().await;
    let body = json!({"authorization_url": started.authorization_url, "outcome": "approve"});
    let decided = world.provider.post("decide", body).await;
    let body = json!({"id": "e", "type": "vae.resolved", "session_id": decided["session_id"]}).to_string();
    let event = client.ingest(body.as_bytes(), &signature(body.as_bytes())).await.unwrap().event.unwrap();
    client.completed(decided["callback_url"].as_str().unwrap()).await.unwrap();
    let log = daemon.kill();
    let lines = about(&log, &started.session.unwrap().id);
    let found = lines.iter().find(|line| line["event"] == event.id.as_str());
    assert_eq!(found.unwrap()["message"], "a webhook that came before is of this session", "{log}");
}

#[test]
fn the_form_can_be_chosen_and_a_wrong_one_says_which_there_are() {
    let serve = |format: &str| {
        let mut command = cairld();
        command.env("CAIRLD_LOG_FORMAT", format).args(["serve", "--config", "/nowhere/cairld.toml"]);
        output(command.stdin(Stdio::null()))
    };
    for format in ["xml", ""] {
        let (done, _, stderr) = serve(format);
        assert_eq!(done.status.code(), Some(64), "{stderr}");
        assert!(["text", "json", "journald"].iter().all(|name| stderr.contains(name)), "{stderr}");
    }
    for (format, begins) in [("text", "20"), ("json", "{")] {
        let mut command = cairld();
        command.env("RUST_LOG", "no=such=thing").args([
            "serve",
            "--log-format",
            format,
            "--config",
            "/nowhere/c",
        ]);
        let (done, _, stderr) = output(&mut command);
        assert_eq!(done.status.code(), Some(78), "{stderr}");
        let first = stderr.lines().next().unwrap();
        assert!(first.contains("RUST_LOG is not understood (") && first.starts_with(begins), "{stderr}");
        assert!(stderr.contains("starts; configuration /nowhere/c"), "{stderr}");
    }
}

#[test]
fn the_last_words_have_the_form_of_the_log_whatever_is_told() {
    for filter in ["info", "off"] {
        let last_words = |format: &str| {
            let mut command = cairld();
            command.env("RUST_LOG", filter).args(["serve", "--log-format", format, "--config", "/nowhere/c"]);
            let (done, _, stderr) = output(&mut command);
            assert_eq!(done.status.code(), Some(78), "{stderr}");
            stderr.lines().last().unwrap().to_owned()
        };
        let line: Value = serde_json::from_str(&last_words("json")).unwrap();
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
        let (message, text) = (line["message"].as_str().unwrap(), last_words("text"));
        assert!(
            message.starts_with("/nowhere/c: ") && text == format!("cairld: {message}"),
            "{message} {text}"
        );
    }
}

#[cfg(not(feature = "otlp"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_build_without_traces_says_so_where_they_are_asked_for() {
    let world = World::new().await;
    let daemon =
        Daemon::start_with(&world.config(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")]);
    daemon.says("no traces are exported: this cairld is built without it");
}
