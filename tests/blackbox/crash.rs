//! Ends at the moments that matter, of the daemon and of its callers: what was acknowledged is there afterwards.

use cairld::api::proto::SessionStatus;
use serde_json::json;
use tokio::time::timeout;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{SURELY, World, refused, signature};

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_outlives_the_daemon_that_started_it() {
    let world = World::new().await;
    let daemon = world.daemon();
    let started = world.unix().await.started().await;
    daemon.kill();

    let daemon = world.daemon();
    let callback = world.provider.approve(&started.authorization_url).await;
    let complete = world.unix().await.completed(&callback).await.unwrap();
    assert_eq!(complete.status(), SessionStatus::Complete);
    daemon.kill();

    let _daemon = world.daemon();
    let mut client = world.unix().await;
    assert_eq!(client.session(&complete.id).await.unwrap(), complete);
    assert_eq!(refused(client.completed(&callback).await).reason, "STATE_ALREADY_USED");
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_at_the_end_is_never_sent_again() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "fault": "hang"})).await;
    let (mut waiting, in_flight) = (client.clone(), callback.clone());
    let call = tokio::spawn(async move { waiting.completed(&in_flight).await });
    world.provider.token_request_arrives().await;
    daemon.kill();
    assert!(call.await.unwrap().is_err(), "the connection is gone");

    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let session = client.session(&id).await.unwrap();
    assert_eq!(session.status(), SessionStatus::Indeterminate);
    assert_eq!(session.failure.unwrap().reason().as_str_name(), "REASON_OUTCOME_UNKNOWN");
    assert_eq!(refused(client.completed(&callback).await).reason, "STATE_ALREADY_USED");
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_received_outlives_the_daemon() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    world.provider.fault(json!({"endpoint": "userinfo", "times": 3, "status": 503, "body": "busy"})).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "PROVIDER_ERROR");
    daemon.kill();

    let _daemon = world.daemon();
    let complete = world.unix().await.completed(&callback).await.unwrap();
    assert_eq!(complete.status(), SessionStatus::Complete);
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_webhook_is_there_afterwards() {
    let world = World::new().await;
    let daemon = world.daemon();
    let body = br#"{"id":"e1","type":"vae.resolved"}"#;
    let first = world.unix().await.ingest(body, &signature(body)).await.unwrap();
    daemon.kill();
    let _daemon = world.daemon();
    let again = world.unix().await.ingest(body, &signature(body)).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.event, first.event);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signal_to_stop_lets_calls_in_flight_end() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    world.provider.hold("token").await;
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.completed(&callback).await });
    world.provider.token_request_arrives().await;
    daemon.signal(rustix::process::Signal::TERM);
    daemon.says("stopping: no new calls");
    world.provider.no_more_faults().await;
    let (status, log) = tokio::task::spawn_blocking(move || daemon.wait()).await.unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(call.await.unwrap().unwrap().status(), SessionStatus::Complete);
    assert!(!world.path("cairld.sock").exists(), "the socket is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_does_not_end_the_exchange() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    world.provider.hold("token").await;
    let mut leaving = client.clone();
    let call = tokio::spawn(async move { leaving.completed(&callback).await });
    world.provider.token_request_arrives().await;
    call.abort();
    call.await.unwrap_err();
    // By this answer the daemon knows that nobody waits: both came over one connection.
    assert_eq!(client.session(&id).await.unwrap().status(), SessionStatus::Exchanging);
    world.provider.no_more_faults().await;
    let ended = async {
        loop {
            let session = client.session(&id).await.unwrap();
            if session.status() != SessionStatus::Exchanging {
                break session.status();
            }
        }
    };
    assert_eq!(timeout(SURELY, ended).await.expect("it ends"), SessionStatus::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_does_not_hold_up_the_end_and_a_hang_up_does_not_bring_it() {
    let world = World::new().await;
    let daemon = world.daemon();
    let client = world.unix().await;
    let mut health = HealthClient::new(client.channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    daemon.signal(rustix::process::Signal::HUP);
    daemon.says("nothing has changed");
    assert!(client.clone().status().await.is_ok(), "still there");
    let (status, log) = tokio::task::spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(!log.contains("still in flight"), "{log}");
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing,
        "watchers hear of it"
    );
}
