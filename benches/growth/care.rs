//! What backups, checks, compactions and restoring cost, while starts go on one after the other.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use cairld::{
    domain::RunId,
    store::{Care, RedbStore, Store},
};
use futures_util::StreamExt;

use super::{life::Town, mib};

/// Takes care of what is kept, in each way that there is, and prints what that took.
pub async fn take(town: &Town, folder: &Path) {
    let backup = folder.join("backup");
    println!(
        "\n| care of {} sessions | s | starts meanwhile | the longest, ms | the store's file then, MiB |",
        town.store.status().sessions
    );
    println!("| --- | --- | --- | --- | --- |");
    row(town, "nothing", beside_starts(town, tokio::time::sleep(Duration::from_secs(2))).await);
    let backing_up = async {
        let mut file = File::create(&backup).unwrap();
        let mut pieces = town.store.backup(town.now()).unwrap();
        while let Some(piece) = pieces.next().await {
            file.write_all(&piece.unwrap().bytes).unwrap();
        }
        file.sync_all().unwrap();
    };
    row(town, "backup", beside_starts(town, backing_up).await);
    let checking = async {
        let mut parts = town.store.check(town.now()).unwrap();
        while let Some(part) = parts.next().await {
            let problems = part.unwrap().problems;
            assert!(problems.is_empty(), "{problems:?}");
        }
    };
    row(town, "check", beside_starts(town, checking).await);
    let compacting = async {
        town.store.compact(Box::new(|| false)).await.unwrap();
    };
    row(town, "compact", beside_starts(town, compacting).await);
    let (size, began) = (size(&backup), Instant::now());
    let restored = RedbStore::open(Town::settings(&backup), RunId::new([8; 16]), town.now()).unwrap();
    println!("\nrestoring that backup, {:.1} MiB: {:.1} s", mib(size), began.elapsed().as_secs_f64());
    drop(restored);
}

/// Bytes of all that is kept.
pub async fn records(town: &Town) -> u64 {
    let pieces = town.store.backup(town.now()).unwrap();
    pieces.map(|piece| piece.unwrap().bytes.len() as u64).fold(0, async |all, bytes| all + bytes).await
}

/// What was started beside some work.
#[derive(Default)]
struct Beside {
    took: Duration,
    starts: u64,
    longest: Duration,
}

/// Does it, and starts one session after another meanwhile.
async fn beside_starts(town: &Town, work: impl Future<Output = ()>) -> Beside {
    let (began, mut beside) = (Instant::now(), Beside::default());
    let starts = async {
        loop {
            let asked = Instant::now();
            town.start_one().await;
            beside.starts += 1;
            beside.longest = beside.longest.max(asked.elapsed());
        }
    };
    tokio::select! {
        () = work => {}
        () = starts => {}
    }
    Beside { took: began.elapsed(), ..beside }
}

fn row(town: &Town, what: &str, beside: Beside) {
    let Beside { took, starts, longest } = beside;
    let (took, longest) = (took.as_secs_f64(), longest.as_secs_f64() * 1000.0);
    println!("| {what} | {took:.1} | {starts} | {longest:.1} | {:.1} |", mib(size(&town.path)));
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
