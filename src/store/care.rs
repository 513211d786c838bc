//! Care of what is remembered: copies of all of it, looks at all of it, and room that is given back.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::StoreError;
use crate::domain::Moment;

/// What a backup of this version begins with.
pub const BACKUP_MAGIC: &[u8; 16] = b"cairld backup 1\n";
/// What every backup begins with.
pub(super) const BACKUP_OF_ANY_VERSION: &[u8; 14] = b"cairld backup ";

/// The next bytes of a backup.
#[derive(Clone, Debug)]
pub struct BackupPiece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Rows that were copied so far, those in it included.
    pub done: u64,
    /// Rows in all.
    pub total: u64,
}

/// How far a look at everything is.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Rows looked at so far.
    pub checked: u64,
    /// Rows in all.
    pub total: u64,
    /// What was found wrong since the last time that was told, a line each; secrets are in none.
    pub problems: Vec<String>,
}

/// What giving back room came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// What was occupied before, bytes.
    pub before: u64,
    /// And after.
    pub after: u64,
}

/// Why no room was given back. All is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A copy is made first, and there is no room for it.
    #[error(
        "the copy that takes the place of {path} needs more room than there is beside it: {free} bytes are free"
    )]
    NoRoom {
        /// What was to be compacted.
        path: String,
        /// What was free when it was given up.
        free: u64,
    },
    /// So much was written meanwhile that the copy could not catch up.
    #[error("more was written meanwhile than could be copied")]
    Outrun,
    /// It was to stop.
    #[error("broken off")]
    Stopped,
    /// The copy could not be written.
    #[error("the copy: {0}")]
    Copy(String),
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Work on everything that is kept, while it serves.
#[async_trait]
pub trait Care: Send + Sync {
    /// A copy of all that is durable now, piece after piece: everything in it that is secret stays sealed. Dropping it ends
    /// it. While it goes on, what is removed keeps its room.
    ///
    /// # Errors
    /// The store's own.
    fn backup(&self, now: Moment) -> Result<BoxStream<'static, Result<BackupPiece, StoreError>>, StoreError>;

    /// Looks at everything that is kept: whether it opens, whether it is whole, and whether what belongs together agrees.
    /// Dropping it ends it.
    ///
    /// # Errors
    /// The store's own.
    fn check(&self, now: Moment) -> Result<BoxStream<'static, Result<Checked, StoreError>>, StoreError>;

    /// Gives room that is free within back to the file system, while everything else goes on. Ends early, and changes
    /// nothing, once `is_stopping` says so.
    ///
    /// # Errors
    /// [`CompactError`]; all is as it was then.
    async fn compact(
        &self,
        is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Compacted, CompactError>;
}
