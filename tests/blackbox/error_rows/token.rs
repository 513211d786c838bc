//! Errors of the token endpoint that are answered at once; `server_errors` has the rest.

use cairld::api::proto::SessionStatus;

use super::{DESCRIPTION, Scene, Section, rows};
use crate::support::refused;

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_token_endpoint_is_told_and_sent_once() {
    let scene = Scene::new().await;
    for row in rows(Section::Token).into_iter().filter(|row| row.requests == 1) {
        let (id, callback) = scene.world.approved(&mut scene.client.clone()).await;
        scene.answer(row.answer()).await;
        let status = scene.refusal(&callback).await;
        row.check(&status);
        let refusal = refused(Err::<(), _>(status));
        assert_eq!(refusal.metadata["provider_description"], DESCRIPTION, "{row:?}");
        let session = scene.session(&id).await;
        row.check_session(&session, SessionStatus::Pending);
        row.check_failure(&session);
        assert_eq!(scene.requests_with(&callback).await, 1, "{row:?}");

        let again = scene.client.clone().completed(&callback).await;
        if row.resumable {
            assert_eq!(again.unwrap().status(), SessionStatus::Complete, "once it is mended: {row:?}");
            assert_eq!(scene.requests_with(&callback).await, 2, "{row:?}");
        } else {
            assert_eq!(refused(again).reason, "STATE_ALREADY_USED", "{row:?}");
            assert_eq!(scene.requests_with(&callback).await, 1, "{row:?}");
        }
    }
}
