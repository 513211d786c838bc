//! Replacing the key that the store is sealed with: while calls run, across a kill, and until the old key can go.

use std::fs;

use cairld::{
    api::proto::{ListEventsRequest, RotateKeyRequest, RotateKeyResponse, SessionStatus},
    daemon::SystemClock,
    domain::Clock,
    store::MasterKey,
};
use serde_json::Value;

use crate::support::{Client, World, cairlctl, cairld, fill, output, refused, signature};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];
/// So many that a rotation takes a while.
const MANY: u64 = 6_000;

fn id(key: [u8; 32]) -> String {
    MasterKey::new(key).id().to_string()
}

fn use_keys(world: &World, files: &str) {
    world.write_secret("new.key", &MasterKey::new(NEW).expose());
    let text = world.config_text().replace(r#"files = ["store.key"]"#, &format!("files = {files}"));
    fs::write(world.config(), text.replacen("admin = true", "admin = true\nevents = true", 1)).unwrap();
}

/// How a daemon ends that must not start: its exit code, and what it says.
fn refused_start(world: &World) -> (i32, String) {
    let (ended, _, stderr) = output(cairld().arg("serve").arg("--config").arg(world.config()));
    (ended.status.code().unwrap(), stderr)
}

async fn rotation(client: &mut Client) -> tonic::Streaming<RotateKeyResponse> {
    let request = client.request(RotateKeyRequest {});
    client.admin.rotate_key(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_while_calls_run_and_across_a_kill() {
    let world = World::unlimited().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    let complete = client.completed(&callback).await.unwrap();
    let waiting = client.started().await;
    let body = br#"{"id":"e1","type":"vae.resolved","note":"canary"}"#;
    client.ingest(body, &signature(body)).await.unwrap();
    assert!(daemon.terminate().0.success());
    drop(fill(&world.path("cairld.redb"), SystemClock::new().now(), MANY).await);

    use_keys(&world, r#"["new.key"]"#);
    let (code, said) = refused_start(&world);
    assert_eq!(code, 78, "EX_CONFIG: {said}");
    for words in ["cairld.redb", &id(OLD), "put it back behind the first", "cairlctl key rotate"] {
        assert!(said.contains(words), "{words}: {said}");
    }

    // Killed in the midst of it, with calls under way.
    use_keys(&world, r#"["new.key", "store.key"]"#);
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let mut told = rotation(&mut client).await;
    let (first, meanwhile) = tokio::join!(told.message(), client.started());
    daemon.kill();
    let first = first.unwrap().unwrap();
    assert!(!first.done && first.sealed > 0 && first.checked < first.total, "{first:?}");
    use_keys(&world, r#"["new.key"]"#);
    let (code, said) = refused_start(&world);
    assert!(code == 78 && said.contains(&id(OLD)), "{said}");

    // Two at once share one; it goes on although the first leaves.
    use_keys(&world, r#"["new.key", "store.key"]"#);
    let daemon = world.daemon();
    let mut client = world.unix().await;
    drop(rotation(&mut client).await);
    let endpoint = format!("unix:{}", world.path("cairld.sock").display());
    let rotate = move || output(cairlctl().args(["--endpoint", &endpoint, "key", "rotate", "--json"]));
    let rotate = tokio::task::spawn_blocking(rotate);
    let (mut busy, mut flows) = (client.clone(), 0);
    let mut told = rotation(&mut client).await;
    let (mut last, mut before) = (RotateKeyResponse::default(), 0);
    while let Some(message) = told.message().await.unwrap() {
        assert!(message.checked >= before && message.checked <= message.total, "{message:?}");
        before = message.checked;
        last = message;
        if flows < 3 {
            let (_, callback) = world.approved(&mut busy).await;
            assert_eq!(busy.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
            flows += 1;
        }
    }
    assert!(last.done && last.unreadable == 0 && last.kept_keys.is_empty(), "{last:?}");
    assert_eq!((last.key, last.removable_keys), (id(NEW), vec![id(OLD)]));
    let (ended, stdout, stderr) = rotate.await.unwrap();
    assert!(ended.status.success(), "{stderr}");
    let outcome: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&outcome["done"], &outcome["removableKeys"][0]), (&true.into(), &id(OLD).into()));
    assert!(daemon.terminate().0.success());

    use_keys(&world, r#"["store.key"]"#);
    let (code, said) = refused_start(&world);
    assert!(code == 78 && said.contains(&id(NEW)), "{said}");

    use_keys(&world, r#"["new.key"]"#);
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    assert_eq!(client.session(&complete.id).await.unwrap(), complete);
    assert_eq!(
        refused(client.completed(&callback).await).reason,
        "STATE_ALREADY_USED",
        "hashes are the same"
    );
    for started in [waiting, meanwhile] {
        let callback = world.provider.approve(&started.authorization_url).await;
        assert_eq!(client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
    }
    let request = client.request(ListEventsRequest::default());
    let events = client.integration.list_events(request).await.unwrap().into_inner().events;
    assert!(events.iter().any(|event| event.body == body), "{events:?}");
    assert!(client.ingest(body, &signature(body)).await.unwrap().duplicate, "digests are the same, too");
}
