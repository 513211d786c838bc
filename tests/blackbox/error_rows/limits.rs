//! The provider's rate limits.

use std::time::Duration;

use cairld::api::proto::SessionStatus;
use serde_json::json;
use tonic::Status;

use super::{Row, Scene, Section, retry_delay, rows};
use crate::support::signature;

#[tokio::test(flavor = "multi_thread")]
async fn every_rate_limit_of_the_page() {
    for row in rows(Section::RateLimits) {
        match (row.reason.as_str(), row.at.as_str()) {
            ("RATE_LIMITED", "token" | "session") => {
                let named = limited(&row, Some("7")).await;
                assert!(named <= Duration::from_secs(7) && named > Duration::ZERO, "{named:?}");
                let usual = limited(&row, None).await;
                assert!(usual <= Duration::from_secs(60) && usual > Duration::from_secs(7), "{usual:?}");
            }
            ("WEBHOOK_RATE", _) => webhooks_have_none().await,
            _ => panic!("no test knows how to meet {row:?}"),
        }
    }
}

/// One request over the limit, in a world of its own: a client that was told to wait may do so. Answers the pause.
async fn limited(row: &Row, retry_after: Option<&str>) -> Duration {
    let scene = Scene::new().await;
    let (id, callback) = scene.known().await;
    let mut answer = row.answer();
    if let Some(seconds) = retry_after {
        answer["headers"] = json!({"retry-after": seconds});
    }
    scene.answer(answer).await;
    let status: Status = if row.at == "token" {
        scene.refusal(&callback).await
    } else {
        scene.client.clone().refreshed(&id).await.unwrap_err()
    };
    // The attempt that met an empty wallet is counted for the code too.
    let sent = if row.at == "token" { row.requests + 1 } else { row.requests };
    Row { requests: sent, ..row.clone() }.check(&status);
    let session = scene.session(&id).await;
    row.check_session(&session, SessionStatus::Pending);
    let requests =
        if row.at == "token" { scene.requests_with(&callback).await } else { scene.queries().await };
    assert_eq!(requests, sent, "a 429 is not tried again: {row:?}");
    retry_delay(&status)
}

/// However many webhooks arrive at a time, each is kept.
async fn webhooks_have_none() {
    let scene = Scene::new().await;
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let mut client = scene.client.clone();
            let body =
                json!({"id": format!("evt-{number}"), "type": "vae.resolved"}).to_string().into_bytes();
            tokio::spawn(async move { client.ingest(&body, &signature(&body)).await })
        })
        .collect();
    for call in calls {
        assert!(!call.await.unwrap().unwrap().duplicate);
    }
    assert_eq!(scene.client.clone().status().await.unwrap().store.unwrap().events, 200);
}
