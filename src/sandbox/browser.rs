//! The part a person sees: the authorization endpoint and the consent page's form.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::post;
use serde_json::{Map, Value};

use super::authorize::Refusal;
use super::params::Params;
use super::world::Outcome;
use super::{Shared, page};

/// Nothing is loaded and no script runs. `form-action` is left out on purpose: Chromium applies it to every redirect
/// that follows the form, and where a client's callback goes on to is not known here.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/verify/session/{id}", post(submit)).layer(DefaultBodyLimit::max(64 * 1024))
}

/// `GET /verify/start`: shows the consent page, or says why not.
pub(super) async fn start(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.unwrap_or_default().as_bytes());
    shared.with(|inside, now| match inside.world.begin(&params, now) {
        Ok(id) => {
            let until = inside.world.deadline(&id);
            match inside.world.show(&id) {
                Some((session, client)) => {
                    let (who, request) = (client.display_name(), &session.request);
                    html(StatusCode::OK, page::consent(&who, &id, request, until))
                }
                None => gone(),
            }
        }
        Err(Refusal::Page(text)) => {
            let title = "This request cannot be trusted";
            let rest = "Nobody was sent back, because nothing says that the address belongs to the client.";
            html(StatusCode::BAD_REQUEST, page::notice(title, &[&text, rest]))
        }
        Err(Refusal::Redirect { to, why }) => {
            tracing::info!(why, "an authorization request was refused");
            redirect(&to)
        }
    })
}

/// The form of the consent page.
async fn submit(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Response {
    let params = Params::parse(&body);
    let outcome = match params.one("outcome") {
        Ok(Some("approve")) => match claims(&params) {
            Some(claims) => Outcome::Approve { claims },
            None => return unreadable(),
        },
        Ok(Some("decline")) => Outcome::Decline,
        Ok(Some("fail")) => Outcome::Fail,
        Ok(Some("leave")) => return left(&shared, &id),
        Ok(_) | Err(_) => return unreadable(),
    };
    match shared.with(|inside, now| inside.decide(&id, outcome, now)) {
        Some(callback_url) => {
            shared.wake.notify_one();
            redirect(&callback_url)
        }
        None => gone(),
    }
}

/// Reads `claim.NAME` = `true`, `false` or `null`.
fn claims(params: &Params) -> Option<Map<String, Value>> {
    let chosen =
        params.iter().filter_map(|(name, value)| name.strip_prefix("claim.").map(|name| (name, value)));
    chosen
        .map(|(name, value)| {
            let value = match value {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ => return None,
            };
            Some((name.to_owned(), value))
        })
        .collect()
}

fn left(shared: &Shared, id: &str) -> Response {
    match shared.with(|inside, _| inside.world.deadline(id)) {
        Some(until) => {
            let lines = [
                "Nothing was decided and nobody was sent back.",
                "The session stays pending: opening the authorization URL again goes on with it.",
                &format!("It expires at {until}."),
            ];
            html(StatusCode::OK, page::notice("The user has left", &lines))
        }
        None => gone(),
    }
}

fn gone() -> Response {
    let lines = [
        "It is long over, or never was.",
        "Start the verification again from the service that asked for it.",
    ];
    html(StatusCode::NOT_FOUND, page::notice("No such session", &lines))
}

fn unreadable() -> Response {
    let lines = ["The form was not filled in the way this page does it.", "Go back and choose again."];
    html(StatusCode::BAD_REQUEST, page::notice("That was not understood", &lines))
}

const PRIVATE: [(HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer")];

fn html(status: StatusCode, page: String) -> Response {
    (status, PRIVATE, [(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page)).into_response()
}

fn redirect(to: &str) -> Response {
    (PRIVATE, Redirect::to(to)).into_response()
}
