//! How much one caller may have at a time, and that the others do not feel it.

use std::fs;

use cairld::api::proto::{SessionStatus, WatchSessionRequest, watch_session_request::Lookup};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::support::{Client, OTHER, Refused, SURELY, World, refused, start_request};

/// A world whose caller `other` may have little.
async fn world(limits: &str) -> World {
    let world = World::unlimited().await;
    let text = fs::read_to_string(world.config()).unwrap();
    let token = "token_file = \"other.token\"";
    fs::write(world.config(), text.replace(token, &format!("{token}\nlimits = {{ {limits} }}"))).unwrap();
    world
}

fn assert_is_overload(refusal: &Refused) {
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refusal.retry_delay.is_some_and(|delay| !delay.is_zero()), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight() {
    let world = world("concurrent_calls = 2").await;
    let daemon = world.daemon();
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let mut callbacks = Vec::new();
    for _ in 0..2 {
        callbacks.push(world.approved(&mut other).await.1);
    }
    // The provider has both in hand until it is told to answer.
    world.provider.fault(json!({ "endpoint": "token", "times": 2, "fault": "hold" })).await;
    let in_hand: Vec<_> = callbacks
        .into_iter()
        .map(|callback| {
            let mut client = other.clone();
            tokio::spawn(async move { client.completed(&callback).await })
        })
        .collect();
    let both = async { while world.provider.token_requests().await < 2 {} };
    timeout(SURELY, both).await.expect("two token requests");
    assert_is_overload(&refused(other.session("ses_00000000000000000000000000").await));
    // Nobody else feels it.
    let mut checkout = world.unix().await;
    checkout.started().await;
    world.provider.no_more_faults().await;
    for call in in_hand {
        assert_eq!(call.await.unwrap().unwrap().status(), SessionStatus::Complete);
    }
    assert_eq!(refused(other.session("ses_00000000000000000000000000").await).reason, "SESSION_NOT_FOUND");
}

async fn watch(
    client: &Client,
    id: &str,
) -> Result<Streaming<cairld::api::proto::WatchSessionResponse>, tonic::Status> {
    let message = WatchSessionRequest { lookup: Some(Lookup::SessionId(id.to_owned())) };
    Ok(client.integration.clone().watch_session(client.request(message)).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams() {
    let world = world("streams = 2").await;
    let daemon = world.daemon();
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let id = other.started().await.session.unwrap().id;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = watch(&other, &id).await.unwrap();
        stream.message().await.unwrap().unwrap();
        streams.push(stream);
    }
    assert_is_overload(&refused(watch(&other, &id).await));
    other.session(&id).await.unwrap();
    let mut checkout = world.unix().await;
    let own = checkout.started().await.session.unwrap().id;
    watch(&checkout, &own).await.unwrap();

    // A stream that ends gives its place back, whoever ends it.
    other.cancel(&id).await.unwrap();
    let ended = async {
        let mut stream = streams.pop().unwrap();
        while stream.message().await.unwrap().is_some() {}
    };
    ended.await;
    drop(streams);
    let next = other.started().await.session.unwrap().id;
    let mut again = Vec::new();
    for _ in 0..2 {
        // That one was dropped reaches the daemon a moment later than what is sent next may.
        let opened = async {
            loop {
                match watch(&other, &next).await {
                    Ok(stream) => return stream,
                    Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
                }
            }
        };
        again.push(timeout(SURELY, opened).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_sessions_across_a_restart() {
    let world = world("pending_sessions = 2").await;
    let daemon = world.daemon();
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let first = other.started().await.session.unwrap().id;
    let (second, callback) = world.approved(&mut other).await;
    assert_is_overload(&refused(other.start(start_request()).await));
    world.unix().await.started().await;
    daemon.kill();

    let daemon = world.daemon();
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    assert_is_overload(&refused(other.start(start_request()).await));
    // Those that are open live on, and whatever ends one makes room.
    assert_eq!(other.completed(&callback).await.unwrap().id, second);
    let third = other.started().await.session.unwrap().id;
    assert_is_overload(&refused(other.start(start_request()).await));
    for id in [first, third] {
        other.cancel(&id).await.unwrap();
        other.started().await;
    }
}
