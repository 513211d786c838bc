//! The sandbox as its users meet it: over sockets.

mod hooks;
mod page;
mod steering;

use reqwest::{Client as Http, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
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
    let settings = Settings { clients: vec![client()], ..Settings::default() };
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
