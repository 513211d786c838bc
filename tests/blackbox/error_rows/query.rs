//! Errors of the session query, by which the page's authentication errors are met too: none of them moves a session.

use cairld::api::proto::SessionStatus;

use super::{Row, Scene, Section, rows};

async fn meet_all(rows: Vec<Row>) {
    let scene = Scene::new().await;
    let (id, callback) = scene.known().await;
    let known = scene.session(&id).await;
    for row in rows {
        let before = scene.queries().await;
        scene.answer(row.answer()).await;
        let status = scene.client.clone().refreshed(&id).await.unwrap_err();
        row.check(&status);
        let session = scene.session(&id).await;
        row.check_session(&session, SessionStatus::Pending);
        assert_eq!(session, known, "nothing is remembered of it: {row:?}");
        assert_eq!(scene.queries().await - before, row.requests, "{row:?}");
    }
    let complete = scene.client.clone().completed(&callback).await.unwrap();
    assert_eq!(complete.status(), SessionStatus::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_authentication_error_is_the_daemons_credentials_and_never_the_callers() {
    meet_all(rows(Section::Authentication)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_the_session_query_leaves_the_session_as_it_was() {
    meet_all(rows(Section::SessionQuery)).await;
}
