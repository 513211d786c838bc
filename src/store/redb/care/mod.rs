//! Care of the file: backups and what is made of them, looks at everything, and compacting.

mod backup;
mod beside;
mod bites;
mod check;
mod compact;
mod every;
mod make;
mod restore;

use std::{io, sync::Arc};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

#[cfg(test)]
pub(super) use self::every::names;
use self::{backup::Backup, beside::Beside, check::Check};
pub(super) use self::{
    make::make,
    restore::{is_backup, restore},
};
use super::{RedbStore, file_system::Home, sound::read_soundly};
use crate::{
    domain::Moment,
    store::{BackupPiece, Care, Checked, CompactError, Compacted, StoreError},
};

/// Removes what was made beside the store and cut off: it is of no use to anybody.
pub(super) fn clean_up(home: &Home) -> io::Result<()> {
    [make::KIND, compact::KIND, restore::KIND].into_iter().try_for_each(|kind| Beside::clean_up(home, kind))
}

#[async_trait]
impl Care for RedbStore {
    fn backup(&self, now: Moment) -> Result<BoxStream<'static, Result<BackupPiece, StoreError>>, StoreError> {
        let begin = || Backup::begin(&self.database, Arc::clone(&self.codec), now);
        Ok(read_soundly(begin)?.pieces())
    }

    fn check(&self, now: Moment) -> Result<BoxStream<'static, Result<Checked, StoreError>>, StoreError> {
        let begin = || Check::begin(&self.database, Arc::clone(&self.codec), now, self.retention);
        Ok(read_soundly(begin)?.parts())
    }

    async fn compact(
        &self,
        is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Compacted, CompactError> {
        match &self.home {
            Some(home) => compact::compact(self, home, is_stopping).await,
            None => Ok(Compacted::default()),
        }
    }
}
