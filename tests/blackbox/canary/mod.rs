//! Every secret of a run is a canary: a text that is nowhere else. After each path that can be driven from outside, good or
//! bad, at the most talkative level there is, all that left the daemon is searched for all of them, in every encoding
//! that a log, a URL or a file is likely to have. docs/proof.md has the list of places.

mod paths;
mod provider;
mod scene;
mod search;

use std::{fs, process::Command, time::Duration};

use cairld::{
    api::proto::{WatchSessionRequest, watch_session_request},
    domain::Reason,
};
use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;

use self::{
    scene::{Place, Scene},
    search::Canary,
};
use crate::support::{Daemon, cairlctl, cairld, output};

/// What is returned on purpose, and where; nothing else may be anywhere.
const RETURNED: &[(Place, &[Canary])] = &[
    // The URL has the client id and the state, for the user's browser.
    (Place::Start, &[Canary::ClientId, Canary::State, Canary::Reference]),
    // Claims, subject and reference are for the session's own caller; so is what the provider said.
    (Place::Session, &[Canary::Claims, Canary::Subject, Canary::Reference, Canary::ProviderWords]),
    (Place::Timeline, &[Canary::ProviderWords]),
    (Place::Refusal, &[Canary::ProviderWords]),
    // For callers with `access_token = true` alone.
    (Place::Token, &[Canary::AccessToken]),
    // A webhook's body is handed on as it came.
    (Place::Event, &[Canary::WebhookBody]),
    // The reason of a failure is kept in clear, with what the provider said; what is masked of it is masked here.
    (Place::File, &[Canary::ProviderWords]),
    // `cairlctl session explain` shows a session to its caller.
    (Place::Output, &[Canary::Claims, Canary::Subject, Canary::Reference]),
];

/// Reasons that this test does not bring about: two need a bug or a damaged file, one more than a thousand waiting callers, one a
/// disk that is nearly full, one is said by no call yet, and with a deadline the client is mostly the first to notice. Like
/// all of the daemon's own, they have nothing of a request in them (`src/api/status.rs`).
const NOT_MET: &[&str] = &[
    "OVERLOADED",
    "EVENT_NOT_FOUND",
    "RECORD_CORRUPT",
    "INTERNAL",
    "DEADLINE_EXCEEDED",
    "MAINTENANCE_FAILED",
];

/// Dependencies too, as far as they can be made to talk.
const EVERYTHING: &str = "trace,h2=trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,tonic=trace,\
                          tower=trace,axum=trace,redb=trace,tokio=trace,mio=trace";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_anywhere_but_where_it_is_returned() {
    let scene = Scene::new().await;
    let daemon = scene.daemon("trace");
    let mut client = scene.caller(&daemon, 0).await;
    let flow = scene.all_is_well(&mut client).await;
    scene.strangers_knock(&daemon, &flow).await;
    scene.callers_err(&mut client).await;
    scene.redirects_fail(&mut client).await;
    scene.webhooks_come(&daemon, &mut client, &flow).await;
    scene.provider_fails(&client).await;
    scene.limits_are_met(&mut client).await;
    the_configuration_is_reloaded(&scene, &daemon).await;
    scene.note(Place::Status, "GetStatus", &client.status().await);
    scene.read_files("while it runs");

    // Killed in the middle of an exchange, and looked at again by the next one.
    let cut = scene.flow(&mut client).await;
    scene.provider.next(&cut.code, [json!({"fault": "hang"})]);
    let mut hasty = client.within(Duration::from_millis(300));
    scene.present_in_vain(&mut hasty, &cut).await;
    scene.hear(Place::Log, "the first daemon's log", daemon.kill());
    scene.read_files("after kill -9");
    let daemon = scene.daemon(EVERYTHING);
    let mut client = scene.caller(&daemon, 0).await;
    for old in [&flow, &cut] {
        let _ = scene.complete(&mut client, old).await;
    }
    let flow = scene.all_is_well(&mut client).await;
    commands_are_run(&scene, &daemon, &flow);
    stopped_while_one_waits(&scene, &mut client, daemon).await;
    the_disk_is_full(&scene).await;
    scene.read_files("at last");
    starts_fail(&scene);

    let heard = scene.heard();
    let reasons = scene.reasons();
    let missing: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .filter(|reason| !reasons.contains(*reason) && !NOT_MET.contains(reason))
        .collect();
    assert!(missing.is_empty(), "no caller heard {missing:?}");
    assert!(scene.secrets.count(Canary::Verifier) > 100, "verifiers were seen at the provider");

    let searcher = scene.secrets.searcher();
    let mut leaks = Vec::new();
    let mut returned = std::collections::BTreeSet::new();
    for (place, what, bytes) in &heard {
        let allowed = RETURNED.iter().find(|(other, _)| other == place).map_or(&[][..], |(_, kinds)| *kinds);
        let mut told = std::collections::BTreeSet::new();
        for (kind, found) in searcher.find(bytes) {
            if allowed.contains(&kind) {
                returned.insert((*place, kind));
            } else if told.insert(kind) {
                leaks.push(format!("{place:?}, {what}: {found}"));
            }
        }
        assert!(*place != Place::Log || !String::from_utf8_lossy(bytes).contains("panicked at"), "{what}");
    }
    let size: usize = heard.iter().map(|(_, _, bytes)| bytes.len()).sum();
    println!(
        "{} secrets in {} forms, {} places with {} KiB, {} reasons",
        scene.secrets.whole(),
        searcher.patterns,
        heard.len(),
        size / 1024,
        reasons.len()
    );
    leaks.truncate(20);
    assert!(leaks.is_empty(), "{}", leaks.join("\n\n"));
    // What is never returned where it may be is a sign that this looks in the wrong place.
    for (place, kinds) in RETURNED {
        for kind in *kinds {
            assert!(
                returned.contains(&(*place, *kind)),
                "{kind:?} is allowed in {place:?} and was not there"
            );
        }
    }
}

impl Scene {
    /// Presents a callback whose answer nobody waits for.
    async fn present_in_vain(&self, client: &mut crate::support::Client, flow: &scene::Flow) {
        let binding = flow.binding.clone();
        let request = cairld::api::proto::CompleteAuthorizationRequest {
            binding,
            ..crate::support::complete_request(&flow.callback)
        };
        assert!(client.complete(request).await.is_err());
    }
}

/// What an operator sees on a terminal.
fn commands_are_run(scene: &Scene, daemon: &crate::support::Daemon, flow: &scene::Flow) {
    let (token, backup) = (scene.world.path("checkout.token"), scene.world.path("backup"));
    for arguments in [
        vec!["status"],
        vec!["--json", "status"],
        vec!["session", "explain", &flow.id],
        vec!["session", "get", "ses_nonsense"],
        vec!["session", "revoke", &flow.id],
        vec!["events", "list"],
        vec!["backup", backup.to_str().unwrap()],
        vec!["store", "verify"],
        vec!["store", "compact"],
    ] {
        let mut command = cairlctl();
        command.args(["--endpoint", &format!("http://{}", daemon.tcp()), "--token-file"]).arg(&token);
        run(scene, command.args(&arguments), &format!("cairlctl {arguments:?}"));
    }
    scene.hear(Place::File, "a backup", fs::read(backup).unwrap());
}

fn run(scene: &Scene, command: &mut Command, what: &str) -> bool {
    let (status, stdout, stderr) = output(command.env("RUST_LOG", EVERYTHING).env("RUST_BACKTRACE", "full"));
    scene.hear(Place::Output, what, stdout);
    scene.hear(Place::Log, what, stderr);
    status.status.success()
}

/// One waits for the budget while the daemon is told to stop.
async fn stopped_while_one_waits(
    scene: &Scene,
    client: &mut crate::support::Client,
    daemon: crate::support::Daemon,
) {
    let limited = scene.flow(client).await;
    scene
        .provider
        .next(&limited.code, [json!({"status": 429, "headers": {"retry-after": "600"}, "body": "{all}"})]);
    scene.complete(client, &limited).await.unwrap_err();
    let mut waiting = client.within(Duration::from_secs(900));
    let waits = async { scene.present(&mut waiting, &limited.callback, &limited.binding).await };
    let stops = async {
        client.status_until(|status| status.clients[0].budgets[0].waiting == 1).await;
        tokio::task::spawn_blocking(move || daemon.terminate()).await.unwrap()
    };
    let (refused, (status, log)) = tokio::join!(waits, stops);
    assert!(refused.is_err() && status.success());
    scene.hear(Place::Log, "the second daemon's log", log);
}

/// Nothing more can be written: a start, a callback and a webhook meet that.
async fn the_disk_is_full(scene: &Scene) {
    let blocks = fs::metadata(scene.world.path("cairld.redb")).unwrap().len() / 512;
    let mut command = Command::new("sh");
    // A write beyond the limit fails, and does not kill.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", blocks);
    command.args(["-c", &script]).arg(cairld().get_program());
    let daemon = scene.daemon_by(command, "trace");
    let client = scene.caller(&daemon, 0).await;
    // Several at once, so that some wait for the write that fails, whoever's it is; alone, one might come when the daemon has
    // begun to stop for it.
    let starts = (0..16).map(|_| {
        let mut client = client.clone();
        async move {
            loop {
                let request = scene.start_with(&scene.secrets.fresh(Canary::Binding));
                let started = client.start(request).await;
                // Without a reason it is the client's own word: the daemon has ended.
                let is_gone =
                    started.as_ref().is_err_and(|status| status.metadata().get("cairld-reason").is_none());
                if !is_gone {
                    scene.note(Place::Start, "a full disk", &started);
                }
                match started {
                    Ok(started) => scene.secrets.add_state(&started.state),
                    Err(_) => break,
                }
            }
        }
    });
    let is_full = join_all(starts);
    tokio::time::timeout(crate::support::SURELY, is_full).await.expect("the disk is full");
    let (status, log) = tokio::task::spawn_blocking(move || daemon.wait()).await.unwrap();
    assert!(!status.success(), "what cannot write ends, to be started anew");
    scene.hear(Place::Log, "the third daemon's log", log);
}

/// Reloads that are refused, since secrets stand where they do not belong, and one that brings others, under an open stream.
async fn the_configuration_is_reloaded(scene: &Scene, daemon: &Daemon) {
    let world = &scene.world;
    let good = fs::read_to_string(world.config()).unwrap();
    let secret = world.secret("client.secret");
    let broken =
        good.replacen("client_secret_file = \"client.secret\"", &format!("client_secret = \"{secret}\""), 1);
    fs::write(world.config(), broken).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("the configuration cannot be reloaded");

    let mut other = scene.caller(daemon, 1).await;
    let binding = scene.secrets.fresh(Canary::Binding);
    let started = scene.start(&mut other, scene.start_with(&binding)).await;
    let lookup = Some(watch_session_request::Lookup::SessionId(started.session.unwrap().id));
    let request = other.request(WatchSessionRequest { lookup });
    let mut stream = other.integration.watch_session(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let token = scene.secrets.fresh(Canary::CallerToken);
    world.write_secret("other.token", &token);
    fs::write(world.config(), &good).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("caller other: token");
    scene.note_refusal("WatchSession", &stream.message().await.unwrap_err());
    // For the daemon that comes after this one.
    world.write_secret("other.token", &scene.callers[1]);
}

/// What is wrong with a configuration or a key is said without what is in them.
fn starts_fail(scene: &Scene) {
    let world = &scene.world;
    let serve = |what: &str| {
        for command in ["check", "serve"] {
            let done = run(scene, cairld().arg(command).arg("--config").arg(world.config()), what);
            assert!(!done || command == "check", "{what}");
        }
    };
    let key = world.secret("store.key");
    let mut other = [0; 32];
    getrandom::fill(&mut other).unwrap();
    scene.secrets.add(Canary::MasterKey, &other);
    let other = data_encoding::BASE64.encode(&other);
    scene.secrets.add(Canary::MasterKey, other.as_bytes());
    world.write_secret("store.key", &other);
    serve("another key");
    for broken in ["no base64 at all", "two lines\n"] {
        world.write_secret("store.key", &format!("{broken}{}", scene.secrets.fresh(Canary::MasterKey)));
        serve(broken);
    }
    world.write_secret("store.key", &key);
    let secret = world.secret("client.secret");
    for broken in [format!("{secret}\n{secret}"), format!("{secret}\u{7f}"), secret.repeat(2000)] {
        world.write_secret("client.secret", &broken);
        serve("a broken secret");
    }
    world.write_secret("client.secret", &secret);
    let config = fs::read_to_string(world.config()).unwrap();
    for (from, to) in [
        ("client_secret_file = \"client.secret\"", format!("client_secret = \"{secret}\"")),
        ("client_secret_file = \"client.secret\"", format!("client_secret = \"{secret}")),
        ("base_url = \"", format!("base_url = \"https://user:{secret}@")),
        ("token_file = \"other.token\"", format!("token = {}", scene.callers[1])),
    ] {
        fs::write(world.config(), config.replacen(from, &to, 1)).unwrap();
        serve(&format!("instead of {from}"));
    }
    fs::write(world.config(), config).unwrap();
}
