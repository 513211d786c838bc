//! Care of the file: backups and what is made of them, looks at everything, and compacting.

mod backup;
mod beside;
mod bites;
mod check;
mod compact;
mod every;
mod restore;

use std::{io, path::Path, sync::Arc};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

#[cfg(test)]
pub(super) use self::every::names;
use self::{backup::Backup, beside::Beside, check::Check};
pub(super) use self::{
    beside::free_bytes,
    restore::{is_backup, restore},
};
use super::RedbStore;
use crate::{
    domain::Moment,
    store::{BackupPiece, Care, Checked, CompactError, Compacted, StoreError},
};

/// Removes what a compaction or a restore left behind that was cut off: it is of no use to anybody.
pub(super) fn clean_up(path: &Path) -> io::Result<()> {
    Beside::clean_up(path, compact::KIND)?;
    Beside::clean_up(path, restore::KIND)
}

#[async_trait]
impl Care for RedbStore {
    fn backup(&self, now: Moment) -> Result<BoxStream<'static, Result<BackupPiece, StoreError>>, StoreError> {
        Ok(Backup::begin(&self.database, Arc::clone(&self.codec), now)?.pieces())
    }

    fn check(&self, now: Moment) -> Result<BoxStream<'static, Result<Checked, StoreError>>, StoreError> {
        Ok(Check::begin(&self.database, Arc::clone(&self.codec), now, self.retention)?.parts())
    }

    async fn compact(
        &self,
        is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Compacted, CompactError> {
        match &self.path {
            Some(path) => compact::compact(self, path, is_stopping).await,
            None => Ok(Compacted::default()),
        }
    }
}
