//! A new store. It is made beside its place, which it takes once it is one: a first start that is cut off, or that finds the
//! disk full, leaves nothing that the next would have to call damaged.

use super::{
    super::{
        file_system::Home,
        open::{self, OpenError, Opened, Opening},
    },
    beside::{Beside, CopyError},
};
use crate::{
    domain::{Moment, RunId},
    store::KeyRing,
};

/// What the new file is called behind the store's name.
pub(super) const KIND: &str = ".making";

/// Makes a store where there is none.
pub(in crate::store::redb) fn make(
    home: &Home,
    keys: KeyRing,
    (now, run): (Moment, RunId),
    tell: impl Fn(Opening),
) -> Result<Opened, OpenError> {
    let shown = home.path.display().to_string();
    let explain = |error| match error {
        CopyError::Replaced => OpenError::InUse { path: shown.clone() },
        CopyError::Database(error) => open::explain(&shown, error),
        CopyError::NoRoom { .. } | CopyError::Misfit(_) => {
            OpenError::Io { path: shown.clone(), what: error.to_string() }
        }
    };
    let (mut beside, database) = Beside::create(home, KIND, 0).map_err(explain)?;
    let opened = open::prepare(database, keys, (now, run), &shown, tell)?;
    let own = beside.take_place(None).map_err(explain)?;
    // What is acknowledged from here on must not go with the name of its file.
    beside.sync_name().map_err(|error| explain(error.into()))?;
    Ok(Opened { file: Some(own), ..opened })
}
