//! A new file beside the store's, which takes its place when it is done, or goes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, WriteTransaction};

use super::{
    super::{
        file_system::{FileId, FileSystem, Home},
        open::builder,
    },
    every,
};

/// The file. Dropped before it has taken its place, it is removed.
#[derive(Debug)]
pub(super) struct Beside {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
    place: PathBuf,
    own: FileId,
    /// Room that it leaves alone, bytes: whoever else writes there must not find the disk full because of it.
    left_alone: u64,
    /// Whether it is ours, and has not taken its place.
    is_to_go: bool,
}

/// What a row may cost while it is copied to where others lie, bytes: pages that are written anew for it.
const PAGES: u64 = 3 * 4096;

/// Why a copy was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// It is about to fill the disk.
    #[error("there is no room for a copy beside it: {free} bytes are free")]
    NoRoom {
        /// What is free.
        free: u64,
    },
    /// A table that this program does not know, or a row that does not fit in its table.
    #[error("rows of {0:?} that this program cannot hold")]
    Misfit(String),
    /// What it was to take the place of is not there any more.
    #[error("another file has taken the store's place; whoever did that must stop the daemon first")]
    Replaced,
    /// The database, or the disk.
    #[error("{0}")]
    Database(#[from] redb::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Database(redb::Error::Io(error))
    }
}

impl From<redb::StorageError> for CopyError {
    fn from(error: redb::StorageError) -> Self {
        Self::Database(error.into())
    }
}

/// Rows of one table to be written; those without a value are removed.
pub(super) type Rows = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Beside {
    /// Makes it. What an earlier one of that kind has left behind is removed first.
    pub(super) fn create(home: &Home, kind: &str, left_alone: u64) -> Result<(Self, Database), CopyError> {
        let files = Arc::clone(&home.files);
        // Where a link stands in its place, the file that it leads to is meant.
        let place = files.resolve(&home.path)?;
        let path = named(&place, kind);
        let made = files.create(&path, &builder(home.cache_bytes));
        let (database, own) = made.map_err(redb::Error::from)?;
        Ok((Self { files, path, place, own, left_alone, is_to_go: true }, database))
    }

    /// Removes what a copy of that kind left behind that was cut off.
    pub(super) fn clean_up(home: &Home, kind: &str) -> io::Result<()> {
        home.files.remove(&named(&home.files.resolve(&home.path)?, kind))
    }

    /// Fails while there is still room, when so many more rows, of so many bytes, would leave too little.
    pub(super) fn has_room_for(&self, rows: usize, bytes: usize) -> Result<(), CopyError> {
        let needed = (rows as u64 * PAGES).saturating_add(bytes as u64 * 2);
        match self.files.free_bytes(&self.path) {
            Some(free) if free < self.left_alone.saturating_add(needed) => Err(CopyError::NoRoom { free }),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes the place of the other file, or the free place, if it is still so: its name, at once. An error leaves all as it
    /// was.
    pub(super) fn take_place(&mut self, of: Option<FileId>) -> Result<FileId, CopyError> {
        let there = |path| match self.files.look(path) {
            Ok((id, _)) => Ok(Some(id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        // Whoever began at the same moment may have put another beside it.
        if there(&self.place)? != of || there(&self.path)? != Some(self.own) {
            return Err(CopyError::Replaced);
        }
        match self.files.rename(&self.path, &self.place, of.is_none()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(CopyError::Replaced),
            renamed => renamed?,
        }
        self.is_to_go = false;
        Ok(self.own)
    }

    /// Makes the name durable: before that, a power failure may bring the other file back.
    pub(super) fn sync_name(&self) -> io::Result<()> {
        self.files.sync_names(&self.place)
    }
}

fn named(place: &Path, kind: &str) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(kind);
    name.into()
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.is_to_go {
            // Where it cannot be removed now, it is before the next one is made.
            let _ = self.files.remove(&self.path);
        }
    }
}

/// Puts rows into a table.
pub(super) fn put(transaction: &WriteTransaction, table: &str, rows: &Rows) -> Result<(), CopyError> {
    if every::put(transaction, table, rows)? { Ok(()) } else { Err(CopyError::Misfit(table.to_owned())) }
}
