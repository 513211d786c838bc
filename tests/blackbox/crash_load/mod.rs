//! `kill -9` at any moment under load, again and again on one store: then every answer is accounted for.
//!
//! Callers start flows, approve them at the sandbox, complete and cancel them, hand in webhooks, and keep a ledger of
//! what they were told (`ledger`). The daemon is killed after a random number of answers and started again; the sandbox
//! lives on, as the provider would. What an answer has acknowledged must be there; a call that got no answer may have
//! had its effect or not, and nothing between; and the sandbox's journal tells that no code was sent twice.
//!
//! `CAIRLD_CRASH_ROUNDS` says how often to kill, `CAIRLD_CRASH_SEED` repeats the callers' choices of a run that failed;
//! how they interleave with the daemon is the machine's to say.

mod caller;
mod ledger;
mod random;

use std::{env, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::watch;

use self::{
    caller::Caller,
    ledger::{Account, Sends},
    random::Random,
};
use crate::support::{Daemon, World};

const CALLERS: u64 = 16;
/// Kills in an ordinary run of the tests; the stage `crash` of `.ci/run` asks for more.
const ROUNDS: u64 = 3;
/// The daemon is killed after so many answers at most.
const ANSWERS: u64 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_outlives_a_kill_under_load() {
    let rounds = number("CAIRLD_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("CAIRLD_CRASH_SEED").unwrap_or_else(Random::seed);
    println!("crash: CAIRLD_CRASH_SEED={seed} CAIRLD_CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let world = Arc::new(World::unlimited().await);
    let mut sends = Sends::default();
    let mut callers: Vec<_> =
        (0..CALLERS).map(|number| Caller::new(number, Arc::clone(&world), random.split())).collect();
    let mut daemon = start(&world).await;
    for _ in 0..rounds {
        world.provider.faults(&faults(&mut random)).await;
        callers = under_load(callers, daemon, &mut random).await;
        world.provider.faults(&[]).await;
        daemon = start(&world).await;
        sends.gather(&world.provider).await;
        callers = calmly(callers, &sends, Caller::reckon).await;
        sends.gather(&world.provider).await;
        for caller in &mut callers {
            caller.check_sends_after(&sends);
        }
    }
    callers = calmly(callers, &sends, Caller::reckon_all).await;
    sends.gather(&world.provider).await;
    let mut account = Account::default();
    for mut caller in callers {
        caller.check_sends_after(&sends);
        account.add(caller.account);
    }
    let stored = world.unix().await.status().await.unwrap().store.unwrap();
    println!("crash: seed {seed}: {rounds} kills, {account}, {}", sends.summary());
    let nameless = account.nameless;
    assert!(account.wrong.is_empty(), "seed {seed}: {}", account.wrong.join("\n"));
    assert!(sends.sent_twice().is_empty(), "seed {seed}: sent twice: {}", sends.sent_twice().join("\n"));
    let sessions = u64::try_from(stored.sessions).unwrap();
    assert!(
        (account.started..=account.started + nameless).contains(&sessions),
        "{sessions} sessions are stored"
    );
    assert_eq!(u64::try_from(stored.events).unwrap(), account.webhooks, "each webhook is kept once");
    daemon.kill();
}

/// What goes wrong at the provider in one round, for whomever it hits.
fn faults(random: &mut Random) -> Vec<Value> {
    let mut faults = Vec::new();
    for _ in 0..random.below(60) {
        let delay = random.below(25);
        faults.push(match random.below(20) {
            0 => json!({"endpoint": "token", "status": 503, "body": "busy"}),
            1 => json!({"endpoint": "token", "status": 402, "body": {"error": "payment_required"}}),
            2 => json!({"endpoint": "token", "fault": "reset_after"}),
            3 => json!({"endpoint": "userinfo", "status": 503, "body": "busy"}),
            4..10 => json!({"endpoint": "userinfo", "delay_ms": delay}),
            _ => json!({"endpoint": "token", "delay_ms": delay}),
        });
    }
    faults
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

async fn start(world: &Arc<World>) -> Daemon {
    let world = Arc::clone(world);
    tokio::task::spawn_blocking(move || world.daemon()).await.unwrap()
}

/// All callers at once, until the daemon dies under them.
async fn under_load(callers: Vec<Caller>, daemon: Daemon, random: &mut Random) -> Vec<Caller> {
    let (answers, mut heard) = watch::channel(0);
    let mut at_work = Vec::new();
    for mut caller in callers {
        let answers = answers.clone();
        at_work.push(tokio::spawn(async move {
            caller.work(&answers).await;
            caller
        }));
    }
    let enough = 1 + random.below(ANSWERS);
    heard.wait_for(|answers| *answers >= enough).await.unwrap();
    // Not right behind an answer: a moment that nothing marks.
    tokio::time::sleep(Duration::from_micros(random.below(5_000))).await;
    tokio::task::spawn_blocking(move || daemon.kill()).await.unwrap();
    let mut back = Vec::new();
    for caller in at_work {
        back.push(caller.await.unwrap());
    }
    back
}

/// Each caller compares its ledger with the daemon that was started again; nothing is killed and nothing goes wrong.
async fn calmly(
    callers: Vec<Caller>,
    sends: &Sends,
    reckon: impl AsyncFn(&mut Caller, &Sends),
) -> Vec<Caller> {
    let reckoning = callers.into_iter().map(async |mut caller| {
        reckon(&mut caller, sends).await;
        caller
    });
    futures_util::future::join_all(reckoning).await
}
