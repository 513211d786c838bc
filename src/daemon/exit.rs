//! How a command of `cairld` ends when it fails: a message, and an exit code as in sysexits(3).

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use sysexits::ExitCode;

use super::{listener::BindError, run::RunError};
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
                OpenError::WrongKey { .. } | OpenError::NewerSchema { .. } | OpenError::NoPlace { .. },
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
        .map_err(|error| Failure::new(ExitCode::IoErr, error))
}

/// Writes a new file that its owner alone can read.
pub(super) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}
