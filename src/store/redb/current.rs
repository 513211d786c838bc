//! The database in force, which a copy of it that takes less room can take the place of.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use redb::{Database, ReadTransaction, ReadableDatabase};

/// The database in force. It is exchanged by the writer alone, between two transactions.
#[derive(Debug)]
pub(super) struct Current {
    database: RwLock<Arc<Database>>,
    /// How many look at it for long, each as it was at one moment. Who looks at the one before holds nothing of this one.
    pinned: Arc<AtomicUsize>,
    // It goes last: by then the database has let its file go.
    open: Arc<Open>,
}

impl Current {
    pub(super) fn new(database: Database) -> Self {
        Self { database: RwLock::new(Arc::new(database)), pinned: Arc::default(), open: Arc::default() }
    }

    /// Where it is heard that it has let its file go.
    pub(super) fn closing(&self) -> Closing {
        Closing(Arc::clone(&self.open.0))
    }

    /// The database as it is now. Whoever reads holds it for as long as he does: a database closes with its last owner.
    pub(super) fn get(&self) -> Arc<Database> {
        Arc::clone(&self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another in its place; answers the one before.
    pub(super) fn exchange(&self, database: Database) -> Arc<Database> {
        let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, Arc::new(database))
    }

    /// The database as it is at this moment, for long: what commits replace keeps its room meanwhile, and the writer commits
    /// less often.
    pub(super) fn pin(&self) -> Result<Pinned, redb::Error> {
        let database = self.get();
        let transaction = database.begin_read()?;
        self.pinned.fetch_add(1, Ordering::Relaxed);
        let (pinned, open) = (Arc::clone(&self.pinned), Arc::clone(&self.open));
        Ok(Pinned { transaction, _database: database, pinned, _open: open })
    }

    /// Whether anybody looks at it for long.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed) > 0
    }
}

/// Says when it goes that all is closed.
#[derive(Debug, Default)]
struct Open(Arc<OnceLock<()>>);

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.0.set(());
    }
}

/// The end of a store, which is what its last owner makes of it, on whatever thread that is.
#[derive(Clone, Debug)]
pub struct Closing(Arc<OnceLock<()>>);

impl Closing {
    /// Waits until the store's last commit is done and its file is let go; for ever where the disk hangs.
    pub fn wait(&self) {
        self.0.wait();
    }
}

/// The database as it was at one moment.
pub(super) struct Pinned {
    transaction: ReadTransaction,
    /// What is read belongs to it: it must not close.
    _database: Arc<Database>,
    pinned: Arc<AtomicUsize>,
    // After the database, as above.
    _open: Arc<Open>,
}

impl Deref for Pinned {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.transaction
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.pinned.fetch_sub(1, Ordering::Relaxed);
    }
}
