//! A session's history: what a support engineer needs who does not have the code.

use cairld::api::proto::{ExplainSessionRequest, ExplainSessionResponse, SessionStatus};
use serde_json::json;

use crate::support::{Client, OTHER, World, cairlctl, contains, output, refused, signature};

async fn explain(client: &mut Client, id: &str) -> ExplainSessionResponse {
    let request = client.request(ExplainSessionRequest { session_id: id.to_owned() });
    client.integration.explain_session(request).await.unwrap().into_inner()
}

/// Kinds with what tells them apart, as `refused 402`.
fn told(explained: &ExplainSessionResponse) -> Vec<String> {
    let entry = |entry: &cairld::api::proto::TimelineEntry| match (entry.http_status, entry.count) {
        (0, 1) => entry.kind.clone(),
        (0, count) => format!("{} x{count}", entry.kind),
        (status, _) => format!("{} {status}", entry.kind),
    };
    explained.timeline.iter().map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_tells_what_happened_and_what_to_do_across_a_restart() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    let fresh = explain(&mut client, &id).await;
    assert_eq!(told(&fresh), ["started"]);
    assert!(fresh.next_step.contains("CompleteAuthorization"), "{}", fresh.next_step);

    let body = json!({"error": "payment_required", "error_description": "canary"});
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 503, "body": "busy"})).await;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 402, "body": body})).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "PAYMENT_REQUIRED");
    let refusal = explain(&mut client, &id).await;
    assert_eq!(told(&refusal), ["started", "sent", "refused 503", "sent", "refused 402"]);
    assert!(refusal.next_step.contains("same callback"), "{}", refusal.next_step);
    let last = refusal.timeline.last().unwrap();
    assert_eq!((last.attempt, last.detail.as_str()), (2, "payment_required"));
    assert_eq!((last.from(), last.to()), (SessionStatus::Exchanging, SessionStatus::Pending));
    daemon.kill();

    let daemon = world.daemon();
    let mut client = world.unix().await;
    // The provider is asked about it, since a webhook may have been missed.
    client.status_until(|status| status.clients[0].reconciliation.unwrap().asked == 1).await;
    let asked = explain(&mut client, &id).await;
    assert_eq!(asked.timeline[..5], refusal.timeline, "durable");
    assert_eq!(told(&asked)[5..], ["provider_status"]);
    client.completed(&callback).await.unwrap();
    let session = client.session(&id).await.unwrap().provider_session_id;
    for number in 0..3 {
        let body = json!({"id": number, "type": "session.seen", "data": {"session_id": session}}).to_string();
        client.ingest(body.as_bytes(), &signature(body.as_bytes())).await.unwrap();
    }
    let complete = explain(&mut client, &id).await;
    let expected = ["sent", "token_received", "completed", "webhook x3"];
    assert_eq!(told(&complete)[6..], expected.map(str::to_owned));
    assert_eq!(complete.session.unwrap().status(), SessionStatus::Complete);
    assert!(complete.next_step.starts_with("Nothing"), "{}", complete.next_step);
    client.revoke(&id).await.unwrap();
    client.no_revocation_waits().await;
    let revoked = explain(&mut client, &id).await;
    assert_eq!(told(&revoked)[10..], ["token_revoked", "revocation_ended"].map(str::to_owned));
    assert_eq!(revoked.timeline.last().unwrap().detail, "revoked");

    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let request = other.request(ExplainSessionRequest { session_id: id.clone() });
    let foreign = other.integration.explain_session(request).await;
    assert_eq!(refused(foreign).reason, "SESSION_NOT_FOUND");

    let endpoint = format!("unix:{}", world.path("cairld.sock").display());
    let mut command = cairlctl();
    let (status, text, _) = output(command.args(["--endpoint", &endpoint, "session", "explain", &id]));
    assert!(status.status.success());
    assert!(text.contains("refused, exchanging → pending: PAYMENT_REQUIRED, HTTP 402, request 2"), "{text}");
    println!("{text}");
    drop(daemon);
    let code = callback.split("code=").nth(1).unwrap().split('&').next().unwrap();
    assert!(!contains(&world.path("cairld.redb"), code.as_bytes()), "no code is in it");
}
