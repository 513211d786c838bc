//! `cairlctl`: the operator's client.

use std::process::ExitCode;

fn main() -> ExitCode {
    cairld::ctl::run()
}
