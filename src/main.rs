//! `cairld`: the daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    cairld::daemon::command::main()
}
