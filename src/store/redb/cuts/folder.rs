//! A file system in memory that loses power as a whole: what was not synced of its files, and of their names.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, ErrorKind, Read},
    path::{Path, PathBuf},
    sync::MutexGuard,
};

use redb::{Builder, Database, DatabaseError, StorageError};

use super::*;
use crate::store::{disk::Fuse, redb::file_system::FileId};

/// The folder. Cloning it gives another hand on the same one; [`Folder::copy`] makes another folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    fuse: Fuse,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    /// The names as they were before each change since they were synced, the oldest first.
    undo: Vec<Names>,
    /// Which process has it: one that has ended reaches it no more.
    process: u64,
    /// How many files there have been.
    made: u64,
}

/// What each name stands for: which file it is, and what is in it.
type Names = BTreeMap<PathBuf, (FileId, Disk)>;

impl Folder {
    /// Another folder with the same in it.
    pub(super) fn copy(&self) -> Self {
        let (folder, state) = (Self::default(), self.state());
        for (path, (_, disk)) in &state.names {
            folder.put(path, disk.bytes());
        }
        folder
    }

    /// Puts a file there, as durable as its name.
    pub(super) fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.state().make(path, bytes, &self.0.fuse);
        self.state().undo.clear();
    }

    /// The names in it.
    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// The folder as a process has it, from now on until [`Folder::pull`].
    pub(super) fn mount(&self) -> Arc<dyn FileSystem> {
        Arc::new(Mounted { folder: self.clone(), process: self.state().process })
    }

    /// Lets so many writes, syncs and changes of names succeed, and no more.
    pub(super) fn fail_after(&self, operations: u64) {
        self.0.fuse.fail_after(operations);
    }

    /// Lets all succeed again.
    pub(super) fn mend(&self) {
        self.0.fuse.mend();
    }

    /// Whether one has failed, or would fail now.
    pub(super) fn fails(&self) -> bool {
        self.0.fuse.fails()
    }

    /// Ends it for the process that has it, as a kill or a power cut does.
    pub(super) fn pull(&self, loss: Loss) {
        let mut state = self.state();
        state.process += 1;
        for (_, disk) in state.names.values() {
            disk.pull(loss);
        }
        let undo = std::mem::take(&mut state.undo);
        // A journal of names is lost from some place on, and not in the middle.
        let kept = match loss {
            Loss::Nothing => undo.len(),
            Loss::All => 0,
            Loss::Some(seed) => fastrand::Rng::with_seed(seed).usize(..=undo.len()),
        };
        if let Some(names) = undo.into_iter().nth(kept) {
            for (_, disk) in names.values() {
                disk.pull(loss);
            }
            state.names = names;
        }
        self.mend();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make(&mut self, path: &Path, bytes: Vec<u8>, fuse: &Fuse) -> (FileId, Disk) {
        self.made += 1;
        let file = (FileId(0, self.made), Disk::holding(bytes, fuse.clone()));
        self.change(|names| drop(names.insert(path.to_owned(), file.clone())));
        file
    }

    fn change(&mut self, change: impl FnOnce(&mut Names)) {
        self.undo.push(self.names.clone());
        change(&mut self.names);
    }

    fn file(&self, path: &Path) -> io::Result<(FileId, Disk)> {
        self.names.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// The folder in the hands of one process.
#[derive(Debug)]
struct Mounted {
    folder: Folder,
    process: u64,
}

impl Mounted {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.folder.state();
        if state.process == self.process { Ok(state) } else { Err(ErrorKind::NotConnected.into()) }
    }

    /// The same for whoever changes something.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state()?;
        self.folder.0.fuse.begin()?;
        Ok(state)
    }
}

impl FileSystem for Mounted {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn look(&self, path: &Path) -> io::Result<(FileId, u64)> {
        let (id, disk) = self.state()?.file(path)?;
        Ok((id, disk.bytes().len() as u64))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        let (_, disk) = self.state()?.file(path)?;
        Ok(Box::new(Cursor::new(disk.bytes())))
    }

    fn open(&self, path: &Path, builder: &Builder) -> Result<(Database, FileId), DatabaseError> {
        let (id, disk) = self.state().and_then(|state| state.file(path)).map_err(StorageError::Io)?;
        Ok((builder.create_with_backend(disk.plug())?, id))
    }

    fn create(&self, path: &Path, builder: &Builder) -> Result<(Database, FileId), DatabaseError> {
        self.remove(path).map_err(StorageError::Io)?;
        let mut state = self.changing().map_err(StorageError::Io)?;
        let (id, disk) = state.make(path, Vec::new(), &self.folder.0.fuse);
        drop(state);
        Ok((builder.create_with_backend(disk.plug())?, id))
    }

    fn rename(&self, from: &Path, to: &Path, is_free: bool) -> io::Result<()> {
        let mut state = self.changing()?;
        let file = state.file(from)?;
        if is_free && state.file(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change(|names| {
            names.remove(from);
            names.insert(to.to_owned(), file);
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.state()?.file(path).is_ok() {
            self.changing()?.change(|names| drop(names.remove(path)));
        }
        Ok(())
    }

    fn sync_names(&self, _: &Path) -> io::Result<()> {
        self.changing()?.undo.clear();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        None
    }
}
