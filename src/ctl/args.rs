//! What may be typed.

mod events;

use std::{path::PathBuf, time::Duration};

use clap::{
    Args as Group, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

pub(super) use self::events::{Acknowledge, EventsCommand, Forget, ListEvents, WatchEvents};
use super::{endpoint::Target, exit::EXIT_CODES};
use crate::domain::Stage;

/// Longest deadline of one call.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Talks to cairld: starts and completes authorizations, reads sessions, hands in webhooks, explains errors.
#[derive(Debug, Parser)]
#[command(name = "cairlctl", version, after_help = EXIT_CODES)]
pub(super) struct Args {
    /// Where the daemon listens: `unix:/path`, `https://host:port`, or `http://127.0.0.1:50051` on this host
    #[arg(long, global = true, env = "CAIRLD_ENDPOINT", default_value = "unix:/run/cairld/cairld.sock")]
    pub(super) endpoint: Target,

    /// File with this caller's bearer token, readable by its owner alone
    ///
    /// Needed where the daemon does not know the caller by its user or group.
    #[arg(long, global = true, env = "CAIRLD_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) tls: TlsFiles,

    /// Print the daemon's answer as proto3 JSON, a watch one object on each line; errors as a JSON object
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// How long to wait for the daemon: `60s`, `1m 30s`; a watch has begun by then, and lasts
    #[arg(long, global = true, default_value = "60s", value_parser = timeout)]
    pub(super) timeout: Duration,

    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What a connection over TLS needs.
#[derive(Debug, Default, Group)]
pub(super) struct TlsFiles {
    /// With https: PEM file of the authority that issues the daemon's certificate
    #[arg(long, global = true, env = "CAIRLD_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// With https: PEM file of this caller's certificate, where the daemon knows the caller by it
    #[arg(long, global = true, env = "CAIRLD_CERT", value_name = "FILE", requires = "key")]
    pub(super) cert: Option<PathBuf>,
    /// The key of that certificate, PEM, readable by its owner alone
    #[arg(long, global = true, env = "CAIRLD_KEY", value_name = "FILE", requires = "cert")]
    pub(super) key: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start an authorization; prints the URL to send the user's browser to
    Start(Start),
    /// Complete an authorization with what the provider's redirect brought
    Complete(Complete),
    /// Read, watch or cancel a session, or revoke its access token
    #[command(subcommand)]
    Session(SessionCommand),
    /// List the events that the provider's webhooks brought, follow them, say how far they are done
    #[command(subcommand)]
    Events(EventsCommand),
    /// Hand in what the provider delivered
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Tell how the daemon is (for callers with `admin = true`)
    Status,
    /// Keys that the daemon's store is sealed with (for callers with `admin = true`)
    #[command(subcommand)]
    Key(KeyCommand),
    /// Copy the daemon's store into a file while it serves (for callers with `admin = true`)
    ///
    /// Everything secret in it stays sealed: keep the store's key elsewhere, and as long as the backup.
    Backup(Backup),
    /// Put a backup in the place of a daemon's store; asks no daemon, and none may be running there
    ///
    /// At its next start the daemon makes a store of it. Sessions that had not ended in the backup are INDETERMINATE then, and
    /// nothing is sent to the provider for a minute: what was done since the backup was made is not known.
    Restore(Restore),
    /// The daemon's store as a whole (for callers with `admin = true`)
    #[command(subcommand)]
    Store(StoreCommand),
    /// Explain an error: cause, remedy, what becomes of the session; asks no daemon
    Explain(ExplainError),
}

/// What to start.
#[derive(Debug, Group)]
pub(super) struct Start {
    /// Name of the configured client; may be left out when the caller may use just one
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) client: String,
    /// Where the browser comes back to, as registered; may be left out when the client has just one
    #[arg(long, value_name = "URI", default_value = "", hide_default_value = true)]
    pub(super) redirect_uri: String,
    /// A claim to ask for; once for each
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub(super) scopes: Vec<String>,
    #[command(flatten)]
    pub(super) binding: Binding,
    /// Your own correlation text, returned with the session
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) reference: String,
    /// Makes the start safe to repeat: the same id with the same arguments gives the same session
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(super) request_id: String,
}

/// What ties a flow to the user's browser session.
#[derive(Debug, Default, Group)]
#[group(multiple = false)]
pub(super) struct Binding {
    /// The binding to the user's browser session; other users of this host can see it while the command runs
    #[arg(long, value_name = "VALUE")]
    pub(super) binding: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE")]
    pub(super) binding_file: Option<PathBuf>,
}

/// What to complete.
#[derive(Debug, Group)]
pub(super) struct Complete {
    /// The URL the browser was sent back to, or its query; `-` reads it from standard input
    ///
    /// It carries a code, and other users of this host can see the arguments of a running command: prefer `-`
    /// wherever it is not a test.
    #[arg(value_name = "CALLBACK_URL")]
    pub(super) callback: String,
    #[command(flatten)]
    pub(super) binding: Binding,
}

/// About one session.
#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// Show a session
    Get(Get),
    /// Tell a session as it stands and at each change, a line each, until it has ended
    ///
    /// Ends with 0 whatever the session came to: the last line says it. Ctrl-C before that ends it with 130.
    Watch(Watch),
    /// Show what happened to a session, and what to do next
    Explain(Explain),
    /// Cancel a session that is still open
    Cancel(Cancel),
    /// Revoke the access token of a session that has its claims
    Revoke(Revoke),
}

/// How a session is named.
#[derive(Debug, Group)]
#[group(id = "lookup", required = true, multiple = false)]
pub(super) struct Lookup {
    /// The daemon's id of the session (`ses_…`)
    #[arg(value_name = "SES_ID")]
    pub(super) session_id: Option<String>,
    /// Find it by the state of its authorization URL; `-` reads it from standard input
    #[arg(long, value_name = "STATE")]
    pub(super) state: Option<String>,
    /// Find it by the provider's id (`hvf_…`)
    #[arg(long, value_name = "HVF_ID")]
    pub(super) provider_session: Option<String>,
}

/// Which session to show.
#[derive(Debug, Group)]
pub(super) struct Get {
    #[command(flatten)]
    pub(super) lookup: Lookup,
    /// Ask the provider first
    #[arg(long)]
    pub(super) refresh: bool,
}

/// Which session to watch.
#[derive(Debug, Group)]
pub(super) struct Watch {
    #[command(flatten)]
    pub(super) lookup: Lookup,
}

/// Which session to explain.
#[derive(Debug, Group)]
pub(super) struct Explain {
    /// The daemon's id of the session (`ses_…`)
    #[arg(value_name = "SES_ID")]
    pub(super) session_id: String,
}

/// Which session to cancel.
#[derive(Debug, Group)]
pub(super) struct Cancel {
    /// The daemon's id of the session (`ses_…`)
    #[arg(value_name = "SES_ID")]
    pub(super) session_id: String,
}

/// Whose token to revoke.
#[derive(Debug, Group)]
pub(super) struct Revoke {
    /// The daemon's id of the session (`ses_…`)
    #[arg(value_name = "SES_ID")]
    pub(super) session_id: String,
}

/// About webhooks.
#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// Have a webhook verified and kept
    Ingest(Ingest),
}

/// What the provider delivered.
#[derive(Debug, Group)]
pub(super) struct Ingest {
    /// Name of the configured client; may be left out when the caller may use just one
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) client: String,
    /// The value of the `X-CAIRL-Signature` header (`sha256=…`)
    #[arg(long, value_name = "SIGNATURE")]
    pub(super) signature: String,
    /// File with the body, byte for byte as received; `-` reads it from standard input
    #[arg(value_name = "BODY_FILE")]
    pub(super) body: PathBuf,
}

/// About the store's keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Seal everything in the store anew under the first key of keys.files, while the daemon serves
    ///
    /// To replace a key: put the new one before it in keys.files, have the daemon take that up, rotate, and take the old one
    /// out once this says that nothing is sealed under it. Ctrl-C ends the waiting alone: the daemon goes on, and the same
    /// command again looks on.
    Rotate,
}

/// Where a backup goes.
#[derive(Debug, Group)]
pub(super) struct Backup {
    /// A new file, readable by its owner alone; `-` writes it to standard output
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// What is restored, and where.
#[derive(Debug, Group)]
pub(super) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// `path` in the daemon's `[store]`; nothing may be there yet
    #[arg(long, value_name = "PATH", default_value = "/var/lib/cairld/cairld.redb")]
    pub(super) to: PathBuf,
}

/// About the store as a whole.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Open every record, and hold what belongs together against each other, while the daemon serves
    ///
    /// Ends with 1 where something is not as it should be; each problem is a line.
    Verify,
    /// Give unused space of the store's file back to the file system, while the daemon serves
    ///
    /// What is kept is copied, so that as much room must be free beside it. Ctrl-C, or a --timeout that is over, ends the
    /// waiting alone: the daemon goes on, and the same command again waits on.
    Compact,
}

/// What to explain.
#[derive(Debug, Group)]
pub(super) struct ExplainError {
    /// A reason (`PAYMENT_REQUIRED`), a code of the provider (`invalid_grant`), an HTTP status (`402`), or words (`rate
    /// limit`); without it, all that can be explained is listed
    #[arg(value_name = "CODE")]
    pub(super) code: Vec<String>,
    /// Only where it arises at this stage
    #[arg(long, value_name = "STAGE", value_parser = stages())]
    pub(super) stage: Option<Stage>,
}

/// Stages by their names.
fn stages() -> impl TypedValueParser<Value = Stage> {
    PossibleValuesParser::new(Stage::ALL.iter().map(|stage| stage.as_str()))
        .try_map(|name| Stage::parse(&name).ok_or("is no stage"))
}

fn timeout(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > LONGEST_TIMEOUT {
        return Err("must be more than nothing and at most 1h".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_session_is_named_in_exactly_one_way() {
        let parse = |rest: &[&str]| {
            Args::try_parse_from(["cairlctl", "session", "get"].iter().chain(rest)).map(|args| args.command)
        };
        assert!(parse(&["ses_1"]).is_ok());
        assert!(parse(&["--state", "s"]).is_ok());
        assert!(parse(&["--provider-session", "hvf_1", "--refresh"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--refresh"]).is_err());
        assert!(parse(&["ses_1", "--state", "s"]).is_err());
    }

    #[test]
    fn a_binding_comes_from_one_place() {
        let both = ["cairlctl", "complete", "-", "--binding", "b", "--binding-file", "f"];
        assert!(Args::try_parse_from(both).is_err());
    }

    #[test]
    fn a_timeout_is_bounded() {
        assert_eq!(timeout("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(timeout("0s").is_err());
        assert!(timeout("2h").is_err());
        assert!(timeout("soon").is_err());
    }
}
