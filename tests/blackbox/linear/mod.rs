//! Concurrent calls about one session, over gRPC from a running daemon: their answers are those of some order of them.
//!
//! Stateright has a tester for that, and brings a web server, a second generation of random numbers and a third one of hash
//! maps with it; what is needed of it is the hundred lines of `checker`.

mod checker;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cairld::api::proto::{CompleteAuthorizationRequest, Session, StartAuthorizationRequest};
use serde_json::json;
use tonic::Status;
use url::Url;

use self::checker::{Call, Done, is_linearizable};
use crate::support::{Client, World, complete_request, refused, start_request};

const SESSIONS: usize = 60;

/// What is called for each session, by as many tasks: begun in another order each time.
const CALLS: [Call; 10] = [
    Call::Complete,
    Call::Get,
    Call::Cancel,
    Call::Complete,
    Call::Get,
    Call::Expire,
    Call::Get,
    Call::Complete,
    Call::Cancel,
    Call::Get,
];

struct Target {
    id: String,
    callback: String,
    error: String,
}

/// A session whose user has approved, tied to a browser.
async fn target(world: &World, client: &mut Client) -> Target {
    let start = StartAuthorizationRequest { binding: "cookie".into(), ..start_request() };
    let started = client.start(start).await.unwrap();
    let url = Url::parse(&started.authorization_url).unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let callback = world.provider.approve(&started.authorization_url).await;
    let error = format!("/callback?error=session_expired&state={state}");
    Target { id: started.session.unwrap().id, callback, error }
}

fn said(answer: Result<Session, Status>) -> String {
    match answer {
        Ok(session) => session.status().as_str_name().trim_start_matches("SESSION_STATUS_").to_owned(),
        status @ Err(_) => refused(status).reason,
    }
}

async fn ask(mut client: Client, target: &Target, call: Call) -> String {
    let bound =
        |url: &str| CompleteAuthorizationRequest { binding: "cookie".into(), ..complete_request(url) };
    said(match call {
        Call::Complete => client.complete(bound(&target.callback)).await,
        Call::Expire => client.complete(bound(&target.error)).await,
        Call::Cancel => client.cancel(&target.id).await,
        Call::Get => client.session(&target.id).await,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_concurrent_calls_have_an_order() {
    let world = World::unlimited().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    // Time to meet: exchanges last a little.
    world.provider.fault(json!({ "endpoint": "token", "times": 1000, "delay_ms": 5 })).await;
    let mut targets = Vec::new();
    for _ in 0..SESSIONS {
        targets.push(Arc::new(target(&world, &mut client).await));
    }
    let clock = Arc::new(AtomicU64::new(0));
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for (round, target) in targets.into_iter().enumerate() {
        let tasks: Vec<_> = (0..CALLS.len())
            .map(|place| {
                let call = CALLS[(place * 7 + round) % CALLS.len()];
                let (client, target, clock) = (client.clone(), Arc::clone(&target), Arc::clone(&clock));
                tokio::spawn(async move {
                    // Some begin when others have ended.
                    for _ in 0..(place * round) % 4 {
                        let _ = client.clone().status().await;
                    }
                    let began = clock.fetch_add(1, Ordering::SeqCst);
                    let answer = ask(client, &target, call).await;
                    Done { call, answer, began, ended: clock.fetch_add(1, Ordering::SeqCst) }
                })
            })
            .collect();
        let mut calls = Vec::new();
        for task in tasks {
            calls.push(task.await.unwrap());
        }
        assert!(is_linearizable(&calls), "no order explains round {round}: {calls:#?}");
        for done in calls {
            *seen.entry(format!("{:?} {}", done.call, done.answer)).or_default() += 1;
        }
    }
    println!("{seen:#?}");
    for answer in ["Complete COMPLETE", "Cancel CANCELLED", "Expire SESSION_EXPIRED", "Get EXCHANGING"] {
        assert!(seen.contains_key(answer), "{answer} never came up: {seen:#?}");
    }
}
