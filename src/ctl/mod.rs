//! `cairlctl`: the daemon's calls from a shell.
//!
//! A command reads its input, makes a call and reports; a watch reports as it goes. It knows the daemon by the contract alone
//! ([`crate::api::proto`]); nothing here may import the daemon's insides. `explain` makes no call: it reads the error
//! catalogue of [`crate::domain`], which is text, with the status of each reason ([`crate::api::code()`]).
//!
//! - `args`: what may be typed; `input`: what is read from files and standard input
//! - `connect`: the way to the daemon; `diagnose`: what to say when there is none
//! - `authorize`, `session`, `timeline`, `events`, `webhook`, `status`, `key`, `backup`, `restore`, `store`, `explain`: the
//!   commands
//! - `watch`: what commands share that last, and the one about sessions; `progress`: how far such are; `ending`: what ends
//!   them from this side
//! - `output`, `json`: the two forms of an answer; `failure`, `exit`: the same for a refusal

mod args;
mod authorize;
mod backup;
mod connect;
mod diagnose;
mod ending;
mod endpoint;
mod events;
mod exit;
mod explain;
mod failure;
mod input;
mod json;
mod key;
mod output;
mod progress;
mod restore;
mod session;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod timeline;
mod watch;
mod webhook;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Read, Write},
    pin::pin,
    process,
};

use clap::Parser;

use self::{
    args::{Args, Command, EventsCommand, KeyCommand, SessionCommand, StoreCommand, WebhookCommand},
    connect::Daemon,
    ending::Ending,
    exit::Exit,
    failure::Failure,
    watch::Lines,
};

/// Runs the command that this process was started with; errors go to standard error.
pub fn run() -> process::ExitCode {
    let mut streams = Streams {
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr().lock(),
        on_terminal: io::stdout().is_terminal(),
        is_discarded: output::is_discarded(io::stdout()),
        ending: &mut pin!(ending::of_this_process()),
    };
    process::ExitCode::from(run_with(env::args_os(), &mut streams).code())
}

/// Where a command reads and writes; the process's own, or a test's.
struct Streams<'a> {
    stdin: &'a mut dyn Read,
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
    /// Whether standard output is a terminal.
    on_terminal: bool,
    /// Whether it is /dev/null, which it is also where it was closed.
    is_discarded: bool,
    /// What ends a watch from this side.
    ending: Ending<'a>,
}

fn run_with(command_line: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> Exit {
    let args = match Args::try_parse_from(command_line) {
        Ok(args) => args,
        Err(error) => return explain_usage(&error, streams),
    };
    match execute(&args, streams) {
        Ok(exit) => exit,
        Err(failure) => {
            // Nobody is left to tell when standard error is gone as well: the exit code still says it.
            let _ = failure.write(args.json, streams.stderr);
            failure.exit()
        }
    }
}

fn execute(args: &Args, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    // A closure, since not every command needs a daemon.
    let daemon = || Daemon::new(args);
    let stdin = &mut *streams.stdin;
    let mut lines = Lines { json: args.json, sink: streams.stdout };
    let report = match &args.command {
        Command::Session(SessionCommand::Watch(watch)) => {
            return watch::session(&daemon()?, watch, stdin, &mut lines, streams.ending);
        }
        Command::Events(EventsCommand::Watch(watch)) => {
            return events::watch(&daemon()?, watch, &mut lines, streams.ending);
        }
        Command::Key(KeyCommand::Rotate) => {
            return key::rotate(&daemon()?, &mut lines, streams.on_terminal, streams.ending);
        }
        Command::Backup(backup) => {
            backup::writable(backup, streams.on_terminal, streams.is_discarded)?;
            return backup::backup(&daemon()?, backup, &mut lines, streams.on_terminal, streams.ending);
        }
        Command::Store(StoreCommand::Verify) => {
            return store::verify(&daemon()?, &mut lines, streams.on_terminal, streams.ending);
        }
        Command::Restore(restore) => {
            return restore::restore(restore, &mut lines, streams.on_terminal, streams.ending);
        }
        Command::Store(StoreCommand::Compact) => store::compact(&daemon()?),
        Command::Explain(explain) => explain::explain(explain),
        Command::Start(start) => authorize::start(&daemon()?, start),
        Command::Complete(complete) => authorize::complete(&daemon()?, complete, stdin),
        Command::Session(SessionCommand::Get(get)) => session::get(&daemon()?, get, stdin),
        Command::Session(SessionCommand::Explain(explain)) => timeline::explain(&daemon()?, explain),
        Command::Session(SessionCommand::Cancel(cancel)) => session::cancel(&daemon()?, cancel),
        Command::Session(SessionCommand::Revoke(revoke)) => session::revoke(&daemon()?, revoke),
        Command::Webhook(WebhookCommand::Ingest(ingest)) => webhook::ingest(&daemon()?, ingest, stdin),
        Command::Events(EventsCommand::List(list)) => events::list(&daemon()?, list),
        Command::Events(EventsCommand::Ack(ack)) => events::ack(&daemon()?, ack),
        Command::Events(EventsCommand::Forget(forget)) => events::forget(&daemon()?, forget),
        Command::Status => status::get(&daemon()?),
    }?;
    report.write(args.json, streams.stdout)?;
    Ok(Exit::Success)
}

/// Help and version are answers; everything else clap has to say is wrong usage.
fn explain_usage(error: &clap::Error, streams: &mut Streams<'_>) -> Exit {
    let (sink, exit): (&mut dyn Write, Exit) =
        if error.use_stderr() { (streams.stderr, Exit::USAGE) } else { (streams.stdout, Exit::Success) };
    let _ = write!(sink, "{}", error.render()).and_then(|()| sink.flush());
    exit
}
