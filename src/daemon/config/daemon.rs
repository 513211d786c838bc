//! `[grpc]`, `[http]`, `[store]` and `[keys]`: what the daemon has once.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Sockets,
    secret_file::{self, SecretKeys, plain_path},
    section::Section,
    value::{duration, memory},
};
use crate::store::{EventLimits, KeyRing, MasterKey, PendingLimits};

const KEYS: SecretKeys = SecretKeys { inline: "key", file: "files", credential: "credentials" };
/// Longest path of a Unix socket on Linux, bytes (`sun_path` with its end).
const LONGEST_SOCKET_PATH: usize = 107;

/// Where callers reach the daemon: one of the two at least, bound here or inherited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// The Unix socket's path, up to 107 bytes.
    pub unix: Option<PathBuf>,
    /// The TCP address; of loopback where TCP is plain.
    pub tcp: Option<SocketAddr>,
    /// Whether TCP without TLS was allowed; always where `tcp` is set and has no TLS.
    pub insecure: bool,
}

/// What is served over plain HTTP; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Where webhooks are received. Any address: each webhook is signed, and TLS ends in front of the daemon.
    pub webhooks: Option<SocketAddr>,
    /// Where the daemon is watched: `/livez`, `/readyz`, `/metrics`. Any address; there is no secret in it, and no TLS.
    pub ops: Option<SocketAddr>,
}

/// What is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The redb file.
    pub path: PathBuf,
    /// Memory for cached pages, bytes: 1 MiB to 64 GiB, by default 64 MiB.
    pub cache_bytes: usize,
    /// How long sessions are kept after they expire: 1 minute to 365 days, by default 24 hours.
    pub retention: Duration,
    /// How long events are kept: for 1 hour to 3650 days, by default 30 days, while those of one client take no more than 1
    /// MiB to 64 GiB, by default 1 GiB; what a consumer has not acknowledged longer, up to 4 GiB by default.
    pub events: EventLimits,
    /// How many sessions may be open at a time: 1 to 1,000,000,000, by default 1,000,000, and a tenth of them for each
    /// caller.
    pub pending: PendingLimits,
}

/// The keys that the store is sealed with.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// The key that seals, and opens.
    pub first: MasterKey,
    /// Keys that open only.
    pub others: Vec<MasterKey>,
}

impl Keys {
    /// The key ring for the store.
    pub fn ring(&self) -> KeyRing {
        KeyRing::new(&self.first, &self.others)
    }
}

/// Reads `[grpc]`, but for `tls`, which hangs on how callers are recognised.
pub(super) fn grpc<'d>(root: &mut Section<'d>) -> (Grpc, Option<Section<'d>>) {
    const REMEDY: &str = "say where callers reach the daemon: unix = \"/run/cairld/cairld.sock\", tcp, or cairld.socket for \
                          systemd";
    let mut section = root.table("grpc");
    let (inherited_unix, inherited_tcp, may_inherit) = match section.document().environment().sockets.clone()
    {
        Sockets::Known { unix, tcp } => (unix, tcp, false),
        Sockets::Unknown => (None, None, true),
    };
    if !section.has("tcp") && inherited_unix.is_none() && inherited_tcp.is_none() && !may_inherit {
        section.missing("unix", REMEDY);
    }
    let unix = section.parsed("unix", |text| {
        plain_path(text)?;
        if text.len() > LONGEST_SOCKET_PATH {
            return Err(format!(
                "must be a path of up to {LONGEST_SOCKET_PATH} bytes: no socket's can be longer"
            ));
        }
        Ok(text.to_owned())
    });
    let unix = unix.map(|path| section.document().resolve(&path));
    if let (Some(unix), Some(inherited)) = (&unix, &inherited_unix)
        && !is_same_place(unix, inherited)
    {
        section.problem("unix", contradicts(&inherited.display()));
    }
    let unix = inherited_unix.or(unix);
    let insecure = section.boolean("insecure").unwrap_or(false);
    let tcp = section.parsed("tcp", address);
    if let (Some(tcp), Some(inherited)) = (tcp, inherited_tcp)
        && tcp != inherited
    {
        section.problem("tcp", contradicts(&inherited));
    }
    let has_tcp = section.has("tcp") || inherited_tcp.is_some() || may_inherit;
    let tcp = inherited_tcp.or(tcp);
    let has_tls = section.has("tls");
    let tls = has_tls.then(|| section.table("tls"));
    if has_tls && insecure {
        section.problem("insecure", "is for TCP without TLS; remove it, or remove tls");
    }
    if has_tls && !has_tcp {
        section.problem("tls", "is for TCP: say where with tcp, or remove it");
    }
    if let Some(tcp) = tcp.filter(|_| !has_tls) {
        if !tcp.ip().to_canonical().is_loopback() {
            section.problem(
                "tcp",
                "must be a loopback address, 127.0.0.1 or [::1]: without tls, tokens and claims could be read on the \
                 network",
            );
        }
        if !insecure {
            section.problem(
                "tcp",
                "is TCP without TLS: any process of this host can connect to it, or take its place while cairld is \
                 down; set tls, or insecure = true to accept that, or use unix",
            );
        }
    }
    section.finish();
    (Grpc { unix, tcp, insecure }, tls)
}

fn contradicts(inherited: &dyn std::fmt::Display) -> String {
    format!(
        "is not where systemd listens for it, which is {inherited}; take it out, or have it and ListenStream= in \
         cairld.socket say the same"
    )
}

/// Whether two paths name one file, whichever links they go by.
fn is_same_place(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    whole(one) == whole(other)
}

/// Reads `[http]`; `tcp` is where callers come.
pub(super) fn http(root: &mut Section<'_>, tcp: Option<SocketAddr>) -> Http {
    let mut section = root.table("http");
    let webhooks = section.parsed("webhooks", address);
    let ops = section.parsed("ops", address);
    let mut listeners = vec![("grpc.tcp", tcp)];
    for (key, name, address) in [("webhooks", "http.webhooks", webhooks), ("ops", "http.ops", ops)] {
        let is_taken = |other: &&(_, Option<SocketAddr>)| {
            other.1.zip(address).is_some_and(|(one, two)| overlap(one, two))
        };
        if let Some((other, _)) = listeners.iter().find(is_taken) {
            section.problem(key, format!("is where {other} listens; each needs an address of its own"));
        }
        listeners.push((name, address));
    }
    section.finish();
    Http { webhooks, ops }
}

/// Whether two cannot be listened on at a time: all addresses of a host include each of them, and those of IPv6 those of IPv4
/// too, unless the host says otherwise. Port 0 is a free one each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let includes = |all: IpAddr, of: IpAddr| all.is_unspecified() && (all.is_ipv6() || of.is_ipv4());
    one.port() != 0 && one.port() == other.port() && (a == b || includes(a, b) || includes(b, a))
}

/// Where something listens.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an IP address and a port, such as \"127.0.0.1:50051\"".to_owned())
}

pub(super) fn store(root: &mut Section<'_>) -> Option<StoreConfig> {
    const REMEDY: &str = "say where sessions are kept, such as \"/var/lib/cairld/cairld.redb\"";
    let mut section = root.table("store");
    let _ = section.parsed("backend", |text| {
        if text == "redb" { Ok(()) } else { Err("must be \"redb\", the only backend".to_owned()) }
    });
    section.missing("path", REMEDY);
    let path = section.parsed("path", |text| plain_path(text).map(|()| text.to_owned()));
    let path = path.map(|path| section.document().resolve(&path));
    let cache_bytes = section.parsed("cache", memory);
    let retention = section.parsed("retention", |text| {
        duration(text, Duration::from_secs(60), Duration::from_secs(365 * 86_400), "24h")
    });
    let events = event_limits(&mut section);
    let pending = section.integer("pending_sessions", 1, 1_000_000_000);
    section.finish();
    Some(StoreConfig {
        path: path?,
        events,
        pending: pending.map_or_else(PendingLimits::default, |all| PendingLimits::of_all(all.into())),
        cache_bytes: cache_bytes.unwrap_or(64 << 20),
        retention: retention.unwrap_or(Duration::from_secs(86_400)),
    })
}

fn event_limits(section: &mut Section<'_>) -> EventLimits {
    const DAY: u64 = 86_400;
    let retention = section.parsed("event_retention", |text| {
        duration(text, Duration::from_secs(3600), Duration::from_secs(3650 * DAY), "30d")
    });
    let bytes = section.parsed("event_size", memory).map_or(1 << 30, |bytes| bytes as u64);
    let unread_bytes = section.parsed("unread_event_size", memory).map(|bytes| bytes as u64);
    if unread_bytes.is_some_and(|unread| unread < bytes) {
        section
            .problem("unread_event_size", "must be no less than event_size: it is for what is kept longer");
    }
    EventLimits {
        retention: retention.unwrap_or(Duration::from_secs(30 * DAY)),
        bytes,
        unread_bytes: unread_bytes.unwrap_or(4 * bytes),
    }
}

pub(super) fn keys(root: &mut Section<'_>) -> Option<Keys> {
    const REMEDY: &str = "name one key file at least (`cairld keygen` makes one), or a systemd credential with \
                          credentials";
    let mut section = root.table("keys");
    section.refuse("keys", "secrets are files: name key files in files");
    if !section.has(KEYS.credential) {
        section.missing_or_empty(KEYS.file, REMEDY);
    } else {
        section.missing_or_empty(KEYS.credential, REMEDY);
    }
    let mut keys = Vec::new();
    for secret in secret_file::list(&mut section, KEYS) {
        match MasterKey::parse(&secret.text) {
            Ok(key) => keys.push(key),
            Err(error) => {
                section.document().problem(&secret.at, format!("{}: {error}", secret.path.display()));
            }
        }
    }
    section.finish();
    let mut keys = keys.into_iter();
    Some(Keys { first: keys.next()?, others: keys.collect() })
}
