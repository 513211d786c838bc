//! Finding the sessions that have not ended.

use super::*;

pub(super) async fn suite<B: Backend>(fresh: &impl Fn() -> B) {
    those_that_have_not_ended_are_found_in_parts(&fresh()).await;
    one_that_misses_its_claims_is_found_after_its_thirty_minutes(&fresh()).await;
}

async fn live(store: &Arc<dyn Store>, seconds: u64) -> Vec<SessionId> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let live = store.live_sessions(at(seconds), after).await.unwrap();
        found.extend(live.sessions.into_iter().map(|session| session.id));
        after = live.next;
        if after.is_none() {
            return found;
        }
    }
}

async fn those_that_have_not_ended_are_found_in_parts(backend: &impl Backend) {
    let store = backend.open(run(1));
    let ids: Vec<_> = (0..300).map(|number| SessionId::new(at(number).wall, [1; 10])).collect();
    for number in 0..300 {
        store.start(at(number), new_session(number, 1)).await.unwrap();
    }
    assert_eq!(live(&store, 300).await, ids);
    store.cancel(at(301), &viewer("checkout"), ids[7]).await.unwrap();
    let others: Vec<_> = ids.iter().copied().filter(|id| *id != ids[7]).collect();
    assert_eq!(live(&store, 301).await, others);
    assert_eq!(live(&store, 1800 + 99).await, ids[100..], "those that time has ended are not");
    while store.sweep(at(1800 + 99)).await.unwrap().more {}
    assert_eq!(live(&store, 1800 + 99).await, ids[100..], "whether it is written down or not");
}

async fn one_that_misses_its_claims_is_found_after_its_thirty_minutes(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    store.start(at(0), new_session(0, 2)).await.unwrap();
    store.take(at(1), take_of(1, "code"), &terms()).await.unwrap();
    let long = ExchangeEnd::Token { token: AccessToken::new("t"), life: Duration::from_secs(7200) };
    end_exchange(&store, at(2), state(1, 0).session, long).await.unwrap();
    while store.sweep(at(2000)).await.unwrap().more {}
    assert_eq!(live(&store, 2000).await, [state(1, 0).session]);
    store.end_claims(at(2001), state(1, 0).session, claims()).await.unwrap();
    assert_eq!(live(&store, 2001).await, []);
}
