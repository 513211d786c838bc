//! The rate budgets: nothing is sent that the provider would refuse, and who finds no slot loses nothing.

use std::time::Duration;

use cairld::api::proto::{BudgetStatus, SessionStatus};
use jiff::SignedDuration;
use serde_json::json;
use tokio::net::TcpSocket;
use tonic::Code;

use crate::support::{Client, SURELY, World, refused};

/// Sooner than any slot comes free, and later than any machine answers.
const SOON: Duration = Duration::from_secs(20);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// How the budgets of the one client stand: for tokens and for sessions.
async fn budgets(client: &mut Client) -> [BudgetStatus; 2] {
    let status = client.status().await.unwrap();
    status.clients[0].budgets.clone().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_refuses_what_it_cannot_serve_in_time_across_a_restart() {
    let world = World::new().await;
    world.limit(2, 60);
    let daemon = world.daemon();
    let mut client = world.unix().await;
    for _ in 0..2 {
        let (_, callback) = world.approved(&mut client).await;
        assert_eq!(client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
    }
    let (id, callback) = world.approved(&mut client).await;
    let refusal = refused(client.within(SOON).completed(&callback).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert_eq!(refusal.metadata["stage"], "daemon");
    let delay = refusal.retry_delay.unwrap();
    assert!(delay <= Duration::from_millis(60_001), "{delay:?}");
    // Its place in line is given up once nobody waits for it any more.
    waiting(&mut client, 0).await;
    let [token, session] = budgets(&mut client).await;
    assert_eq!((token.name.as_str(), token.limit, token.used), ("token", 2, 2));
    assert_eq!((session.name.as_str(), session.limit, session.used), ("session", 60, 0));
    daemon.kill();

    let _daemon = world.daemon();
    let mut client = world.unix().await;
    assert_eq!(refused(client.within(SOON).completed(&callback).await).reason, "RATE_LIMITED", "durable");
    assert_eq!(budgets(&mut client).await[0].used, 2);
    let session = client.session(&id).await.unwrap();
    assert_eq!((session.status(), session.failure), (SessionStatus::Pending, None), "nothing is consumed");
    assert_eq!(world.provider.token_requests().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_closes_the_budget_and_the_next_waits_in_line() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let limited = json!({"endpoint": "token", "times": 1, "status": 429, "headers": {"Retry-After": "2"}});
    world.provider.fault(limited).await;
    let (_, first) = world.approved(&mut client).await;
    let (_, second) = world.approved(&mut client).await;
    let refusal = refused(client.completed(&first).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert_eq!(refusal.metadata["http_status"], "429");
    let delay = refusal.retry_delay.unwrap();
    assert!(delay <= Duration::from_secs(2) && delay > Duration::ZERO, "{delay:?}");
    // Both the one that was refused and a new one wait until the provider is to be asked again.
    let mut other = client.clone();
    let again = tokio::spawn(async move { other.completed(&first).await });
    assert_eq!(client.completed(&second).await.unwrap().status(), SessionStatus::Complete);
    assert_eq!(again.await.unwrap().unwrap().status(), SessionStatus::Complete);
    let [refused, next, last] = world.provider.token_request_times().await.try_into().unwrap();
    assert!(next.duration_since(refused) >= SignedDuration::from_secs(2), "{refused} {next}");
    assert!(last.duration_since(refused) >= SignedDuration::from_secs(2), "{refused} {last}");
    assert_eq!(budgets(&mut client).await[0].closed_until, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_without_retry_after_closes_for_a_minute() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 429})).await;
    let (_, callback) = world.approved(&mut client).await;
    for _ in 0..2 {
        let delay = refused(client.within(SOON).completed(&callback).await).retry_delay.unwrap();
        assert!(delay <= Duration::from_secs(60) && delay > Duration::from_secs(1), "{delay:?}");
    }
    assert!(budgets(&mut client).await[0].closed_until.is_some());
    assert_eq!(world.provider.token_requests().await, 1, "the second was not even sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_never_made_uses_nothing() {
    let world = World::new().await;
    world.limit(1, 1);
    // Bound and not listening: nobody else gets the port, and connections to it are refused.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = bound.local_addr().unwrap();
    let config = std::fs::read_to_string(world.config()).unwrap();
    let elsewhere = format!("endpoints = {{ token = \"http://{nowhere}/t\" }}\ntimeouts =");
    std::fs::write(world.config(), config.replace("timeouts =", &elsewhere)).unwrap();
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    for _ in 0..2 {
        assert_eq!(refused(client.completed(&callback).await).reason, "PROVIDER_UNREACHABLE");
        assert_eq!(budgets(&mut client).await[0].used, 0);
    }
    drop(daemon);
    std::fs::write(world.config(), config).unwrap();
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    assert_eq!(client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_sessions_have_a_budget_of_their_own() {
    let world = World::new().await;
    world.limit(30, 1);
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    // Refused for now, the two sessions are open and their provider ids are known.
    let unpaid =
        json!({"endpoint": "token", "times": 2, "status": 402, "body": {"error": "payment_required"}});
    world.provider.fault(unpaid).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (id, callback) = world.approved(&mut client).await;
        assert_eq!(refused(client.completed(&callback).await).reason, "PAYMENT_REQUIRED");
        ids.push(id);
    }
    assert_eq!(client.refreshed(&ids[0]).await.unwrap().status(), SessionStatus::Verified);
    assert_eq!(refused(client.within(SOON).refreshed(&ids[1]).await).reason, "RATE_LIMITED");
    assert_eq!(client.session(&ids[1]).await.unwrap().status(), SessionStatus::Pending);
    assert_eq!(world.provider.requests("/api/verify/hvf-session/").await, 1);
    assert_eq!(budgets(&mut client).await.map(|budget| budget.used), [2, 1]);
}

/// Waits until so many stand in the line for token requests.
async fn waiting(client: &mut Client, count: i32) {
    let waited = async { while budgets(client).await[0].waiting != count {} };
    tokio::time::timeout(SURELY, waited).await.expect("the line has that length");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_a_stop_is_told_and_loses_nothing() {
    let world = World::new().await;
    world.limit(1, 60);
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, first) = world.approved(&mut client).await;
    let (id, second) = world.approved(&mut client).await;
    client.completed(&first).await.unwrap();
    let mut caller = client.within(Duration::from_secs(600));
    let callback = second.clone();
    let waits = tokio::spawn(async move { caller.completed(&callback).await });
    waiting(&mut client, 1).await;
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(refused(waits.await.unwrap()).reason, "SHUTTING_DOWN");
    let _daemon = world.daemon();
    let session = world.unix().await.session(&id).await.unwrap();
    assert_eq!((session.status(), session.failure), (SessionStatus::Pending, None));
}

/// The burst that every integration meets one day. Takes three minutes and a half: `--ignored` runs it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, for the budget's windows are real"]
async fn a_hundred_completions_in_a_second_are_all_done_and_none_over_the_limit() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let client = world.unix().await;
    let mut callbacks = Vec::new();
    for _ in 0..100 {
        callbacks.push(world.approved(&mut client.clone()).await.1);
    }
    let calls: Vec<_> = callbacks
        .into_iter()
        .map(|callback| {
            let mut client = client.within(MINUTE.unsigned_abs() * 5);
            tokio::spawn(async move { client.completed(&callback).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), SessionStatus::Complete);
    }
    let times = world.provider.token_request_times().await;
    assert_eq!(times.len(), 100, "each code was sent once");
    for window in times.windows(31) {
        assert!(window[30].duration_since(window[0]) >= MINUTE, "more than 30 in a minute: {window:?}");
    }
    let journal = world.provider.journal("/api/oauth/token").await;
    assert!(journal.iter().all(|entry| entry["status"] == 200), "nothing was refused");
    let began = times[0];
    for (number, second) in times.iter().map(|time| time.duration_since(began).as_secs()).enumerate() {
        println!("request {number:>3}: {second:>4} s");
    }
}
