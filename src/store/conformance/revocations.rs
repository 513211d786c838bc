//! The queue of tokens that are to be revoked: what joins it, what leaves it, and that nothing else empties it.

use std::{sync::Arc, time::Duration};

use super::*;

/// Brings a session to where it holds a token of that life, received at second 2.
async fn holding(store: &Arc<dyn Store>, number: u8, life: u64) -> SessionId {
    let id = store.start(at(0), new_session(0, number)).await.unwrap().session.id;
    store.take(at(1), take_of(number, &format!("code-{number}")), &terms()).await.unwrap();
    let token = AccessToken::new(format!("canary-token-{number}"));
    let end = ExchangeEnd::Token { token, life: Duration::from_secs(life) };
    end_exchange(store, at(2), id, end).await.unwrap();
    id
}

/// The same, with its claims.
pub(in super::super) async fn complete(store: &Arc<dyn Store>, number: u8, life: u64) -> SessionId {
    let id = holding(store, number, life).await;
    store.end_claims(at(3), id, claims()).await.unwrap();
    id
}

async fn queue(store: &Arc<dyn Store>, seconds: u64) -> Vec<(SessionId, String)> {
    let waiting = store.revocations(at(seconds)).await.unwrap();
    waiting.into_iter().map(|waiting| (waiting.session, waiting.token.expose().to_owned())).collect()
}

pub(super) async fn a_revoked_token_waits_until_its_revocation_ends(backend: &impl Backend) {
    let (checkout, other) = (viewer("checkout"), viewer("other"));
    let store = backend.open(run(1));
    let id = complete(&store, 1, 600).await;
    let news = store.new_revocations();
    assert_eq!(refused(store.revoke(at(4), &other, id).await), Reason::SessionNotFound);
    assert!(queue(&store, 4).await.is_empty() && !news.has_changed().unwrap(), "a refusal moves nothing");

    let revoked = store.revoke(at(5), &checkout, id).await.unwrap();
    assert!(news.has_changed().unwrap(), "told at once");
    assert!(matches!(revoked.token, TokenStanding::Revoked));
    let again = store.revoke(at(6), &checkout, id).await.unwrap();
    assert_eq!(format!("{again:?}"), format!("{revoked:?}"), "idempotent");
    drop(store);

    let store = backend.open(run(2));
    assert!(matches!(get(&store, 7, 1).await.token, TokenStanding::Revoked));
    let waiting = store.revocations(at(7)).await.unwrap();
    let [waiting] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert_eq!((waiting.session, &waiting.client), (id, &client()));
    assert_eq!(waiting.token.expose(), "canary-token-1");
    assert_eq!((waiting.since, waiting.life), (at(2), Duration::from_secs(600)));
    assert_eq!(store.status().revocations, 1);

    for _ in 0..2 {
        store.end_revocation(at(8), id, RevocationEnd::Revoked).await.unwrap();
        assert!(queue(&store, 8).await.is_empty(), "ended once or twice");
    }
    store.revoke(at(9), &checkout, id).await.unwrap();
    drop(store);
    let store = backend.open(run(3));
    assert!(queue(&store, 10).await.is_empty(), "nothing brings it back");
    assert_eq!(store.status().revocations, 0);
}

pub(super) async fn cancelling_moves_a_token_into_the_queue(backend: &impl Backend) {
    let checkout = viewer("checkout");
    let store = backend.open(run(1));
    let open = store.start(at(0), new_session(0, 1)).await.unwrap().session.id;
    assert_eq!(refused(store.revoke(at(1), &checkout, open).await), Reason::TokenNotHeld);
    store.cancel(at(1), &checkout, open).await.unwrap();
    assert!(queue(&store, 1).await.is_empty(), "no token, nothing to revoke");

    let id = holding(&store, 2, 600).await;
    assert_eq!(refused(store.revoke(at(3), &checkout, id).await), Reason::ExchangeInProgress);
    assert_eq!(get(&store, 3, 2).await.at, At::Token, "refused, and as it was");
    let news = store.new_revocations();
    let cancelled = store.cancel(at(4), &checkout, id).await.unwrap();
    assert_eq!(cancelled.ended().unwrap().status, Terminal::Cancelled);
    assert!(matches!(cancelled.token, TokenStanding::Revoked) && news.has_changed().unwrap());
    drop(store);
    let store = backend.open(run(2));
    assert_eq!(queue(&store, 5).await, [(id, "canary-token-2".to_owned())]);
    // Claims that were on their way when it was cancelled come too late, and take nothing out of the queue.
    store.end_claims(at(6), id, claims()).await.unwrap();
    store.cancel(at(7), &checkout, id).await.unwrap();
    store.revoke(at(7), &checkout, id).await.unwrap();
    assert_eq!(queue(&store, 8).await.len(), 1);
}

pub(super) async fn the_queue_is_read_by_what_is_left_of_life_and_outlives_the_sessions(
    backend: &impl Backend,
) {
    let store = backend.open(run(1));
    let mut ids = Vec::new();
    for (number, life) in [(1, 90_000), (2, 600), (3, 30_000)] {
        let id = complete(&store, number, life).await;
        store.revoke(at(4), &viewer("checkout"), id).await.unwrap();
        ids.push(id);
    }
    let order = |queue: Vec<(SessionId, String)>| queue.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(order(queue(&store, 5).await), [ids[1], ids[2], ids[0]]);
    assert_eq!(sweep_all(&store, 5400).await, (0, 3));
    assert_eq!(store.status().sessions, 0);
    drop(store);
    let store = backend.open(run(2));
    assert_eq!(
        order(queue(&store, 5400).await),
        [ids[1], ids[2], ids[0]],
        "those that ran out are there too"
    );
    store.end_revocation(at(5401), ids[1], RevocationEnd::RanOut).await.unwrap();
    store.end_revocation(at(5401), ids[0], RevocationEnd::Refused { http_status: 400 }).await.unwrap();
    assert_eq!(queue(&store, 5402).await, [(ids[2], "canary-token-3".to_owned())]);
}
