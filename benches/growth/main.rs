//! How the store's file grows: four days' churn in miniature, sessions through their whole life, as fast as the store goes.
//! Time is injected; everything else is the store that the daemon has, on this machine's disk.
//!
//! `cargo bench --bench growth`, or with another number of sessions than a million: `cargo bench --bench growth -- 100000`.
//! Behind that, what backups, checks, compactions and restoring cost while starts go on. Ends with an error where the file
//! goes on growing once what is old is removed as fast as new comes. `docs/store.md` says what came out, and where.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![allow(
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a benchmark reads the clock, that is what it is for"
)]

mod care;
mod life;
#[path = "../watchers/machine.rs"]
#[allow(dead_code, reason = "this needs a part of it")]
mod machine;

use std::{
    env,
    time::{Duration, Instant},
};

use cairld::store::Store;

use self::life::{Day, Town};

const SESSIONS: u64 = 1_000_000;
/// What is old is removed from the second day on: the first fills the file, the others must not.
const DAYS: u64 = 4;
/// By how much what is kept may differ from day to day: some sessions say more than others.
const SLACK: f64 = 1.02;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let sessions: u64 = env::args().find_map(|argument| argument.parse().ok()).unwrap_or(SESSIONS);
    println!("{}", machine::describe());
    println!("{sessions} sessions in {DAYS} days, retention of sessions and events 24 h\n");
    println!("| day, hour | started | kept | events kept | all records, MiB | file, MiB |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let folder = tempfile::tempdir().unwrap();
    let town = Town::new(&folder.path().join("cairld.redb"));
    let mut busy = Duration::ZERO;
    let (mut at_day, mut started) = (Vec::new(), 0);
    for day in 0..DAYS {
        for quarter in 0..4 {
            let began = Instant::now();
            started += town.live(Day { number: day, sessions: sessions / DAYS, quarter }).await;
            busy += began.elapsed();
            let (status, records) = (town.store.status(), care::records(&town).await);
            println!(
                "| {day}, {:02}:00 | {started} | {} | {} | {:.1} | {:.1} |",
                (quarter + 1) * 6,
                status.sessions,
                status.events,
                mib(records),
                mib(status.bytes),
            );
            if quarter == 3 {
                at_day.push((records, status.bytes));
            }
        }
    }
    println!("\n{:.0} s, {:.0} sessions a second", busy.as_secs_f64(), started as f64 / busy.as_secs_f64());
    care::take(&town, folder.path()).await;
    sweep_all(&town).await;
    let [_, (records, file), .., (records_at_last, file_at_last)] = at_day[..] else {
        panic!("too few days")
    };
    let ratio = records_at_last as f64 / records as f64;
    println!("records at the end for each at the end of day 1: {ratio:.3}");
    assert!(ratio <= SLACK, "what is kept grows");
    // It is doubled when it is full, which a busy moment may bring about once more.
    assert!(file_at_last <= 2 * file, "the file grows: {file}, then {file_at_last} bytes");
}

/// Lets everything grow old, and removes it: nothing is left over.
async fn sweep_all(town: &Town) {
    town.pass(Duration::from_secs(50 * 3600)).await;
    let status = town.store.status();
    assert_eq!((status.sessions, status.events, status.revocations), (0, 0, 0), "all of it goes");
    println!("two days after the last session: {} sessions, {} events", status.sessions, status.events);
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
