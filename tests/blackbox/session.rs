//! What can be done with a session beside completing it: watch it, and have its token.

use cairld::api::proto::{GetAccessTokenRequest, WatchSessionRequest, watch_session_request::Lookup};
use tonic::{Code, Status, Streaming};

use crate::support::{Client, OTHER, World, refused};

async fn watch(
    client: &mut Client,
    lookup: Lookup,
) -> Result<Streaming<cairld::api::proto::WatchSessionResponse>, Status> {
    let request = client.request(WatchSessionRequest { lookup: Some(lookup) });
    Ok(client.integration.watch_session(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_session_to_its_end() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    let mut watched = watch(&mut client, Lookup::SessionId(id.clone())).await.unwrap();
    let first = watched.message().await.unwrap().unwrap().session.unwrap();
    assert_eq!(first, client.session(&id).await.unwrap(), "as it stands, at once");

    let complete = client.completed(&callback).await.unwrap();
    let mut last = first;
    while let Some(told) = watched.message().await.unwrap() {
        let told = told.session.unwrap();
        assert!(told.status >= last.status && told != last, "in order: {told:?} after {last:?}");
        last = told;
    }
    assert_eq!(last, complete, "closed after the terminal status");
    let mut again = watch(&mut client, Lookup::SessionId(id.clone())).await.unwrap();
    assert_eq!(again.message().await.unwrap().unwrap().session.unwrap(), complete);
    assert!(again.message().await.unwrap().is_none(), "an ended one is told once");

    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    assert_eq!(refused(watch(&mut other, Lookup::SessionId(id)).await).reason, "SESSION_NOT_FOUND");
    assert_eq!(refused(watch(&mut client, Lookup::SessionId("x".into())).await).fields, ["session_id"]);
    assert_eq!(refused(watch(&mut client, Lookup::State("x".into())).await).reason, "STATE_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_is_told_that_the_daemon_stops() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let id = client.started().await.session.unwrap().id;
    let mut watched = watch(&mut client, Lookup::SessionId(id)).await.unwrap();
    assert!(watched.message().await.unwrap().is_some());
    let (status, log) = tokio::task::spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success(), "{log}");
    let refusal = refused(watched.message().await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    assert!(refusal.is_retryable);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_have_tokens_gets_one() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let (id, callback) = world.approved(&mut client).await;
    let ask = |client: &Client| client.request(GetAccessTokenRequest { session_id: id.clone() });
    let request = ask(&client);
    assert_eq!(refused(client.integration.get_access_token(request).await).reason, "TOKEN_NOT_HELD");
    client.completed(&callback).await.unwrap();
    let request = ask(&client);
    let answer = client.integration.get_access_token(request).await.unwrap().into_inner();
    assert!(answer.access_token.len() > 20 && answer.expire_time.is_some());
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    let request = ask(&other);
    let refusal = refused(other.integration.get_access_token(request).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::PermissionDenied, "RPC_NOT_GRANTED"));
}
