//! Webhooks handed on by a caller: verified, kept once, linked.

use cairld::api::proto::SessionStatus;
use serde_json::json;
use tonic::Code;

use crate::support::{Client, OTHER, World, refused, signature};

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_kept_once_and_linked_to_its_session() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    let complete = client.completed(&callback).await.unwrap();

    let body =
        json!({"id": "e1", "type": "vae.resolved", "data": {"session_id": complete.provider_session_id}});
    let body = body.to_string().into_bytes();
    let ingested = client.ingest(&body, &signature(&body)).await.unwrap();
    assert!(!ingested.duplicate);
    let event = ingested.event.unwrap();
    assert_eq!(event.body, body, "byte for byte");
    assert_eq!((event.r#type.as_str(), event.parsed), ("vae.resolved", true));
    assert_eq!(
        (&event.session_id, &event.provider_session_id),
        (&complete.id, &complete.provider_session_id)
    );
    let again = client.ingest(&body, &signature(&body)).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.event.unwrap(), event);
    assert_eq!(client.session(&complete.id).await.unwrap(), complete, "an event writes no claims");

    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let seen = other.ingest(&body, &signature(&body)).await.unwrap();
    assert_eq!(seen.event.unwrap().session_id, "", "another caller's session is not named");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_moves_an_open_session() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 429})).await;
    let refusal = refused(client.completed(&callback).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert!(refusal.is_retryable);
    let provider_session = client.session(&id).await.unwrap().provider_session_id;

    let body =
        json!({"type": "session.failed", "session_id": provider_session, "status": "failed"}).to_string();
    let ingested = client.ingest(body.as_bytes(), &signature(body.as_bytes())).await.unwrap();
    assert_eq!(ingested.event.unwrap().session_id, id);
    let session = client.session(&id).await.unwrap();
    assert_eq!(session.status(), SessionStatus::Failed);
    assert_eq!(session.failure.unwrap().reason().as_str_name(), "REASON_VERIFICATION_FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signature_costs_nothing() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let body = br#"{"type":"vae.resolved"}"#;
    let good = signature(body);
    for bad in [
        "",
        "sha256=",
        &good[7..],
        &good[..70],
        &format!("{good}0"),
        &good.replace("sha256", "sha1"),
        &signature(b"x"),
    ] {
        let refusal = refused(client.ingest(body, bad).await);
        let seen = (refusal.code, refusal.reason.as_str());
        assert_eq!(seen, (Code::InvalidArgument, "WEBHOOK_SIGNATURE_INVALID"), "{bad:?}");
    }
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 0);
    assert!(client.ingest(body, &good).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_kept_readable_or_not() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    for body in [&b"not json"[..], b"\xef\xbb\xbf{}", b"{\"type\":\"\xff\"}", b"[]", &b"[".repeat(60_000)] {
        let event = client.ingest(body, &signature(body)).await.unwrap().event.unwrap();
        assert_eq!((event.body.as_slice(), event.r#type.as_str(), event.parsed), (body, "", false));
    }
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 5);
}
