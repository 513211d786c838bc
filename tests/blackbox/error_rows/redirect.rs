//! Errors in the redirect back: each ends the session, and costs no request.

use cairld::api::proto::{CompleteAuthorizationRequest, SessionStatus, StartAuthorizationRequest};
use serde_json::json;

use super::{DESCRIPTION, Row, Scene, Section, http, rows};
use crate::support::{REDIRECT_URI, complete_request, refused, start_request};

/// The user's browser goes to the provider and is sent back with an error: as the user decides, or as the provider is
/// told to.
async fn callback(scene: &Scene, error: &str, authorization_url: &str, state: &str) -> String {
    let outcome = match error {
        "access_denied" => "decline",
        "verification_failed" => "fail",
        "session_expired" => "expire",
        _ => {
            let pairs = [("error", error), ("error_description", DESCRIPTION), ("state", state)];
            let to = url::Url::parse_with_params(REDIRECT_URI, pairs).unwrap();
            let headers = json!({"location": to.as_str()});
            scene
                .answer(json!({"endpoint": "authorize", "times": 1, "status": 302, "headers": headers}))
                .await;
            let answer = http().get(authorization_url).send().await.unwrap();
            return answer.headers()["location"].to_str().unwrap().to_owned();
        }
    };
    scene.world.provider.decide(authorization_url, outcome).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_the_redirect_ends_the_session() {
    let scene = Scene::new().await;
    let mut client = scene.client.clone();
    for row in rows(Section::Redirect) {
        let error = row.error.as_deref().unwrap();
        let start = StartAuthorizationRequest { binding: "cookie".into(), ..start_request() };
        let started = client.start(start).await.unwrap();
        let id = started.session.unwrap().id;
        let callback = callback(&scene, error, &started.authorization_url, &started.state).await;
        let request =
            CompleteAuthorizationRequest { binding: "cookie".into(), ..complete_request(&callback) };
        let status = client.complete(request.clone()).await.unwrap_err();
        row.check(&status);
        let session = scene.session(&id).await;
        row.check_session(&session, SessionStatus::Pending);
        row.check_failure(&session);
        let again = client.complete(request).await.unwrap_err();
        row.check(&again);
        let other = callback.replace(&format!("error={error}"), "code=abc");
        let other = CompleteAuthorizationRequest { binding: "cookie".into(), ..complete_request(&other) };
        assert_eq!(refused(client.complete(other).await).reason, "STATE_ALREADY_USED", "{row:?}");
    }
    assert_eq!(scene.world.provider.token_requests().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_is_not_listed_comes_through_untouched() {
    let scene = Scene::new().await;
    let started = scene.client.clone().started().await;
    let callback = callback(&scene, "brand_new", &started.authorization_url, &started.state).await;
    let status = scene.refusal(&callback).await;
    let row = Row {
        error: Some("brand_new".to_owned()),
        reason: "PROVIDER_REFUSED".to_owned(),
        ..rows(Section::Redirect).remove(0)
    };
    row.check(&status);
    assert_eq!(refused(Err::<(), _>(status)).metadata["provider_description"], DESCRIPTION);
    let session = scene.session(&started.session.unwrap().id).await;
    row.check_session(&session, SessionStatus::Pending);
    row.check_failure(&session);
}
