//! What the page does not list: it comes through untouched, and counts by its HTTP status.

use cairld::api::proto::SessionStatus;
use serde_json::json;
use tonic::Code;

use super::Scene;
use crate::support::refused;

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_code_of_the_token_endpoint_counts_by_its_status() {
    let scene = Scene::new().await;
    for (status, error, is_resumable) in [
        (400, "brand_new", false),
        (418, "teapot", false),
        // A listed code under another status is another answer.
        (401, "invalid_grant", false),
        (402, "client_inactive", false),
        (400, "", true),
        (403, "", true),
    ] {
        let (id, callback) = scene.world.approved(&mut scene.client.clone()).await;
        let body = if error.is_empty() { json!("<html>blocked</html>") } else { json!({"error": error}) };
        scene.answer(json!({"endpoint": "token", "times": 1, "status": status, "body": body})).await;
        let refusal = refused(scene.client.clone().completed(&callback).await);
        let told = (refusal.code, refusal.reason.as_str());
        assert_eq!(told, (Code::FailedPrecondition, "PROVIDER_REFUSED"), "{status} {error}");
        let said = refusal.metadata.get("provider_error").cloned().unwrap_or_default();
        assert_eq!((said.as_str(), &refusal.metadata["http_status"]), (error, &status.to_string()));
        assert_eq!(refusal.metadata.contains_key("resumable"), is_resumable, "{status} {error}");
        let tells_to_resume = refusal.metadata["remedy"].contains("same callback again");
        assert_eq!(tells_to_resume, is_resumable, "the remedy fits what was said: {status} {error}");
        let session = scene.session(&id).await;
        let expected = if is_resumable { SessionStatus::Pending } else { SessionStatus::Failed };
        assert_eq!(session.status(), expected, "{status} {error}");
        assert_eq!(session.failure.unwrap().remedy, refusal.metadata["remedy"]);
        assert_eq!(scene.requests_with(&callback).await, 1, "{status} {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_text_of_the_session_query_counts_by_its_status() {
    let scene = Scene::new().await;
    let (id, _) = scene.known().await;
    for (status, error, code, reason) in [
        (401, "Something new", Code::FailedPrecondition, "UNAUTHORIZED"),
        (403, "Something new", Code::FailedPrecondition, "PROVIDER_REFUSED"),
        (404, "Something new", Code::NotFound, "PROVIDER_SESSION_NOT_FOUND"),
        (418, "Something new", Code::FailedPrecondition, "PROVIDER_REFUSED"),
    ] {
        let body = json!({"success": false, "error": error});
        scene.answer(json!({"endpoint": "session", "times": 1, "status": status, "body": body})).await;
        let refusal = refused(scene.client.clone().refreshed(&id).await);
        assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason), "{status}");
        assert_eq!(refusal.metadata["provider_error"], error);
        assert_eq!(scene.session(&id).await.status(), SessionStatus::Pending);
    }
}
