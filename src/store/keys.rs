//! The key ring in force, how it is exchanged, why it cannot be, and how far a rotation is.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    StoreError,
    record::SealedTable,
    seal::{KeyId, KeyRing},
};

/// The key ring in force. It is exchanged by the writer alone, between two facts: none is sealed under two rings.
#[derive(Debug)]
pub(super) struct Keys(RwLock<Arc<KeyRing>>);

impl Keys {
    pub(super) fn new(ring: KeyRing) -> Self {
        Self(RwLock::new(Arc::new(ring)))
    }

    /// The ring as it is now.
    pub(super) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the key is called that seals now.
    pub(super) fn first(&self) -> KeyId {
        self.0.read().unwrap_or_else(PoisonError::into_inner).first()
    }

    pub(super) fn exchange(&self, ring: KeyRing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }
}

/// Keys that stored records are sealed under, and that a ring has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKeys {
    /// Those that it has not.
    pub missing: Vec<KeyId>,
    /// Those that it has, in their order.
    pub held: Vec<KeyId>,
}

impl MissingKeys {
    /// What a ring lacks of the keys in use; none where it lacks nothing.
    pub(super) fn of(ring: &KeyRing, in_use: impl IntoIterator<Item = KeyId>) -> Option<Self> {
        let held: Vec<_> = ring.ids().collect();
        let missing: Vec<_> = in_use.into_iter().filter(|id| !held.contains(id)).collect();
        (!missing.is_empty()).then_some(Self { missing, held })
    }
}

impl fmt::Display for MissingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[KeyId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (missing, held) = (list(&self.missing), list(&self.held));
        let (keys, them) = if self.missing.len() == 1 { ("key", "it") } else { ("keys", "them") };
        write!(
            f,
            "records are sealed under {keys} {missing}, which keys.files does not have (it has {held}, in this order); put \
             {them} back behind the first, run `cairlctl key rotate`, and then drop {them}"
        )
    }
}

/// Why the store goes on with the key ring that it had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key is in use that the new ring has not.
    #[error("{0}")]
    Missing(MissingKeys),
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far a rotation is, bite after bite.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// Records sealed anew.
    pub sealed: u64,
    /// Records looked at, those included.
    pub checked: u64,
    /// Records in all, as far as known.
    pub total: u64,
    /// Records that do not open: they stay as they are, and the log names them.
    pub unreadable: u64,
    /// What it came to; none while it goes on.
    pub end: Option<RotationEnd>,
    /// The key that it seals under; none before the first bite.
    pub(super) target: Option<KeyId>,
    /// The keys of records that do not open.
    pub(super) stuck: BTreeSet<KeyId>,
    /// How many tables are done, and the last key that was looked at in the next one.
    pub(super) passed: (usize, Option<Vec<u8>>),
}

/// What a rotation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationEnd {
    /// The key that all is sealed under now, but for what does not open.
    pub key: KeyId,
    /// Keys of the ring that nothing is sealed under any more: they can be dropped.
    pub removable: Vec<KeyId>,
    /// Keys of the ring that records which do not open say they are sealed under: they stay in use.
    pub kept: Vec<KeyId>,
}

impl Rotation {
    /// One that begins, to a key.
    pub(super) fn to(target: KeyId) -> Self {
        Self { target: Some(target), ..Self::default() }
    }

    /// The table that it is at; none where all are done.
    pub(super) fn table(&self) -> Option<SealedTable> {
        SealedTable::ALL.get(self.passed.0).copied()
    }
}
