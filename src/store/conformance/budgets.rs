//! Rate budgets: counted with what they are for, kept across restarts.

use super::*;
use crate::domain::{ProviderStatus, QueryEnd};

pub(super) async fn suite<B: Backend>(fresh: &impl Fn() -> B) {
    no_more_takes_than_slots(&fresh()).await;
    a_slot_outlives_a_restart(&fresh()).await;
    a_429_closes_across_a_restart(&fresh()).await;
    a_question_has_a_slot_and_moves_the_session(&fresh()).await;
    a_budget_belongs_to_kind_and_credential(&fresh()).await;
}

fn limited(limit: u32) -> BudgetTerms {
    BudgetTerms { limit, ..terms() }
}

fn spent<T>(result: Result<T, StoreError>) -> Outlook {
    match result {
        Err(StoreError::BudgetSpent(outlook)) => outlook,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

fn slot_of(took: &Took) -> Slot {
    if let Next::Send { slot, .. } = &took.next { *slot } else { panic!("nothing to send") }
}

async fn no_more_takes_than_slots(backend: &impl Backend) {
    let store = backend.open(run(1));
    for number in 1..=32 {
        store.start(at(0), new_session(0, number)).await.unwrap();
    }
    let takes: Vec<_> = (1..=32)
        .map(|number| {
            let (store, code) = (Arc::clone(&store), format!("code-{number}"));
            tokio::spawn(async move { store.take(at(1), take_of(number, &code), &limited(5)).await })
        })
        .collect();
    let mut taken = Vec::new();
    for take in takes {
        match take.await.unwrap() {
            Ok(took) => taken.push(took),
            other => assert_eq!(spent(other).used, 5),
        }
    }
    assert_eq!(taken.len(), 5, "of thirty-two at once");
    for number in 1..=32 {
        let session = get(&store, 1, number).await;
        let is_taken = taken.iter().any(|took| took.session.id == session.id);
        assert_eq!(matches!(session.at, At::Sent { .. }), is_taken);
        assert_eq!(session.spent.is_some(), is_taken, "who found no slot has consumed nothing");
    }
    // One was never made, one was answered: the first gives its slot back at once.
    let said = ProviderSaid::default();
    let [first, second, ..] = taken.as_slice() else { unreachable!() };
    store
        .end_exchange(at(2), first.session.id, slot_of(first), ExchangeEnd::NeverSent { said })
        .await
        .unwrap();
    store.end_exchange(at(2), second.session.id, slot_of(second), token()).await.unwrap();
    assert_eq!(store.outlook(at(2), &limited(5)).await.unwrap().used, 4);
    assert_eq!(store.outlook(at(63), &limited(5)).await.unwrap().used, 3);
}

async fn a_slot_outlives_a_restart(backend: &impl Backend) {
    let store = backend.open(run(1));
    let answered = store.claim(at(0), &limited(2)).await.unwrap();
    store.claim(at(0), &limited(2)).await.unwrap();
    store.end_query(at(5), state(1, 0).session, answered, &QueryEnd::Status(None)).await.unwrap();
    drop(store);
    let store = backend.open_at(run(2), at(20));
    assert_eq!(spent(store.claim(at(21), &limited(2)).await).used, 2);
    assert_eq!(store.outlook(at(66), &limited(2)).await.unwrap().used, 1, "a minute after its answer");
    assert_eq!(store.outlook(at(80), &limited(2)).await.unwrap().used, 1);
    assert_eq!(
        store.outlook(at(81), &limited(2)).await.unwrap().used,
        0,
        "unanswered: a minute after the restart"
    );
}

async fn a_429_closes_across_a_restart(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let took = store.take(at(1), take_of(1, "code"), &terms()).await.unwrap();
    let said = ProviderSaid { retry_after: Some(Duration::from_secs(100)), ..ProviderSaid::default() };
    let limited = ExchangeEnd::Refused { verdict: token_verdict(429, None), said };
    store.end_exchange(at(2), took.session.id, slot_of(&took), limited).await.unwrap();
    drop(store);
    let store = backend.open_at(run(2), at(10));
    let outlook = spent(store.take(at(11), take_of(1, "code"), &terms()).await);
    assert_eq!(outlook.closed_for, Some(Duration::from_secs(91)));
    assert!(store.take(at(102), take_of(1, "code"), &terms()).await.is_ok(), "the same callback completes");
}

async fn a_question_has_a_slot_and_moves_the_session(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let slot = store.claim(at(1), &limited(1)).await.unwrap();
    spent(store.claim(at(1), &limited(1)).await);
    let answer = QueryEnd::Status(Some(ProviderStatus::Authenticated));
    store.end_query(at(2), state(1, 0).session, slot, &answer).await.unwrap();
    assert_eq!(get(&store, 2, 1).await.at, At::Open(OpenStatus::Authenticated));
    let unsent = || QueryEnd::Refused { refusal: Reason::ProviderUnreachable.into(), was_sent: false };
    let slot = store.claim(at(100), &limited(1)).await.unwrap();
    store.end_query(at(100), state(9, 0).session, slot, &unsent()).await.unwrap();
    assert_eq!(store.outlook(at(100), &limited(1)).await.unwrap().used, 0, "of a session that is gone, too");
}

async fn a_budget_belongs_to_kind_and_credential(backend: &impl Backend) {
    let store = backend.open(run(1));
    let other_key = BudgetTerms { credential: ApiKey::new("another"), ..limited(1) };
    let other_kind = BudgetTerms { kind: BudgetKind::Session, ..limited(1) };
    for terms in [limited(1), other_key, other_kind] {
        store.claim(at(0), &terms).await.unwrap();
        spent(store.claim(at(0), &terms).await);
    }
}
