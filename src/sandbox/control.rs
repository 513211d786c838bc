//! The control API under `/sandbox/`: plays the user, breaks things, moves the clock, counts. `docs/sandbox.md` is its
//! manual.

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
use super::webhooks::{Endpoint, Sending, Signer};
use super::world::{Outcome, World};
use super::{Client, Shared};

/// Roomier than the contract's limit, so that oversized answers and webhooks can be scripted.
const MAX_BODY: usize = 1024 * 1024;
/// Most webhooks that one request sends.
const MAX_COPIES: u32 = 1000;
/// Longest delay of a webhook.
const MAX_DELAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/sandbox/clients", post(clients))
        .route("/sandbox/decide", post(decide))
        .route("/sandbox/faults", post(faults))
        .route("/sandbox/webhooks", post(send_webhooks).get(list_webhooks))
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
    /// Signed with a secret that is not the client's.
    #[serde(default)]
    bad_signature: bool,
    /// Signed with this one instead of the client's.
    webhook_secret: Option<String>,
    /// Sent so much later, by the sandbox's clock; in a list, than the one before was answered.
    #[serde(default)]
    delay_ms: u64,
}

fn once() -> u32 {
    1
}

impl Webhook {
    /// Says what is wrong with it, naming the field.
    fn check(&self) -> Result<(), String> {
        if !(1..=MAX_COPIES).contains(&self.times) {
            return Err(format!("times is {}; give 1 to {MAX_COPIES}", self.times));
        }
        if self.delay_ms > MAX_DELAY_MS {
            return Err(format!("delay_ms is {}; give at most {MAX_DELAY_MS}, a day", self.delay_ms));
        }
        match &self.webhook_secret {
            Some(_) if self.bad_signature => {
                Err("bad_signature: webhook_secret says what signs it; leave one of them out".to_owned())
            }
            Some(secret) if secret.is_empty() => Err("webhook_secret is empty".to_owned()),
            Some(_) | None => Ok(()),
        }
    }

    fn endpoint(&self, world: &World) -> Result<Endpoint, String> {
        let client = world
            .clients
            .get(&self.client_id)
            .ok_or("client_id is not registered; POST /sandbox/clients registers one")?;
        let endpoint = Endpoint::of(client)
            .ok_or("client_id has no webhook_url; register it again with webhook_url and webhook_secret")?;
        Ok(endpoint)
    }

    fn sending(self) -> Sending {
        let body = self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned);
        let signer = match self.webhook_secret {
            Some(secret) => Signer::Secret(secret),
            None if self.bad_signature => Signer::Wrong,
            None => Signer::Client,
        };
        let delay = Duration::from_millis(self.delay_ms);
        Sending { body: Bytes::from(body), copies: self.times, signer, delay }
    }
}

/// One webhook, or a list of them, which arrives in its order.
async fn send_webhooks(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<impl IntoResponse, Wrong> {
    let answer = if body.trim_ascii_start().starts_with(b"[") {
        send_in_order(&shared, read(&body)?)?
    } else {
        let webhook: Webhook = read(&body)?;
        webhook.check().map_err(Wrong)?;
        shared.with(|inside, now| {
            let endpoint = webhook.endpoint(&inside.world).map_err(Wrong)?;
            let id = inside.world.draw_id("whd_");
            inside.webhooks.add(&id, &endpoint, &webhook.sending(), now);
            Ok(json!({"delivery_id": id}))
        })?
    };
    shared.wake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn send_in_order(shared: &Shared, list: Vec<Webhook>) -> Result<Value, Wrong> {
    if list.is_empty() {
        return Err(Wrong("the list is empty; give at least one webhook".to_owned()));
    }
    let at = |index: usize| move |text: String| Wrong(format!("[{index}].{text}"));
    let mut copies = 0;
    for (index, webhook) in list.iter().enumerate() {
        webhook.check().map_err(at(index))?;
        copies += webhook.times;
        if copies > MAX_COPIES {
            return Err(at(index)(format!("times: the list sends more than {MAX_COPIES} in all")));
        }
    }
    shared.with(|inside, now| {
        let endpoints = list.iter().enumerate();
        let endpoints = endpoints.map(|(index, webhook)| webhook.endpoint(&inside.world).map_err(at(index)));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let list: Vec<_> = list
            .into_iter()
            .zip(endpoints)
            .map(|(webhook, endpoint)| (inside.world.draw_id("whd_"), endpoint, webhook.sending()))
            .collect();
        inside.webhooks.add_in_order(&list, now);
        Ok(json!({"delivery_ids": list.iter().map(|(id, ..)| id).collect::<Vec<_>>()}))
    })
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
