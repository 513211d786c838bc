//! Whether the file that a store writes to still has the store's name. Who moves it away takes what is written from then on
//! along with it, and who removes it takes all of it, once the daemon ends.

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::file_system::{FileId, Home};

/// Which file a store writes to, whatever it is called; none in memory.
#[derive(Clone, Debug)]
pub(super) struct Own(Arc<Mutex<Option<FileId>>>);

impl Own {
    pub(super) fn new(file: Option<FileId>) -> Self {
        Self(Arc::new(Mutex::new(file)))
    }

    pub(super) fn id(&self) -> Option<FileId> {
        *self.lock()
    }

    /// Another file takes its place: whoever looks meanwhile waits, and sees the one or the other.
    pub(super) fn exchange<E>(&self, take_place: impl FnOnce() -> Result<FileId, E>) -> Result<(), E> {
        let mut own = self.lock();
        *own = Some(take_place()?);
        Ok(())
    }

    /// What is wrong with the store's place, if anything, and what to do.
    pub(super) fn trouble(&self, home: &Home) -> Option<String> {
        let own = self.lock();
        let what = match home.files.look(&home.path) {
            Ok((found, _)) if own.is_some_and(|own| own != found) => {
                "another file stands in the store's place"
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                "the store's file is not in its place any more"
            }
            Ok(_) | Err(_) => return None,
        };
        Some(format!(
            "{what}, {}: what is written goes to the one that was there, and is gone with it; save that with `cairlctl \
             backup`, stop the daemon, put in place what is to be there, and start it",
            home.path.display()
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Option<FileId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
