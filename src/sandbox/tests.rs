//! The sandbox as its users meet it: over sockets.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Router, body::Bytes};
use reqwest::{Client as Http, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use url::Url;

use super::authorize::tests::{CHALLENGE, client};
use super::world::tests::param;
use super::*;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const STATE: &str = "a state of sixteen and more";
const ME: &str = "Bearer cairl_test_shop";

struct Sandbox {
    base: String,
    http: Http,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

/// Adds nothing of its own to what is sent: no retry, no redirect, no connection used twice.
fn http() -> Http {
    Http::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .unwrap()
}

async fn sandbox() -> Sandbox {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = Settings { clients: vec![client()], daily_cap: None };
    let task = tokio::spawn(run(listener, settings, async {
        let _ = stopped.await;
    }));
    Sandbox { base, http: http(), stop, task }
}

impl Sandbox {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn authorization_url(&self, changes: &[(&str, &str)]) -> String {
        let mut pairs = vec![
            ("client_id", "cairl_test_shop"),
            ("redirect_uri", "https://shop.example/cb"),
            ("state", STATE),
            ("scope", "age_18_plus name_match"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in changes {
            pairs.retain(|(key, _)| key != name);
            pairs.push((name, value));
        }
        Url::parse_with_params(&self.url("/verify/start"), pairs).unwrap().into()
    }

    async fn get(&self, url: &str) -> Response {
        self.http.get(url).send().await.unwrap()
    }

    async fn control(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.http.post(self.url(path)).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn decide(&self, outcome: &str, claims: Value) -> Value {
        let mut body = json!({"authorization_url": self.authorization_url(&[]), "outcome": outcome});
        if !claims.is_null() {
            body["claims"] = claims;
        }
        let (status, answer) = self.control("/sandbox/decide", body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn approve(&self) -> (String, String) {
        let answer = self.decide("approve", Value::Null).await;
        let code = param(answer["callback_url"].as_str().unwrap(), "code").unwrap();
        (code, answer["session_id"].as_str().unwrap().to_owned())
    }

    async fn redeem(&self, code: &str) -> reqwest::Result<Response> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", "cairl_test_shop"),
            ("client_secret", "the shop's secret"),
            ("redirect_uri", "https://shop.example/cb"),
            ("code_verifier", VERIFIER),
        ];
        self.http.post(self.url("/api/oauth/token")).form(&form).send().await
    }

    async fn token(&self, code: &str) -> String {
        let answer: Value = self.redeem(code).await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, path: &str, authorization: &str) -> (u16, Value) {
        let answer =
            self.http.get(self.url(path)).header("authorization", authorization).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn journal(&self) -> Vec<Value> {
        self.get(&self.url("/sandbox/journal")).await.json().await.unwrap()
    }

    async fn fault(&self, fault: Value) {
        assert_eq!(self.control("/sandbox/faults", json!([fault])).await.0, 204);
    }
}

fn location(answer: &Response) -> String {
    assert_eq!(answer.status(), 303);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_browser_goes_all_the_way() {
    let sandbox = sandbox().await;
    let page = sandbox.get(&sandbox.authorization_url(&[])).await;
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("<b>Shop</b>") && page.contains("name=\"claim.name_match\""), "{page}");
    let action = page.split("action=\"").nth(1).unwrap().split('"').next().unwrap();
    let id = action.rsplit('/').next().unwrap();
    let session = format!("/api/verify/hvf-session/{id}");
    let (_, seen) = sandbox.ask(&session, ME).await;
    assert_eq!(seen["session"]["status"], "authenticated");
    assert_eq!(seen["session"]["scopes"], json!(["age_18_plus", "name_match"]));
    assert_eq!(seen["session"]["isTestMode"], true);

    let submit = |outcome| {
        let form = [("claim.age_18_plus", "false"), ("claim.name_match", "null"), ("outcome", outcome)];
        sandbox.http.post(sandbox.url(action)).form(&form).send()
    };
    let away = submit("leave").await.unwrap();
    assert!(away.text().await.unwrap().contains("The user has left"));
    assert_eq!(submit("nonsense").await.unwrap().status(), 400);
    let callback = location(&submit("approve").await.unwrap());
    assert_eq!(param(&callback, "state").unwrap(), STATE);
    assert_eq!(param(&callback, "session_id").unwrap(), id);

    let answer = sandbox.redeem(&param(&callback, "code").unwrap()).await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let token: Value = answer.json().await.unwrap();
    assert_eq!((&token["token_type"], &token["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let token = token["access_token"].as_str().unwrap();
    assert_eq!(token.split('.').count(), 3);
    let (status, info) = sandbox.ask("/api/oauth/userinfo", &format!("Bearer {token}")).await;
    assert_eq!(status, 200);
    assert_eq!(info["claims"], json!({"age_18_plus": false, "name_match": null}));
    assert_eq!(info["meta"]["claims_null"], json!(["name_match"]));
    assert_eq!(sandbox.ask(&session, ME).await.1["session"]["status"], "complete");
}

#[tokio::test]
async fn reloading_the_page_keeps_the_session_and_an_expired_one_yields_no_code() {
    let sandbox = sandbox().await;
    let open = || async {
        let page = sandbox.get(&sandbox.authorization_url(&[])).await.text().await.unwrap();
        page.split("action=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let first = open().await;
    assert_eq!(open().await, first);
    assert_eq!(sandbox.control("/sandbox/clock", json!({"advance_s": 1800})).await.0, 200);
    let late = sandbox.http.post(sandbox.url(&first)).form(&[("outcome", "approve")]).send().await.unwrap();
    let callback = location(&late);
    assert_eq!(param(&callback, "error").unwrap(), "session_expired");
    assert_eq!(param(&callback, "code"), None);
    assert_ne!(open().await, first);
    let id = first.rsplit('/').next().unwrap();
    let (status, answer) = sandbox.ask(&format!("/api/verify/hvf-session/{id}"), ME).await;
    assert_eq!((status, answer), (404, json!({"success": false, "error": "Session not found or expired"})));
}

#[tokio::test]
async fn a_stranger_sees_a_page_and_a_known_client_is_told() {
    let sandbox = sandbox().await;
    for wrong in [("client_id", "nobody"), ("redirect_uri", "https://evil.example/<script>")] {
        let answer = sandbox.get(&sandbox.authorization_url(&[wrong])).await;
        assert_eq!(answer.status(), 400);
        assert!(!answer.headers().contains_key("location"));
        let page = answer.text().await.unwrap();
        assert!(!page.contains("<script"), "{page}");
    }
    let answer = sandbox.get(&sandbox.authorization_url(&[("code_challenge_method", "plain")])).await;
    let callback = location(&answer);
    assert_eq!(param(&callback, "error").unwrap(), "invalid_request");
    assert_eq!(param(&callback, "state").unwrap(), STATE);
}

#[tokio::test]
async fn deciding_over_the_control_api_is_what_the_browser_does() {
    let sandbox = sandbox().await;
    for (outcome, error) in
        [("decline", "access_denied"), ("fail", "verification_failed"), ("expire", "session_expired")]
    {
        let answer = sandbox.decide(outcome, Value::Null).await;
        assert_eq!(param(answer["callback_url"].as_str().unwrap(), "error").unwrap(), error);
    }
    let answer = sandbox.decide("approve", json!({"age_18_plus": null, "extra": {"deep": [1]}})).await;
    let token = sandbox.token(&param(answer["callback_url"].as_str().unwrap(), "code").unwrap()).await;
    let (_, info) = sandbox.ask("/api/oauth/userinfo", &format!("Bearer {token}")).await;
    assert_eq!(info["claims"], json!({"age_18_plus": null, "name_match": true, "extra": {"deep": [1]}}));

    let url = sandbox.authorization_url(&[("scope", " ")]);
    let (status, answer) =
        sandbox.control("/sandbox/decide", json!({"authorization_url": url, "outcome": "approve"})).await;
    assert_eq!((status, &answer["session_id"]), (200, &Value::Null));
    assert_eq!(param(answer["callback_url"].as_str().unwrap(), "error").unwrap(), "invalid_request");
}

#[tokio::test]
async fn a_code_is_good_once_and_using_it_twice_costs_the_token() {
    let sandbox = sandbox().await;
    let (code, _) = sandbox.approve().await;
    let token = format!("Bearer {}", sandbox.token(&code).await);
    assert_eq!(sandbox.ask("/api/oauth/userinfo", &token).await.0, 200);
    let again = sandbox.redeem(&code).await.unwrap();
    assert_eq!(again.status(), 400);
    let error: Value = again.json().await.unwrap();
    assert_eq!(
        error,
        json!({"error": "invalid_grant", "error_description": "Authorization code has expired or already been used"})
    );
    let refused = (401, json!({"success": false, "error": "Unauthorized"}));
    assert_eq!(sandbox.ask("/api/oauth/userinfo", &token).await, refused);

    let (code, _) = sandbox.approve().await;
    sandbox.control("/sandbox/clock", json!({"advance_s": 600})).await;
    assert_eq!(sandbox.redeem(&code).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_revoked_token_is_refused() {
    let sandbox = sandbox().await;
    let (code, _) = sandbox.approve().await;
    let token = sandbox.token(&code).await;
    let mut form = vec![
        ("token", token.as_str()),
        ("client_id", "cairl_test_shop"),
        ("client_secret", "the shop's secret"),
    ];
    let revoke =
        |form: &[(&str, &str)]| sandbox.http.post(sandbox.url("/api/oauth/revoke")).form(form).send();
    let answer = revoke(&form).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap().len(), 0);
    assert_eq!(sandbox.ask("/api/oauth/userinfo", &format!("Bearer {token}")).await.0, 401);
    form[2].1 = "wrong";
    assert_eq!(revoke(&form).await.unwrap().status(), 401);
    assert_eq!(revoke(&form[1..]).await.unwrap().status(), 400);
}

#[tokio::test]
async fn limits_answer_429_in_the_manner_of_their_endpoint() {
    let sandbox = sandbox().await;
    for _ in 0..30 {
        assert_eq!(sandbox.redeem("unknown").await.unwrap().status(), 400);
    }
    let refused = sandbox.redeem("unknown").await.unwrap();
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    sandbox.control("/sandbox/clock", json!({"advance_s": wait})).await;
    assert_eq!(sandbox.redeem("unknown").await.unwrap().status(), 400);

    for _ in 0..60 {
        assert_eq!(sandbox.ask("/api/verify/hvf-session/hvf_x", ME).await.0, 404);
    }
    let refused = (429, json!({"success": false, "error": "Too Many Requests"}));
    assert_eq!(sandbox.ask("/api/verify/hvf-session/hvf_x", ME).await, refused);
}

#[tokio::test]
async fn a_body_must_be_a_form_and_not_too_big() {
    let sandbox = sandbox().await;
    let post = |kind, body: String| {
        sandbox.http.post(sandbox.url("/api/oauth/token")).header("content-type", kind).body(body).send()
    };
    let answer: Value = post("application/json", "{}".into()).await.unwrap().json().await.unwrap();
    assert_eq!(answer["error"], "invalid_request");
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    assert_eq!(post(form, "x".repeat(64 * 1024)).await.unwrap().status(), 400);
    assert_eq!(post(form, "x".repeat(64 * 1024 + 1)).await.unwrap().status(), 413);
}

#[tokio::test]
async fn scripted_answers_come_in_order_and_then_the_ordinary_ones() {
    let sandbox = sandbox().await;
    let (code, _) = sandbox.approve().await;
    let body = json!({"error": "server_error"});
    sandbox.fault(json!({"endpoint": "token", "times": 2, "status": 503, "headers": {"Retry-After": "7"}, "body": body})).await;
    sandbox.fault(json!({"endpoint": "token", "body": "<html>", "delay_ms": 1, "headers": {"content-type": "text/html"}})).await;
    sandbox.fault(json!({"endpoint": "token", "delay_ms": 1})).await;
    for _ in 0..2 {
        let answer = sandbox.redeem(&code).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"7".parse().unwrap())
        );
        assert_eq!(answer.json::<Value>().await.unwrap(), body);
    }
    let answer = sandbox.redeem(&code).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"text/html".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), "<html>");
    assert_eq!(sandbox.redeem(&code).await.unwrap().status(), 200);

    sandbox.fault(json!({"endpoint": "userinfo", "status": 500})).await;
    assert_eq!(sandbox.control("/sandbox/faults", json!([])).await.0, 204);
    let (status, _) = sandbox.ask("/api/oauth/userinfo", "Bearer x").await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_reset_before_leaves_the_code_unspent_and_a_reset_after_does_not() {
    let sandbox = sandbox().await;
    let (code, _) = sandbox.approve().await;
    sandbox.fault(json!({"endpoint": "token", "fault": "reset_before"})).await;
    let error = sandbox.redeem(&code).await.unwrap_err();
    assert!(error.is_request() && !error.is_connect() && error.status().is_none(), "{error:?}");
    assert_eq!(sandbox.redeem(&code).await.unwrap().status(), 200);

    let (code, _) = sandbox.approve().await;
    sandbox.fault(json!({"endpoint": "token", "fault": "reset_after"})).await;
    sandbox.redeem(&code).await.unwrap_err();
    assert_eq!(sandbox.redeem(&code).await.unwrap().status(), 400, "spent by the request that got no answer");
    let statuses: Vec<Value> = sandbox.journal().await.iter().map(|entry| entry["status"].clone()).collect();
    assert_eq!(statuses, [json!(null), json!(200), json!(null), json!(400)]);
}

#[tokio::test]
async fn a_reset_sends_not_one_byte() {
    let sandbox = sandbox().await;
    sandbox.fault(json!({"endpoint": "userinfo", "fault": "reset_before"})).await;
    let mut stream = TcpStream::connect(sandbox.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /api/oauth/userinfo HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).await.unwrap_err();
    assert_eq!((error.kind(), received.len()), (io::ErrorKind::ConnectionReset, 0));
}

#[tokio::test]
async fn a_hanging_answer_comes_not_at_all_or_not_to_an_end() {
    let sandbox = sandbox().await;
    let patience = std::time::Duration::from_millis(50);
    sandbox.fault(json!({"endpoint": "session", "fault": "hang"})).await;
    let url = sandbox.url("/api/verify/hvf-session/hvf_x");
    assert!(sandbox.http.get(&url).timeout(patience).send().await.unwrap_err().is_timeout());

    sandbox.fault(json!({"endpoint": "session", "fault": "hang_body", "status": 201, "body": "{\"a"})).await;
    let mut answer = sandbox.get(&url).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "{\"a");
    assert!(tokio::time::timeout(patience, answer.chunk()).await.is_err());
}

#[tokio::test]
async fn the_journal_has_every_request_in_order_without_secrets() {
    let sandbox = sandbox().await;
    let (code, id) = sandbox.approve().await;
    sandbox.get(&sandbox.authorization_url(&[])).await;
    let token = sandbox.token(&code).await;
    sandbox.redeem(&code).await.unwrap();
    sandbox.ask(&format!("/api/verify/hvf-session/{id}"), ME).await;
    assert_eq!(sandbox.get(&sandbox.url("/api/oauth/token")).await.status(), 405);
    let journal = sandbox.journal().await;
    let seen: Vec<_> =
        journal.iter().map(|e| (e["method"].as_str().unwrap(), e["path"].as_str().unwrap())).collect();
    let session = format!("/api/verify/hvf-session/{id}");
    assert_eq!(
        seen,
        [
            ("GET", "/verify/start"),
            ("POST", "/api/oauth/token"),
            ("POST", "/api/oauth/token"),
            ("GET", session.as_str()),
            ("GET", "/api/oauth/token"),
        ]
    );
    assert_eq!(journal[1]["form"]["code_digest"], journal[2]["form"]["code_digest"]);
    assert_eq!(journal[1]["form"]["client_id"], "cairl_test_shop");
    assert_eq!(journal[4]["status"], 405);
    let text = serde_json::to_string(&journal).unwrap();
    for secret in [code.as_str(), &token, VERIFIER, "the shop", STATE] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let cleared = sandbox.http.delete(sandbox.url("/sandbox/journal")).send().await.unwrap();
    assert_eq!(cleared.status(), 204);
    assert_eq!(sandbox.journal().await, Vec::<Value>::new());
}

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
async fn the_control_api_says_what_is_wrong_and_where() {
    let sandbox = sandbox().await;
    let url = sandbox.authorization_url(&[]);
    let other = sandbox.authorization_url(&[("redirect_uri", "https://shop.example/")]);
    let root = url.replace("/verify/start", "/");
    for (path, body, words) in [
        ("clients", json!({"client_id": "a"}), "client_secret"),
        (
            "clients",
            json!({"client_id": "a", "client_secret": "b", "redirect_uris": []}),
            "redirect_uris is empty",
        ),
        (
            "clients",
            json!({"client_id": "a", "client_secret": "b", "redirect_uri": "c"}),
            "unknown field `redirect_uri`",
        ),
        ("decide", json!({"authorization_url": "x", "outcome": "approve"}), "authorization_url is not"),
        ("decide", json!({"authorization_url": root, "outcome": "approve"}), "/verify/start"),
        ("decide", json!({"authorization_url": other, "outcome": "approve"}), "invalid_redirect_uri"),
        (
            "decide",
            json!({"authorization_url": url, "outcome": "accept"}),
            "unknown variant `accept`, expected one of",
        ),
        ("decide", json!({"authorization_url": url, "outcome": "fail", "claims": {}}), "claims"),
        ("faults", json!([{"endpoint": "token", "status": 500}, {"endpoint": "token"}]), "[1]."),
        ("faults", json!([{"endpoint": "tokens", "status": 500}]), "unknown variant `tokens`"),
        ("faults", json!([{"endpoint": "token", "status": "500"}]), "[0].status"),
        ("webhooks", json!({"client_id": "a", "body": ""}), "client_id is not registered"),
        ("webhooks", json!({"client_id": "cairl_test_shop", "body": ""}), "webhook_url"),
        ("webhooks", json!({"client_id": "cairl_test_shop", "body": "", "times": 0}), "times"),
        ("clock", json!({"advance_s": -1}), "advance_s"),
        ("clock", json!({"advance_s": u64::MAX}), "advance_s"),
    ] {
        let (status, answer) = sandbox.control(&format!("/sandbox/{path}"), body.clone()).await;
        let error = answer["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(words), "{path} {body}: {status} {error}");
    }
}

#[tokio::test]
async fn it_ends_when_told_even_with_a_request_in_hand() {
    let sandbox = sandbox().await;
    sandbox.fault(json!({"endpoint": "userinfo", "fault": "hang"})).await;
    let mut stream = TcpStream::connect(sandbox.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /api/oauth/userinfo HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sandbox.stop.send(()).unwrap();
    sandbox.task.await.unwrap().unwrap();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received).await;
    assert_eq!(received.len(), 0);
}

#[test]
fn strangers_are_kept_out_unless_invited() {
    for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(check_listen(address.parse().unwrap(), false).is_ok(), "{address}");
    }
    for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
        let refused = check_listen(address.parse().unwrap(), false).unwrap_err();
        assert!(refused.to_string().starts_with(address));
        assert!(check_listen(address.parse().unwrap(), true).is_ok());
    }
}
