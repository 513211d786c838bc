//! Proof by model: the real flows over the real store live through random histories, beside a reference that says what must
//! be.
//!
//! A history (`step`) is a list of steps that a seed makes: calls, the writer's turns, the provider's answers, time, faults
//! of the disk, crashes. The flows run on a runtime whose clock stands still, over the redb backend on a disk in memory
//! (`crate::store::disk`), behind a turnstile that lets facts pass one at a time or some together (`turnstile`), against a
//! provider that answers when the history says so (`provider`). So a history is run again exactly. After each step the
//! facts, the sessions as each caller sees them, the requests at the provider (`ledger`) and the answers are compared with
//! the reference (`reference`), which knows the rules and none of the code. What breaks a rule is made shorter (`shrink`)
//! and told as a story.
//!
//! `docs/proof.md` says what is shown, what is not, and how to run more of it.

#![expect(clippy::wildcard_enum_match_arm, reason = "a reference says what its rules speak of, and no more")]

mod fact;
mod ledger;
mod provider;
mod reference;
mod shrink;
mod step;
mod turnstile;
mod world;

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use self::{
    step::{Step, history},
    world::{Broken, Tally, World},
};

/// Something wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// What is said to be durable before the token request is sent, is not yet.
    SendBeforeCommit,
    /// A code leaves no marker that another session's callback would find.
    NoCodeMarker,
    /// Each call with a callback is on its own.
    NoSingleFlight,
}

/// Histories in a plain run of the tests, and in the run that must pass before a change goes in.
const FEW: u64 = 150;
const IN_CI: u64 = 20_000;
/// Threads that histories run on, each with a writer beside it.
const THREADS: u64 = 2;

fn run(steps: &[Step], bug: Option<Bug>, is_told: bool) -> Result<Tally, Broken> {
    World::new(steps, bug, is_told).run()
}

/// A number out of the environment.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// The story of a seed whose history breaks a rule: the fewest steps that still do.
fn story(seed: u64, bug: Option<Bug>) -> String {
    let steps = shrink::shrink(&history(seed), |steps| run(steps, bug, false).is_err());
    let mut story = format!("seed {seed}; to run it again: CAIRLD_MODEL_SEED={seed}\n");
    match run(&steps, bug, true) {
        Err(broken) => {
            for line in &broken.story {
                let _ = writeln!(story, "{line}");
            }
            let _ = write!(story, "broken in step {}: {}", broken.step + 1, broken.rule);
        }
        Ok(_) => story.push_str("it does not break a rule when it is run again"),
    }
    story
}

/// Runs the histories of seeds until one breaks a rule; answers its seed, or what all came to.
fn search(seeds: std::ops::Range<u64>, bug: Option<Bug>) -> Result<Tally, u64> {
    let (next, is_found) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        let mut sum = Tally::default();
        while !is_found.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            // What jitters does so as the seed says.
            fastrand::seed(seed);
            match run(&history(seed), bug, false) {
                Ok(tally) => sum.add(tally),
                Err(_) => {
                    is_found.store(true, Ordering::Relaxed);
                    return Err(seed);
                }
            }
        }
        Ok(sum)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut sum = Tally::default();
        let mut found = Vec::new();
        for thread in threads {
            match thread.join().unwrap() {
                Ok(tally) => sum.add(tally),
                Err(seed) => found.push(seed),
            }
        }
        found.into_iter().min().map_or(Ok(sum), Err)
    })
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.facts += other.facts;
        self.requests += other.requests;
        self.lives += other.lives;
        self.completed += other.completed;
        self.doubts += other.doubts;
    }
}

#[test]
fn histories_keep_to_the_reference() {
    if let Some(seed) = asked("CAIRLD_MODEL_SEED") {
        let broken = run(&history(seed), None, false).is_err();
        assert!(!broken, "{}", story(seed, None));
        return;
    }
    let count = asked("CAIRLD_MODEL_HISTORIES").unwrap_or(FEW);
    match search(0..count, None) {
        Ok(tally) => {
            println!("{count} histories: {tally:?}");
            // Histories in which little happens would show little.
            assert!(tally.completed > count / 4 && tally.doubts > count / 20, "{tally:?}");
        }
        Err(seed) => panic!("{}", story(seed, None)),
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in [Bug::SendBeforeCommit, Bug::NoCodeMarker, Bug::NoSingleFlight] {
        let seed = search(0..IN_CI, Some(bug)).expect_err("a planted bug is found");
        println!("{bug:?} is found by seed {seed}");
        if bug == Bug::NoSingleFlight {
            let story = story(seed, Some(bug));
            println!("{story}");
            assert!(
                story.lines().count() < 30 && story.contains("gets its outcome"),
                "short, and to the point: {story}"
            );
        }
    }
}

#[test]
fn a_history_is_run_again_exactly() {
    for seed in 0..20 {
        let told = || {
            fastrand::seed(seed);
            World::new(&history(seed), None, true).told()
        };
        assert_eq!(told(), told(), "seed {seed}");
    }
}
