//! Sealing what is stored anew, and changing nothing else of it.

use prost::Message;

use super::{
    super::{
        StoreError,
        seal::{KeyId, KeyRing, Place},
    },
    Damage, EVENTS, REQUESTS, REVOCATIONS, SESSIONS,
    event::as_received,
    stored,
};

/// The tables whose rows hold something sealed. The index key is the only other thing that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealedTable {
    /// Of each row a part.
    Sessions,
    /// Each row as a whole.
    Requests,
    /// Each row as a whole.
    Revocations,
    /// Of each row a part, but for rows that only tell another one anew.
    Events,
}

impl SealedTable {
    /// All of them, in the order in which they are gone through.
    pub(crate) const ALL: &'static [Self] =
        &[Self::Sessions, Self::Requests, Self::Revocations, Self::Events];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sessions => SESSIONS,
            Self::Requests => REQUESTS,
            Self::Revocations => REVOCATIONS,
            Self::Events => EVENTS,
        }
    }
}

/// What becomes of a row in a rotation.
#[derive(Debug)]
pub(crate) enum Resealed {
    /// Nothing: it is under the first key, or holds nothing sealed.
    Same,
    /// This row takes its place.
    Anew(Vec<u8>),
    /// It does not open, and stays as it is.
    Unreadable {
        /// The key that it says it is under, where it says any.
        key: Option<KeyId>,
        /// Names it.
        error: StoreError,
    },
}

/// What is sealed in a row, and what it is sealed in.
enum Parts {
    Session(Box<stored::SessionRecord>),
    Event(Box<stored::EventRecord>),
    Whole,
}

/// A row with what is sealed in it under the first key of a ring.
pub(crate) fn resealed(
    ring: &KeyRing,
    table: SealedTable,
    key: &[u8],
    row: &[u8],
) -> Result<Resealed, StoreError> {
    let unreadable = |under: Option<KeyId>, damage: Damage| {
        Ok(Resealed::Unreadable { key: under, error: damage.of(table.name(), key) })
    };
    let parts = match Parts::of(table, row) {
        Ok(parts) => parts,
        Err(damage) => return unreadable(None, damage),
    };
    let Some(sealed) = parts.sealed(row) else { return Ok(Resealed::Same) };
    let under = KeyId::of_sealed(sealed);
    if under == Some(ring.first()) {
        return Ok(Resealed::Same);
    }
    let clear = parts.clear();
    let place = Place { table: table.name(), key, clear: &clear };
    match ring.open(place, sealed) {
        Ok(plain) => Ok(Resealed::Anew(parts.with(seal(ring, place, &plain)?))),
        Err(error) => unreadable(under, error.into()),
    }
}

/// Seals under the first key of a ring.
pub(crate) fn seal(ring: &KeyRing, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    ring.seal(place, plain).map_err(|error| StoreError::Unavailable(error.to_string()))
}

impl Parts {
    fn of(table: SealedTable, row: &[u8]) -> Result<Self, Damage> {
        Ok(match table {
            SealedTable::Sessions => Self::Session(Box::new(stored::SessionRecord::decode(row)?)),
            SealedTable::Events => Self::Event(Box::new(stored::EventRecord::decode(row)?)),
            SealedTable::Requests | SealedTable::Revocations => Self::Whole,
        })
    }

    /// What is sealed; none where nothing is.
    fn sealed<'r>(&'r self, row: &'r [u8]) -> Option<&'r [u8]> {
        match self {
            Self::Session(record) => Some(&record.sealed),
            Self::Event(record) if record.tells_anew != 0 => None,
            Self::Event(record) => Some(&record.sealed),
            Self::Whole => Some(row),
        }
    }

    /// What stands beside it and is bound to it.
    fn clear(&self) -> Vec<u8> {
        match self {
            Self::Session(record) => {
                stored::SessionRecord { sealed: Vec::new(), ..(**record).clone() }.encode_to_vec()
            }
            Self::Event(record) => as_received(record).encode_to_vec(),
            Self::Whole => Vec::new(),
        }
    }

    /// The row with that in the place of what was sealed.
    fn with(self, sealed: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Session(record) => stored::SessionRecord { sealed, ..*record }.encode_to_vec(),
            Self::Event(record) => stored::EventRecord { sealed, ..*record }.encode_to_vec(),
            Self::Whole => sealed,
        }
    }
}
