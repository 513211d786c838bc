//! `cairlctl backup`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{
    args::Backup,
    connect::Daemon,
    ending::Ending,
    exit::Exit,
    failure::Failure,
    output::{Block, Report, bytes},
    progress::Progress,
    watch::{Lines, Reader, aside, until_done},
};
use crate::api::proto::{BackupStoreRequest, admin_service_client::AdminServiceClient};

/// What every backup begins with, and what of it is its version.
const MAGIC: &[u8] = b"cairld backup 1\n";
const ANY_VERSION: &[u8] = b"cairld backup ";
/// Bytes of the sum that it ends with.
const SUM: usize = 32;

/// Looks at what is not for a backup, before there is one.
pub(super) fn writable(args: &Backup, on_terminal: bool, is_discarded: bool) -> Result<(), Failure> {
    let to_standard_output = args.file.as_os_str() == "-";
    if to_standard_output && on_terminal {
        let message = "a backup is not for a terminal";
        return Err(Failure::local(Exit::USAGE, "USAGE", message, "Pipe it on, or name a file."));
    }
    if to_standard_output && is_discarded {
        // Where it was closed, Rust opens /dev/null in its place: the backup would be lost, and all would look well.
        return Err(Failure::local(
            Exit::OUTPUT,
            "OUTPUT_FAILED",
            "standard output is closed, or is /dev/null: the backup would be lost",
            "Name a file, or pipe it on.",
        ));
    }
    Ok(())
}

/// Has the store copied into a new file, which has its name only once all of it has proved to be there.
pub(super) fn backup(
    daemon: &Daemon,
    args: &Backup,
    lines: &mut Lines<'_>,
    on_terminal: bool,
    ending: Ending<'_>,
) -> Result<Exit, Failure> {
    if args.file.as_os_str() == "-" {
        return until_done(daemon, ending, to_standard_output(daemon, lines));
    }
    let copied = async {
        // Only here, where its end is listened for: the file must not stay behind.
        let mut file = NewFile::create(&args.file)?;
        let mut progress = Progress::new(lines, on_terminal);
        let (whole, records) = receive(daemon, |chunk, copied, total| {
            file.write(chunk)?;
            progress.shown((copied, total), &format!("{copied} of {total} records"))
        })
        .await?;
        file.keep(&args.file).await?;
        let lines = progress.over_with()?;
        outcome(&args.file, &whole, records).write(lines.json, lines.sink)?;
        Ok(Exit::Success)
    };
    until_done(daemon, ending, copied)
}

async fn to_standard_output(daemon: &Daemon, lines: &mut Lines<'_>) -> Result<Exit, Failure> {
    receive(daemon, |chunk, _, _| match lines.sink.write_all(chunk).and_then(|()| lines.sink.flush()) {
        Ok(()) => Ok(Reader::Here),
        Err(error) => Err(Failure::local(
            Exit::OUTPUT,
            "OUTPUT_FAILED",
            format!("cannot write the backup: {error}"),
            "Make room where the output goes, and run the same command again: what was written so far is no backup.",
        )),
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
    Report::plain(data, text).if_lost("The backup is whole and in its place: there is nothing to repeat.")
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
pub(super) struct NewFile(NamedTempFile);

impl NewFile {
    /// Begins it beside its place, readable by its owner alone.
    pub(super) fn create(name: &Path) -> Result<Self, Failure> {
        if fs::symlink_metadata(name).is_ok() {
            return Err(is_there(name));
        }
        let file = tempfile::Builder::new().prefix(".cairlctl-").suffix(".part").tempfile_in(folder(name));
        file.map(Self).map_err(|error| unwritable(name, &error))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Self(file) = self;
        file.write_all(bytes).map_err(|error| unwritable(file.path(), &error))
    }

    /// The file itself.
    pub(super) fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Gives it its name once it is durable, unless another has it by then.
    pub(super) async fn keep(self, name: &Path) -> Result<(), Failure> {
        let synced = async {
            let file = self.file().try_clone()?;
            // Seconds for a large one: it goes where that is ended.
            aside(move || file.sync_all()).await
        };
        synced.await.map_err(|error| unwritable(name, &error))?;
        match self.0.persist_noclobber(name) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Err(is_there(name)),
            Err(error) => return Err(unwritable(name, &error.error)),
        }
        File::open(folder(name)).and_then(|folder| folder.sync_all()).map_err(|error| {
            Failure::local(
                Exit::OUTPUT,
                "OUTPUT_FAILED",
                format!("{} is there, but its name may not outlive a loss of power: {error}", name.display()),
                "See to the disk.",
            )
        })
    }
}

/// Where a file lies.
pub(super) fn folder(name: &Path) -> &Path {
    name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_there(name: &Path) -> Failure {
    Failure::local(
        Exit::OUTPUT,
        "FILE_EXISTS",
        format!("{} is there already", name.display()),
        "Name another file, or move that one away: nothing is written over. If it is a store that was not there a moment ago, \
         stop cairld and cairld.socket first.",
    )
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
