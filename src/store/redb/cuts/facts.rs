//! Facts, each one call of the store: it says what it says without the fact, or what it says with it; where the fact was
//! acknowledged, the latter. A migration is one more [`Fact`] once there is one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;

use super::*;
use crate::{
    domain::{
        CallerName, ConsumerName, Envelope, EventId, ExchangeEnd, ProviderSaid, ProviderStatus, SlotId,
        WebhookSecret, token_verdict,
    },
    store::{
        Consumer, EventLimits, NewEvent, TrimTerms, Trimmed,
        conformance::{claims, client, hint, state, take_of, terms, token},
    },
};

/// Sessions that are swept: more than one bite.
const MANY: u8 = 70;

type Done<'s> = BoxFuture<'s, Result<(), StoreError>>;

/// One fact: when it comes about, what it is called, and how.
struct Fact(u64, &'static str, fn(&RedbStore) -> Done<'_>);

/// A step of the scenario: something that is done, or a fact that is also cut.
enum Step {
    Before(fn(&RedbStore) -> Done<'_>),
    Cut(Fact),
}

fn open(disk: &Disk, run_number: u8, seconds: u64) -> Result<RedbStore, OpenError> {
    RedbStore::open_on(disk.plug(), keys(), RETENTION, run(run_number), at(seconds))
}

fn slot(store: &RedbStore, number: u64) -> Slot {
    Slot { budget: budget_key(&store.codec, &terms()), id: SlotId(number) }
}

fn event(number: u8, body: &str) -> NewEvent {
    let body = body.as_bytes().to_vec();
    let (id, envelope) = (EventId::new(at(0).wall, [number; 10]), Envelope::read(&body));
    NewEvent { id, client: client(), body, envelope, secret: WebhookSecret::new("whsec_1") }
}

fn consumer() -> Consumer {
    let caller = CallerName::parse("checkout").unwrap();
    Consumer { caller, client: client(), name: ConsumerName::parse("mail").unwrap() }
}

fn limits(retention: u64) -> EventLimits {
    EventLimits { retention: Duration::from_secs(retention), bytes: 1 << 20, unread_bytes: 1 }
}

/// Trims for the readers that there are.
async fn trim(store: &RedbStore, seconds: u64, limits: EventLimits) -> Result<Trimmed, StoreError> {
    let readers = BTreeMap::from([(client(), BTreeSet::from([consumer().caller]))]);
    store.trim(at(seconds), TrimTerms { limits, in_force: &[], readers: &readers }).await
}

macro_rules! fact {
    ($seconds:literal, $name:literal, |$store:ident| $work:expr) => {
        Step::Cut(Fact($seconds, $name, |$store| Box::pin(async move { $work.await.map(drop) })))
    };
}

fn scenario() -> Vec<Step> {
    vec![
        fact!(0, "a start", |store| store.start(at(0), new_session(0, 1))),
        fact!(0, "a start with a request id", |store| {
            store.start(at(0), NewSession { request_id: Some("r-1".into()), ..new_session(0, 2) })
        }),
        fact!(0, "a start", |store| store.start(at(0), new_session(0, 3))),
        fact!(1, "a take", |store| async {
            store
                .take(at(1), Take { provider_session: hint("hvf_1"), ..take_of(1, "code-1") }, &terms())
                .await
        }),
        fact!(2, "a token", |store| store.end_exchange(at(2), state(1, 0).session, slot(store, 0), token())),
        fact!(3, "claims", |store| store.end_claims(at(3), state(1, 0).session, claims())),
        fact!(4, "a webhook", |store| store.ingest(
            at(4),
            event(1, r#"{"id":"e1","type":"session.expired","session_id":"hvf_1","status":"expired"}"#)
        )),
        fact!(4, "a webhook of no known session", |store| store.ingest(
            at(4),
            event(2, r#"{"id":"e2","type":"vae.x","session_id":"hvf_2","status":"authenticated"}"#)
        )),
        fact!(5, "a take that takes an event over", |store| async {
            store
                .take(at(5), Take { provider_session: hint("hvf_2"), ..take_of(2, "code-2") }, &terms())
                .await
        }),
        fact!(6, "a refusal", |store| {
            let (verdict, said) = (token_verdict(503, None), ProviderSaid::default());
            let end = ExchangeEnd::Refused { verdict, said };
            store.end_exchange(at(6), state(2, 0).session, slot(store, 1), end)
        }),
        fact!(7, "a slot", |store| store.claim(at(7), &terms())),
        fact!(7, "an answer to a question", |store| async {
            let end = QueryEnd::Status(Some(ProviderStatus::Verified));
            store.end_query(at(7), state(2, 0).session, slot(store, 2), &end).await
        }),
        fact!(8, "a cancellation", |store| async {
            store.cancel(at(8), &viewer("checkout"), state(2, 0).session).await
        }),
        fact!(9, "a take", |store| store.take(at(9), take_of(3, "code-3"), &terms())),
        fact!(9, "a token", |store| store.end_exchange(at(9), state(3, 0).session, slot(store, 3), token())),
        fact!(10, "a cancellation that revokes", |store| async {
            store.cancel(at(10), &viewer("checkout"), state(3, 0).session).await
        }),
        fact!(10, "a revocation", |store| async {
            store.revoke(at(10), &viewer("checkout"), state(1, 0).session).await
        }),
        fact!(11, "the end of a revocation", |store| {
            store.end_revocation(at(11), state(1, 0).session, RevocationEnd::Revoked)
        }),
        fact!(12, "a consumer", |store| async { store.open_consumer(at(12), &consumer()).await }),
        fact!(12, "an acknowledgement", |store| async { store.acknowledge(&consumer(), 1).await }),
        Step::Before(|store| {
            Box::pin(async move {
                let many = (10..10 + MANY).map(|number| store.start(at(20), new_session(20, number)));
                futures_util::future::try_join_all(many).await?;
                let many = (10..10 + MANY).map(|number| {
                    let body = format!(r#"{{"id":"m{number}","type":"vae.x","session_id":"hvf_{number}"}}"#);
                    store.ingest(at(20), event(number, &body))
                });
                futures_util::future::try_join_all(many).await.map(drop)
            })
        }),
        fact!(1_830, "a bite of the sweep that ends", |store| store.sweep(at(1_830))),
        fact!(1_830, "a second bite", |store| async {
            // The first has nothing left to do, which is no fact.
            store.sweep(at(1_830)).await?;
            store.sweep(at(1_830)).await
        }),
        fact!(4_000, "a bite of trimming", |store| trim(store, 4_000, limits(3_600))),
        fact!(4_000, "a second bite of trimming", |store| trim(store, 4_000, limits(3_600))),
        fact!(5_500, "a bite of the sweep that removes", |store| store.sweep(at(5_500))),
        fact!(5_500, "a second bite that removes", |store| store.sweep(at(5_500))),
    ]
}

/// What the store says that is opened on a copy of a disk, and that it goes on from there.
async fn opened(disk: &Disk, seconds: u64) -> String {
    let disk = disk.copy();
    let store = open(&disk, 2, seconds).unwrap();
    let all = all_of(&store, seconds).await;
    store.start(at(seconds), new_session(seconds, 200)).await.unwrap();
    let taken = Take { state: state(200, seconds), ..take_of(200, "code-200") };
    store.take(at(seconds), taken, &terms()).await.unwrap();
    all
}

/// Cuts the opening of a disk at each write and sync, and answers how often that was.
async fn cut_while_opening(disk: &Disk, loss: Loss, seconds: u64, expected: &str, story: &str) -> u64 {
    for cut in 0.. {
        let disk = disk.copy();
        let plug = disk.plug();
        disk.fail_after(cut);
        let opening = RedbStore::open_on(plug, keys(), RETENTION, run(2), at(seconds));
        let has_failed = disk.fails();
        drop(opening);
        // What is written when the database is let go does not count as opening it.
        if !has_failed {
            return cut;
        }
        disk.pull(loss);
        let found = opened(&disk, seconds).await;
        assert!(found == expected, "{story}, then opening it at operation {cut}\n{found}");
    }
    unreachable!("opening ends")
}

/// Cuts a fact at each write and sync, and the opening afterwards; answers how often.
async fn cut(fact: &Fact, disk: &Disk, [before, after]: [&Disk; 2]) -> (u64, u64) {
    let Fact(seconds, name, work) = *fact;
    let (before, after) = (opened(before, seconds).await, opened(after, seconds).await);
    assert!(before != after, "{name} is a fact that can be seen");
    let (mut cuts, mut second_cuts) = (0, 0);
    for seed in 0..4 {
        let loss = [Loss::Nothing, Loss::All, Loss::Some(cuts), Loss::Some(!cuts)][seed];
        for cut in 0.. {
            let disk = disk.copy();
            let store = open(&disk, 1, 0).unwrap();
            disk.fail_after(cut);
            let done = work(&store).await;
            let has_failed = disk.fails();
            disk.pull(loss);
            drop(store);
            let story = format!("{name}, cut at operation {cut}, {loss:?}");
            let found = opened(&disk, seconds).await;
            if done.is_ok() {
                assert!(found == after, "{story}: it was acknowledged, and there is\n{found}");
            } else {
                // Trimming is two facts, digests and events, each whole: what is left is left by one of them.
                let is_between = || found.lines().all(|row| before.contains(row) || after.contains(row));
                let is_whole =
                    found == before || found == after || (name.contains("trimming") && is_between());
                assert!(is_whole, "{story}: half done\n{found}");
            }
            // Most of the second cuts are left to those who have the time.
            if (loss == Loss::All && cut % 4 == 0) || is_thorough() {
                second_cuts += cut_while_opening(&disk, loss, seconds, &found, &story).await;
            }
            if !has_failed {
                break;
            }
            cuts += 1;
        }
    }
    (cuts, second_cuts)
}

#[tokio::test]
async fn a_cut_at_any_write_or_sync_loses_no_acknowledged_fact_and_halves_none() {
    let mut disk = Disk::default();
    drop(open(&disk, 1, 0).unwrap());
    let (mut cuts, mut second_cuts) = (0, 0);
    for step in scenario() {
        let after = disk.copy();
        let store = open(&after, 1, 0).unwrap();
        let done = match &step {
            Step::Before(work) | Step::Cut(Fact(.., work)) => work(&store).await,
        };
        done.unwrap();
        drop(store);
        if let Step::Cut(fact) = &step {
            let before = disk.copy();
            drop(open(&before, 1, 0).unwrap());
            let (first, second) = cut(fact, &disk, [&before, &after]).await;
            (cuts, second_cuts) = (cuts + first, second_cuts + second);
        }
        disk = after;
    }
    println!("{cuts} cuts, and {second_cuts} second ones while opening what they left");
    assert!(cuts > 500 && second_cuts > 500, "{cuts}, {second_cuts}");
}
