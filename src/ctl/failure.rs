//! Why a command failed, for people and for scripts.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Write},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use super::{
    endpoint::Target,
    exit::Exit,
    output::{Block, clean},
};
use crate::api::code_name;

/// Calls that can be made again whatever became of the one before: they only read, or bring about what is already so.
const HARMLESS: [&str; 13] = [
    "AcknowledgeEvents",
    "BackupStore",
    "CompactStore",
    "DeleteConsumer",
    "ExplainSession",
    "GetSession",
    "GetStatus",
    "IngestWebhook",
    "ListEvents",
    "RotateKey",
    "VerifyStore",
    "WatchEvents",
    "WatchSession",
];
/// What to do after one of them.
fn repeat(call: &str) -> &'static str {
    match call {
        "AcknowledgeEvents" | "ListEvents" | "WatchEvents" => {
            "Run the same command again: nothing is lost, and a consumer goes on where it was done"
        }
        _ => "Run the same command again: nothing is lost",
    }
}

/// A command that failed: what, why, and what to do about it.
#[derive(Debug)]
pub(super) struct Failure(Box<Told>);

#[derive(Debug)]
struct Told {
    exit: Exit,
    /// The gRPC status code, where the daemon spoke.
    code: Option<Code>,
    reason: String,
    message: String,
    remedy: String,
    /// Given where repeating the same command is safe: after how long.
    retry_after: Option<Duration>,
    metadata: BTreeMap<String, String>,
    /// Bad fields of the request, with what is wrong with each.
    violations: Vec<(String, String)>,
    /// Addresses of further help, with their titles.
    help: Vec<(String, String)>,
}

impl Failure {
    /// Something on this side went wrong; the daemon had no say.
    pub(super) fn local(
        exit: Exit,
        reason: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self(Box::new(Told {
            exit,
            code: None,
            reason: reason.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
            retry_after: None,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            help: Vec::new(),
        }))
    }

    /// A bug of this program.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::local(
            Exit::SOFTWARE,
            "INTERNAL",
            message,
            "Please report this, with the command that led here.",
        )
    }

    /// The answer is here and cannot be written.
    pub(super) fn output(error: &io::Error, remedy: &str) -> Self {
        let message = format!("cannot write the answer: {error}");
        Self::local(Exit::OUTPUT, "OUTPUT_FAILED", message, remedy)
    }

    /// A line of a watch is here and cannot be written.
    pub(super) fn line(error: &io::Error) -> Self {
        let message = format!("cannot write what was told: {error}");
        let remedy = "See to where the output goes: is there room, and does somebody read it? Then run the same command again: \
                      what could not be written is told again.";
        Self::local(Exit::OUTPUT, "OUTPUT_FAILED", message, remedy)
    }

    /// The daemon ended a stream, and left what was waited for untold.
    pub(super) fn ended_early(call: &str, target: &Target) -> Self {
        let message = format!("{call}: {target} ended the stream without a reason");
        Self::local(Exit::UNAVAILABLE, "STREAM_ENDED", message, format!("{}.", repeat(call)))
    }

    /// No answer in time.
    pub(super) fn timed_out(call: &str, target: &Target, after: Duration) -> Self {
        let after = humantime::format_duration(after);
        let message = format!("{call}: no answer from {target} within {after}");
        let remedy = if HARMLESS.contains(&call) {
            format!("{}. `cairlctl status` tells how the daemon is; --timeout waits longer.", repeat(call))
        } else {
            "The call may have taken effect: look with `cairlctl session get`, or repeat the command \
             with a longer --timeout (`start` with the same --request-id)."
                .to_owned()
        };
        let mut failure = Self::local(Exit::LATER, "TIMED_OUT", message, remedy);
        failure.0.code = Some(Code::DeadlineExceeded);
        failure
    }

    /// A call that ended with anything but OK.
    pub(super) fn of_status(call: &str, target: &Target, timeout: Duration, status: &Status) -> Self {
        match status.source() {
            Some(source) if sources(source).any(|cause| cause.is::<TimeoutExpired>()) => {
                Self::timed_out(call, target, timeout)
            }
            Some(source) => Self::lost(call, target, source),
            // What serves gRPC says so of a call whose time is up, where it is a moment faster than this side.
            None if status.code() == Code::Cancelled => Self::timed_out(call, target, timeout),
            None => Self::refused(call, status),
        }
    }

    /// The connection broke; what the daemon made of the call is not known.
    fn lost(call: &str, target: &Target, source: &(dyn Error + 'static)) -> Self {
        let cause = sources(source).last().map(ToString::to_string).unwrap_or_default();
        let message = format!("{call}: the connection to {target} broke: {cause}");
        let after = if HARMLESS.contains(&call) {
            format!("{} once it is.", repeat(call))
        } else {
            "The call may have taken effect: look with `cairlctl session get` before repeating it.".to_owned()
        };
        let remedy = format!("Is this the daemon's gRPC endpoint, and is the daemon running? {after}");
        Self::local(Exit::UNAVAILABLE, "CONNECTION_LOST", message, remedy)
    }

    /// The daemon answered, with a refusal.
    fn refused(call: &str, status: &Status) -> Self {
        let details = status.get_error_details();
        let retry_after = details.retry_info().map(|info| info.retry_delay.unwrap_or_default());
        let (reason, mut metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone().into_iter().collect()),
            None => (String::new(), BTreeMap::new()),
        };
        let remedy = metadata.remove("remedy").unwrap_or_else(|| usual_remedy(status.code()).to_owned());
        let violations = details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations.iter().map(|one| (one.field.clone(), one.description.clone())).collect()
        });
        let help = details.help().map_or_else(Vec::new, |help| {
            help.links.iter().map(|link| (link.description.clone(), link.url.clone())).collect()
        });
        Self(Box::new(Told {
            exit: Exit::of_code(status.code(), retry_after.is_some()),
            code: Some(status.code()),
            reason,
            message: format!("{call}: {}", status.message()),
            remedy,
            retry_after,
            metadata,
            violations,
            help,
        }))
    }

    /// How the process ends.
    pub(super) fn exit(&self) -> Exit {
        self.0.exit
    }

    /// Writes it as one block of text, or as a JSON object.
    pub(super) fn write(&self, json: bool, sink: &mut dyn Write) -> io::Result<()> {
        if json {
            writeln!(sink, "{:#}", self.0.to_json())?;
        } else {
            writeln!(sink, "cairlctl: {}", clean(&self.0.message))?;
            self.0.to_block().write(sink)?;
        }
        sink.flush()
    }
}

impl Told {
    fn to_block(&self) -> Block {
        let mut block = Block::indented();
        let reason = match (self.code.map(code_name), self.reason.as_str()) {
            (Some(code), "") => code.to_owned(),
            (Some(code), reason) => format!("{reason} ({code})"),
            (None, reason) => reason.to_owned(),
        };
        block.row("reason", reason);
        block.text("remedy", &self.remedy);
        if let Some(delay) = self.retry_after {
            let when = match delay {
                Duration::ZERO => "at once".to_owned(),
                delay => format!("in {}", humantime::format_duration(delay)),
            };
            block.row("retry", format!("{when}, with the same arguments"));
        }
        for (field, description) in &self.violations {
            block.row("field", format!("{field}: {description}"));
        }
        for (key, value) in &self.metadata {
            block.row(key, value);
        }
        for (_, url) in &self.help {
            block.row("see", url);
        }
        block
    }

    fn to_json(&self) -> Value {
        let mut error = Map::new();
        let mut put = |key: &str, value: Value| error.insert(key.to_owned(), value);
        if let Some(code) = self.code {
            put("code", code_name(code).into());
        }
        put("reason", self.reason.as_str().into());
        put("message", self.message.as_str().into());
        put("remedy", self.remedy.as_str().into());
        put("exitCode", self.exit.code().into());
        put("metadata", json!(self.metadata));
        if let Some(delay) = self.retry_after {
            put("retryDelay", seconds(delay).into());
        }
        let pairs = |pairs: &[(String, String)], first: &str, second: &str| -> Value {
            pairs.iter().map(|(a, b)| json!({ first: a, second: b })).collect()
        };
        if !self.violations.is_empty() {
            put("fieldViolations", pairs(&self.violations, "field", "description"));
        }
        if !self.help.is_empty() {
            put("help", pairs(&self.help, "description", "url"));
        }
        json!({ "error": error })
    }
}

/// An error and what lies under it, outermost first.
pub(super) fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// What to do where the answer itself does not say.
fn usual_remedy(code: Code) -> &'static str {
    if code == Code::Unimplemented {
        "The daemon is of another version: compare `cairlctl --version` with `cairld --version`."
    } else {
        ""
    }
}

/// A span in proto3 JSON.
fn seconds(span: Duration) -> String {
    let text = format!("{}.{:09}", span.as_secs(), span.subsec_nanos());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
