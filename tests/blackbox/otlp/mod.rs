//! Spans at a collector, in a build with the feature `otlp`: what they say, and that a collector that is ill does no harm.

mod collector;

use std::time::Duration;

use serde_json::json;
use tokio::{net::TcpListener, task::spawn_blocking, time::timeout};
use tonic::Request;

use self::collector::{Collector, Span};
use crate::support::{
    CHECKOUT, CLIENT_ID, Client, Daemon, SURELY, WEBHOOK_SECRET, World, complete_request,
    http::{exchange, post, signed},
    parameter, refused, signature,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// What the collector wants to be shown.
const KEY: &str = "canary-collector-key";

fn daemon(world: &World, url: &str, more: &[(&str, &str)]) -> Daemon {
    let mut environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    environment.extend_from_slice(more);
    Daemon::start_with(&world.config(), &environment)
}

fn with_parent<T>(mut request: Request<T>, flags: &str) -> Request<T> {
    let parent = format!("00-{TRACE}-{CALLER}-{flags}");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name.ends_with(name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_and_its_requests_are_spans_of_the_caller_s_trace() {
    let world = World::new().await;
    let mut collector = Collector::start().await;
    let headers = format!("x-key={KEY}");
    let daemon =
        daemon(&world, &collector.url, &[("OTEL_EXPORTER_OTLP_HEADERS", &headers), ("RUST_LOG", "trace")]);
    let mut client = Client::tcp(daemon.tcp(), Some(CHECKOUT)).await;
    let started = client.started().await;
    let callback = world.provider.approve(&started.authorization_url).await;
    let id = started.session.unwrap().id;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 402})).await;
    let complete = async |client: &mut Client| {
        let request = with_parent(client.request(complete_request(callback.as_str())), "01");
        client.integration.complete_authorization(request).await
    };
    refused(complete(&mut client).await);
    let session = complete(&mut client).await.unwrap().into_inner().session.unwrap();
    let body =
        json!({"id": "e", "type": "vae.resolved", "session_id": session.provider_session_id}).to_string();
    let webhook = post("/webhooks/shop", &[signed(&signature(body.as_bytes()))], body.as_bytes());
    assert_eq!(exchange(&daemon.webhooks(), &webhook).await.status, 200);
    // Whoever began this one does not want it recorded; it goes on all the same.
    let (_, unrecorded) = world.approved(&mut client).await;
    let request = with_parent(client.request(complete_request(unrecorded)), "00");
    client.integration.complete_authorization(request).await.unwrap();
    client.revoke(&id).await.unwrap();

    let spans = collector
        .spans(|spans| {
            let count = |name| named(spans, name).len();
            count("CompleteAuthorization") == 2
                && count("userinfo") == 1
                && [
                    count("{client}"),
                    count("StartAuthorization"),
                    count("RevokeToken"),
                    count("POST revoke"),
                ] == [1, 2, 1, 1]
        })
        .await
        .to_vec();
    let calls = named(&spans, "cairld.v1.IntegrationService/CompleteAuthorization");
    assert_eq!(calls.len(), 2);
    for (call, (code, is_error)) in calls.iter().zip([("9", true), ("0", false)]) {
        assert!(call.is_server && call.is_error == is_error && call.start <= call.end, "{call:?}");
        assert_eq!((call.trace.as_str(), call.parent.as_str()), (TRACE, CALLER));
        let attributes = [
            ("rpc.system", "grpc"),
            ("rpc.service", "cairld.v1.IntegrationService"),
            ("rpc.method", "CompleteAuthorization"),
            ("rpc.grpc.status_code", code),
            ("cairld.session", id.as_str()),
            ("cairld.caller", "checkout"),
        ];
        for (key, value) in attributes {
            assert_eq!(call.attributes[key], value, "{call:?}");
        }
        assert_eq!(call.service["service.name"], "cairld");
        assert_eq!(call.service["service.version"], env!("CARGO_PKG_VERSION"));
    }
    let sent: Vec<_> = spans.iter().filter(|span| span.trace == TRACE && !span.is_server).collect();
    let told: Vec<_> = sent
        .iter()
        .map(|span| {
            let call = calls.iter().position(|call| call.id == span.parent).expect("a part of its call");
            (span.name.as_str(), span.attributes["http.response.status_code"].as_str(), call)
        })
        .collect();
    assert_eq!(told, [("POST token", "402", 0), ("POST token", "200", 1), ("GET userinfo", "200", 1)]);
    let journal = world.provider.journal("/api/oauth").await;
    for span in &sent {
        assert_eq!(
            (&*span.attributes["cairld.session"], &*span.attributes["server.address"]),
            (&*id, "127.0.0.1")
        );
        let said = format!("00-{TRACE}-{}-01", span.id);
        assert!(journal.iter().any(|entry| entry["traceparent"] == said.as_str()), "{said} in {journal:?}");
    }
    let unrecorded =
        journal.iter().filter(|entry| entry["traceparent"].as_str().is_some_and(|it| it.ends_with("-00")));
    assert_eq!(unrecorded.count(), 2);

    // What nobody asked for in a trace begins one.
    let webhook = named(&spans, "{client}")[0];
    assert_eq!((webhook.parent.as_str(), &*webhook.attributes["cairld.session"]), ("", &*id));
    for name in ["StartAuthorization", "RevokeToken", "POST revoke"] {
        assert!(
            named(&spans, name).iter().all(|span| span.trace != TRACE && span.parent.is_empty()),
            "{name}"
        );
    }
    assert_eq!(named(&spans, "traces").len(), 0, "the exporter's own requests are none");
    assert!(collector.headers.iter().all(|headers| headers["x-key"] == KEY));

    let (status, log) = spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success(), "{log}");
    let (state, secret) = (&started.state, world.secret("client.secret"));
    let code = parameter(&callback, "code");
    let token = session.provider_session_id.as_str();
    for secret in [state, &state[24..], &secret, &code, CHECKOUT, CLIENT_ID, WEBHOOK_SECRET, token] {
        let is_there = collector.bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "{secret} at the collector");
    }
    assert!(!log.contains(KEY), "the collector's key in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_handed_over_at_the_end() {
    let world = World::new().await;
    let mut collector = Collector::start().await;
    let daemon = daemon(
        &world,
        &collector.url,
        &[("OTEL_BSP_SCHEDULE_DELAY", "3600000"), ("OTEL_SERVICE_NAME", "mine")],
    );
    let mut client = world.unix().await;
    client.started().await;
    let (status, log) = spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success(), "{log}");
    let spans = collector.spans(|spans| !named(spans, "StartAuthorization").is_empty()).await;
    assert_eq!(spans[0].service["service.name"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_neither_calls_nor_the_end() {
    let world = World::new().await;
    // It accepts, as the kernel does, and says nothing.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    let ten_minutes = Duration::from_secs(600).as_millis().to_string();
    let daemon = daemon(
        &world,
        &url,
        &[
            ("OTEL_EXPORTER_OTLP_TIMEOUT", &ten_minutes),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
        ],
    );
    let mut client = world.unix().await;
    client.started().await;
    let _connection = timeout(SURELY, hanging.accept()).await.expect("an export").unwrap();
    // More than the queue holds.
    for _ in 0..32 {
        client.started().await;
    }
    let end = spawn_blocking(move || daemon.terminate());
    let (status, log) =
        timeout(SURELY, end).await.expect("an end long before the collector's time is over").unwrap();
    assert!(status.success(), "{log}");
    assert!(log.contains("the collector did not take the last spans"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_told_of_once_and_once_more_when_it_takes_spans_again() {
    let world = World::new().await;
    let mut collector = Collector::start().await;
    collector.answers(400);
    let daemon = daemon(&world, &collector.url, &[]);
    let mut client = world.unix().await;
    client.started().await;
    daemon.says("the collector takes no spans");
    client.started().await;
    collector.answers(200);
    client.started().await;
    collector.spans(|spans| !spans.is_empty()).await;
    daemon.says("the collector takes spans again");
    let log = daemon.kill();
    assert_eq!(log.matches("the collector takes no spans").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_variables_have_wrong_is_told_and_stops_nothing() {
    for (name, value, said) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "no address", "what the OTEL_ variables say of it is wrong"),
        ("OTEL_TRACES_SAMPLER", "xray", "OTEL_TRACES_SAMPLER or its _ARG is not understood"),
    ] {
        let world = World::new().await;
        let daemon = daemon(&world, "http://127.0.0.1:9", &[(name, value)]);
        daemon.says(said);
        world.unix().await.started().await;
    }
}
