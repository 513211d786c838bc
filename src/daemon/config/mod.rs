//! The configuration: a TOML file and the secrets it names, read whole or refused whole.
//!
//! `docs/cairld.toml` says what each key means. Everything that is wrong is found at once ([`Problems`]), each with its
//! line and the remedy; no message holds a secret.

mod address;
mod caller;
mod certificates;
mod client;
mod daemon;
mod document;
mod problem;
mod secret_file;
mod section;
#[cfg(test)]
mod tests;
mod tls;
mod value;

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use self::{
    caller::Caller,
    client::{Client, Endpoints, Limits, Timeouts},
    daemon::{Grpc, Http, Keys, StoreConfig},
    problem::{Problem, Problems},
    tls::Tls,
};
use self::{document::Document, section::Section};

/// Longest configuration worth reading, bytes.
const LONGEST: u64 = 1024 * 1024;

/// What the configuration takes from the process's surroundings, given as an argument so that tests change none.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Where systemd put credentials (`$CREDENTIALS_DIRECTORY`).
    pub credentials_directory: Option<PathBuf>,
    /// The sockets that the process was started with.
    pub sockets: Sockets,
}

/// Sockets that somebody else has bound and hands to the daemon: what `[grpc]` need not say again, and must not
/// contradict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// These, and no others.
    Known {
        /// The Unix socket's path.
        unix: Option<PathBuf>,
        /// The TCP address.
        tcp: Option<SocketAddr>,
    },
    /// Not to be known here: whoever only checks a configuration is not started as the daemon will be.
    Unknown,
}

impl Default for Sockets {
    fn default() -> Self {
        Self::Known { unix: None, tcp: None }
    }
}

impl Environment {
    /// The surroundings of this process, which was started with these sockets.
    pub fn from_process(sockets: Sockets) -> Self {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
        Self { credentials_directory: folder.map(PathBuf::from), sockets }
    }
}

/// A configuration that was checked, with its secrets read.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where callers reach the daemon.
    pub grpc: Grpc,
    /// What callers over TCP are shown; none where TCP is plain.
    pub tls: Option<Tls>,
    /// What is served over plain HTTP.
    pub http: Http,
    /// What is kept, and where.
    pub store: StoreConfig,
    /// What the store is sealed with.
    pub keys: Keys,
    /// The registrations with the provider; at least one, no name twice.
    pub clients: Vec<Client>,
    /// Who may ask, in the order of the file; at least one, no name twice.
    pub callers: Vec<Caller>,
}

/// Reads a configuration file and the secrets it names.
///
/// # Errors
/// All that is wrong, in one list.
pub fn load(path: &Path, environment: &Environment) -> Result<Config, Problems> {
    let whole = |message| Problems::of_file(path.display().to_string(), message);
    let text = read(path).map_err(|error| {
        whole(if error.kind() == io::ErrorKind::NotFound {
            "no such file; name the configuration with --config FILE".to_owned()
        } else {
            format!("cannot be read: {error}; check the path, and who may read it")
        })
    })?;
    if text.len() as u64 > LONGEST {
        return Err(whole("over 1 MiB; this is no configuration".to_owned()));
    }
    let text = String::from_utf8(text).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        whole(format!("not UTF-8 in line {line}; TOML is UTF-8"))
    })?;
    Config::parse(&text, path, environment)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Config {
    /// Reads a configuration's text, and the secrets it names. `path` is how messages call it; its folder is where
    /// relative paths begin.
    ///
    /// # Errors
    /// All that is wrong, in one list.
    pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Self, Problems> {
        let document = Document::new(text, path, environment);
        let config = Self::read(&document);
        match (document.problems(), config) {
            (None, Some(config)) => Ok(config),
            (Some(problems), _) => Err(problems),
            // Not to be reached: whatever is left out reports why. Refusing is the safe answer all the same.
            (None, None) => Err(Problems::of_file(path.display().to_string(), "cannot be read".to_owned())),
        }
    }

    fn read(document: &Document<'_>) -> Option<Self> {
        let table = document.parse()?;
        Self::read_sections(Section::root(document, &table))
    }

    fn read_sections(mut root: Section<'_>) -> Option<Self> {
        let (grpc, tls) = daemon::grpc(&mut root);
        let http = daemon::http(&mut root, grpc.tcp);
        let store = daemon::store(&mut root);
        let keys = daemon::keys(&mut root);
        let (clients, names) = client::clients(&mut root);
        let callers = caller::callers(&mut root, &names);
        let tls = tls::tls(&root, tls, &callers);
        root.finish();
        Some(Self { grpc, tls, http, store: store?, keys: keys?, clients, callers })
    }
}
