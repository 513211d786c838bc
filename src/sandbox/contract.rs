//! The provider's endpoints over HTTP, behind a gate that keeps the journal and lets faults happen.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, body::Bytes};
use serde_json::{Value, json};

use super::faults::Endpoint;
use super::params::Params;
use super::serve::NoAnswer;
use super::tokens::TokenError;
use super::{ApiError, Shared, browser};

/// The contract's bodies are a few hundred bytes; more than this is a mistake.
const MAX_BODY: usize = 64 * 1024;

pub(super) fn router(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let gate = |endpoint| from_fn_with_state((Arc::clone(shared), endpoint), gate);
    Router::new()
        .route("/verify/start", get(browser::start).layer(gate(Endpoint::Authorize)))
        .route("/api/oauth/token", post(token).layer(gate(Endpoint::Token)))
        .route("/api/oauth/userinfo", get(userinfo).layer(gate(Endpoint::Userinfo)))
        .route("/api/oauth/revoke", post(revoke).layer(gate(Endpoint::Revoke)))
        .route("/api/verify/hvf-session/{id}", get(session).layer(gate(Endpoint::Session)))
}

/// Writes the request down, lets the next fault happen if there is one, and adds the answer's status.
async fn gate(
    State((shared, endpoint)): State<(Arc<Shared>, Endpoint)>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await;
    let (number, fault, taken_back) = shared.with(|inside, now| {
        let form = body.as_deref().unwrap_or_default();
        let number = inside.journal.open(now, &parts, form);
        (number, inside.faults.take(endpoint), inside.faults.taken_back())
    });
    let handle = async {
        match body {
            Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
            // A client that left in the middle of its body ends here too, and does not mind.
            Err(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        }
    };
    let answer = match fault {
        None => Some(handle.await),
        Some(fault) => fault.happen(taken_back, handle).await,
    };
    match answer {
        Some(answer) => {
            shared.with(|inside, _| inside.journal.close(number, answer.status().as_u16()));
            answer
        }
        None => NoAnswer::response(),
    }
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let result = form(&headers, &body)
        .and_then(|params| shared.with(|inside, now| inside.world.redeem(&params, now)))
        .map(Json);
    // Neither tokens nor errors about them may be kept by a cache (RFC 6749 §5.1).
    ([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], result).into_response()
}

async fn revoke(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), TokenError> {
    let params = form(&headers, &body)?;
    shared.with(|inside, now| inside.world.revoke(&params, now))
}

async fn userinfo(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    shared.with(|inside, now| inside.world.userinfo(authorization(&headers), now)).map(Json)
}

async fn session(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    shared.with(|inside, now| inside.world.session(authorization(&headers), &id, now)).map(Json)
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
}

/// A form-urlencoded body, and nothing else (RFC 6749 §4.1.3, RFC 7009 §2.1).
fn form(headers: &HeaderMap, body: &[u8]) -> Result<Params, TokenError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let why = "Content-Type must be application/x-www-form-urlencoded";
        return Err(TokenError::new(400, "invalid_request", why));
    }
    Ok(Params::parse(body))
}

fn refuse(status: u16, retry_after: Option<u64>, body: Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = (status, Json(body)).into_response();
    answer.headers_mut().extend(retry_after.map(|seconds| (header::RETRY_AFTER, seconds.into())));
    answer
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        refuse(self.status, self.retry_after, body)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        refuse(self.status, self.retry_after, json!({"success": false, "error": self.error}))
    }
}
