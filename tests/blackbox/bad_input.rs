//! Bad input: a clear error that names the field, no panic, nothing written.

use std::io::{Read, Write};

use cairld::api::proto::{
    CallbackParameters, CompleteAuthorizationRequest, GetSessionRequest, IngestWebhookRequest,
    ListSessionsRequest, Reason, StartAuthorizationRequest, complete_authorization_request::Callback,
    get_session_request::Lookup,
};
use tonic::Code;
use tonic_prost::ProstCodec;

use crate::support::{Client, REDIRECT_URI, World, complete_request, refused, start_request};

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_of_a_start_is_named() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let cases: Vec<(StartAuthorizationRequest, &str, &str)> = vec![
        (
            StartAuthorizationRequest { client: "nobody".into(), ..start_request() },
            "CLIENT_UNKNOWN",
            "client",
        ),
        (
            StartAuthorizationRequest { client: "No Name".into(), ..start_request() },
            "INVALID_ARGUMENT",
            "client",
        ),
        (
            StartAuthorizationRequest { client: "c".repeat(65), ..start_request() },
            "INVALID_ARGUMENT",
            "client",
        ),
        (
            StartAuthorizationRequest { redirect_uri: format!("{REDIRECT_URI}/"), ..start_request() },
            "REDIRECT_URI_UNREGISTERED",
            "redirect_uri",
        ),
        (
            StartAuthorizationRequest { redirect_uri: "u".repeat(2049), ..start_request() },
            "INVALID_ARGUMENT",
            "redirect_uri",
        ),
        (StartAuthorizationRequest { scopes: vec![], ..start_request() }, "INVALID_ARGUMENT", "scopes"),
        (
            StartAuthorizationRequest { scopes: vec!["x".into(); 10_000], ..start_request() },
            "INVALID_ARGUMENT",
            "scopes",
        ),
        (
            StartAuthorizationRequest { scopes: vec!["a".into(), "b c".into()], ..start_request() },
            "INVALID_ARGUMENT",
            "scopes[1]",
        ),
        (
            StartAuthorizationRequest { scopes: vec!["a".into(), "a".into()], ..start_request() },
            "INVALID_ARGUMENT",
            "scopes[1]",
        ),
        (
            StartAuthorizationRequest { binding: "b".repeat(257), ..start_request() },
            "INVALID_ARGUMENT",
            "binding",
        ),
        (
            StartAuthorizationRequest { reference: "r\0".into(), ..start_request() },
            "INVALID_ARGUMENT",
            "reference",
        ),
        (
            StartAuthorizationRequest { request_id: "a b".into(), ..start_request() },
            "INVALID_ARGUMENT",
            "request_id",
        ),
    ];
    for (request, reason, field) in cases {
        let refusal = refused(client.start(request).await);
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::InvalidArgument, reason), "{field}");
        assert_eq!(refusal.fields, [field]);
    }
    let several = StartAuthorizationRequest {
        scopes: vec!["\u{7f}".into()],
        binding: "b".repeat(300),
        request_id: "?".into(),
        ..start_request()
    };
    assert_eq!(
        refused(client.start(several).await).fields,
        ["scopes[0]", "binding", "request_id"],
        "all at once"
    );
    assert_eq!(client.status().await.unwrap().store.unwrap().sessions, 0, "nothing was written");
}

/// Callbacks that are refused and consume nothing, with the reason.
pub(crate) fn bad_callbacks(callback: &str, state: &str) -> Vec<(String, &'static str)> {
    let last = if state.ends_with('A') { "B" } else { "A" };
    let another = format!("{}{last}", &state[..63]);
    vec![
        (String::new(), "INVALID_ARGUMENT"),
        (REDIRECT_URI.to_owned(), "INVALID_ARGUMENT"),
        (format!("{callback}&code=second"), "INVALID_ARGUMENT"),
        (format!("{callback}&error=access_denied"), "INVALID_ARGUMENT"),
        (format!("{REDIRECT_URI}?state={state}"), "INVALID_ARGUMENT"),
        (format!("{REDIRECT_URI}?state={state}&code=abc%2"), "INVALID_ARGUMENT"),
        (format!("{REDIRECT_URI}?state={state}&code=a%00b"), "INVALID_ARGUMENT"),
        (format!("{REDIRECT_URI}?state={state}&code=a\0b"), "INVALID_ARGUMENT"),
        (format!("{REDIRECT_URI}?state={state}&code={}", "a".repeat(9000)), "INVALID_ARGUMENT"),
        (format!("{REDIRECT_URI}?state={}&code=abc", &state[..63]), "STATE_UNKNOWN"),
        (format!("{REDIRECT_URI}?state={another}&code=abc"), "STATE_UNKNOWN"),
        (format!("{REDIRECT_URI}?state=x&code=abc"), "STATE_UNKNOWN"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_callback_consumes_nothing() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let started = client.started().await;
    let callback = world.provider.approve(&started.authorization_url).await;
    for (url, reason) in bad_callbacks(&callback, &started.state) {
        let refusal = refused(client.completed(&url).await);
        assert_eq!(refusal.reason, reason, "{url}");
        let fields: &[&str] = if reason == "INVALID_ARGUMENT" { &["callback_url"] } else { &[] };
        assert_eq!(refusal.fields, fields, "{url}");
    }
    let none = CompleteAuthorizationRequest { callback: None, binding: String::new() };
    assert_eq!(refused(client.complete(none).await).fields, ["callback_url"]);
    let no_code = CallbackParameters { state: started.state.clone(), ..CallbackParameters::default() };
    let no_code = CompleteAuthorizationRequest {
        callback: Some(Callback::Parameters(no_code)),
        binding: String::new(),
    };
    assert_eq!(refused(client.complete(no_code).await).fields, ["parameters.code"]);
    let long = CompleteAuthorizationRequest { binding: "b".repeat(257), ..complete_request(&callback) };
    assert_eq!(refused(client.complete(long).await).fields, ["binding"]);
    assert_eq!(world.provider.token_requests().await, 0);
    assert!(client.completed(&callback).await.is_ok(), "the callback still completes");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_calls_name_their_fields_too() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    assert_eq!(refused(client.session("nonsense").await).fields, ["session_id"]);
    assert_eq!(refused(client.cancel("ses_short").await).fields, ["session_id"]);
    let by_provider = client.get(Lookup::ProviderSessionId("../etc".into())).await;
    assert_eq!(refused(by_provider).fields, ["provider_session_id"]);
    assert_eq!(refused(client.get(Lookup::State("x".into())).await).reason, "STATE_UNKNOWN");
    let request = client.request(GetSessionRequest { lookup: None, refresh: false });
    assert_eq!(refused(client.integration.get_session(request).await).fields, ["session_id"]);
    for (body, signature, fields) in [
        (vec![], "s".to_owned(), vec!["body"]),
        (vec![b'x'; 64 * 1024 + 1], "s".to_owned(), vec!["body"]),
        (vec![], "s".repeat(257), vec!["body", "signature"]),
    ] {
        let message = IngestWebhookRequest { client: String::new(), body, signature };
        let request = client.request(message);
        assert_eq!(refused(client.integration.ingest_webhook(request).await).fields, fields);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_with_a_reason() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let long = StartAuthorizationRequest { reference: "r".repeat(200_000), ..start_request() };
    let refusal = refused(client.start(long).await);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT"),
        "too long"
    );

    // A message of another type on the right path: field 1 is a number here.
    let mut grpc = tonic::client::Grpc::new(client.channel.clone());
    grpc.ready().await.unwrap();
    let path = "/cairld.v1.IntegrationService/StartAuthorization".parse().unwrap();
    let codec = ProstCodec::<prost_types::Duration, ()>::default();
    let message = prost_types::Duration { seconds: 7, nanos: 7 };
    let refusal = refused(grpc.unary(client.request(message), path, codec).await);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT"),
        "garbage"
    );

    // Bytes that are no HTTP/2 at all end that connection and nothing else.
    let mut garbage = std::net::TcpStream::connect(daemon.tcp()).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer);
    assert!(client.start(start_request()).await.is_ok(), "others are served");
    let _tcp_still_serves = Client::tcp(daemon.tcp(), None).await;
}

/// What the daemon does not serve is said with a reason, like all else.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_served_has_a_reason_too() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let request = client.request(ListSessionsRequest::default());
    let refusal = refused(client.admin.list_sessions(request).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
    let counted = client.status().await.unwrap().errors;
    let is_counted = counted.iter().any(|error| error.reason() == Reason::Unimplemented && error.count == 1);
    assert!(is_counted, "{counted:?}");
}
