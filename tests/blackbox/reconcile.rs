//! What was missed while the daemon was away is asked for when it is back; and what holds events up can be seen.

use cairld::api::proto::{
    Session, SessionStatus, WatchEventsRequest, WatchSessionRequest, watch_session_request::Lookup,
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{Client, SURELY, World, parameter, refused, signature};

/// Waits for the session to have a status.
async fn becomes(client: &mut Client, id: &str, status: SessionStatus) -> Session {
    let request = client.request(WatchSessionRequest { lookup: Some(Lookup::SessionId(id.into())) });
    let mut stream = client.integration.watch_session(request).await.unwrap().into_inner();
    let change = async {
        loop {
            let session = stream.message().await.unwrap().expect("a status").session.unwrap();
            if session.status() == status {
                return session;
            }
        }
    };
    timeout(SURELY, change).await.expect("the status")
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_moved_on_while_the_daemon_was_down_are_asked_about() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (waiting, callback) = world.approved(&mut client).await;
    assert!(parameter(&callback, "session_id").starts_with("hvf_"), "{callback}");
    // The account is empty: the session stays open, with its callback known.
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 402, "body": r#"{"error":"payment_required"}"#})).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "PAYMENT_REQUIRED");
    let unknown = client.started().await.session.unwrap().id;
    assert_eq!(client.session(&waiting).await.unwrap().status(), SessionStatus::Pending);
    daemon.kill();

    // It is asked again when the provider does not answer at first.
    world.provider.fault(json!({"endpoint": "session", "times": 1, "fault": "reset_before"})).await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    becomes(&mut client, &waiting, SessionStatus::Verified).await;
    assert_eq!(client.session(&unknown).await.unwrap().status(), SessionStatus::Pending);
    let status = client.status_until(|status| status.clients[0].reconciliation.unwrap().last_time.is_some());
    let told = status.await.clients[0].reconciliation.unwrap();
    assert_eq!((told.asked, told.moved, told.waiting, told.unknown), (1, 1, 0, 1));
    assert!(client.completed(&callback).await.is_ok(), "and the callback completes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_wants_none_of_the_events_is_not_behind() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    for number in 0..3 {
        let body = json!({"id": number, "type": "billing.invoice"}).to_string();
        client.ingest(body.as_bytes(), &signature(body.as_bytes())).await.unwrap();
    }
    let request = WatchEventsRequest {
        consumer: "claims".into(),
        types: vec!["vae.resolved".into()],
        ..WatchEventsRequest::default()
    };
    let request = client.request(request);
    let _stream = client.integration.watch_events(request).await.unwrap().into_inner();
    let status =
        client.status_until(|status| status.clients[0].consumers.iter().any(|one| one.behind == 0)).await;
    let told = &status.clients[0];
    assert_eq!((told.consumers.len(), told.consumers[0].name.as_str()), (1, "claims"));
    assert_eq!(told.consumers[0].caller, "checkout");
    assert!(told.last_webhook_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_has_not_acknowledged_is_behind() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let request = WatchEventsRequest { consumer: "claims".into(), ..WatchEventsRequest::default() };
    let request = client.request(request);
    let _stream = client.integration.watch_events(request).await.unwrap().into_inner();
    let (_, callback) = world.approved(&mut client).await;
    client.completed(&callback).await.unwrap();
    let body = json!({"type": "vae.resolved", "session_id": parameter(&callback, "session_id")}).to_string();
    client.ingest(body.as_bytes(), &signature(body.as_bytes())).await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!(status.clients[0].consumers[0].behind, 1);
}
