//! SIGHUP: a changed configuration comes into force whole, or not at all.

use std::fs;

use cairld::{
    api::proto::{RotateKeyRequest, SessionStatus, WatchSessionRequest, watch_session_request::Lookup},
    store::MasterKey,
};
use rustix::process::Signal;

use crate::support::{Client, Daemon, OTHER, READER, World, refused, signature_by, start_request};

const IN_FORCE: &str = "was read anew and is in force";
const NEW: &str = "tok_new_0123456789abcdef0123456789abcdef";

/// Changes the configuration and lets the daemon read it.
fn reload(world: &World, daemon: &Daemon, from: &str, to: &str) {
    let text = fs::read_to_string(world.config()).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(world.config(), text.replacen(from, to, 1)).unwrap();
    daemon.signal(Signal::HUP);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_come_and_go_and_their_streams_with_them() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut checkout = world.unix().await;
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let ids = [checkout.started().await, other.started().await].map(|started| started.session.unwrap().id);
    let mut streams = Vec::new();
    for (client, id) in [&checkout, &other].into_iter().zip(&ids) {
        let message = WatchSessionRequest { lookup: Some(Lookup::SessionId(id.clone())) };
        let mut stream =
            client.integration.clone().watch_session(client.request(message)).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        streams.push(stream);
    }

    // `other` leaves, somebody new comes, `reader` may more, and `checkout` stays as it is.
    world.write_secret("other.token", NEW);
    reload(&world, &daemon, "name = \"other\"", "name = \"newcomer\"");
    daemon.says("was read anew and is in force: caller other: gone; caller newcomer: new\"");
    assert_eq!(refused(other.session(&ids[1]).await).reason, "CALLER_UNKNOWN");
    let mut newcomer = Client::tcp(daemon.tcp(), Some(NEW)).await;
    newcomer.started().await;
    assert_eq!(refused(newcomer.session(&ids[1]).await).reason, "SESSION_NOT_FOUND", "a name of its own");
    let ended = refused(streams.pop().unwrap().message().await);
    assert_eq!((ended.reason.as_str(), ended.is_retryable), ("CALLER_CHANGED", true));

    let mut reader = Client::tcp(daemon.tcp(), Some(READER)).await;
    assert_eq!(refused(reader.start(start_request()).await).reason, "RPC_NOT_GRANTED");
    reload(&world, &daemon, "rpcs = [\"GetSession\"]", "rpcs = [\"GetSession\", \"StartAuthorization\"]");
    daemon.says("is in force: caller reader: rpcs\"");
    reader.start(start_request()).await.unwrap();

    // The stream of the caller that stayed as it was is still there.
    checkout.cancel(&ids[0]).await.unwrap();
    let told = streams.pop().unwrap().message().await.unwrap().unwrap().session.unwrap();
    assert_eq!(told.id, ids[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_anew() {
    let world = World::new().await;
    let good = fs::read_to_string(world.path("client.secret")).unwrap();
    world.write_secret("client.secret", "not the secret any more");
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "INVALID_CLIENT");
    world.write_secret("client.secret", good.trim());
    world.write_secret("webhook.secret", "whsec_another_one");
    daemon.signal(Signal::HUP);
    daemon.says("is in force: client shop: client_secret, webhook_secrets\"");
    client.completed(&callback).await.unwrap();
    let body = br#"{"event":"x"}"#;
    client.ingest(body, &signature_by("whsec_another_one", body)).await.unwrap();
    let old = client.ingest(body, &crate::support::signature(body)).await;
    assert_eq!(refused(old).reason, "WEBHOOK_SIGNATURE_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_stays() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    client.ingest(b"{}", &crate::support::signature(b"{}")).await.unwrap();
    refused(client.ingest(b"{}", "sha256=00").await);
    world.write_secret("second.secret", "whsec_second");
    reload(&world, &daemon, "[\"webhook.secret\"]", "[\"second.secret\", \"webhook.secret\"]");
    daemon.says(IN_FORCE);
    let status = client.status().await.unwrap();
    assert_eq!(status.clients[0].webhooks_verified, [0, 1], "by secret, whatever its place");
    assert_eq!(status.clients[0].webhooks_refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_changes_nothing() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    reload(&world, &daemon, "rpcs = [\"GetSession\"]", "rpcs = [\"GetSesion\"]\nuid = 70000");
    daemon.says("did you mean \\\"GetSession\\\"?");
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    other.started().await;

    let good = world.config_text();
    fs::write(
        world.config(),
        good.replace("cairld.redb\"", "other.redb\"\nevent_retention = \"1d\"\npending_sessions = 7")
            .replace("\"cairld.sock\"", "\"b.sock\""),
    )
    .unwrap();
    daemon.signal(Signal::HUP);
    daemon.says(
        "grpc.unix, store.path, store.event_retention, store.pending_sessions: cannot be changed while cairld runs; \
         restart it, or take the change back",
    );
    client.started().await;

    fs::write(world.config(), &good).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("the configuration was read anew: nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_callers_is_a_change_since_the_first_that_fits_is_meant() {
    let world = World::new().await;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (before, _) =
        world.config_text().split_once("[[caller]]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let caller = |name: &str, way: &str, rpcs: &str| {
        format!("[[caller]]\nname = \"{name}\"\n{way}\nclients = [\"shop\"]\nrpcs = [{rpcs}]\n")
    };
    let user = caller("by-user", &format!("uid = {uid}"), "\"*\"");
    let group = caller("by-group", &format!("gid = {gid}"), "\"GetSession\"");
    fs::write(world.config(), format!("{before}{user}{group}")).unwrap();
    let daemon = world.daemon();
    let mut client = world.unix().await;
    client.started().await;

    let newcomer = caller("ahead", "uid = 4294967294", "\"*\"");
    fs::write(world.config(), format!("{before}{newcomer}{group}{user}")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("is in force: caller ahead: new; callers: another order\"");
    assert_eq!(refused(client.start(start_request()).await).reason, "RPC_NOT_GRANTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_key_is_replaced_without_a_restart() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    world.write_secret("new.key", &MasterKey::new([2; 32]).expose());

    reload(&world, &daemon, "files = [\"store.key\"]", "files = [\"new.key\"]");
    daemon.says("which keys.files does not have");
    client.completed(&callback).await.unwrap();

    reload(&world, &daemon, "files = [\"new.key\"]", "files = [\"new.key\", \"store.key\"]");
    daemon.says("keys: another seals");
    let mut rotation =
        client.admin.clone().rotate_key(client.request(RotateKeyRequest {})).await.unwrap().into_inner();
    while rotation.message().await.unwrap().is_some() {}
    reload(&world, &daemon, "files = [\"new.key\", \"store.key\"]", "files = [\"new.key\"]");
    daemon.says("keys: others open");
    assert_eq!(client.session(&id).await.unwrap().status(), SessionStatus::Complete);
    daemon.kill();

    let _daemon = world.daemon();
    assert_eq!(world.unix().await.session(&id).await.unwrap().status(), SessionStatus::Complete);
}
