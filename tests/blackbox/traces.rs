//! W3C trace context: what a caller says of its trace is in the log, and goes on to the provider.

use std::fs;

use cairld::api::proto::{CompleteAuthorizationRequest, GetSessionRequest, get_session_request::Lookup};
use serde_json::{Value, json};
use tonic::Request;

use crate::support::{
    Client, Daemon, World, complete_request,
    http::{exchange, post, signed},
    signature,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn parent(span: u64) -> String {
    format!("00-{TRACE}-{span:016x}-01")
}

impl Client {
    fn traced<T>(&self, message: T, headers: &[(&'static str, &str)]) -> Request<T> {
        let mut request = self.request(message);
        for (name, value) in headers {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    async fn completed_with(&mut self, callback: &str, headers: &[(&'static str, &str)]) {
        let request: Request<CompleteAuthorizationRequest> = self.traced(complete_request(callback), headers);
        self.integration.complete_authorization(request).await.unwrap();
    }
}

/// Trace, span and flags of what a request said.
fn parts(entry: &Value) -> Vec<String> {
    let said = entry["traceparent"].as_str().unwrap_or_else(|| panic!("{entry}"));
    said.split('-').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_s_trace_goes_on_to_the_provider_and_is_in_the_log() {
    let world = World::new().await;
    let daemon = Daemon::start_with(&world.config(), &[("RUST_LOG", "info,cairld=debug")]);
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    // The first attempt is refused, and the retry is a span of its own.
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 503})).await;
    let (one, state) = (parent(1), "rojo=1,congo=t61rcWkgMzE");
    client.completed_with(&callback, &[("traceparent", &one), ("tracestate", state)]).await;

    let mut spans = Vec::new();
    for entry in world.provider.journal("/api/oauth").await {
        let said = parts(&entry);
        assert_eq!((&said[0][..], &said[1][..], &said[3][..]), ("00", TRACE, "01"), "{entry}");
        assert_eq!(entry["tracestate"], state, "{entry}");
        spans.push(said[2].clone());
    }
    let sent = spans.len();
    assert_eq!(sent, 3, "two token requests, one for the claims");
    spans.push(format!("{:016x}", 1));
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), sent + 1, "each a span of its own, none the caller's");

    // The session query too; and what comes after it without a trace says of none.
    let (other, callback) = world.approved(&mut client).await;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 402})).await;
    client.completed(&callback).await.unwrap_err();
    let lookup = Some(Lookup::SessionId(other));
    let refresh = GetSessionRequest { lookup, refresh: true };
    client.integration.get_session(client.traced(refresh, &[("traceparent", &parent(2))])).await.unwrap();
    let asked = world.provider.journal("/api/verify/hvf-session").await;
    assert_eq!(parts(asked.last().unwrap())[1], TRACE);
    client.revoke(&id).await.unwrap();
    client.no_revocation_waits().await;
    for path in ["/api/oauth/revoke", "/api/oauth/token"] {
        let entry = world.provider.journal(path).await.pop().unwrap();
        assert_eq!((entry.get("traceparent"), entry.get("tracestate")), (None, None), "{entry}");
    }

    // A webhook's trace is the provider's own.
    let body = br#"{"id":"e","type":"vae.resolved"}"#;
    let headers = [signed(&signature(body)), format!("traceparent: {}", parent(3).replace("0af7", "beef"))];
    assert_eq!(exchange(&daemon.webhooks(), &post("/webhooks/shop", &headers, body)).await.status, 200);

    let log = daemon.kill();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let completed: Vec<_> = lines
        .iter()
        .filter(|line| line["session"] == id.as_str() && line["method"] == "CompleteAuthorization")
        .collect();
    assert!(completed.len() > 4, "{log}");
    for line in completed {
        assert_eq!(line["trace_id"], TRACE, "{line}");
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16, "{line}");
    }
    let untraced = lines.iter().filter(|line| line["method"] == "RevokeToken");
    assert!(
        untraced.clone().count() > 0 && untraced.clone().all(|line| line.get("trace_id").is_none()),
        "{log}"
    );
    let kept = lines.iter().find(|line| line["message"] == "a webhook is kept").unwrap();
    assert_eq!(kept["trace_id"], TRACE.replace("0af7", "beef"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_trace_goes_nowhere_and_does_no_harm() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (good, long) = (parent(1), format!("a={}", "x".repeat(520)));
    let upper = good.to_uppercase();
    for headers in [
        &[("traceparent", "00-0-0-0")][..],
        &[("traceparent", upper.as_str())],
        &[("traceparent", good.as_str()), ("traceparent", good.as_str())],
        &[("tracestate", "a=1")],
    ] {
        world.provider.clear_journal().await;
        let (_, callback) = world.approved(&mut client).await;
        client.completed_with(&callback, headers).await;
        for entry in world.provider.journal("/api/oauth").await {
            assert!(
                entry.get("traceparent").is_none() && entry.get("tracestate").is_none(),
                "{headers:?}: {entry}"
            );
        }
    }
    world.provider.clear_journal().await;
    let (_, callback) = world.approved(&mut client).await;
    client.completed_with(&callback, &[("traceparent", &good), ("tracestate", &long)]).await;
    for entry in world.provider.journal("/api/oauth").await {
        assert_eq!((parts(&entry)[1].as_str(), entry.get("tracestate")), (TRACE, None), "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_keep_traces_to_itself() {
    let world = World::new().await;
    let text = world.config_text().replace("redirect_uris", "pass_trace = false\nredirect_uris");
    fs::write(world.config(), text).unwrap();
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    client.completed_with(&callback, &[("traceparent", &parent(1)), ("tracestate", "a=1")]).await;
    let journal = world.provider.journal("/api/oauth").await;
    assert_eq!(journal.len(), 2);
    for entry in journal {
        assert!(entry.get("traceparent").is_none() && entry.get("tracestate").is_none(), "{entry}");
    }
}
