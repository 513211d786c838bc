//! Answers of 5xx, at every endpoint: tried three times, then the caller's to repeat. The pauses between are real, so the
//! endpoints are met at the same time.

use cairld::api::proto::SessionStatus;
use serde_json::json;
use tokio::join;
use tonic::{Code, Status};

use super::{Scene, Section, retry_delay, rows};
use crate::support::refused;

fn check(status: &Status, stage: &str, http_status: &str) {
    let refusal = refused(Err::<(), _>(status.clone()));
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unavailable, "PROVIDER_ERROR"), "{stage}");
    assert_eq!(refusal.metadata["stage"], stage);
    assert_eq!(refusal.metadata["http_status"], http_status);
    assert!(!refusal.metadata.contains_key("resumable"), "{stage}: to be repeated as it is");
    assert_eq!(retry_delay(status).as_secs(), 1, "{stage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_is_tried_three_times_and_leaves_all_as_it_was() {
    let scene = Scene::new().await;
    let (asked, _) = scene.known().await;
    let (paid, with_token) = scene.world.approved(&mut scene.client.clone()).await;
    let (open, with_code) = scene.world.approved(&mut scene.client.clone()).await;
    let rows: Vec<_> = rows(Section::Token).into_iter().filter(|row| row.requests > 1).collect();
    let [row] = rows.as_slice() else { panic!("another row is tried again: {rows:?}") };

    let session_query = async {
        scene.answer(json!({"endpoint": "session", "times": 3, "status": 502, "body": "<html>"})).await;
        let status = scene.client.clone().refreshed(&asked).await.unwrap_err();
        check(&status, "session", "502");
        assert_eq!(scene.session(&asked).await.status(), SessionStatus::Pending);
        assert_eq!(scene.queries().await, 3);
    };
    let userinfo = async {
        scene.answer(json!({"endpoint": "userinfo", "times": 3, "status": 503, "body": "busy"})).await;
        let status = scene.refusal(&with_token).await;
        check(&status, "userinfo", "503");
        assert_eq!(scene.session(&paid).await.status(), SessionStatus::Exchanging);
        let complete = scene.client.clone().completed(&with_token).await.unwrap();
        assert_eq!(complete.status(), SessionStatus::Complete, "the next call fetches the claims");
        assert_eq!(scene.requests_with(&with_token).await, 1, "without another token request");
    };
    let token = async {
        // Not before the other's token request has been answered as usual.
        scene.world.provider.arrives("/api/oauth/userinfo").await;
        scene.answer(row.answer()).await;
        let status = scene.refusal(&with_code).await;
        row.check(&status);
        check(&status, "token", "500");
        let session = scene.session(&open).await;
        row.check_session(&session, SessionStatus::Pending);
        row.check_failure(&session);
        assert_eq!(scene.requests_with(&with_code).await, row.requests);

        let spent = json!({"error": "invalid_grant", "error_description": "already used"});
        scene.answer(json!({"endpoint": "token", "times": 1, "status": 400, "body": spent})).await;
        let refusal = refused(scene.client.clone().completed(&with_code).await);
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "INVALID_GRANT"));
        assert_eq!(refusal.metadata["first_error"], "500 server_error", "what probably spent the code");
        assert_eq!(refusal.metadata["provider_error"], "invalid_grant");
        assert_eq!(refusal.metadata["attempts"], "4");
        assert!(refusal.metadata["remedy"].contains("first_error"));
        assert_eq!(scene.session(&open).await.status(), SessionStatus::Failed);
    };
    join!(session_query, userinfo, token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_counts_by_its_status_whatever_its_body_says() {
    let scene = Scene::new().await;
    let (id, callback) = scene.world.approved(&mut scene.client.clone()).await;
    let body = json!({"error": "invalid_grant"});
    scene.answer(json!({"endpoint": "token", "times": 1, "status": 503, "body": body})).await;
    let complete = scene.client.clone().completed(&callback).await.unwrap();
    assert_eq!(complete.status(), SessionStatus::Complete, "the second attempt");
    assert_eq!(scene.requests_with(&callback).await, 2);
    assert_eq!(scene.session(&id).await.failure, None, "what is over is forgotten");
}
