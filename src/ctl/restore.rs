//! `cairlctl restore`: a backup takes the place of a store. The daemon makes a store of it when it starts; here it is only
//! looked at, whether all of it is there.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
    sync::Arc,
};

use super::{
    args::Restore,
    backup::{NewFile, Whole, folder},
    ending::Ending,
    exit::Exit,
    failure::Failure,
    input::unreadable,
    output::{Block, Report, bytes},
    progress::Progress,
    watch::{Lines, aside, until_done_alone},
};

/// Bytes that are copied at a time.
const CHUNK: usize = 256 * 1024;

/// Copies the backup to where the store is to be, if it is whole. Nothing stays behind where that is ended before.
pub(super) fn restore(
    args: &Restore,
    lines: &mut Lines<'_>,
    on_terminal: bool,
    ending: Ending<'_>,
) -> Result<Exit, Failure> {
    until_done_alone(ending, async {
        let report = copy(args, lines, on_terminal).await?;
        report.write(lines.json, lines.sink)?;
        Ok(Exit::Success)
    })
}

async fn copy(args: &Restore, lines: &mut Lines<'_>, on_terminal: bool) -> Result<Report, Failure> {
    let Restore { file: from, to } = args;
    let name = from.display().to_string();
    let (backup, size) = open(from).await.map_err(|error| unreadable(&name, &error))?;
    let mut store = NewFile::create(to)?;
    let mut whole = Whole::default();
    let mut progress = Progress::new(lines, on_terminal);
    loop {
        let chunk = next_chunk(&backup).await.map_err(|error| unreadable(&name, &error))?;
        if chunk.is_empty() {
            break;
        }
        whole.add(&chunk);
        store.write(&chunk)?;
        let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        match size {
            // A pipe does not say how much there is.
            0 => progress.counted(&format!("{} copied and looked at", bytes(number(whole.length)))),
            _ => progress.shown((number(whole.length), number(size)), "copied and looked at"),
        }?;
    }
    progress.over_with()?;
    if let Some(what) = whole.says() {
        return Err(Failure::local(
            Exit::DATA,
            "BACKUP_INVALID",
            format!("{name}: {what}"),
            "Restore another backup. Nothing was changed.",
        ));
    }
    belong(store.file(), to)?;
    store.keep(to).await?;
    let mut text = Block::default();
    text.row(
        "in place",
        format!("{} ({})", to.display(), bytes(i64::try_from(whole.length).unwrap_or(i64::MAX))),
    );
    text.row(
        "next",
        "start cairld, with the key in keys.files that the backup is sealed under: it makes a store of it",
    );
    let data = serde_json::json!({ "file": from, "store": to, "bytes": whole.length });
    Ok(Report::plain(data, text).if_lost(
        "The backup is whole and in its place: start cairld, with the key in keys.files that it is sealed under.",
    ))
}

/// Opens the backup, which at a pipe waits for who writes into it; answers its size, too.
async fn open(from: &Path) -> io::Result<(Arc<File>, u64)> {
    let from = from.to_owned();
    aside(move || {
        let backup = File::open(from)?;
        let size = backup.metadata()?.len();
        Ok((Arc::new(backup), size))
    })
    .await
}

/// What comes next, and nothing at the end; who writes into a pipe may be silent for as long as he likes.
async fn next_chunk(backup: &Arc<File>) -> io::Result<Vec<u8>> {
    let backup = Arc::clone(backup);
    aside(move || {
        let mut chunk = Vec::with_capacity(CHUNK);
        backup.take(CHUNK as u64).read_to_end(&mut chunk)?;
        Ok(chunk)
    })
    .await
}

/// Gives the file to whom its folder belongs: restored by root, it is the daemon's all the same.
fn belong(file: &File, to: &Path) -> Result<(), Failure> {
    let given = fs::metadata(folder(to)).and_then(|folder| {
        let own = file.metadata()?;
        let is_same = (own.uid(), own.gid()) == (folder.uid(), folder.gid());
        if is_same { Ok(()) } else { fchown(file, Some(folder.uid()), Some(folder.gid())) }
    });
    given.map_err(|error| {
        Failure::local(
            Exit::OUTPUT,
            "OUTPUT_FAILED",
            format!("{} cannot be given to the owner of its folder: {error}", to.display()),
            "Run the command as that user, or as root. Nothing was changed.",
        )
    })
}
