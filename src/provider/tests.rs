//! The client over real sockets: against the sandbox, and against a server that answers whatever a test likes.

use std::sync::Arc;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use url::Url;

use super::*;
use crate::{
    domain::{
        ApiKey, Attribute, BootTime, ClientName, ClientSecret, Clock, Moment, Notes, ProviderStatus, Reason,
        SpanKind, TraceContext,
    },
    sandbox,
};

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Moment {
        Moment { wall: Timestamp::from_millis(1_767_225_600_000), boot: BootTime::default() }
    }
}

const CLIENT_SECRET: &str = "client-secret-canary";
const CODE: &str = "code-canary";

fn provider(base: &str) -> HttpProvider {
    traced_provider(base, true, &Arc::default())
}

fn traced_provider(base: &str, pass_trace: bool, tracer: &Arc<Notes>) -> HttpProvider {
    let url = |path: &str| Url::parse(&format!("{base}{path}")).unwrap();
    let settings = Settings {
        client: ClientName::parse("shop").unwrap(),
        token: url("/api/oauth/token"),
        userinfo: url("/api/oauth/userinfo"),
        revoke: url("/api/oauth/revoke"),
        session: url("/api/verify/hvf-session"),
        client_id: ApiKey::new("cairl_test_key"),
        client_secret: ClientSecret::new(CLIENT_SECRET),
        api_key: ApiKey::new("cairl_test_key"),
        roots: None,
        proxy: None,
        pass_trace,
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(2),
    };
    let metrics = ProviderMetrics::default();
    let tracer = Arc::clone(tracer);
    HttpProvider::new(settings, Arc::new(StoppedClock), metrics, tracer).unwrap()
}

fn errand() -> Errand {
    Errand { session: SessionId::new(Timestamp::from_millis(0), [7; 10]), trace: None }
}

fn request() -> TokenRequest {
    TokenRequest {
        code: AuthorizationCode::new(CODE),
        verifier: CodeVerifier::new("verifier-canary"),
        redirect_uri: "http://127.0.0.1/callback".into(),
    }
}

/// A server that answers each connection with these bytes and closes it; and how many connections it had.
async fn answering(answer: impl Into<Vec<u8>>) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (answer, count) = (answer.into(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut request = [0; 8192];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (base, count)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

/// What a token request comes to: a word for how it ended, and the reason where there is one.
fn ended(end: &ExchangeEnd) -> (&'static str, Option<Reason>) {
    match end {
        ExchangeEnd::Token { .. } => ("token", None),
        ExchangeEnd::Refused { verdict, .. } if verdict.keeps_session => ("kept", Some(verdict.reason)),
        ExchangeEnd::Refused { verdict, .. } => ("refused", Some(verdict.reason)),
        ExchangeEnd::NeverSent { .. } => ("never sent", None),
        ExchangeEnd::Lost { reason, .. } => ("lost", Some(*reason)),
    }
}

#[tokio::test]
async fn each_answer_of_the_token_endpoint_has_its_meaning_and_is_asked_for_once() {
    let token = r#"{"access_token":"a","token_type":"Bearer"}"#;
    let cases = [
        (http("200 OK", "", token), ("token", None)),
        (http("201 Created", "", token), ("token", None)),
        (http("200 OK", "", "<html>sign in</html>"), ("lost", Some(Reason::ProviderProtocol))),
        (http("200 OK", "", r#"{"access_token":"a","#), ("lost", Some(Reason::ProviderProtocol))),
        (
            http("200 OK", "", &format!("{token}{}", " ".repeat(65 * 1024))),
            ("lost", Some(Reason::ProviderProtocol)),
        ),
        (http("200 OK", "content-encoding: gzip\r\n", "\x1f\x08"), ("lost", Some(Reason::ProviderProtocol))),
        (http("302 Found", "location: /elsewhere\r\n", ""), ("lost", Some(Reason::ProviderProtocol))),
        (
            http("307 Temporary Redirect", "location: /elsewhere\r\n", ""),
            ("lost", Some(Reason::ProviderProtocol)),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"acc".into(),
            ("lost", Some(Reason::OutcomeUnknown)),
        ),
        (String::new(), ("lost", Some(Reason::OutcomeUnknown))),
        ("not HTTP at all\r\n\r\n".into(), ("lost", Some(Reason::OutcomeUnknown))),
        (
            http("400 Bad Request", "", r#"{"error":"invalid_grant"}"#),
            ("refused", Some(Reason::InvalidGrant)),
        ),
        (http("403 Forbidden", "", "<html>firewall</html>"), ("kept", Some(Reason::ProviderRefused))),
        (http("429 Too Many Requests", "retry-after: 7\r\n", ""), ("kept", Some(Reason::RateLimited))),
        (http("503 Service Unavailable", "", "busy"), ("kept", Some(Reason::ProviderError))),
    ];
    for (answer, expected) in cases {
        let (base, count) = answering(answer.clone()).await;
        let end = provider(&base).exchange(&errand(), request()).await;
        assert_eq!(ended(&end), expected, "{}", answer.lines().next().unwrap_or("(closed)"));
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1, "{answer:.60}");
        if let ExchangeEnd::Refused { said, .. } = &end
            && said.http_status == 429
        {
            assert_eq!(said.retry_after, Some(Duration::from_secs(7)));
        }
    }
}

#[tokio::test]
async fn a_connection_that_was_never_made_is_told_from_a_lost_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = provider(&base);
    assert_eq!(ended(&refused.exchange(&errand(), request()).await).0, "never sent");
    assert!(refused.contact().failed.is_some());
    // A TLS handshake that fails has sent no request either.
    let (base, _) = answering("no TLS here").await;
    let tls = provider(&base.replace("http:", "https:"));
    assert_eq!(ended(&tls.exchange(&errand(), request()).await).0, "never sent");
}

#[tokio::test]
async fn what_the_provider_says_cannot_carry_our_secrets_back() {
    let body =
        json!({"error": "invalid_grant", "error_description": format!("{CODE} {CLIENT_SECRET} is spent")});
    let (base, _) = answering(http("400 Bad Request", "", &body.to_string())).await;
    let ExchangeEnd::Refused { said, .. } = provider(&base).exchange(&errand(), request()).await else {
        panic!("not refused")
    };
    assert_eq!(said.description, "[masked] [masked] is spent");
}

#[tokio::test]
async fn the_other_endpoints_have_reasons_of_their_own() {
    let id = ProviderSessionId::parse("hvf_1").unwrap();
    let forbidden =
        json!({"success": false, "error": "Forbidden: this session belongs to a different API key"});
    for (answer, reason) in [
        (http("403 Forbidden", "", &forbidden.to_string()), Reason::ForeignSession),
        (http("404 Not Found", "", "{}"), Reason::ProviderSessionNotFound),
        (http("401 Unauthorized", "", r#"{"error":"Invalid or inactive API key"}"#), Reason::InvalidApiKey),
        (http("200 OK", "", "<html>"), Reason::ProviderProtocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"suc".into(), Reason::ProviderUnreachable),
        (String::new(), Reason::ProviderUnreachable),
    ] {
        let (base, _) = answering(answer).await;
        let end = provider(&base).session(&errand(), &id).await;
        assert!(
            matches!(&end, QueryEnd::Refused { refusal, was_sent: true } if refusal.reason == reason),
            "{end:?}"
        );
    }
    let token = AccessToken::new("t");
    let (base, _) = answering(http("401 Unauthorized", "", "")).await;
    assert!(matches!(provider(&base).userinfo(&errand(), &token).await, ClaimsEnd::TokenRefused(_)));
    let (base, _) = answering(http("404 Not Found", "", "")).await;
    let end = provider(&base).userinfo(&errand(), &token).await;
    assert!(matches!(end, ClaimsEnd::Failed { reason: Reason::ProviderRefused, .. }), "{end:?}");
}

#[tokio::test]
async fn the_sandbox_understands_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let client = sandbox::Client {
        client_id: "cairl_test_key".into(),
        client_secret: CLIENT_SECRET.into(),
        redirect_uris: vec!["http://127.0.0.1/callback".into()],
        webhook_url: None,
        webhook_secret: None,
        name: None,
    };
    let settings = sandbox::Settings { clients: vec![client], ..sandbox::Settings::default() };
    tokio::spawn(sandbox::run(listener, settings, std::future::pending()));
    let verifier = CodeVerifier::from_random([7; 32]);
    let url = Url::parse_with_params(
        &format!("{base}/verify/start"),
        [
            ("client_id", "cairl_test_key"),
            ("redirect_uri", "http://127.0.0.1/callback"),
            ("state", "0123456789abcdef"),
            ("scope", "age_18_plus"),
            ("code_challenge", verifier.challenge().as_str()),
            ("code_challenge_method", "S256"),
        ],
    )
    .unwrap();
    let body = json!({"authorization_url": url.as_str(), "outcome": "approve"});
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let decided = http.post(format!("{base}/sandbox/decide")).json(&body).send().await.unwrap();
    let decided: serde_json::Value = decided.json().await.unwrap();
    let callback = Url::parse(decided["callback_url"].as_str().unwrap()).unwrap();
    let code = callback.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();

    let provider = provider(&base);
    let request = TokenRequest { code: AuthorizationCode::new(code), verifier, ..request() };
    let ExchangeEnd::Token { token, .. } = provider.exchange(&errand(), request).await else {
        panic!("no token")
    };
    assert!(
        matches!(provider.userinfo(&errand(), &token).await, ClaimsEnd::Claims(info) if info.claims["age_18_plus"] == "true")
    );
    let id = ProviderSessionId::parse(decided["session_id"].as_str().unwrap()).unwrap();
    let end = provider.session(&errand(), &id).await;
    assert!(matches!(end, QueryEnd::Status(Some(ProviderStatus::Complete))), "{end:?}");
    provider.revoke(&errand(), &token).await.unwrap();
    assert!(matches!(provider.userinfo(&errand(), &token).await, ClaimsEnd::TokenRefused(_)));
    assert_eq!(provider.contact().answered.unwrap().1, 401);
}

/// A server that answers nothing but 503, and hands on the heads of its requests.
async fn listening() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (heads, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let _ = heads.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(http("503 Service Unavailable", "", "busy").as_bytes()).await;
        }
    });
    (base, heard)
}

#[tokio::test]
async fn a_trace_goes_on_to_the_provider_where_it_may_and_is_recorded_anyway() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::said([parent], ["a=1"]);
    let errand = Errand { trace: trace.clone(), ..errand() };
    for passes in [true, false] {
        let (base, mut heard) = listening().await;
        let tracer = Arc::<Notes>::default();
        let provider = traced_provider(&base, passes, &tracer);
        provider.exchange(&errand, request()).await;
        let head = heard.recv().await.unwrap();
        let said = head.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01\r\n");
        assert_eq!((said, head.contains("tracestate: a=1\r\n")), (passes, passes), "{head}");

        let [span] = &tracer.ended.lock().unwrap()[..] else { panic!("one span") };
        assert_eq!((span.kind, span.name.as_str()), (SpanKind::Sent, "POST token"));
        assert_eq!(span.context.parent, trace.as_ref().map(|trace| trace.span));
        assert_eq!((span.session, span.failed.as_deref()), (Some(errand.session), Some("503")));
        assert!(span.attributes.contains(&("http.response.status_code", Attribute::Number(503))), "{span:?}");
    }

    // Nobody asked for it in a trace.
    let (base, mut heard) = listening().await;
    provider(&base).userinfo(&Errand { trace: None, ..errand }, &AccessToken::new("t")).await;
    assert!(!heard.recv().await.unwrap().contains("trace"));
}
