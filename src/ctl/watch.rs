//! What watches share, and `cairlctl session watch`.

use std::io::{self, Read, Write};

use prost::Message;
use tokio::runtime::Builder;

use super::{
    args::Watch,
    connect::Daemon,
    ending::{Ended, Ending},
    exit::Exit,
    failure::Failure,
    json,
    output::{clean, time},
    session::{lookup, reason, status},
};
use crate::api::proto::{
    Session, WatchSessionRequest, WatchSessionResponse, integration_service_client::IntegrationServiceClient,
    watch_session_request::Lookup,
};

/// Where a watch writes as it goes: a line of text, or a JSON object on a line, for each message.
pub(super) struct Lines<'a> {
    pub(super) json: bool,
    pub(super) sink: &'a mut dyn Write,
}

/// Whether somebody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Here,
    Gone,
}

impl Lines<'_> {
    /// Writes a message, of the contract's type `name`, and flushes; `text` is it in words, which are clean already.
    pub(super) fn write(
        &mut self,
        name: &str,
        message: &impl Message,
        text: &str,
    ) -> Result<Reader, Failure> {
        if self.json {
            self.text(&json::of(name, &message.encode_to_vec())?.to_string())
        } else {
            self.text(text)
        }
    }

    /// Writes a line as it is, and flushes.
    pub(super) fn text(&mut self, line: &str) -> Result<Reader, Failure> {
        match writeln!(self.sink, "{line}").and_then(|()| self.sink.flush()) {
            Ok(()) => Ok(Reader::Here),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => Err(Failure::line(&error)),
        }
    }
}

/// Runs a watch until it ends, or nobody waits for it any more; `interrupted` is how the process ends after a signal.
pub(super) fn until_ended(
    daemon: &Daemon,
    ending: Ending<'_>,
    interrupted: Exit,
    watch: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    daemon.run(until(ending, watch, |ended| match ended {
        Ended::Interrupted => Ok(interrupted),
        Ended::ReaderGone => Ok(Exit::Success),
    }))
}

/// Runs what is worth nothing before it is done, whoever ends it.
pub(super) fn until_done(
    daemon: &Daemon,
    ending: Ending<'_>,
    work: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    daemon.run(until(ending, work, undone))
}

/// The same without a daemon. What may block for ever is done [`aside`]: it is not waited for once the work is ended.
pub(super) fn until_done_alone(
    ending: Ending<'_>,
    work: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(until(ending, work, undone));
    // Its usual end waits for whatever is still aside.
    runtime.shutdown_background();
    outcome
}

/// Does on a thread of its own what may block for ever; whoever ends the work is heard meanwhile.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// How the process ends where its work was ended before it was done.
fn undone(ended: Ended) -> Result<Exit, Failure> {
    match ended {
        Ended::Interrupted => Ok(Exit::Interrupted),
        Ended::ReaderGone => Err(reader_gone()),
    }
}

/// Runs work until it is over, or is ended from this side, which then says how the process ends.
async fn until(
    ending: Ending<'_>,
    work: impl Future<Output = Result<Exit, Failure>>,
    when_ended: impl FnOnce(Ended) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    tokio::select! {
        // First, so that a stream with always one more message cannot keep a signal from being heard.
        biased;
        ended = ending => when_ended(ended),
        outcome = work => outcome,
    }
}

/// Whoever read has closed standard output before all was told.
pub(super) fn reader_gone() -> Failure {
    Failure::line(&io::ErrorKind::BrokenPipe.into())
}

/// Tells a session until the daemon ends the stream, which it does after a terminal status.
pub(super) fn session(
    daemon: &Daemon,
    args: &Watch,
    stdin: &mut dyn Read,
    lines: &mut Lines<'_>,
    ending: Ending<'_>,
) -> Result<Exit, Failure> {
    const CALL: &str = "WatchSession";
    let lookup = lookup(&args.lookup, stdin, Lookup::SessionId, Lookup::State, Lookup::ProviderSessionId)?;
    // Whoever waits for the end of a session has not got it when a signal came first.
    until_ended(daemon, ending, Exit::Interrupted, async {
        let connection = daemon.connect(CALL).await?;
        let mut stream = connection
            .open(CALL, WatchSessionRequest { lookup }, async |channel, request| {
                IntegrationServiceClient::new(channel).watch_session(request).await
            })
            .await?;
        while let Some(told) = connection.next(CALL, &mut stream).await? {
            if tell(&told, lines)? == Reader::Gone {
                break;
            }
        }
        Ok(Exit::Success)
    })
}

fn tell(told: &WatchSessionResponse, lines: &mut Lines<'_>) -> Result<Reader, Failure> {
    let text = told.session.as_ref().map_or_else(|| "no session in the answer".to_owned(), line);
    lines.write("cairld.v1.WatchSessionResponse", told, &text)
}

/// `2026-11-23T17:57:33.365Z ses_… failed: ACCESS_DENIED: The user declined. …`: since when it stands where, and why.
fn line(session: &Session) -> String {
    let since = session.update_time.as_ref().map_or_else(|| "-".to_owned(), time);
    let mut line = format!("{since} {} {}", session.id, status(session.status));
    if let Some(failure) = &session.failure {
        line.push_str(&format!("; {}: {} {}", reason(failure.reason), failure.description, failure.remedy));
        if failure.resumable {
            let until =
                failure.resume_until.as_ref().map_or_else(String::new, |at| format!(" until {}", time(at)));
            line.push_str(&format!(" The same callback can still complete it{until}."));
        }
    }
    clean(&line)
}

#[cfg(test)]
mod tests {
    use std::future;

    use clap::Parser;

    use super::{super::args::Args, *};
    use crate::api::proto::{Failure as SessionFailure, Reason, SessionStatus};

    #[test]
    fn who_ends_it_is_heard_before_work_that_is_always_ready() {
        let daemon = Daemon::new(&Args::parse_from(["cairlctl", "status"])).unwrap();
        for _ in 0..64 {
            let exit =
                until_done(&daemon, &mut future::ready(Ended::Interrupted), async { Ok(Exit::Success) });
            assert_eq!(exit.unwrap(), Exit::Interrupted);
        }
    }

    #[test]
    fn each_state_is_one_line() {
        let moment = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let session = Session {
            id: "ses_1".to_owned(),
            status: SessionStatus::Pending.into(),
            update_time: moment(1_735_689_600),
            ..Session::default()
        };
        let told = "2025-01-01T00:00:00Z ses_1 pending: the user has not come back yet";
        assert_eq!(line(&session), told);
        let failure = SessionFailure {
            reason: Reason::PaymentRequired.into(),
            description: "The wallet\u{1b}[2J is too low.".to_owned(),
            remedy: "Top up.".to_owned(),
            resumable: true,
            resume_until: moment(1_735_689_601),
            ..SessionFailure::default()
        };
        assert_eq!(
            line(&Session { failure: Some(failure), ..session }),
            format!(
                "{told}; PAYMENT_REQUIRED: The wallet\\u{{1b}}[2J is too low. Top up. The same callback can still \
                 complete it until 2025-01-01T00:00:01Z."
            )
        );
    }

    #[test]
    fn a_disk_that_is_full_is_an_error_and_a_reader_that_has_gone_is_none() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for json in [false, true] {
            let write = |kind| {
                let told = WatchSessionResponse::default();
                Lines { json, sink: &mut Broken(kind) }.write("cairld.v1.WatchSessionResponse", &told, "")
            };
            assert_eq!(write(io::ErrorKind::BrokenPipe).unwrap(), Reader::Gone);
            assert_eq!(write(io::ErrorKind::StorageFull).unwrap_err().exit().code(), 74);
        }
    }
}
