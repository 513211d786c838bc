//! Webhooks that are not delivered. The daemon has no say in that: the provider delivers to the partner's endpoint, which
//! passes on to the daemon. So the tests have such an endpoint, let it fail once as the page says, and see that the next
//! attempt gets through and that the event is kept once.

use std::{
    collections::VecDeque,
    fs,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpSocket, time::timeout};
use tonic::Status;

use super::{Row, Scene, Section, http, rows};
use crate::support::{Client, REDIRECT_URI, SURELY, WEBHOOK_SECRET};

/// How the endpoint treats a delivery that it does not treat well.
#[derive(Clone, Copy)]
enum Fault {
    /// It fails before it passes anything on.
    Fails,
    /// It parses the body and passes on what it makes of it.
    Reserialises,
    /// It passes the bytes on, and its answer is lost, as one that comes too late is.
    AnswersTooLate,
}

/// The partner's endpoint: passes on the bytes, and answers 200 once the daemon has them.
#[derive(Clone)]
struct Endpoint {
    client: Client,
    /// What goes wrong with the next deliveries.
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// What the daemon answered: whether it had the event before, or a refusal.
    answers: Arc<Mutex<Vec<Result<bool, Status>>>>,
}

async fn deliver(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let fault = endpoint.faults.lock().unwrap().pop_front();
    let body = match fault {
        Some(Fault::Fails) => return StatusCode::INTERNAL_SERVER_ERROR,
        Some(Fault::Reserialises) => {
            let parsed: Value = serde_json::from_slice(&body).unwrap();
            Bytes::from(format!("{parsed:#}"))
        }
        Some(Fault::AnswersTooLate) | None => body,
    };
    let signature = headers["x-cairl-signature"].to_str().unwrap();
    let answer = endpoint.client.clone().ingest(&body, signature).await;
    let status = if answer.is_ok() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    endpoint.answers.lock().unwrap().push(answer.map(|ingested| ingested.duplicate));
    if matches!(fault, Some(Fault::AnswersTooLate)) {
        // Ends the connection without an answer, and without a word on standard error.
        std::panic::resume_unwind(Box::new("too late"));
    }
    status
}

/// A call of the sandbox's control API.
async fn control(scene: &Scene, call: &str, body: Value) {
    let url = format!("{}/sandbox/{call}", scene.world.provider.url());
    let answer = http().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{call}: {}", answer.text().await.unwrap());
}

/// The delivery, once it is as it should be.
async fn delivery(scene: &Scene, is_so: impl Fn(&Value) -> bool) -> Value {
    let url = format!("{}/sandbox/webhooks", scene.world.provider.url());
    let delivery = async {
        loop {
            let mut all: Value = http().get(&url).send().await.unwrap().json().await.unwrap();
            if is_so(&all[0]) {
                return all[0].take();
            }
        }
    };
    timeout(SURELY, delivery).await.expect("a delivery")
}

/// Has the provider deliver a webhook whose first attempt fails, and sees it delivered by a later one. Answers the first
/// attempt's status, and what the daemon answered to all of them. Without a fault nobody listens at first.
async fn delivered_later(fault: Option<Fault>) -> (Option<u64>, Vec<Result<bool, Status>>) {
    let scene = Scene::new().await;
    // Bound and not listening: nobody else gets the port, and connections to it are refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let secret = |name: &str| fs::read_to_string(scene.world.path(name)).unwrap().trim().to_owned();
    let client_id = secret("client.id");
    control(
        &scene,
        "clients",
        json!({
            "client_id": client_id, "client_secret": secret("client.secret"), "redirect_uris": [REDIRECT_URI],
            "webhook_url": url, "webhook_secret": WEBHOOK_SECRET,
        }),
    )
    .await;
    let endpoint = Endpoint {
        client: scene.client.clone(),
        faults: Arc::new(Mutex::new(fault.into_iter().collect())),
        answers: Arc::default(),
    };
    let app = Router::new().route("/hook", post(deliver)).with_state(endpoint.clone());
    let listen = |socket: TcpSocket| tokio::spawn(axum::serve(socket.listen(16).unwrap(), app).into_future());
    let body = json!({"type": "vae.resolved", "id": "evt-1"});
    let webhook = json!({"client_id": client_id, "body": body});
    // The second attempt is due after a minute of the provider's, once the first has failed.
    let attempts = |count: usize| {
        move |delivery: &Value| delivery["attempts"].as_array().is_some_and(|all| all.len() >= count)
    };
    if fault.is_some() {
        listen(socket);
        control(&scene, "webhooks", webhook).await;
        control(&scene, "clock", json!({"advance_s": 60})).await;
    } else {
        control(&scene, "webhooks", webhook).await;
        control(&scene, "clock", json!({"advance_s": 60})).await;
        delivery(&scene, attempts(2)).await;
        listen(socket);
        control(&scene, "clock", json!({"advance_s": 300})).await;
    }
    let delivered = delivery(&scene, |delivery| delivery["fate"] == "delivered").await;
    let events = scene.client.clone().status().await.unwrap().store.unwrap().events;
    assert_eq!(events, 1, "kept once");
    let answers = endpoint.answers.lock().unwrap().drain(..).collect();
    (delivered["attempts"][0]["status"].as_u64(), answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cause_of_failing_delivery_is_survived() {
    for row in rows(Section::WebhookDelivery) {
        let (fault, status) = match row.reason.as_str() {
            "WEBHOOK_ENDPOINT_REFUSES" => (Some(Fault::Fails), Some(500)),
            "WEBHOOK_SIGNATURE_INVALID" => (Some(Fault::Reserialises), Some(400)),
            "WEBHOOK_ENDPOINT_SLOW" => (Some(Fault::AnswersTooLate), None),
            "WEBHOOK_ENDPOINT_UNREACHABLE" => (None, None),
            _ => panic!("no test knows how to meet {row:?}"),
        };
        let (first, answers) = delivered_later(fault).await;
        assert_eq!(first, status, "{row:?}");
        check(&row, fault, &answers);
    }
}

/// What the daemon had to say.
fn check(row: &Row, fault: Option<Fault>, answers: &[Result<bool, Status>]) {
    match (fault, answers) {
        (None | Some(Fault::Fails), [Ok(false)]) => {}
        (Some(Fault::AnswersTooLate), [Ok(false), Ok(true)]) => {}
        (Some(Fault::Reserialises), [Err(refusal), Ok(false)]) => row.check(refusal),
        _ => panic!("{row:?}: {answers:?}"),
    }
}
