//! Revoking tokens: unreadable at once, and revoked at the provider in the end, whatever happens on the way.

use std::fs;

use cairld::api::proto::{SessionStatus, TokenStatus};
use serde_json::json;
use tonic::Code;

use crate::support::{Client, OTHER, Provider, World, refused};

/// A complete session: its id and its token.
async fn complete(world: &World, client: &mut Client) -> (String, String) {
    let (id, callback) = world.approved(client).await;
    client.completed(&callback).await.unwrap();
    let token = client.access_token(&id).await.unwrap();
    (id, token)
}

/// A session that holds its token and lacks its claims.
async fn without_claims(world: &World, client: &mut Client) -> (String, String) {
    let (id, callback) = world.approved(client).await;
    world.provider.fault(json!({"endpoint": "userinfo", "status": 404, "body": "a proxy's page"})).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "PROVIDER_REFUSED");
    let token = client.access_token(&id).await.unwrap();
    (id, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_of_no_more_use_here_or_at_the_provider() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, token) = complete(&world, &mut client).await;
    assert_eq!(world.provider.userinfo(&token).await, 200);

    let revoked = client.revoke(&id).await.unwrap();
    assert_eq!(revoked.status(), SessionStatus::Complete);
    assert!(!revoked.claims.is_empty(), "the claims stay");
    let standing = revoked.token.unwrap();
    assert_eq!((standing.status(), standing.expire_time), (TokenStatus::Revoked, None));
    world.provider.revocations_answer(&[Some(200)]).await;
    assert_eq!(world.provider.userinfo(&token).await, 401);

    let again = client.revoke(&id).await.unwrap();
    assert_eq!(again, client.session(&id).await.unwrap());
    assert_eq!(again.token.unwrap().status(), TokenStatus::Revoked);
    client.no_revocation_waits().await;
    let (status, log) = tokio::task::spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success() && !log.contains(&token), "{log}");
    let _daemon = world.daemon();
    // The second one's request comes after whatever the restart could have brought up again.
    let (second, _) = complete(&world, &mut world.unix().await).await;
    world.unix().await.revoke(&second).await.unwrap();
    world.provider.revocations_answer(&[Some(200), Some(200)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_read_the_token_from_the_answer_on() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, token) = complete(&world, &mut client).await;
    world.provider.fault(json!({"endpoint": "revoke", "fault": "hang"})).await;
    client.revoke(&id).await.unwrap();
    let refusal = refused(client.access_token(&id).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "TOKEN_NOT_HELD"));
    assert_eq!(world.provider.userinfo(&token).await, 200, "the provider has not heard of it yet");
    assert_eq!(client.status().await.unwrap().store.unwrap().pending_revocations, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_held_token_of_ones_own_is_revoked() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let open = client.started().await.session.unwrap().id;
    let refusal = refused(client.revoke(&open).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "TOKEN_NOT_HELD"));
    client.cancel(&open).await.unwrap();
    assert_eq!(refused(client.revoke(&open).await).reason, "TOKEN_NOT_HELD", "there never was one");

    let (id, token) = complete(&world, &mut client).await;
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let refusal = refused(other.revoke(&id).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    assert_eq!(refused(client.revoke("not an id").await).fields, ["session_id"]);
    assert_eq!(client.access_token(&id).await.unwrap(), token, "and none of it did anything");
    assert_eq!(world.provider.requests("/api/oauth/revoke").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_is_asked_again() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, token) = complete(&world, &mut client).await;
    world.provider.fault(json!({"endpoint": "revoke", "status": 503, "body": "busy"})).await;
    let headers = json!({"retry-after": "1"});
    world.provider.fault(json!({"endpoint": "revoke", "status": 429, "headers": headers})).await;
    client.revoke(&id).await.unwrap();
    world.provider.revocations_answer(&[Some(503), Some(429), Some(200)]).await;
    client.no_revocation_waits().await;
    assert_eq!(world.provider.userinfo(&token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_final() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, token) = complete(&world, &mut client).await;
    let body = json!({"error": "unsupported_token_type"});
    world.provider.fault(json!({"endpoint": "revoke", "status": 400, "body": body})).await;
    assert_eq!(client.revoke(&id).await.unwrap().token.unwrap().status(), TokenStatus::Revoked);
    world.provider.revocations_answer(&[Some(400)]).await;
    client.no_revocation_waits().await;
    assert_eq!(refused(client.access_token(&id).await).reason, "TOKEN_NOT_HELD", "here it stays revoked");
    let (_, log) = tokio::task::spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(log.contains("the provider refuses to revoke a token"), "{log}");
    assert!(log.contains(&id) && !log.contains(&token), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_could_not_hear_is_told_after_kill_9() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, token) = complete(&world, &mut client).await;
    world.provider.fault(json!({"endpoint": "revoke", "times": 1000, "fault": "reset_before"})).await;
    client.revoke(&id).await.unwrap();
    world.provider.arrives("/api/oauth/revoke").await;
    daemon.kill();
    assert_eq!(world.provider.userinfo(&token).await, 200);

    let _daemon = world.daemon();
    world.provider.no_more_faults().await;
    world.provider.revocations(|answers| answers.ends_with(&[Some(200)])).await;
    assert_eq!(world.provider.userinfo(&token).await, 401);
    world.unix().await.no_revocation_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_revokes_a_token_that_is_held_across_kill_9_too() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, token) = without_claims(&world, &mut client).await;
    let refusal = refused(client.revoke(&id).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "EXCHANGE_IN_PROGRESS"));
    assert!(refusal.metadata["remedy"].contains("CancelAuthorization"), "{refusal:?}");

    let cancelled = client.cancel(&id).await.unwrap();
    assert_eq!(cancelled.status(), SessionStatus::Cancelled);
    assert_eq!(cancelled.token.unwrap().status(), TokenStatus::Revoked);
    world.provider.revocations_answer(&[Some(200)]).await;
    assert_eq!(world.provider.userinfo(&token).await, 401);
    assert_eq!(client.revoke(&id).await.unwrap().status(), SessionStatus::Cancelled, "nothing left to do");

    let (id, token) = without_claims(&world, &mut client).await;
    world.provider.fault(json!({"endpoint": "revoke", "fault": "hang"})).await;
    client.cancel(&id).await.unwrap();
    assert_eq!(refused(client.access_token(&id).await).reason, "TOKEN_NOT_HELD");
    world.provider.revocations_answer(&[Some(200), None]).await;
    daemon.kill();
    let _daemon = world.daemon();
    world.provider.revocations_answer(&[Some(200), None, Some(200)]).await;
    assert_eq!(world.provider.userinfo(&token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_keeps_its_tokens_waiting() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    for _ in 0..2 {
        let (id, _) = complete(&world, &mut client).await;
        world.provider.fault(json!({"endpoint": "revoke", "fault": "hang"})).await;
        client.revoke(&id).await.unwrap();
    }
    world.provider.revocations_answer(&[None, None]).await;
    daemon.kill();
    let with_shop = world.config_text();
    fs::write(world.config(), with_shop.replace("\"shop\"", "\"club\"")).unwrap();
    let daemon = world.daemon();
    daemon.says("no longer configured");
    assert_eq!(world.unix().await.status().await.unwrap().store.unwrap().pending_revocations, 2);
    let log = daemon.kill();
    assert_eq!(log.matches("no longer configured").count(), 1, "one warning for all of a client's\n{log}");

    fs::write(world.config(), with_shop).unwrap();
    let _daemon = world.daemon();
    world.provider.revocations_answer(&[None, None, Some(200), Some(200)]).await;
    world.unix().await.no_revocation_waits().await;
}

/// A second client whose provider is another one, and requests that may take longer than any test waits.
fn with_club(world: &World, provider: &Provider) -> String {
    let text = world.config_text().replace("request = \"30s\"", "request = \"5m\"");
    let client_section = text.find("[[client]]").unwrap()..text.find("[[caller]]").unwrap();
    let club =
        text[client_section].replace("\"shop\"", "\"club\"").replace(world.provider.url(), provider.url());
    format!("{}\n{club}", text.replace("clients = [\"shop\"]", "clients = [\"shop\", \"club\"]"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_holds_up_neither_another_client_nor_the_end() {
    let world = World::new().await;
    let other_provider = Provider::start().await;
    fs::write(world.config(), with_club(&world, &other_provider)).unwrap();
    let daemon = world.daemon();
    let mut client = world.unix().await;
    world.provider.fault(json!({"endpoint": "revoke", "times": 1000, "fault": "hang"})).await;
    for _ in 0..6 {
        let started = client.started_for("shop").await;
        let callback = world.provider.approve(&started.authorization_url).await;
        client.completed(&callback).await.unwrap();
        client.revoke(&started.session.unwrap().id).await.unwrap();
    }
    world.provider.revocations_answer(&[None; 4]).await;

    let started = client.started_for("club").await;
    assert!(started.authorization_url.starts_with(other_provider.url()));
    let callback = other_provider.approve(&started.authorization_url).await;
    client.completed(&callback).await.unwrap();
    client.revoke(&started.session.unwrap().id).await.unwrap();
    other_provider.revocations_answer(&[Some(200)]).await;
    assert_eq!(world.provider.requests("/api/oauth/revoke").await, 4, "a few at once, and no more");

    let (status, log) = tokio::task::spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert!(!log.contains("still in flight"), "{log}");
    world.provider.no_more_faults().await;
    let _daemon = world.daemon();
    let mut answers = vec![None; 4];
    answers.extend([Some(200); 6]);
    world.provider.revocations_answer(&answers).await;
}
