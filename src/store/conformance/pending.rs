//! How many sessions may be open at a time.

use super::*;

pub(super) async fn suite<B: Backend>(fresh: &impl Fn() -> B) {
    a_caller_with_too_many_open_sessions_starts_no_more_and_keeps_those(&fresh()).await;
    all_together_have_a_cap_as_well(&fresh()).await;
    the_cap_holds_however_many_start_at_once(&fresh()).await;
    what_is_presented_counts_no_more_unless_it_is_open_again(&fresh()).await;
    what_time_has_ended_counts_until_the_sweep(&fresh()).await;
}

fn capped(seconds: u64, number: u8, caller: u64, all: u64) -> NewSession {
    NewSession { limits: PendingLimits { caller, all }, ..new_session(seconds, number) }
}

async fn a_caller_with_too_many_open_sessions_starts_no_more_and_keeps_those(backend: &impl Backend) {
    let store = backend.open(run(1));
    let with_id = |number| NewSession { request_id: Some("r".into()), ..capped(0, number, 2, 9) };
    store.start(at(0), with_id(1)).await.unwrap();
    store.start(at(0), capped(0, 2, 2, 9)).await.unwrap();
    match store.start(at(0), capped(0, 3, 2, 9)).await {
        Err(StoreError::Refused(refusal)) => {
            assert_eq!(
                (refusal.reason, refusal.retry_after),
                (Reason::Overloaded, Some(Duration::from_secs(30)))
            );
        }
        other => panic!("{other:?}"),
    }
    let again = store.start(at(0), with_id(4)).await.unwrap();
    assert_eq!(again.session.id, state(1, 0).session, "what was started before is answered");
    let of_other = NewSession { caller: CallerName::parse("other").unwrap(), ..capped(0, 5, 2, 9) };
    store.start(at(0), of_other).await.expect("others are not concerned");
    drop(store);

    let store = backend.open(run(2));
    assert_eq!(refused(store.start(at(0), capped(0, 3, 2, 9)).await), Reason::Overloaded, "across a restart");
    store.start(at(0), capped(0, 3, 3, 9)).await.expect("the limit is the start's");
    for number in [1, 2, 3] {
        assert_eq!(get(&store, 1, number).await.at, At::Open(OpenStatus::Pending), "the old ones live");
    }
    store.cancel(at(1), &viewer("checkout"), state(1, 0).session).await.unwrap();
    store.start(at(1), capped(1, 6, 3, 9)).await.expect("one has made room");
}

async fn all_together_have_a_cap_as_well(backend: &impl Backend) {
    let store = backend.open(run(1));
    for (number, caller) in [(1, "checkout"), (2, "other"), (3, "third")] {
        let new = NewSession { caller: CallerName::parse(caller).unwrap(), ..capped(0, number, 9, 3) };
        store.start(at(0), new).await.unwrap();
    }
    let fourth = || NewSession { caller: CallerName::parse("fourth").unwrap(), ..capped(0, 4, 9, 3) };
    assert_eq!(refused(store.start(at(0), fourth()).await), Reason::Overloaded);
    store.cancel(at(1), &viewer("other"), state(2, 0).session).await.unwrap();
    store.start(at(1), fourth()).await.unwrap();
}

async fn the_cap_holds_however_many_start_at_once(backend: &impl Backend) {
    let store = backend.open(run(1));
    let starts: Vec<_> = (0..64)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.start(at(0), capped(0, number, 10, 99)).await })
        })
        .collect();
    let mut started = 0;
    for start in starts {
        match start.await.unwrap() {
            Ok(_) => started += 1,
            refusal => assert_eq!(refused(refusal), Reason::Overloaded),
        }
    }
    assert_eq!(started, 10);
}

async fn what_is_presented_counts_no_more_unless_it_is_open_again(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), capped(0, 1, 1, 9)).await.unwrap();
    store.take(at(1), take_of(1, "code"), &terms()).await.unwrap();
    store.start(at(1), capped(1, 2, 1, 9)).await.expect("it is in exchange");
    let end = ExchangeEnd::Refused {
        verdict: token_verdict(402, Some("payment_required")),
        said: ProviderSaid::default(),
    };
    let session = end_exchange(&store, at(2), state(1, 0).session, end).await.unwrap();
    assert_eq!(session.at, At::Open(OpenStatus::Pending), "what comes back is not refused");
    assert_eq!(refused(store.start(at(2), capped(2, 3, 2, 9)).await), Reason::Overloaded);
    store.take(at(3), take_of(1, "code"), &terms()).await.unwrap();
    store.start(at(3), capped(3, 3, 2, 9)).await.unwrap();
}

async fn what_time_has_ended_counts_until_the_sweep(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), capped(0, 1, 1, 9)).await.unwrap();
    assert_eq!(refused(store.start(at(1800), capped(1800, 2, 1, 9)).await), Reason::Overloaded);
    assert_eq!(sweep_all(&store, 1800).await, (1, 0));
    store.start(at(1800), capped(1800, 2, 1, 9)).await.unwrap();
    assert_eq!(sweep_all(&store, 9000).await, (1, 2));
    store.start(at(9000), capped(9000, 3, 1, 9)).await.unwrap();
}
