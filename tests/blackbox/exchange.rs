//! The exchange: one code, one request, one outcome, whatever the provider does. What its refusals lead to, and that 5xx
//! are retried, is in `error_rows`.

use cairld::api::proto::{CompleteAuthorizationRequest, Reason, SessionStatus, StartAuthorizationRequest};
use futures_util::future::join_all;
use serde_json::json;
use tokio::{join, time::timeout};
use tonic::Code;

use crate::support::{Client, OTHER, SURELY, World, complete_request, refused, start_request};

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_make_one_request_and_share_its_outcome() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let start = StartAuthorizationRequest { binding: "cookie".into(), ..start_request() };
    let started = client.start(start).await.unwrap();
    let callback = world.provider.approve(&started.authorization_url).await;
    world.provider.hold("token").await;
    let with = |binding: &str| CompleteAuthorizationRequest {
        binding: binding.into(),
        ..complete_request(&callback)
    };
    let call = |client: &Client, request| {
        let mut client = client.clone();
        tokio::spawn(async move { client.complete(request).await })
    };
    let calls = (0..64).map(|_| {
        let mut client = client.clone();
        let request = with("cookie");
        async move { client.complete(request).await }
    });
    let release = async {
        world.provider.token_request_arrives().await;
        // The checks come before joining: who could not have completed it does not share what another brings about.
        let other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
        assert_eq!(refused(call(&client, with("another")).await.unwrap()).reason, "BINDING_MISMATCH");
        assert_eq!(refused(call(&other, with("cookie")).await.unwrap()).reason, "STATE_UNKNOWN");
        let crossed = CompleteAuthorizationRequest {
            binding: "cookie".into(),
            ..complete_request(callback.replace("code=", "code=x"))
        };
        assert_eq!(refused(call(&client, crossed).await.unwrap()).reason, "STATE_ALREADY_USED");
        world.provider.no_more_faults().await;
    };
    // All are sent before what is sent behind them, over the same connection, is answered.
    let (answers, ()) = join!(join_all(calls), release);
    for answer in answers {
        assert_eq!(answer.unwrap().status(), SessionStatus::Complete);
    }
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waiting_ends_retrying() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    world.provider.fault(json!({"endpoint": "token", "fault": "hold", "status": 503, "body": "busy"})).await;
    let (mut leaving, presented) = (client.clone(), callback.clone());
    let call = tokio::spawn(async move { leaving.completed(&presented).await });
    world.provider.token_request_arrives().await;
    call.abort();
    call.await.unwrap_err();
    // By this answer the daemon knows that nobody waits: both came over one connection.
    assert_eq!(client.session(&id).await.unwrap().status(), SessionStatus::Exchanging);
    world.provider.no_more_faults().await;
    // The request that was in flight is recorded, and the next call is the next attempt.
    let recorded =
        async { while client.session(&id).await.unwrap().status() == SessionStatus::Exchanging {} };
    timeout(SURELY, recorded).await.expect("it is recorded");
    assert_eq!(client.session(&id).await.unwrap().failure.unwrap().reason(), Reason::ProviderError);
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_never_asked_for_again() {
    let world = World::new().await;
    world.impatient();
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    for fault in ["reset_after", "hang"] {
        let before = world.provider.token_requests().await;
        let started = client.started().await;
        let callback = world.provider.approve(&started.authorization_url).await;
        world.provider.fault(json!({"endpoint": "token", "times": 1, "fault": fault})).await;
        let refusal = refused(client.completed(&callback).await);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::FailedPrecondition, "OUTCOME_UNKNOWN"),
            "{fault}"
        );
        let session = client.session(&started.session.unwrap().id).await.unwrap();
        assert_eq!(session.status(), SessionStatus::Indeterminate);
        assert_eq!(refused(client.completed(&callback).await).reason, "STATE_ALREADY_USED");
        assert_eq!(world.provider.token_requests().await - before, 1, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_asks_the_provider_once_and_only_where_that_helps() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let started = client.started().await;
    let id = started.session.unwrap().id;
    let unknown = refused(client.refreshed(&id).await);
    assert_eq!(
        (unknown.code, unknown.reason.as_str()),
        (Code::FailedPrecondition, "PROVIDER_SESSION_UNKNOWN")
    );

    let callback = world.provider.approve(&started.authorization_url).await;
    let unpaid = json!({"error": "payment_required"});
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 402, "body": unpaid})).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "PAYMENT_REQUIRED");
    world.provider.hold("session").await;
    let calls = (0..64).map(|_| {
        let mut client = client.clone();
        let id = &id;
        async move { client.refreshed(id).await }
    });
    let mut other = client.clone();
    let release = async {
        world.provider.arrives("/api/verify/hvf-session").await;
        // By this answer all of them are there: they were sent before it, over the same connection.
        other.session(&id).await.unwrap();
        world.provider.no_more_faults().await;
    };
    let (answers, ()) = join!(join_all(calls), release);
    for answer in answers {
        assert_eq!(answer.unwrap().status(), SessionStatus::Verified, "a code was issued");
    }
    assert_eq!(world.provider.requests("/api/verify/hvf-session").await, 1);
    assert_eq!(client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
    assert_eq!(client.refreshed(&id).await.unwrap().status(), SessionStatus::Complete);
    assert_eq!(world.provider.requests("/api/verify/hvf-session").await, 1, "nothing to ask for");
}
