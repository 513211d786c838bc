//! A provider that does as it is told for each code, token and session, keeps a note of the secrets that it sees, and says
//! them again where it is told to.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Uri, header},
    response::Response,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::search::{Canaries, Canary};

/// Stands in an answer for all the secrets of the request, as they are and in the encodings of URLs.
pub const ALL: &str = "{all}";
/// As `encodeURIComponent` of JavaScript has it.
const COMPONENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'!').remove(b'*');

/// A provider in this process.
#[derive(Clone)]
pub struct Scripted {
    pub url: String,
    secrets: Arc<Canaries>,
    scripts: Arc<Mutex<HashMap<String, VecDeque<Value>>>>,
}

impl Scripted {
    pub async fn start(secrets: Arc<Canaries>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let scripted = Self { url, secrets, scripts: Arc::default() };
        let app = Router::new().fallback(answer).with_state(scripted.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        scripted
    }

    /// What the next requests about it are answered: a code's token requests, a token's userinfo requests, the queries of a
    /// session; with `revoke ` in front, a token's revocation. As the sandbox's faults have it.
    pub fn next(&self, about: &str, answers: impl IntoIterator<Item = Value>) {
        self.scripts.lock().unwrap().entry(about.to_owned()).or_default().extend(answers);
    }

    /// What a request without a script is answered.
    fn good(&self, path: &str) -> Value {
        match path {
            "token" => {
                let token = self.secrets.fresh(Canary::AccessToken);
                json!({"body": {"access_token": token, "token_type": "Bearer", "expires_in": 900}})
            }
            "userinfo" => {
                let (subject, claim) =
                    (self.secrets.fresh(Canary::Subject), self.secrets.fresh(Canary::Claims));
                json!({"body": {"sub": subject, "claims": {"name": claim, "deep": {"list": [claim]}}}})
            }
            "revoke" => json!({"status": 200}),
            _ => json!({"body": {"success": true, "session": {"status": "verified"}}}),
        }
    }
}

async fn answer(State(scripted): State<Scripted>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let end = uri.path().rsplit('/').next().unwrap().to_owned();
    let bearer =
        headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().replace("Bearer ", ""));
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let of = |name: &str| form.get(name).cloned();
    let about = match end.as_str() {
        "token" => {
            scripted.secrets.add(Canary::Verifier, of("code_verifier").unwrap().as_bytes());
            of("code").unwrap()
        }
        "userinfo" => bearer.clone().unwrap(),
        "revoke" => format!("revoke {}", of("token").unwrap()),
        session => session.to_owned(),
    };
    let secrets = [of("code"), of("code_verifier"), of("client_secret"), of("token"), bearer];
    let scripted_answer = scripted.scripts.lock().unwrap().get_mut(&about).and_then(VecDeque::pop_front);
    let answer = scripted_answer.unwrap_or_else(|| scripted.good(&end));
    match answer["fault"].as_str() {
        // Ends the connection without an answer, and without a word on standard error.
        Some("reset") => std::panic::resume_unwind(Box::new("reset")),
        Some("hang") => std::future::pending().await,
        _ => spoken(&answer, &secrets.into_iter().flatten().collect::<Vec<_>>()),
    }
}

/// An answer with the secrets where it asks for them.
fn spoken(answer: &Value, secrets: &[String]) -> Response {
    let each = secrets.iter().flat_map(|secret| {
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let component = utf8_percent_encode(secret, COMPONENT).to_string();
        let lower =
            form.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d").replace("%7E", "%7e");
        [secret.clone(), form, lower, component]
    });
    let all = each.collect::<Vec<_>>().join(" ");
    let text = match (&answer["body"], answer["body_base64"].as_str()) {
        (_, Some(base64)) => data_encoding::BASE64.decode(base64.as_bytes()).unwrap(),
        (Value::Null, None) => Vec::new(),
        (Value::String(text), None) => text.replace(ALL, &all).into_bytes(),
        (json, None) => json.to_string().replace(ALL, &all).into_bytes(),
    };
    let mut response =
        Response::builder().status(u16::try_from(answer["status"].as_u64().unwrap_or(200)).unwrap());
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        response = response.header(name, value.as_str().unwrap().replace(ALL, &all));
    }
    response.body(Body::from(text)).unwrap()
}
