//! The main job: a user through a verification, over both kinds of sockets.

use cairld::api::proto::{
    CallbackParameters, ClaimValue, CompleteAuthorizationRequest, SessionStatus, StartAuthorizationRequest,
    TokenStatus, claim_value::Kind, complete_authorization_request::Callback, get_session_request::Lookup,
};
use serde_json::json;
use tonic::Code;

use crate::support::{
    CHECKOUT, Client, OTHER, REDIRECT_URI, World, complete_request, parameter, refused, start_request,
};

#[tokio::test(flavor = "multi_thread")]
async fn from_the_start_to_claims_over_either_socket() {
    let world = World::new().await;
    let daemon = world.daemon();
    for mut client in [world.unix().await, Client::tcp(daemon.tcp(), Some(CHECKOUT)).await] {
        let before = world.provider.token_requests().await;
        let scopes = ["age_18_plus", "name_match", "dob_match"].map(str::to_owned).to_vec();
        let start = StartAuthorizationRequest { scopes, reference: "order 7".into(), ..start_request() };
        let started = client.start(start).await.unwrap();
        let session = started.session.unwrap();
        assert_eq!(session.status(), SessionStatus::Pending);
        assert!(session.test_mode);
        let (create, expire) = (session.create_time.unwrap(), session.expire_time.unwrap());
        assert_eq!((expire.seconds - create.seconds, expire.nanos), (1800, create.nanos));
        assert_eq!(parameter(&started.authorization_url, "state"), started.state);
        assert_eq!(parameter(&started.authorization_url, "code_challenge_method"), "S256");

        let claims = json!({"name_match": false, "dob_match": null});
        let callback = world.provider.approve_with(&started.authorization_url, claims).await;
        let complete = client.completed(&callback).await.unwrap();
        assert_eq!(complete.status(), SessionStatus::Complete);
        assert_eq!(complete.id, session.id);
        assert_eq!(complete.reference, "order 7");
        assert!(!complete.subject.is_empty());
        let claim = |kind| ClaimValue { kind: Some(kind) };
        assert_eq!(complete.claims["age_18_plus"], claim(Kind::BoolValue(true)));
        assert_eq!(complete.claims["name_match"], claim(Kind::BoolValue(false)));
        assert_eq!(complete.claims["dob_match"], claim(Kind::NullValue(0)), "null is not false");
        assert_eq!(complete.token.unwrap().status(), TokenStatus::Held);

        for lookup in [
            Lookup::SessionId(session.id.clone()),
            Lookup::State(started.state.clone()),
            Lookup::ProviderSessionId(complete.provider_session_id.clone()),
        ] {
            assert_eq!(client.get(lookup).await.unwrap(), complete);
        }
        assert_eq!(world.provider.token_requests().await - before, 1);

        let mut foreign = Client::tcp(daemon.tcp(), Some(OTHER)).await;
        let unseen = refused(foreign.session(&session.id).await);
        assert_eq!((unseen.code, unseen.reason.as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_used_once() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    client.completed(&callback).await.unwrap();

    let other_code = callback.replace("code=", "code=another");
    for spent in [&callback, &other_code] {
        let refusal = refused(client.completed(spent).await);
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::AlreadyExists, "STATE_ALREADY_USED"));
    }
    let second = client.started().await;
    let code = parameter(&callback, "code");
    let crossed = format!("{REDIRECT_URI}?code={code}&state={}", second.state);
    assert_eq!(refused(client.completed(&crossed).await).reason, "CODE_ALREADY_USED");
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_ties_the_callback_to_the_browser() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let start = StartAuthorizationRequest { binding: "cookie".into(), ..start_request() };
    let started = client.start(start).await.unwrap();
    let callback = world.provider.approve(&started.authorization_url).await;
    let with = |binding: &str| CompleteAuthorizationRequest {
        binding: binding.into(),
        ..complete_request(&callback)
    };
    for wrong in ["", "another"] {
        let refusal = refused(client.complete(with(wrong)).await);
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "BINDING_MISMATCH"));
    }
    let session = client.complete(with("cookie")).await.unwrap();
    assert_eq!(client.complete(with("cookie")).await.unwrap(), session, "replayed, since it is bound");
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parsed_parameters_do_as_well_as_a_url() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let (_, callback) = world.approved(&mut client).await;
    let parameters = CallbackParameters {
        state: parameter(&callback, "state"),
        code: parameter(&callback, "code"),
        session_id: "not/one".into(),
        ..CallbackParameters::default()
    };
    let request = CompleteAuthorizationRequest {
        callback: Some(Callback::Parameters(parameters)),
        binding: String::new(),
    };
    let session = client.complete(request).await.unwrap();
    assert_eq!(session.status(), SessionStatus::Complete);
    assert_eq!(session.provider_session_id, "", "a hint of another form is ignored");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_an_open_session_only() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let started = client.started().await;
    let id = started.session.unwrap().id;
    assert_eq!(client.cancel(&id).await.unwrap().status(), SessionStatus::Cancelled);
    assert_eq!(client.cancel(&id).await.unwrap().status(), SessionStatus::Cancelled, "again is fine");
    let callback = world.provider.approve(&started.authorization_url).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "SESSION_CANCELLED");

    let started = client.started().await;
    let callback = world.provider.approve(&started.authorization_url).await;
    let complete = client.completed(&callback).await.unwrap();
    let refusal = refused(client.cancel(&complete.id).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "SESSION_FINISHED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_id_starts_one_session() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    let start = StartAuthorizationRequest { request_id: "order-7".into(), ..start_request() };
    let first = client.start(start.clone()).await.unwrap();
    assert_eq!(client.start(start.clone()).await.unwrap(), first);
    let other = StartAuthorizationRequest { reference: "x".into(), ..start.clone() };
    let refusal = refused(client.start(other).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let callback = world.provider.approve(&first.authorization_url).await;
    client.completed(&callback).await.unwrap();
    let again = client.start(start).await.unwrap();
    assert_eq!(
        (again.authorization_url.as_str(), again.state.as_str()),
        ("", ""),
        "a spent state is not handed out"
    );
    assert_eq!(again.session.unwrap().status(), SessionStatus::Complete);
}
