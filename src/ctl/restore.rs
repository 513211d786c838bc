//! `cairlctl restore`: a backup takes the place of a store. The daemon makes a store of it when it starts; here it is only
//! looked at, whether all of it is there.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
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
    watch::{Lines, until_done_alone},
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
    let mut backup = File::open(from).map_err(|error| unreadable(&name, &error))?;
    let size = backup.metadata().map_err(|error| unreadable(&name, &error))?.len();
    let mut store = NewFile::create(to)?;
    let (mut whole, mut chunk) = (Whole::default(), vec![0; CHUNK]);
    let mut progress = Progress::new(lines, on_terminal);
    loop {
        let read = match backup.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(&name, &error)),
        };
        let bytes = chunk.get(..read).unwrap_or_default();
        whole.add(bytes);
        store.write(bytes)?;
        let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        progress.shown((number(whole.length), number(size)), "copied and looked at")?;
        // Whoever ends it is heard here.
        tokio::task::yield_now().await;
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
    store.keep(to)?;
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
