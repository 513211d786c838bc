//! The database in force, which a copy of it that takes less room can take the place of.

use std::sync::{Arc, PoisonError, RwLock};

use redb::Database;

/// The database in force. It is exchanged by the writer alone, between two transactions.
#[derive(Debug)]
pub(super) struct Current(RwLock<Arc<Database>>);

impl Current {
    pub(super) fn new(database: Database) -> Self {
        Self(RwLock::new(Arc::new(database)))
    }

    /// The database as it is now. Whoever reads holds it for as long as he does: a database closes with its last owner.
    pub(super) fn get(&self) -> Arc<Database> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn exchange(&self, database: Database) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(database);
    }
}
