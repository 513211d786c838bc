//! File descriptors: as many as the system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below that many there is no room for what the daemon opens by itself, and some connections.
const LEAST: u64 = 64;

/// Raises the soft limit to the hard one. The usual soft limit of 1024 is there for programs that use `select`; with it,
/// a thousand idle connections would keep everybody else out.
///
/// # Errors
/// Why the daemon cannot do with what there is.
pub(super) fn raise_limit() -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Some(maximum) = maximum.filter(|maximum| *maximum < LEAST) {
        return Err(format!(
            "no more than {maximum} files may be open, and {LEAST} are the least: raise LimitNOFILE= of the unit, or `ulimit -n`"
        ));
    }
    if current == maximum {
        return Ok(());
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, "the limit of open files cannot be raised; connections are limited by it");
    }
    Ok(())
}
