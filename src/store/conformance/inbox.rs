//! Events: kept once, in order, for whoever may see them, until they are old.

use super::*;
use crate::domain::{ConsumerName, Envelope, EventId, WebhookSecret};

pub(super) async fn suite<B: Backend>(fresh: &impl Fn() -> B) {
    webhooks_are_kept_once_and_move_open_sessions(&fresh()).await;
    an_event_finds_its_session_late_and_is_told_anew(&fresh()).await;
    an_event_of_a_wrong_guess_is_told_to_its_owner(&fresh()).await;
    what_is_told_anew_stays_until_it_is_read_there(&fresh()).await;
    only_those_who_may_see_an_event_do(&fresh()).await;
    pages_go_on_where_the_last_one_ended(&fresh()).await;
    consumers_go_on_across_restarts(&fresh()).await;
    old_events_go_and_stay_known_as_duplicates(&fresh()).await;
    what_is_unread_stays_up_to_a_limit(&fresh()).await;
    one_from_the_future_goes_with_those_behind_it(&fresh()).await;
}

fn secret(text: &str) -> WebhookSecret {
    WebhookSecret::new(text)
}

pub(in crate::store) fn event(number: u8, body: &str) -> NewEvent {
    NewEvent {
        id: EventId::new(at(0).wall, [number; 10]),
        client: client(),
        body: body.as_bytes().to_vec(),
        envelope: Envelope::read(body.as_bytes()),
        secret: secret("whsec_1"),
    }
}

async fn webhooks_are_kept_once_and_move_open_sessions(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    store
        .take(at(1), Take { provider_session: hint("hvf_1"), ..take_of(1, "code") }, &terms())
        .await
        .unwrap();
    let refusal = ExchangeEnd::Refused { verdict: token_verdict(503, None), said: ProviderSaid::default() };
    end_exchange(&store, at(2), state(1, 0).session, refusal).await.unwrap();

    let failed = r#"{"id":"e1","type":"session.failed","data":{"session_id":"hvf_1","status":"failed"}}"#;
    let twins: Vec<_> = (1..=16)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.ingest(at(3), event(number, failed)).await.unwrap() })
        })
        .collect();
    let mut fresh = 0;
    for twin in twins {
        let ingested = twin.await.unwrap();
        fresh += u32::from(!ingested.duplicate);
        assert_eq!((ingested.event.sequence, ingested.event.kind.as_str()), (1, "session.failed"));
        assert_eq!(ingested.event.body, failed.as_bytes());
        assert_eq!(ingested.session.unwrap().ended().unwrap().status, Terminal::Failed);
    }
    assert_eq!(fresh, 1);
    drop(store);

    let store = backend.open(run(2));
    let again = store.ingest(at(4), event(20, failed)).await.unwrap();
    assert!(again.duplicate && again.event.sequence == 1, "across a restart");
    let reused = store.ingest(at(5), event(21, r#"{"id":"e1","type":"x.other"}"#)).await.unwrap();
    assert!(!reused.duplicate && reused.event.id_reused && reused.event.sequence == 2);
    let unreadable = store.ingest(at(6), event(22, "\u{feff}not json")).await.unwrap();
    assert!(!unreadable.event.parsed && unreadable.event.kind.is_empty() && unreadable.session.is_none());
    assert_eq!(store.status().events, 3);
}

fn filter() -> EventFilter {
    EventFilter { client: client(), kinds: Vec::new(), session: None }
}

pub(super) fn overseer() -> Viewer {
    Viewer { sees_unlinked: true, ..viewer("overseer") }
}

pub(super) fn consumer(caller: &str, name: &str) -> Consumer {
    let name = ConsumerName::parse(name).unwrap();
    Consumer { caller: CallerName::parse(caller).unwrap(), client: client(), name }
}

/// Places and types of what a consumer of the viewer reads on.
async fn told(store: &Arc<dyn Store>, viewer: &Viewer, after: u64) -> Vec<(u64, String)> {
    let page = store.read_on(viewer, &filter(), after, 100).await.unwrap();
    assert!(!page.more);
    page.events.into_iter().map(|event| (event.sequence, event.kind)).collect()
}

async fn listed(store: &Arc<dyn Store>, viewer: &Viewer) -> Vec<u64> {
    let page = store.list(viewer, &filter(), 0, 100).await.unwrap();
    page.events.into_iter().map(|event| event.sequence).collect()
}

pub(in crate::store) fn seen(number: u8, provider_session: &str) -> NewEvent {
    event(number, &format!(r#"{{"id":"e{number}","type":"t{number}","session_id":"{provider_session}"}}"#))
}

async fn an_event_finds_its_session_late_and_is_told_anew(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    store.ingest(at(1), seen(1, "hvf_1")).await.unwrap();
    store.ingest(at(1), seen(2, "hvf_other")).await.unwrap();
    assert_eq!(told(&store, &viewer("checkout"), 0).await, [], "it belongs to nobody yet");
    let before = told(&store, &overseer(), 0).await;
    assert_eq!(before, [(1, "t1".into()), (2, "t2".into())]);

    // The callback brings the provider's id.
    let take = Take { provider_session: hint("hvf_1"), ..take_of(1, "code") };
    store.take(at(2), take, &terms()).await.unwrap();
    drop(store);
    let store = backend.open(run(2));
    assert_eq!(told(&store, &viewer("checkout"), 2).await, [(3, "t1".into())], "behind what was read before");
    assert_eq!(told(&store, &viewer("checkout"), 0).await, [(3, "t1".into())], "and once");
    assert_eq!(listed(&store, &viewer("checkout")).await, [1], "it has kept its own place");
    assert_eq!(store.status().events, 2, "told anew, it is still one");
    assert_eq!(told(&store, &overseer(), 2).await, [], "who knew it is not told again");
    assert_eq!(told(&store, &overseer(), 0).await, [(2, "t2".into())], "nor who may not see the session's");
    assert_eq!(told(&store, &viewer("other"), 0).await, []);
    let session = get(&store, 3, 1).await;
    let kinds: Vec<_> = session.timeline.entries().iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["sent", "webhook", "interrupted"], "the session's history has it too");
    let known = store.ingest(at(3), seen(3, "hvf_1")).await.unwrap();
    assert_eq!(known.event.session.unwrap().0, session.id);
    assert_eq!(told(&store, &viewer("checkout"), 3).await, [(4, "t3".into())]);
}

/// A browser's hint linked it to another session first; then its own completes.
async fn an_event_of_a_wrong_guess_is_told_to_its_owner(backend: &impl Backend) {
    let store = backend.open(run(1));
    let owner = Viewer { sees_unlinked: true, ..viewer("owner") };
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let of_owner = NewSession { caller: owner.caller.clone(), ..new_session(0, 2) };
    store.start(at(0), of_owner).await.unwrap();
    let guess = Take { provider_session: hint("hvf_1"), ..take_of(1, "code-1") };
    store.take(at(1), guess, &terms()).await.unwrap();
    store.ingest(at(1), seen(1, "hvf_1")).await.unwrap();
    assert_eq!(told(&store, &owner, 0).await, [], "another's, as it seems");
    let own = Take { viewer: owner.clone(), provider_session: hint("hvf_1"), ..take_of(2, "code-2") };
    store.take(at(2), own, &terms()).await.unwrap();
    end_exchange(&store, at(3), state(2, 0).session, token()).await.unwrap();
    assert_eq!(told(&store, &owner, 1).await, [(2, "t1".into())]);
    assert_eq!(told(&store, &viewer("checkout"), 0).await, []);
}

async fn what_is_told_anew_stays_until_it_is_read_there(backend: &impl Backend) {
    let store = backend.open(run(1));
    let mine = consumer("checkout", "mine");
    store.open_consumer(at(0), &mine).await.unwrap();
    store.start(at(0), new_session(0, 1)).await.unwrap();
    store.ingest(at(1), seen(1, "hvf_1")).await.unwrap();
    store.acknowledge(&mine, 1).await.unwrap();
    let take = Take { provider_session: hint("hvf_1"), ..take_of(1, "code") };
    store.take(at(2), take, &terms()).await.unwrap();
    assert_eq!(trim_all(&store, 5000, LIMITS, &[]).await, (0, 0), "its consumer has not been told of it");
    assert_eq!(told(&store, &viewer("checkout"), 1).await, [(2, "t1".into())]);
    store.acknowledge(&mine, 2).await.unwrap();
    assert_eq!(trim_all(&store, 5000, LIMITS, &[]).await, (1, 0));
    assert_eq!(store.status().events, 0);
}

async fn only_those_who_may_see_an_event_do(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let take = Take { provider_session: hint("hvf_1"), ..take_of(1, "code") };
    store.take(at(1), take, &terms()).await.unwrap();
    store.ingest(at(1), seen(1, "hvf_1")).await.unwrap();
    store.ingest(at(1), seen(2, "hvf_2")).await.unwrap();
    let shared = Viewer { shared: Arc::new(BTreeSet::from([client()])), ..viewer("other") };
    let elsewhere = Viewer { clients: Arc::default(), ..overseer() };
    for (viewer, sees) in [
        (viewer("checkout"), &[1][..]),
        (viewer("other"), &[]),
        (shared, &[1]),
        (overseer(), &[2]),
        (Viewer { sees_unlinked: true, ..viewer("checkout") }, &[1, 2]),
        (elsewhere, &[]),
    ] {
        assert_eq!(listed(&store, &viewer).await, sees, "{viewer:?}");
    }
}

async fn pages_go_on_where_the_last_one_ended(backend: &impl Backend) {
    let store = backend.open(run(1));
    for number in 1..=10 {
        store.ingest(at(1), seen(number, if number % 2 == 0 { "hvf_a" } else { "hvf_b" })).await.unwrap();
    }
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = store.list(&overseer(), &filter(), after, 3).await.unwrap();
        assert!(page.events.len() <= 3);
        found.extend(page.events.iter().map(|event| event.sequence));
        after = page.reached;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, (1..=10).collect::<Vec<_>>());
    let some = EventFilter { kinds: vec!["t3".into(), "t8".into(), "t99".into()], ..filter() };
    let page = store.list(&overseer(), &some, 0, 100).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [3, 8]);
    assert_eq!((page.reached, page.more), (10, false));
    assert_eq!(page.events[0].body, seen(3, "hvf_b").body);
    let of_session = EventFilter { session: Some(state(1, 0).session), ..filter() };
    assert!(store.list(&overseer(), &of_session, 0, 100).await.unwrap().events.is_empty());
}

async fn consumers_go_on_across_restarts(backend: &impl Backend) {
    let store = backend.open(run(1));
    let mut arrivals = store.arrivals(&client());
    arrivals.mark_unchanged();
    let billing = consumer("overseer", "billing");
    assert_eq!(refused(store.acknowledge(&billing, 0).await), Reason::CursorInvalid, "it does not exist");
    assert_eq!(store.open_consumer(at(0), &billing).await.unwrap(), 0);
    for number in 1..=3 {
        store.ingest(at(1), seen(number, "hvf_1")).await.unwrap();
    }
    arrivals.changed().await.unwrap();
    store.acknowledge(&billing, 2).await.unwrap();
    store.acknowledge(&billing, 1).await.expect("what is done stays done");
    assert_eq!(refused(store.acknowledge(&billing, 4).await), Reason::CursorInvalid, "nothing is there yet");
    drop(store);
    let store = backend.open(run(2));
    assert_eq!(store.open_consumer(at(2), &billing).await.unwrap(), 2);
    assert_eq!(
        store.open_consumer(at(2), &consumer("other", "billing")).await.unwrap(),
        0,
        "each caller has his own"
    );
    store.delete_consumer(&billing).await.unwrap();
    store.delete_consumer(&billing).await.expect("twice is as good as once");
    assert_eq!(store.open_consumer(at(2), &billing).await.unwrap(), 0, "begins anew");
}

pub(in crate::store) const LIMITS: EventLimits =
    EventLimits { retention: Duration::from_secs(1000), bytes: u64::MAX, unread_bytes: u64::MAX };

pub(in crate::store) async fn trim_all(
    store: &Arc<dyn Store>,
    seconds: u64,
    limits: EventLimits,
    secrets: &[&str],
) -> (u64, u64) {
    let secrets: Vec<_> = secrets.iter().map(|text| secret(text)).collect();
    let readers = ["checkout", "overseer"].map(|name| CallerName::parse(name).unwrap());
    let readers = BTreeMap::from([(client(), BTreeSet::from(readers))]);
    let terms = TrimTerms { limits, in_force: &secrets, readers: &readers };
    let (mut removed, mut unread) = (0, 0);
    loop {
        let trimmed = store.trim(at(seconds), terms).await.unwrap();
        removed += trimmed.removed;
        unread += trimmed.unread;
        if !trimmed.more {
            return (removed, unread);
        }
    }
}

async fn old_events_go_and_stay_known_as_duplicates(backend: &impl Backend) {
    let store = backend.open(run(1));
    for number in 1..=100 {
        store.ingest(at(u64::from(number)), seen(number, "hvf_1")).await.unwrap();
    }
    assert_eq!(trim_all(&store, 1000, LIMITS, &["whsec_1"]).await, (0, 0));
    assert_eq!(trim_all(&store, 1090, LIMITS, &["whsec_1"]).await, (90, 0));
    assert_eq!(listed(&store, &overseer()).await, (91..=100).collect::<Vec<_>>());
    assert_eq!(store.status().events, 10);
    drop(store);
    let store = backend.open(run(2));
    let again = store.ingest(at(1100), seen(5, "hvf_1")).await.unwrap();
    assert!(again.duplicate && again.event.sequence == 5 && again.event.body == seen(5, "hvf_1").body);
    assert_eq!(listed(&store, &overseer()).await.len(), 10, "not kept again");
    // Once the secret is no longer in force nobody can send it again, and its digest goes.
    assert_eq!(trim_all(&store, 1100, LIMITS, &["whsec_2"]).await, (10, 0));
    for _ in 0..3 {
        trim_all(&store, 1100, LIMITS, &["whsec_2"]).await;
    }
    assert!(!store.ingest(at(1101), seen(5, "hvf_1")).await.unwrap().duplicate);
    assert!(
        !store.ingest(at(1101), seen(1, "hvf_1")).await.unwrap().event.id_reused,
        "inner ids go with their events"
    );
}

async fn what_is_unread_stays_up_to_a_limit(backend: &impl Backend) {
    let store = backend.open(run(1));
    let billing = consumer("overseer", "billing");
    store.open_consumer(at(0), &billing).await.unwrap();
    for number in 1..=100 {
        store.ingest(at(1), seen(number, "hvf_1")).await.unwrap();
    }
    assert_eq!(trim_all(&store, 5000, LIMITS, &[]).await, (0, 0), "old, and not acknowledged");
    store.acknowledge(&billing, 40).await.unwrap();
    assert_eq!(trim_all(&store, 5000, LIMITS, &[]).await, (40, 0));
    let over_size = EventLimits { bytes: 1, ..LIMITS };
    assert_eq!(trim_all(&store, 2, over_size, &[]).await, (0, 0), "too many, and not acknowledged");
    let hard = EventLimits { bytes: 1, unread_bytes: 1000, ..LIMITS };
    let (removed, unread) = trim_all(&store, 2, hard, &[]).await;
    assert!(
        removed == unread && (40..60).contains(&removed),
        "a few are left below the hard limit: {removed}"
    );
    assert_eq!(listed(&store, &overseer()).await.last(), Some(&100), "the oldest go first");
}

/// The clock was ahead when it came, and was set right at the next boot.
async fn one_from_the_future_goes_with_those_behind_it(backend: &impl Backend) {
    let store = backend.open(run(1));
    let before_the_boot = Moment { boot: BootTime { boot: 0, millis: 0 }, ..at(90_000) };
    store.ingest(before_the_boot, seen(1, "hvf_1")).await.unwrap();
    store.ingest(at(1), seen(2, "hvf_1")).await.unwrap();
    store.ingest(at(500), seen(3, "hvf_1")).await.unwrap();
    assert_eq!(trim_all(&store, 1000, LIMITS, &[]).await, (0, 0));
    assert_eq!(trim_all(&store, 1001, LIMITS, &[]).await, (2, 0));
    assert_eq!(listed(&store, &overseer()).await, [3]);
}
