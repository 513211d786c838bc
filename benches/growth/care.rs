//! What backups, checks, compactions and restoring cost, while starts go on.

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
    println!(
        "\n| care of {} sessions | s | MiB | longest start meanwhile, ms |",
        town.store.status().sessions
    );
    println!("| --- | --- | --- | --- |");
    let backup = folder.join("backup");
    let (took, longest) = beside_starts(town, async {
        let mut file = File::create(&backup).unwrap();
        let mut pieces = town.store.backup(town.now()).unwrap();
        while let Some(piece) = pieces.next().await {
            file.write_all(&piece.unwrap().bytes).unwrap();
        }
        file.sync_all().unwrap();
    })
    .await;
    row("backup", took, &backup, Some(longest));
    let file = town.path.clone();
    let (took, longest) = beside_starts(town, async {
        let mut parts = town.store.check().unwrap();
        while let Some(part) = parts.next().await {
            let problems = part.unwrap().problems;
            assert!(problems.is_empty(), "{problems:?}");
        }
    })
    .await;
    row("check", took, &file, Some(longest));
    let (took, longest) = beside_starts(town, async {
        town.store.compact(Box::new(|| false)).await.unwrap();
    })
    .await;
    row("compact", took, &file, Some(longest));
    let began = Instant::now();
    let restored = RedbStore::open(Town::settings(&backup), RunId::new([8; 16]), town.now()).unwrap();
    row("restore", began.elapsed(), &backup, None);
    drop(restored);
}

/// Bytes of all that is kept.
pub async fn records(town: &Town) -> u64 {
    let pieces = town.store.backup(town.now()).unwrap();
    pieces.map(|piece| piece.unwrap().bytes.len() as u64).fold(0, async |all, bytes| all + bytes).await
}

/// Does it, and starts one session after another meanwhile: how long it took, and the longest start.
async fn beside_starts(town: &Town, work: impl Future<Output = ()>) -> (Duration, Duration) {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let starts = async {
        loop {
            let asked = Instant::now();
            town.start_one().await;
            longest = longest.max(asked.elapsed());
        }
    };
    tokio::select! {
        () = work => {}
        () = starts => {}
    }
    (began.elapsed(), longest)
}

fn row(what: &str, took: Duration, file: &Path, longest: Option<Duration>) {
    let size = fs::metadata(file).unwrap().len();
    let longest = longest.map_or("–".to_owned(), |span| format!("{:.1}", span.as_secs_f64() * 1000.0));
    println!("| {what} | {:.1} | {:.1} | {longest} |", took.as_secs_f64(), mib(size));
}
