//! Webhooks, as an endpoint receives them.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::mpsc;

use super::*;

/// An endpoint that answers with the given statuses, then 200, and passes on what it got.
async fn receiver(statuses: Vec<u16>) -> (String, mpsc::UnboundedReceiver<(String, Bytes)>) {
    type Got = (mpsc::UnboundedSender<(String, Bytes)>, Arc<Mutex<Vec<u16>>>);
    async fn take(State((sender, statuses)): State<Got>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let mut statuses = statuses.lock().unwrap();
        let status = if statuses.is_empty() { 200 } else { statuses.remove(0) };
        sender.send((headers["x-cairl-signature"].to_str().unwrap().to_owned(), body)).unwrap();
        StatusCode::from_u16(status).unwrap()
    }
    let (sender, got) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router =
        Router::new().route("/hook", post(take)).with_state((sender, Arc::new(Mutex::new(statuses))));
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (url, got)
}

async fn with_webhooks(sandbox: &Sandbox, url: &str) {
    let client = json!({
        "client_id": "cairl_test_shop", "client_secret": "the shop's secret",
        "redirect_uris": ["https://shop.example/cb"], "webhook_url": url, "webhook_secret": "hook secret",
    });
    assert_eq!(
        sandbox.control("/sandbox/clients", client).await,
        (200, json!({"client_id": "cairl_test_shop"}))
    );
}

#[tokio::test]
async fn webhooks_are_signed_and_tried_again_when_the_clock_says_so() {
    let sandbox = sandbox().await;
    let (url, mut got) = receiver(vec![500, 302]).await;
    with_webhooks(&sandbox, &url).await;
    let body = "{ \"id\":1 }\n";
    let (status, answer) =
        sandbox.control("/sandbox/webhooks", json!({"client_id": "cairl_test_shop", "body": body})).await;
    assert_eq!(status, 202);
    for advance in [60, 300, 0] {
        let (signature, bytes) = got.recv().await.unwrap();
        assert_eq!(
            (signature, &bytes[..]),
            (webhooks::sign(b"hook secret", body.as_bytes()), body.as_bytes())
        );
        sandbox.control("/sandbox/clock", json!({"advance_s": advance})).await;
    }
    let list: Value = sandbox.get(&sandbox.url("/sandbox/webhooks")).await.json().await.unwrap();
    assert_eq!(list[0]["delivery_id"], answer["delivery_id"]);
    let statuses: Vec<&Value> =
        list[0]["attempts"].as_array().unwrap().iter().map(|a| &a["status"]).collect();
    assert_eq!((statuses.len(), statuses[0], statuses[1]), (3, &json!(500), &json!(302)));
}

#[tokio::test]
async fn webhooks_can_be_doubled_and_badly_signed() {
    let sandbox = sandbox().await;
    let (url, mut got) = receiver(vec![]).await;
    with_webhooks(&sandbox, &url).await;
    let order = json!({"client_id": "cairl_test_shop", "body": {"a": 1}, "times": 2, "bad_signature": true});
    assert_eq!(sandbox.control("/sandbox/webhooks", order).await.0, 202);
    for _ in 0..2 {
        let (signature, bytes) = got.recv().await.unwrap();
        assert_eq!(&bytes[..], br#"{"a":1}"#);
        assert_ne!(signature, webhooks::sign(b"hook secret", &bytes));
        assert_eq!(signature.len(), "sha256=".len() + 64);
    }
}

#[tokio::test]
async fn approving_tells_the_webhook_endpoint() {
    let sandbox = sandbox().await;
    let (url, mut got) = receiver(vec![]).await;
    with_webhooks(&sandbox, &url).await;
    let (_, id) = sandbox.approve().await;
    let event: Value = serde_json::from_slice(&got.recv().await.unwrap().1).unwrap();
    assert_eq!(event["type"], "vae.resolved");
    assert_eq!(event["data"], json!({"session_id": id, "claims": {"age_18_plus": true, "name_match": true}}));
}

#[tokio::test]
async fn webhooks_come_late_by_the_sandboxs_clock() {
    let sandbox = sandbox().await;
    let (url, mut got) = receiver(vec![]).await;
    with_webhooks(&sandbox, &url).await;
    let late = json!({"client_id": "cairl_test_shop", "body": "late", "delay_ms": 3_600_000});
    assert_eq!(sandbox.control("/sandbox/webhooks", late).await.0, 202);
    let prompt = json!({"client_id": "cairl_test_shop", "body": "prompt"});
    assert_eq!(sandbox.control("/sandbox/webhooks", prompt).await.0, 202);
    assert_eq!(got.recv().await.unwrap().1, "prompt", "it has overtaken the other");
    let list: Value = sandbox.get(&sandbox.url("/sandbox/webhooks")).await.json().await.unwrap();
    assert_eq!(list[0]["attempts"], json!([]), "it waits");
    sandbox.control("/sandbox/clock", json!({"advance_s": 3600})).await;
    assert_eq!(got.recv().await.unwrap().1, "late");
}

#[tokio::test]
async fn a_list_of_webhooks_arrives_in_its_order() {
    let sandbox = sandbox().await;
    let (url, mut got) = receiver(vec![200, 500]).await;
    with_webhooks(&sandbox, &url).await;
    let hook = |body: &str| json!({"client_id": "cairl_test_shop", "body": body});
    let mut doubled = hook("verified");
    doubled["times"] = json!(2);
    let list = json!([hook("complete"), doubled, hook("authenticated")]);
    let (status, answer) = sandbox.control("/sandbox/webhooks", list).await;
    assert_eq!((status, answer["delivery_ids"].as_array().unwrap().len()), (202, 3));
    for expected in ["complete", "verified", "verified", "authenticated"] {
        assert_eq!(got.recv().await.unwrap().1, expected);
    }
    // The one that was refused comes again on its own schedule, behind all.
    sandbox.control("/sandbox/clock", json!({"advance_s": 60})).await;
    assert_eq!(got.recv().await.unwrap().1, "verified");
}

#[tokio::test]
async fn a_webhook_can_be_signed_with_another_secret() {
    let sandbox = sandbox().await;
    let (url, mut got) = receiver(vec![]).await;
    with_webhooks(&sandbox, &url).await;
    let next = json!({"client_id": "cairl_test_shop", "body": {"a": 1}, "webhook_secret": "next secret"});
    assert_eq!(sandbox.control("/sandbox/webhooks", next).await.0, 202);
    let (signature, bytes) = got.recv().await.unwrap();
    assert_eq!(signature, webhooks::sign(b"next secret", &bytes));
}

#[tokio::test]
async fn an_order_that_cannot_be_meant_is_refused_by_the_name_of_the_field() {
    let sandbox = sandbox().await;
    let (url, mut got) = receiver(vec![]).await;
    with_webhooks(&sandbox, &url).await;
    let with = |field: &str, value: Value| {
        let mut hook = json!({"client_id": "cairl_test_shop", "body": "x"});
        hook[field] = value;
        hook
    };
    let good = || with("times", json!(1));
    let mut twice = with("webhook_secret", json!("s"));
    twice["bad_signature"] = json!(true);
    for (order, beginning) in [
        (with("times", json!(0)), "times is 0"),
        (with("delay_ms", json!(86_400_001)), "delay_ms is 86400001"),
        (with("webhook_secret", json!("")), "webhook_secret is empty"),
        (twice, "bad_signature: "),
        (json!([]), "the list is empty"),
        (json!([good(), with("client_id", json!("cairl_test_nobody"))]), "[1].client_id is not registered"),
        (json!([good(), with("delay_ms", json!(86_400_001))]), "[1].delay_ms"),
        (json!([with("times", json!(1000)), good()]), "[1].times: the list sends more than 1000"),
    ] {
        let (status, answer) = sandbox.control("/sandbox/webhooks", order.clone()).await;
        assert_eq!(status, 400, "{order}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with(beginning), "{error}");
    }
    assert_eq!(sandbox.control("/sandbox/webhooks", with("shuffle", json!(true))).await.0, 400);
    // Nothing of a refused list was sent.
    assert_eq!(sandbox.control("/sandbox/webhooks", with("body", json!("last"))).await.0, 202);
    assert_eq!(got.recv().await.unwrap().1, "last");
}
