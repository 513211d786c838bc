//! Who may call, and what.

use std::collections::BTreeMap;

use cairld::api::proto::{
    ExplainSessionRequest, GetSessionRequest, WatchSessionRequest, get_session_request::Lookup,
    watch_session_request,
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt;

use crate::support::{Client, OTHER, READER, World, refused, start_request};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_recognised_gets_nowhere() {
    let world = World::new().await;
    let daemon = world.daemon();
    for token in [None, Some("wrong"), Some("")] {
        let mut client = Client::tcp(daemon.tcp(), token).await;
        let refusal = refused(client.start(start_request()).await);
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unauthenticated, "CALLER_UNKNOWN"));
        let mut health = HealthClient::new(client.channel.clone());
        let refusal = refused(health.check(client.request(HealthCheckRequest::default())).await);
        assert_eq!(refusal.reason, "CALLER_UNKNOWN", "health is for recognised callers");
    }
    let mut client = Client::unix(&world.path("cairld.sock"), Some("wrong")).await;
    let refusal = refused(client.start(start_request()).await);
    assert_eq!(refusal.reason, "CALLER_UNKNOWN", "a wrong token is not made good by the right user id");
    let mut twice = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let mut request = twice.request(GetSessionRequest::default());
    request.metadata_mut().append("authorization", format!("Bearer {OTHER}").parse().unwrap());
    assert_eq!(refused(twice.integration.get_session(request).await).reason, "CALLER_UNKNOWN", "sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_must_be_granted() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut reader = Client::tcp(daemon.tcp(), Some(READER)).await;
    let refusal = refused(reader.start(start_request()).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::PermissionDenied, "RPC_NOT_GRANTED"));
    assert_eq!(refused(reader.session("ses_00000000000000000000000000").await).reason, "SESSION_NOT_FOUND");
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    assert_eq!(
        refused(other.status().await).reason,
        "RPC_NOT_GRANTED",
        "rpcs = [\"*\"] does not make an admin"
    );
    assert!(world.unix().await.status().await.is_ok());
}

/// What a refusal says, all of it.
fn said<T: std::fmt::Debug>(
    answer: Result<T, Status>,
) -> (Code, String, usize, BTreeMap<String, String>, String) {
    let status = answer.unwrap_err();
    // The moment of the answer is another one each time, and a map in the details in any order.
    let mut trailers = status.metadata().clone();
    trailers.remove("date");
    let details = status.get_details_error_info().unwrap().metadata.into_iter().collect();
    (status.code(), status.message().to_owned(), status.details().len(), details, format!("{trailers:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_looks_like_what_is_not_there() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut owner = world.unix().await;
    let started = owner.started().await;
    let foreign = started.session.unwrap().id;
    let callback = world.provider.approve(&started.authorization_url).await;
    let provider_session = owner.completed(&callback).await.unwrap().provider_session_id;
    assert!(provider_session.starts_with("hvf_"));

    // The last of its characters carries three bits, so that not every one makes an id.
    let last = if foreign.ends_with('0') { '4' } else { '0' };
    let unknown = format!("{}{last}", &foreign[..foreign.len() - 1]);
    let mut stranger = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let mut explained = stranger.clone();
    assert_eq!(said(stranger.session(&foreign).await), said(stranger.session(&unknown).await));
    assert_eq!(said(stranger.refreshed(&foreign).await), said(stranger.refreshed(&unknown).await));
    assert_eq!(said(stranger.cancel(&foreign).await), said(stranger.cancel(&unknown).await));
    assert_eq!(said(stranger.revoke(&foreign).await), said(stranger.revoke(&unknown).await));
    let mut explain = async |id: &str| {
        let request = explained.request(ExplainSessionRequest { session_id: id.to_owned() });
        said(explained.integration.explain_session(request).await)
    };
    assert_eq!(explain(&foreign).await, explain(&unknown).await);
    let watch = async |id: &str| {
        let lookup = Some(watch_session_request::Lookup::SessionId(id.to_owned()));
        let mut client = stranger.clone();
        let request = client.request(WatchSessionRequest { lookup });
        said(client.integration.watch_session(request).await.map(|_| ()))
    };
    assert_eq!(watch(&foreign).await, watch(&unknown).await);

    let mut by = async |lookup: Lookup| said(stranger.get(lookup).await);
    let never_issued = started.state.replacen(&started.state[..8], "AAAAAAAA", 1);
    assert_eq!(by(Lookup::State(started.state.clone())).await, by(Lookup::State(never_issued)).await);
    let other_session = format!("{provider_session}x");
    assert_eq!(
        by(Lookup::ProviderSessionId(provider_session)).await,
        by(Lookup::ProviderSessionId(other_session)).await
    );
    // A callback, with the state of another caller's session and with one that nobody has.
    let never_issued = callback.replacen(&started.state[..8], "AAAAAAAA", 1);
    assert_eq!(said(stranger.completed(&callback).await), said(stranger.completed(&never_issued).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_both_reflections_are_for_every_recognised_caller() {
    let world = World::new().await;
    let daemon = world.daemon();
    let client = Client::tcp(daemon.tcp(), Some(READER)).await;
    let mut health = HealthClient::new(client.channel.clone());
    for service in ["", "cairld.v1.IntegrationService", "cairld.v1.AdminService"] {
        let request = client.request(HealthCheckRequest { service: service.into() });
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }

    let mut reflection = v1::server_reflection_client::ServerReflectionClient::new(client.channel.clone());
    use v1::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};
    for symbol in
        ["cairld.v1.IntegrationService", "google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.Help"]
    {
        let ask = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(symbol.into())),
        };
        let request = client.request(tokio_stream::once(ask));
        let mut answers = reflection.server_reflection_info(request).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{symbol}: {answer:?}");
    }
    let mut older = v1alpha::server_reflection_client::ServerReflectionClient::new(client.channel.clone());
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut answers =
        older.server_reflection_info(client.request(tokio_stream::once(ask))).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
}
