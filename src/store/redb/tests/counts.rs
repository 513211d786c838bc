//! What is counted is what there is, whatever happens.

use super::*;
use crate::{
    domain::{CallerName, ExchangeEnd, ProviderSaid, token_verdict},
    store::{
        Inbox, PendingLimits,
        conformance::{hint, state, take_of, terms},
        disk::Loss,
    },
};

const CALLERS: [&str; 3] = ["checkout", "other", "third"];

fn open(disk: &Disk, seconds: u64) -> RedbStore {
    RedbStore::open_on(disk.plug(), ring(&[2, 1]), RETENTION, run(1), at(seconds)).unwrap()
}

/// Something happens to the store; whether it is refused does not matter.
async fn happens(store: &RedbStore, random: &mut fastrand::Rng, seconds: u64) {
    let (number, caller) = (random.u8(1..40), CALLERS[random.usize(..3)]);
    let id = state(number, 0).session;
    let all = Viewer { shared: viewer(caller).clients, ..viewer(caller) };
    let now = at(seconds);
    match random.u8(..12) {
        0..4 => {
            let request_id = random.bool().then(|| format!("r-{}", random.u8(..4)));
            let (caller, limits) = (CallerName::parse(caller).unwrap(), PendingLimits { caller: 8, all: 15 });
            // Ids are used once.
            if store.read(id).unwrap().is_none() {
                let new = NewSession { caller, limits, request_id, ..new_session(0, number) };
                let _ = store.start(now, new).await;
            }
        }
        4..6 => {
            let id = format!("hvf_{}", random.u8(..9));
            let take =
                Take { viewer: all, provider_session: hint(&id), ..take_of(number, &format!("c{number}")) };
            let _ = store.take(now, take, &terms()).await;
        }
        6 => {
            if let Ok(slot) = store.claim(now, &terms()).await {
                let refusal = || ExchangeEnd::Refused {
                    verdict: token_verdict(503, None),
                    said: ProviderSaid::default(),
                };
                let end = if random.bool() { refusal() } else { conformance::token() };
                let _ = store.end_exchange(now, id, slot, end).await;
            }
        }
        7 => drop(store.end_claims(now, id, conformance::claims()).await),
        8 => drop(store.cancel(now, &all, id).await),
        9 => {
            let status = ["expired", "failed", "verified"][random.usize(..3)];
            let about = random.u8(..9);
            let body =
                format!(r#"{{"id":"{}","session_id":"hvf_{about}","status":"{status}"}}"#, random.u64(..));
            drop(store.ingest(now, conformance::event(number, &body)).await);
        }
        10 => drop(store.sweep(now).await),
        _ => drop(store.rotate(Rotation::default()).await),
    }
}

#[tokio::test]
async fn what_is_counted_is_what_there_is_across_crashes() {
    let mut most = 0;
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = Disk::default();
        let (mut store, mut seconds) = (open(&disk, 0), 0);
        for step in 0..100 {
            if random.u8(..12) == 0 {
                seconds += random.u64(..1500);
            }
            let is_cut = random.u8(..10) == 0;
            if is_cut {
                disk.fail_after(random.u64(..12));
            }
            if random.bool() {
                // Several in one transaction, some of them about the same session.
                let (mut first, mut second) = (random.fork(), random.fork());
                let both = (happens(&store, &mut first, seconds), happens(&store, &mut second, seconds));
                tokio::join!(both.0, both.1, happens(&store, &mut random, seconds));
            } else {
                happens(&store, &mut random, seconds).await;
            }
            if is_cut {
                let loss = [Loss::Nothing, Loss::All, Loss::Some(random.u64(..))][random.usize(..3)];
                disk.pull(loss);
                drop(store);
                store = open(&disk, seconds);
            }
            let [counted, there] = store.session_counts();
            assert_eq!(counted, there, "seed {seed}, step {step}");
            let all = there.get("").copied().unwrap_or_default();
            most = most.max(all);
        }
    }
    assert!(most >= 15, "the cap was reached: {most}");
}

#[tokio::test]
async fn a_file_without_counts_is_counted_when_it_is_opened() {
    let folder = InFolder::new();
    let store = folder.try_open(&[1]).unwrap();
    for number in 1..=5 {
        let caller = CallerName::parse(CALLERS[usize::from(number) % 2]).unwrap();
        store.start(at(0), NewSession { caller, ..new_session(0, number) }).await.unwrap();
    }
    store.cancel(at(1), &viewer("other"), state(1, 0).session).await.unwrap();
    drop(store);
    let database = Database::open(folder.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(tables::COUNTS_TABLE).unwrap());
    transaction.commit().unwrap();
    drop(database);
    let (tell, told) = std::sync::mpsc::channel();
    let [counted, there] =
        folder.try_open_telling(&[1], move |step| tell.send(step).unwrap()).unwrap().session_counts();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Opening::BringingUp], "it may take a while");
    assert_eq!(counted, there);
    let expected = [("", 4), ("checkout", 2), ("other", 2), ("\0pending", 4), ("\0cancelled", 1)]
        .map(|(caller, count)| (caller.to_owned(), count));
    assert_eq!(counted, expected.into());
}

#[tokio::test]
async fn a_session_that_does_not_open_counts_until_it_is_removed() {
    let folder = InFolder::new();
    let store = folder.try_open(&[1]).unwrap();
    let capped = |number: u8, seconds| NewSession {
        limits: PendingLimits { caller: 1, all: 9 },
        ..new_session(seconds, number)
    };
    store.start(at(0), capped(1, 0)).await.unwrap();
    drop(store);
    damage(&folder, SESSIONS_TABLE);
    let store = folder.try_open(&[1]).unwrap();
    store.start(at(5_500), capped(2, 5_500)).await.expect_err("it counts");
    assert_eq!(store.sweep(at(5_500)).await.unwrap().removed, 1);
    store.start(at(5_500), capped(2, 5_500)).await.expect("it is gone");
    let [counted, there] = store.session_counts();
    assert_eq!(counted, there);
}
