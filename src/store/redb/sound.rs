//! What tells a damaged file from other trouble. redb answers with an error where it looks for damage; where it trusts a page
//! that is not what it wrote, it panics.

use std::{
    fmt::Display,
    io::{self, ErrorKind},
};

use super::super::{StoreError, panics::caught};

/// What to do about a file that seems damaged, while there is a daemon to ask.
pub(super) const REMEDY: &str =
    "look at it with `cairlctl store verify`, and restore a backup where that finds anything";

/// Works on the file; a panic says what of it makes no sense, and where that was noticed, since it may be a mistake of the
/// program as well. What the work had in hand is not to be used after that.
pub(super) fn soundly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // Whoever asked has a use for knowing which file it is and what to do, and a panic tells him neither.
    caught(work)
}

/// Reads: what makes no sense is an error for whoever reads it, and for nobody else.
pub(super) fn read_soundly<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    soundly(read).unwrap_or_else(|what| Err(damaged(what)))
}

/// What is heard of a page that makes no sense.
pub(super) fn damaged(what: impl Display) -> StoreError {
    StoreError::Corrupt(format!("the store's file ({what}); {REMEDY}"))
}

/// Whether an error says that the file is not what was written.
pub(super) fn is_damage(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Corrupted(_))
        || matches!(error, redb::Error::Io(error) if is_nonsense(error))
}

/// Whether what an operating system says comes of asking it for what is not there: a file cut short, or a page that points
/// beyond its end.
fn is_nonsense(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData)
}
