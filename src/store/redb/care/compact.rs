//! Compacting: everything that is kept is copied into a new file, which then takes the place of the old one, while everything
//! else goes on.
//!
//! redb's own compaction needs the database to itself for as long as it takes. A copy needs room beside the file, and little
//! of it where compacting is worth the while: what is free within is not copied. What is written meanwhile is noted by row,
//! and copied again, less each time; the last of it by the writer, between two transactions, which then exchanges the files.
//! Until then nothing has changed.

use std::{sync::Arc, thread};

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::{
    super::{
        RedbStore,
        current::{Current, Pinned},
        file_system::Home,
        place::Own,
        sound::{damaged, is_damage, soundly},
        tables::Tables,
        touched::Touched,
        writer::{Desk, Writer},
    },
    beside::{self, Beside, CopyError, Rows},
    every,
};
use crate::store::{CompactError, Compacted, StoreError, record::SESSION_COUNTS};

/// What the new file is called behind the store's name.
pub(super) const KIND: &str = ".compacting";
/// Room that is left alone meanwhile, bytes: the daemon goes on writing.
const LEFT_ALONE: u64 = 128 << 20;
/// Bytes of rows copied in one transaction: many, since each is synced; and rows, since each may lie in a page of its own.
const BATCH: usize = 8 << 20;
const BATCH_ROWS: usize = 4096;
/// So few rows are left to the writer, which holds up other writes for them for some milliseconds.
const FEW: usize = 512;
/// Most times that what was written meanwhile is copied.
const ROUNDS: usize = 16;

/// The copy that is made.
struct Copy {
    beside: Beside,
    database: Database,
    is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Why a copy comes to nothing.
enum Abandoned {
    Copy(CopyError),
    Stopped,
}

impl<E: Into<CopyError>> From<E> for Abandoned {
    fn from(error: E) -> Self {
        Self::Copy(error.into())
    }
}

impl Copy {
    /// Copies all rows, each as it is when its turn comes. A table ends where it ends when that is reached: what comes behind it
    /// later, as sessions do without end, is written meanwhile, and so is copied again. What is counted comes at the very end.
    fn all(&self, current: &Current) -> Result<(), Abandoned> {
        for table in every::names().into_iter().filter(|table| *table != SESSION_COUNTS) {
            let (mut after, mut is_over) = (None, false);
            while !is_over {
                let part = {
                    let database = current.get();
                    every::read_on(
                        &database.begin_read().map_err(redb::Error::from)?,
                        table,
                        after.as_deref(),
                        BATCH,
                    )?
                };
                is_over = part.is_last;
                after = part.rows.last().map(|(key, _)| key.clone());
                let bytes = part.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
                // They come in their order, so that pages are filled one after the other.
                self.has_room_for(0, bytes)?;
                let rows = part.rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
                self.write(&[(table, rows)])?;
            }
        }
        Ok(())
    }

    /// Copies rows again that were written since.
    fn again(&self, snapshot: &ReadTransaction, touched: Touched) -> Result<(), Abandoned> {
        let (mut batch, mut count, mut bytes) = (Vec::new(), 0, 0);
        for (table, keys) in touched.into_rows() {
            let mut rows = Rows::new();
            for key in keys {
                let value = every::get(snapshot, table, &key)?;
                count += 1;
                bytes += key.len() + value.as_ref().map_or(0, Vec::len);
                rows.push((key, value));
                if bytes >= BATCH || count >= BATCH_ROWS {
                    batch.push((table, std::mem::take(&mut rows)));
                    self.has_room_for(count, bytes)?;
                    self.write(&batch)?;
                    (batch, count, bytes) = (Vec::new(), 0, 0);
                }
            }
            batch.push((table, rows));
        }
        self.has_room_for(count, bytes)?;
        self.write(&batch)
    }

    fn has_room_for(&self, rows: usize, bytes: usize) -> Result<(), Abandoned> {
        if (self.is_stopping)() {
            return Err(Abandoned::Stopped);
        }
        Ok(self.beside.has_room_for(rows, bytes)?)
    }

    fn write(&self, batch: &[(&str, Rows)]) -> Result<(), Abandoned> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        for (table, rows) in batch {
            beside::put(&transaction, table, rows)?;
        }
        Ok(transaction.commit().map_err(redb::Error::from)?)
    }

    /// The last rows and what is counted; then it is what the store's file holds.
    fn finish(&self, snapshot: &ReadTransaction, touched: Touched) -> Result<(), CopyError> {
        self.beside.has_room_for(touched.count().unwrap_or_default(), 0)?;
        let mut transaction = self.database.begin_write().map_err(redb::Error::from)?;
        transaction.set_quick_repair(true);
        // Makes those too that have no row yet.
        drop(Tables::open(&transaction).map_err(redb::Error::from)?);
        for (table, keys) in touched.into_rows() {
            let rows: Result<Rows, redb::Error> = keys
                .into_iter()
                .map(|key| every::get(snapshot, table, &key).map(|value| (key, value)))
                .collect();
            beside::put(&transaction, table, &rows?)?;
        }
        let counts = every::read_on(snapshot, SESSION_COUNTS, None, usize::MAX)?;
        let counts = counts.rows.into_iter().map(|(row, count)| (row, Some(count))).collect();
        beside::put(&transaction, SESSION_COUNTS, &counts)?;
        Ok(transaction.commit().map_err(redb::Error::from)?)
    }
}

impl Desk {
    /// Begins to note what is written, or begins anew; answers what was noted, and the database without what comes.
    fn note(&mut self) -> Result<(Touched, Pinned), redb::Error> {
        let noted = self.touched.replace(Touched::default());
        Ok((noted.unwrap_or_default(), self.database.pin()?))
    }

    /// Notes nothing more: there will be no copy.
    fn forget(&mut self) -> Result<(), redb::Error> {
        self.touched = None;
        Ok(())
    }

    /// Brings the copy up to the present, and puts it in the place of the database's file, which is that one. The error of the
    /// copy leaves all as it was.
    fn replace(&mut self, mut copy: Copy, own: &Own) -> Result<Result<(), Caught>, redb::Error> {
        let touched = self.touched.take().unwrap_or_default();
        if touched.count().is_none() {
            return Ok(Err(Caught::Outrun));
        }
        let snapshot = self.database.pin()?;
        let of = own.id();
        let finished = copy.finish(&snapshot, touched);
        if let Err(error) = finished.and_then(|()| own.exchange(|| copy.beside.take_place(of))) {
            return Ok(Err(Caught::Abandoned(error.into())));
        }
        let Copy { beside, database, .. } = copy;
        let old = self.database.exchange(database);
        // Closing it writes to it once more, and gives its room back: nobody is to wait for that.
        let closing =
            thread::Builder::new().name("store-closing".into()).spawn(move || drop((snapshot, old)));
        drop(closing);
        // Written to from here on: were the old file back after a power failure, what is acknowledged now would be gone.
        beside.sync_name()?;
        Ok(Ok(()))
    }
}

/// Compacts the file of a store.
pub(super) async fn compact(
    store: &RedbStore,
    home: &Home,
    is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
) -> Result<Compacted, CompactError> {
    let shown = home.path.display().to_string();
    let explain = |abandoned| match abandoned {
        Abandoned::Copy(CopyError::NoRoom { free }) => CompactError::NoRoom { path: shown.clone(), free },
        Abandoned::Copy(CopyError::Database(error)) if is_damage(&error) => damaged(error).into(),
        Abandoned::Copy(error @ (CopyError::Misfit(_) | CopyError::Replaced | CopyError::Database(_))) => {
            CompactError::Copy(error.to_string())
        }
        Abandoned::Stopped => CompactError::Stopped,
    };
    let size = || home.files.look(&home.path).map(|(_, length)| length).unwrap_or_default();
    let before = size();
    drop(store.writer.between(Desk::note).await?);
    let home_of_copy = home.clone();
    let current = Arc::clone(&store.database);
    let made = blocking(move || {
        let (beside, database) = Beside::create(&home_of_copy, KIND, LEFT_ALONE)?;
        let copy = Copy { beside, database, is_stopping };
        copy.all(&current).map(|()| copy)
    })
    .await;
    let replaced = match made {
        Ok(copy) => catch_up(&store.writer, copy, &store.own).await,
        Err(abandoned) => Err(Caught::Abandoned(abandoned)),
    };
    match replaced {
        Ok(()) => Ok(Compacted { before, after: size() }),
        Err(why) => {
            store.writer.between(Desk::forget).await?;
            Err(match why {
                Caught::Abandoned(abandoned) => explain(abandoned),
                Caught::Outrun => CompactError::Outrun,
                Caught::Store(error) => error.into(),
            })
        }
    }
}

/// Why a copy was not caught up with.
enum Caught {
    Abandoned(Abandoned),
    Outrun,
    Store(StoreError),
}

impl From<StoreError> for Caught {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Copies what was written meanwhile until it is little; the writer does the rest.
async fn catch_up(writer: &Writer, mut copy: Copy, own: &Own) -> Result<(), Caught> {
    for _ in 0..ROUNDS {
        let (touched, snapshot) = writer.between(Desk::note).await?;
        let Some(count) = touched.count() else { return Err(Caught::Outrun) };
        copy = blocking(move || copy.again(&snapshot, touched).map(|()| copy))
            .await
            .map_err(Caught::Abandoned)?;
        if count <= FEW {
            let own = own.clone();
            return writer.between(move |desk| desk.replace(copy, &own)).await?;
        }
    }
    Err(Caught::Outrun)
}

/// Where waiting for the disk harms nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Abandoned> + Send + 'static,
) -> Result<T, Abandoned> {
    let work = || soundly(work).unwrap_or_else(|what| Err(redb::Error::Corrupted(what).into()));
    // What is not joined was ended with the runtime.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Abandoned::Stopped))
}
