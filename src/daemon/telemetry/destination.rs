//! Where the log goes.

use std::{
    env,
    io::{self, IsTerminal},
};

use clap::ValueEnum;
use rustix::fs::fstat;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::daemon) enum Format {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
    /// Entries of the journal, with fields.
    Journald,
}

/// What commands that log take.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(in crate::daemon) struct LogOptions {
    /// How the log is written. By default text where standard error is a terminal, entries of the journal where it is
    /// connected to that, and JSON lines anywhere else.
    #[arg(long = "log-format", value_name = "FORMAT", env = "CAIRLD_LOG_FORMAT")]
    format: Option<Format>,
}

impl LogOptions {
    /// The format that was chosen, or that suits what standard error is.
    pub(in crate::daemon) fn form(&self) -> Format {
        self.format.unwrap_or_else(by_itself)
    }
}

fn by_itself() -> Format {
    if io::stderr().is_terminal() {
        Format::Text
    } else if is_journal() {
        Format::Journald
    } else {
        Format::Json
    }
}

/// Whether standard error goes to the journal, as systemd says (`JOURNAL_STREAM`, systemd.exec(5)). It says so once, at
/// the start; the comparison tells whether standard error has been sent elsewhere since.
pub(super) fn is_journal() -> bool {
    let Some(said) = env::var("JOURNAL_STREAM").ok().as_deref().and_then(stream) else { return false };
    fstat(io::stderr()).is_ok_and(|stderr| said == (stderr.st_dev, stderr.st_ino))
}

/// A device and an inode, in decimal numbers with a colon between.
fn stream(text: &str) -> Option<(u64, u64)> {
    let (device, inode) = text.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_device_and_inode() {
        assert_eq!(stream("8:12345"), Some((8, 12_345)));
        for text in ["", ":", "8", "8:", ":8", "8:9:10", "8:x", "-1:2", "8: 9"] {
            assert_eq!(stream(text), None, "{text:?}");
        }
    }
}
