//! Opening the file: whose it is, which form it has, and whether the keys fit.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableError, TableHandle};

use super::{
    super::{
        MissingKeys,
        keys::Keys,
        record::{Codec, META, SCHEMA_VERSION},
        seal::{IndexKey, KeyRing, Place, SealError},
    },
    begin, care,
    file_system::{FileId, Home, folder},
    keys::{self, INDEX_KEY_ROW, InUse, KEYS_ROW},
    sound::is_damage,
    tables::{COUNTS_TABLE, META_TABLE, SESSIONS_TABLE, Tables},
};
use crate::domain::{Moment, RunId, SessionId, Timestamp};

const SCHEMA_ROW: &[u8] = b"schema_version";
/// The row of `meta` with the epoch of the inboxes' places; there is none before the first restore.
pub(super) const EPOCH_ROW: &[u8] = b"epoch";

/// Where the store is and how it is opened.
#[derive(Debug)]
pub struct Settings {
    /// The file; made if it is not there.
    pub path: PathBuf,
    /// Memory for cached pages, bytes.
    pub cache_bytes: usize,
    /// How long sessions are kept after they expire.
    pub retention: std::time::Duration,
    /// The key ring.
    pub keys: KeyRing,
}

/// What opening is at that may take long: the longer the larger the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The file is put in order after a crash in the midst of growing.
    Repairing {
        /// How much of it is done.
        percent: u8,
    },
    /// A backup stands in the store's place, and is made a store.
    Restoring {
        /// How much of it is read.
        percent: u8,
    },
    /// What an older program wrote is brought to the form of this one.
    BringingUp,
}

/// Why the store does not open. The text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path}: another process has this store open; stop it first, one daemon serves one store")]
    InUse {
        /// The file.
        path: String,
    },
    /// A newer program wrote it.
    #[error(
        "{path}: written by a newer cairld (schema version {found}, this one knows {SCHEMA_VERSION}); \
         start that version, or restore a backup of this one"
    )]
    NewerSchema {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
    },
    /// The key ring does not fit.
    #[error("{path}: {keys}")]
    WrongKey {
        /// The file.
        path: String,
        /// Which keys.
        keys: MissingKeys,
    },
    /// It is not what was written.
    #[error("{path}: damaged ({what}); move it away and restore a backup")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// What stands in the store's place is a backup, and not whole, or not of this store.
    #[error(
        "{path}: this backup cannot be restored: {what}; nothing was changed, put another one in its place"
    )]
    BadBackup {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// Where it is to lie there is no place for a file.
    #[error("store.path = {path}: {what}; name a file in a folder that exists, or make the folder")]
    NoPlace {
        /// The file.
        path: String,
        /// What the operating system says.
        what: String,
    },
    /// The daemon's user may not read or write it.
    #[error(
        "{path}: {what}; the file and its folder have to belong to the user that cairld runs as: `{remedy}`"
    )]
    NotPermitted {
        /// The file.
        path: String,
        /// What the operating system says.
        what: String,
        /// A command that mends it.
        remedy: String,
    },
    /// The operating system refuses.
    #[error("{path}: {what}; check that the folder exists, belongs to the daemon's user and has free space")]
    Io {
        /// The file.
        path: String,
        /// What it says.
        what: String,
    },
}

/// An open database with its keys.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) codec: Codec,
    pub(super) newest: Timestamp,
    /// Of the places of its inboxes.
    pub(super) epoch: u32,
    /// Which file it is; none in memory.
    pub(super) file: Option<FileId>,
    /// When the run before this one began, where there was one.
    pub(super) last_begun: Option<Timestamp>,
}

/// Opens the file, after whatever it takes to make it a store.
pub(super) fn open_file(
    home: &Home,
    keys: KeyRing,
    run: RunId,
    now: Moment,
    tell: impl Fn(Opening) + Clone + 'static,
) -> Result<Opened, OpenError> {
    let opened = open_or_make(home, keys, run, now, tell)?;
    tracing::info!(
        path = %home.path.display(),
        // In their order, so that whoever reads an id knows which file it is.
        keys = ?opened.codec.keys.ring(),
        last_begun = opened.last_begun.map(shown),
        "the store is open; the first of its keys seals"
    );
    Ok(opened)
}

fn open_or_make(
    home: &Home,
    keys: KeyRing,
    run: RunId,
    now: Moment,
    tell: impl Fn(Opening) + Clone + 'static,
) -> Result<Opened, OpenError> {
    let Home { files, path, cache_bytes } = home;
    let shown = path.display().to_string();
    let io = |error: std::io::Error| explain(&shown, error);
    match files.look(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(path = %shown, "there is no store yet; a new one is made");
            return care::make(home, keys, (now, run), tell);
        }
        Err(error) => return Err(io(error)),
        Ok((_, 0)) => return Err(OpenError::Damaged { path: shown, what: "an empty file".to_owned() }),
        Ok(_) => {}
    }
    if care::is_backup(home).map_err(io)? {
        return care::restore(home, keys, (now, run), tell);
    }
    let mut builder = builder(*cache_bytes);
    let repairing = tell.clone();
    builder.set_repair_callback(move |repair| {
        repairing(Opening::Repairing { percent: percent(repair.progress()) })
    });
    let (database, own) = files.open(path, &builder).map_err(|error| explain(&shown, error))?;
    // Whoever had it before may have put another in its place just now.
    if files.look(path).map_err(io)?.0 != own {
        return Err(OpenError::InUse { path: shown });
    }
    let opened = prepare(database, keys, (now, run), &shown, tell)?;
    // What is acknowledged from here on must not go with the name of its file, which a run before this one may have given it
    // and been killed.
    files.resolve(path).and_then(|path| files.sync_names(&path)).map_err(io)?;
    if let Err(error) = care::clean_up(home) {
        tracing::warn!(path = shown, %error, "what was left behind beside the store cannot be removed");
    }
    Ok(Opened { file: Some(own), ..opened })
}

/// Opens another place to keep bytes, for tests that make it fail.
#[cfg(test)]
pub(super) fn open_backend(
    backend: impl redb::StorageBackend,
    keys: KeyRing,
    now: Moment,
    run: RunId,
) -> Result<Opened, OpenError> {
    let database = builder(1 << 20).create_with_backend(backend).map_err(|error| explain("memory", error))?;
    prepare(database, keys, (now, run), "memory", |_| {})
}

/// A fraction in whole percent.
fn percent(progress: f64) -> u8 {
    (progress.clamp(0.0, 1.0) * 100.0) as u8
}

pub(super) fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    // redb counts the bytes of the pages alone. Measured, a page in the cache takes 1.6 times that of the process's memory,
    // and memory is what the configuration speaks of.
    builder.set_cache_size(cache_bytes / 8 * 5);
    builder
}

/// What stands in the way of opening it.
pub(super) fn explain(path: &str, error: impl Into<redb::Error>) -> OpenError {
    let (path, error) = (path.to_owned(), error.into());
    let what = error.to_string();
    if matches!(error, redb::Error::DatabaseAlreadyOpen) {
        OpenError::InUse { path }
    } else if matches!(&error, redb::Error::Io(error) if is_misplaced(error.kind())) {
        OpenError::NoPlace { path, what }
    } else if matches!(&error, redb::Error::Io(error) if error.kind() == ErrorKind::PermissionDenied) {
        OpenError::NotPermitted { remedy: give(Path::new(&path)), path, what }
    } else if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) && !is_damage(&error) {
        OpenError::Io { path, what }
    } else {
        OpenError::Damaged { path, what }
    }
}

/// The command that gives the daemon's user a file, as far as it is there, and its folder.
fn give(file: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    let folder = folder(file).display();
    let file = file.symlink_metadata().map_or_else(|_| String::new(), |_| format!(" {}", file.display()));
    format!("chown {user}: {folder}{file}")
}

/// Whether no waiting helps, since the path itself is wrong.
fn is_misplaced(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

pub(super) fn prepare(
    database: Database,
    ring: KeyRing,
    (now, run): (Moment, RunId),
    path: &str,
    tell: impl Fn(Opening),
) -> Result<Opened, OpenError> {
    let io = |error: redb::Error| explain(path, error);
    let read = |row: &[u8]| -> Result<Option<Vec<u8>>, redb::Error> {
        match database.begin_read()?.open_table(META_TABLE) {
            Ok(table) => Ok(table.get(row)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let damaged = |what: &str| OpenError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let version = read(SCHEMA_ROW).map_err(io)?;
    let is_new = version.is_none();
    if let Some(version) = version {
        let version = <[u8; 4]>::try_from(version.as_slice()).map_err(|_| damaged("no schema version"))?;
        let found = u32::from_be_bytes(version);
        if found > SCHEMA_VERSION {
            return Err(OpenError::NewerSchema { path: path.to_owned(), found });
        }
    }
    let place = Place::whole(META, INDEX_KEY_ROW);
    let (listed, index_row) = (read(KEYS_ROW).map_err(io)?, read(INDEX_KEY_ROW).map_err(io)?);
    let mut in_use = keys::decode(listed.as_deref(), index_row.as_deref());
    if let Some(keys) = MissingKeys::of(&ring, in_use.iter().copied()) {
        return Err(OpenError::WrongKey { path: path.to_owned(), keys });
    }
    let is_listed = !in_use.insert(ring.first()) && listed.is_some();
    let index = match index_row {
        Some(sealed) => {
            let no_index_key = |_: SealError| damaged("the index key does not open");
            let plain = ring.open(place, &sealed).map_err(no_index_key)?;
            IndexKey::new(
                plain.as_slice().try_into().map_err(|_| damaged("the index key has a wrong length"))?,
            )
        }
        None if !is_new => return Err(damaged("the index key is missing")),
        None => {
            let no_randomness =
                |_| OpenError::Io { path: path.to_owned(), what: SealError::NoRandomness.to_string() };
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(no_randomness)?;
            let index = IndexKey::new(bytes);
            let sealed = ring
                .seal(place, index.expose())
                .map_err(|error| OpenError::Io { path: path.to_owned(), what: error.to_string() })?;
            lay_out(&database, &sealed, &in_use).map_err(io)?;
            index
        }
    };
    if !is_new {
        bring_up(&database, (!is_listed).then_some(&in_use), tell).map_err(io)?;
    }
    let last_begun = begin::begin(&database, now, run).map_err(io)?;
    let newest = newest(&database).map_err(io)?;
    let epoch =
        read(EPOCH_ROW).map_err(io)?.and_then(|row| row.try_into().ok()).map_or(0, u32::from_be_bytes);
    let codec = Codec { keys: Keys::new(ring), index };
    Ok(Opened { database, codec, newest, epoch, file: None, last_begun })
}

/// What a panic while a file is opened comes to: most likely the file is not what was written.
pub(super) fn nonsense(home: &Home, what: &str) -> OpenError {
    let (path, what) = (home.path.display().to_string(), format!("most likely: {what}"));
    if care::is_backup(home).unwrap_or(false) {
        OpenError::BadBackup { path, what }
    } else {
        OpenError::Damaged { path, what }
    }
}

/// Makes all tables of a new file, its version, its index key and the row of its keys, in one transaction.
fn lay_out(database: &Database, index_key: &[u8], in_use: &InUse) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut meta = Tables::open(&transaction)?.meta;
        meta.insert(SCHEMA_ROW, SCHEMA_VERSION.to_be_bytes().as_slice())?;
        meta.insert(INDEX_KEY_ROW, index_key)?;
        meta.insert(KEYS_ROW, keys::encode(in_use).as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Makes the tables that this program has and the one that made the file had not, and notes the keys in use where they are
/// others now. Nothing is written where there is nothing of that.
fn bring_up(database: &Database, in_use: Option<&InUse>, tell: impl Fn(Opening)) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let before = transaction.list_tables()?.count();
    let has_counts = transaction.list_tables()?.any(|table| table.name() == COUNTS_TABLE.name());
    {
        let mut tables = Tables::open(&transaction)?;
        if !has_counts {
            tell(Opening::BringingUp);
            tables.count_sessions()?;
        }
        if let Some(in_use) = in_use {
            tables.meta.insert(KEYS_ROW, keys::encode(in_use).as_slice())?;
        }
    }
    if in_use.is_some() || transaction.list_tables()?.count() > before {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(())
}

/// A time as the log tells it.
pub(super) fn shown(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at.as_millis()).unwrap_or(0));
    at.unwrap_or_default().to_string()
}

fn newest(database: &Database) -> Result<Timestamp, redb::Error> {
    let sessions = database.begin_read()?.open_table(SESSIONS_TABLE)?;
    let last = sessions.last()?.map(|(id, _)| SessionId::from_bytes(id.value()).time());
    Ok(last.unwrap_or_default())
}
