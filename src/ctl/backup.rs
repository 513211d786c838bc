//! `cairlctl backup`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{
    args::Backup,
    connect::Daemon,
    ending::{Ended, Ending},
    exit::Exit,
    failure::Failure,
    output::{Block, Report, bytes},
    progress::Progress,
    watch::{Lines, Reader},
};
use crate::api::proto::{BackupStoreRequest, admin_service_client::AdminServiceClient};

/// What every backup begins with, and what of it is its version.
const MAGIC: &[u8] = b"cairld backup 1\n";
const ANY_VERSION: &[u8] = b"cairld backup ";
/// Bytes of the sum that it ends with.
const SUM: usize = 32;

/// Has the store copied into a new file, which has its name only once all of it has proved to be there.
pub(super) fn backup(
    daemon: &Daemon,
    args: &Backup,
    lines: &mut Lines<'_>,
    on_terminal: bool,
    ending: Ending<'_>,
) -> Result<Exit, Failure> {
    if args.file.as_os_str() == "-" {
        if on_terminal {
            return Err(Failure::local(
                Exit::USAGE,
                "USAGE",
                "a backup is not for a terminal",
                "Pipe it on, or name a file.",
            ));
        }
        return to_its_end(daemon, ending, to_standard_output(daemon, lines));
    }
    let mut file = NewFile::create(&args.file)?;
    let copied = async {
        let mut progress = Progress::new(lines, on_terminal);
        let (whole, records) = receive(daemon, |chunk, copied, total| {
            file.write(chunk)?;
            progress.shown((copied, total), &format!("{copied} of {total} records"))
        })
        .await?;
        file.keep(&args.file)?;
        let lines = progress.over_with()?;
        outcome(&args.file, &whole, records).write(lines.json, lines.sink)?;
        Ok(Exit::Success)
    };
    to_its_end(daemon, ending, copied)
}

/// A backup of which not all is there is none, whoever has ended it.
fn to_its_end(
    daemon: &Daemon,
    ending: Ending<'_>,
    backup: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    daemon.run(async {
        tokio::select! {
            ended = ending => match ended {
                Ended::Interrupted => Ok(Exit::Interrupted),
                Ended::ReaderGone => Err(Failure::line(&io::ErrorKind::BrokenPipe.into())),
            },
            outcome = backup => outcome,
        }
    })
}

async fn to_standard_output(daemon: &Daemon, lines: &mut Lines<'_>) -> Result<Exit, Failure> {
    receive(daemon, |chunk, _, _| match lines.sink.write_all(chunk).and_then(|()| lines.sink.flush()) {
        Ok(()) => Ok(Reader::Here),
        Err(error) => Err(Failure::line(&error)),
    })
    .await?;
    Ok(Exit::Success)
}

/// Receives a backup, chunk by chunk, and whether it is whole; answers how many records are in it.
async fn receive(
    daemon: &Daemon,
    mut take: impl FnMut(&[u8], i64, i64) -> Result<Reader, Failure>,
) -> Result<(Whole, i64), Failure> {
    const CALL: &str = "BackupStore";
    let connection = daemon.connect(CALL).await?;
    let mut stream = connection
        .open(CALL, BackupStoreRequest {}, async |channel, request| {
            AdminServiceClient::new(channel).backup_store(request).await
        })
        .await?;
    let (mut whole, mut records) = (Whole::default(), 0);
    while let Some(piece) = connection.next(CALL, &mut stream).await? {
        whole.add(&piece.chunk);
        records = piece.copied;
        take(&piece.chunk, piece.copied, piece.total)?;
    }
    if whole.says().is_some() { Err(daemon.ended_early(CALL)) } else { Ok((whole, records)) }
}

fn outcome(path: &Path, whole: &Whole, records: i64) -> Report {
    let sum = HEXLOWER.encode(&whole.tail);
    let mut text = Block::default();
    text.row("backup", path.display().to_string());
    text.row("records", records.to_string());
    text.row("size", bytes(i64::try_from(whole.length).unwrap_or(i64::MAX)));
    text.row("restore with", format!("cairlctl restore {}, where the daemon is stopped", path.display()));
    let data = serde_json::json!({ "file": path, "records": records, "bytes": whole.length, "sum": sum });
    Report::plain(data, text)
}

/// Whether bytes that come one behind the other are a whole backup: they end with the sum of all before.
#[derive(Default)]
pub(super) struct Whole {
    digest: Sha256,
    head: Vec<u8>,
    /// The last of them, which may be the sum.
    tail: Vec<u8>,
    pub(super) length: u64,
}

impl Whole {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.head.extend(bytes.iter().take(MAGIC.len().saturating_sub(self.head.len())));
        self.tail.extend_from_slice(bytes);
        let before = self.tail.len().saturating_sub(SUM);
        self.digest.update(self.tail.drain(..before).as_slice());
    }

    /// Why they are no whole backup; nothing where they are one.
    pub(super) fn says(&self) -> Option<&'static str> {
        if self.head != MAGIC {
            let is_other = self.head.starts_with(ANY_VERSION);
            return Some(if is_other {
                "a backup of another version of cairld"
            } else {
                "no backup of cairld"
            });
        }
        let is_whole = self.tail == self.digest.clone().finalize().as_slice();
        (!is_whole).then_some("not whole: it was cut short or changed")
    }
}

/// A file that gets its name when all of it is there, and goes when it is dropped before.
pub(super) struct NewFile {
    file: File,
    /// What it is called until then; none once it has its name.
    path: Option<PathBuf>,
}

impl NewFile {
    /// Begins it, readable by its owner alone.
    pub(super) fn create(name: &Path) -> Result<Self, Failure> {
        if fs::symlink_metadata(name).is_ok() {
            return Err(Failure::local(
                Exit::OUTPUT,
                "FILE_EXISTS",
                format!("{} is there already", name.display()),
                "Name another file, or move that one away: nothing is written over.",
            ));
        }
        let mut path = name.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        // Left behind by a command that was killed.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(|error| unwritable(name, &error))?, path: Some(path) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all(bytes)
            .map_err(|error| unwritable(self.path.as_deref().unwrap_or(Path::new("")), &error))
    }

    /// The file itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, once it is durable.
    pub(super) fn keep(&mut self, name: &Path) -> Result<(), Failure> {
        let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let kept = self.file.sync_all().and_then(|()| match &self.path {
            Some(path) => fs::rename(path, name),
            None => Ok(()),
        });
        kept.and_then(|()| File::open(folder)?.sync_all()).map_err(|error| unwritable(name, &error))?;
        self.path = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Where it cannot be removed, the next command of that name does it.
            let _ = fs::remove_file(path);
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::local(
        Exit::OUTPUT,
        "OUTPUT_FAILED",
        format!("cannot write {}: {error}", path.display()),
        "See that the folder exists, has room and may be written by you, and run the same command again: nothing was \
         changed.",
    )
}
