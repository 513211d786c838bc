//! How a command of `cairld` ends when it fails: a message, and an exit code as in sysexits(3).

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use sysexits::ExitCode;

use super::{check::folder, listener::BindError, run::RunError};
use crate::store::OpenError;

/// Why a command fails, and with which exit code.
pub(super) struct Failure {
    pub(super) code: ExitCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: ExitCode, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::new(if error.is_misplaced { ExitCode::Config } else { ExitCode::Unavailable }, error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match &error {
            RunError::Store(OpenError::InUse { .. }) => ExitCode::TempFail,
            RunError::Store(
                OpenError::WrongKey { .. }
                | OpenError::NewerSchema { .. }
                | OpenError::NoPlace { .. }
                | OpenError::NotPermitted { .. },
            )
            | RunError::Provider(_) => ExitCode::Config,
            // Of its own: started again it would find the same, while a disk may have room by then.
            RunError::Store(OpenError::Damaged { .. } | OpenError::BadBackup { .. }) => ExitCode::DataErr,
            RunError::Store(OpenError::Io { .. }) | RunError::StoreEnded(_) => ExitCode::IoErr,
            RunError::Listener(_) => ExitCode::OsErr,
            RunError::Internal(_) => ExitCode::Software,
        };
        Self::new(code, error)
    }
}

/// Prints a line; a reader that has gone is an error, not a panic.
pub(super) fn say(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::new(ExitCode::IoErr, format!("standard output takes nothing: {error}")))
}

/// Writes a new file that its owner alone can read. It is durable before it has its name: what is sealed under a key is lost
/// with it.
pub(super) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    // Its owner's alone from the first moment on.
    let mut file = tempfile::Builder::new().prefix(".cairld-").suffix(".part").tempfile_in(folder(path))?;
    writeln!(file, "{text}")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder(path))?.sync_all()
}
