//! Consumers: what holds an inbox up, and what does not.

use super::{
    inbox::{LIMITS, consumer, seen, trim_all},
    *,
};

pub(super) async fn suite<B: Backend>(fresh: &impl Fn() -> B) {
    what_is_nothing_for_a_consumer_is_not_kept_for_him(&fresh()).await;
    a_caller_that_is_gone_holds_nothing_up(&fresh()).await;
    how_far_behind_each_is_can_be_told(&fresh()).await;
}

/// When all events of these tests are old.
const LATE: u64 = 5000;

async fn with_ten_events(backend: &impl Backend) -> Arc<dyn Store> {
    let store = backend.open(run(1));
    for number in 1..=10 {
        store.ingest(at(1), seen(number, "hvf_1")).await.unwrap();
    }
    store
}

async fn what_is_nothing_for_a_consumer_is_not_kept_for_him(backend: &impl Backend) {
    let store = with_ten_events(backend).await;
    let billing = consumer("overseer", "billing");
    assert!(!store.pass_over(&billing, 0, 10).await.unwrap(), "it does not exist");
    store.open_consumer(at(0), &billing).await.unwrap();
    // It was told the third, and nothing of the others.
    assert!(!store.pass_over(&billing, 3, 8).await.unwrap(), "it is not done with what it was told");
    assert_eq!(trim_all(&store, LATE, LIMITS, &[]).await, (0, 0));
    store.acknowledge(&billing, 3).await.unwrap();
    assert!(store.pass_over(&billing, 3, 8).await.unwrap());
    assert!(store.pass_over(&billing, 3, 5).await.unwrap(), "never less far than it was");
    drop(store);
    let store = backend.open(run(2));
    assert_eq!(store.open_consumer(at(2), &billing).await.unwrap(), 8);
    assert_eq!(trim_all(&store, LATE, LIMITS, &[]).await, (8, 0));
}

async fn a_caller_that_is_gone_holds_nothing_up(backend: &impl Backend) {
    let store = with_ten_events(backend).await;
    let gone = consumer("gone", "billing");
    store.open_consumer(at(0), &gone).await.unwrap();
    store.acknowledge(&gone, 4).await.unwrap();
    assert_eq!(
        trim_all(&store, LATE, LIMITS, &[]).await,
        (10, 0),
        "nobody of the configuration waits for them"
    );
    assert_eq!(store.open_consumer(at(2), &gone).await.unwrap(), 4, "should it come back, it goes on");
}

async fn how_far_behind_each_is_can_be_told(backend: &impl Backend) {
    let store = with_ten_events(backend).await;
    let (slow, quick) = (consumer("checkout", "slow"), consumer("overseer", "quick"));
    for one in [&slow, &quick] {
        store.open_consumer(at(0), one).await.unwrap();
    }
    store.acknowledge(&quick, 9).await.unwrap();
    let behind = async || {
        let told = store.consumers(&client()).await.unwrap();
        told.into_iter().map(|told| (told.consumer, told.behind)).collect::<Vec<_>>()
    };
    assert_eq!(behind().await, [(slow.clone(), 10), (quick.clone(), 1)]);
    store.acknowledge(&slow, 6).await.unwrap();
    assert_eq!(behind().await, [(slow.clone(), 4), (quick.clone(), 1)]);
    let hard = EventLimits { bytes: 1, unread_bytes: 0, ..LIMITS };
    trim_all(&store, 2, hard, &[]).await;
    assert_eq!(behind().await, [(slow, 0), (quick, 0)], "what is gone cannot be read any more");
    let other = ClientName::parse("other").unwrap();
    assert_eq!(store.consumers(&other).await.unwrap(), []);
}
