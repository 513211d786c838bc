//! Who may call, and what.

use cairld::api::proto::GetSessionRequest;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

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
