//! The control API under `/sandbox/`: plays the user, breaks things, moves the clock, counts.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use url::Url;

use super::authorize::Refusal;
use super::clock::Clock;
use super::faults::Fault;
use super::params::Params;
use super::webhooks::NoEndpoint;
use super::world::Outcome;
use super::{Client, Shared};

/// Roomier than the contract's limit, so that oversized answers and webhooks can be scripted.
const MAX_BODY: usize = 1024 * 1024;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/sandbox/clients", post(clients))
        .route("/sandbox/decide", post(decide))
        .route("/sandbox/faults", post(faults))
        .route("/sandbox/webhooks", post(send_webhook).get(list_webhooks))
        .route("/sandbox/clock", post(clock))
        .route("/sandbox/journal", get(read_journal).delete(clear_journal))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// What is wrong, and what is right.
struct Wrong(String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({"error": self.0}))).into_response()
    }
}

/// Reads a JSON body whatever its declared type, so that a bare `curl -d` will do.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Wrong> {
    Json::from_bytes(body).map(|Json(value)| value).map_err(|rejection| Wrong(rejection.body_text()))
}

async fn clients(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<impl IntoResponse, Wrong> {
    let client: Client = read(&body)?;
    let answer = json!({"client_id": client.client_id});
    let new = shared.with(|inside, _| inside.world.register(client)).map_err(Wrong)?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(answer)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decide {
    authorization_url: String,
    outcome: Played,
    claims: Option<Map<String, Value>>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Played {
    Approve,
    Decline,
    Fail,
    Expire,
}

async fn decide(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Json<Value>, Wrong> {
    let Decide { authorization_url, outcome, claims } = read(&body)?;
    let url = Url::parse(&authorization_url).map_err(|_| {
        Wrong("authorization_url is not an absolute URL; give it as it was issued".to_owned())
    })?;
    if url.path() != "/verify/start" {
        let path = url.path();
        return Err(Wrong(format!(
            "authorization_url has the path {path}; a browser finds /verify/start alone"
        )));
    }
    if claims.is_some() && outcome != Played::Approve {
        return Err(Wrong("claims go with the outcome approve alone; leave them out".to_owned()));
    }
    let outcome = match outcome {
        Played::Approve => Outcome::Approve { claims: claims.unwrap_or_default() },
        Played::Decline => Outcome::Decline,
        Played::Fail => Outcome::Fail,
        Played::Expire => Outcome::Expire,
    };
    let params = Params::parse(url.query().unwrap_or_default().as_bytes());
    shared.with(|inside, now| {
        let id = match inside.world.begin(&params, now) {
            Ok(id) => id,
            Err(Refusal::Page(text)) => return Err(Wrong(format!("authorization_url: {text}"))),
            // The browser would be sent back with the error, and so is whoever plays it.
            Err(Refusal::Redirect { to, why }) => {
                tracing::info!(why, "an authorization request was refused");
                return Ok(Json(json!({"callback_url": to, "session_id": null})));
            }
        };
        match inside.decide(&id, outcome, now) {
            Some(callback_url) => {
                shared.wake.notify_one();
                Ok(Json(json!({"callback_url": callback_url, "session_id": id})))
            }
            None => Err(Wrong("authorization_url: its session is gone; try again".to_owned())),
        }
    })
}

async fn faults(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<StatusCode, Wrong> {
    let list: Vec<Fault> = read(&body)?;
    for (index, fault) in list.iter().enumerate() {
        fault.check().map_err(|text| Wrong(format!("[{index}].{text}")))?;
    }
    shared.with(|inside, _| {
        if list.is_empty() {
            inside.faults.clear();
        }
        list.into_iter().for_each(|fault| inside.faults.add(fault));
    });
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    client_id: String,
    /// A string is sent as it is, anything else as JSON.
    body: Value,
    #[serde(default = "once")]
    times: u32,
    #[serde(default)]
    bad_signature: bool,
}

fn once() -> u32 {
    1
}

async fn send_webhook(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<impl IntoResponse, Wrong> {
    let Webhook { client_id, body, times, bad_signature } = read(&body)?;
    if !(1..=1000).contains(&times) {
        return Err(Wrong(format!("times is {times}; give 1 to 1000")));
    }
    let body = Bytes::from(body.as_str().map_or_else(|| body.to_string(), str::to_owned));
    let id = shared.with(|inside, now| {
        let id = inside.world.draw_id("whd_");
        let client = inside.world.clients.get(&client_id).ok_or_else(|| {
            Wrong("client_id is not registered; POST /sandbox/clients registers one".to_owned())
        })?;
        inside.webhooks.add(&id, client, &body, times, bad_signature, now).map_err(|NoEndpoint| {
            Wrong(
                "client_id has no webhook_url; register it again with webhook_url and webhook_secret"
                    .to_owned(),
            )
        })?;
        Ok(id)
    })?;
    shared.wake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(json!({"delivery_id": id}))))
}

async fn list_webhooks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.with(|inside, _| inside.webhooks.to_json()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_s: u64,
}

async fn clock(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Json<Value>, Wrong> {
    let Advance { advance_s } = read(&body)?;
    let now = shared
        .with(|inside, _| inside.clock.advance(Duration::from_secs(advance_s)).then(|| inside.clock.now()));
    let furthest = Clock::FURTHEST.as_secs();
    let now =
        now.ok_or_else(|| Wrong(format!("advance_s: the clock moves {furthest} seconds at most in all")))?;
    shared.wake.notify_one();
    Ok(Json(json!({"now": now.to_string()})))
}

async fn read_journal(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.with(|inside, _| inside.journal.to_json()))
}

async fn clear_journal(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.with(|inside, _| inside.journal.clear());
    StatusCode::NO_CONTENT
}
