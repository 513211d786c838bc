//! `[[caller]]`: who may ask the daemon, and for what.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::{
    problem::{nearest, shown},
    secret_file::{self, Secret, SecretKeys},
    section::Section,
};
use crate::{
    api::{CallerLimits, Rpcs, San, TokenHash, proto::FILE_DESCRIPTOR_SET},
    domain::{CallerName, ClientName},
};

const TOKEN: SecretKeys = SecretKeys { inline: "token", file: "token_file", credential: "token_credential" };
/// Fewest characters of a token: 192 bits where they are drawn from base64.
const SHORTEST_TOKEN: usize = 32;
/// The service that is for callers with `admin = true` alone.
const ADMIN_SERVICE: &str = "AdminService";
/// The RPC that is for callers with `access_token = true` alone.
const ACCESS_TOKEN_RPC: &str = "GetAccessToken";

/// A service that may ask the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Its name; unique.
    pub name: CallerName,
    /// The user id that it has on a Unix socket; `gid` must fit too where both are set.
    pub uid: Option<u32>,
    /// The group id that it has on a Unix socket; `uid` must fit too where both are set.
    pub gid: Option<u32>,
    /// Hash of its bearer token.
    pub token: Option<TokenHash>,
    /// A name in its certificate, over TLS.
    pub san: Option<San>,
    /// The clients that it may use; each is configured. May be empty for an `admin`.
    pub clients: BTreeSet<ClientName>,
    /// What it may ask for.
    pub rpcs: Rpcs,
    /// Whether it sees events that belong to no session.
    pub events: bool,
    /// Whether it may have access tokens.
    pub access_token: bool,
    /// Whether it may use the `AdminService`.
    pub admin: bool,
    /// How much it may have at a time.
    pub limits: CallerLimits,
}

impl Caller {
    /// Whether every peer that is `other` is this caller too.
    fn covers(&self, other: &Self) -> bool {
        let fits = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
        (self.uid.is_some() || self.gid.is_some()) && fits(self.uid, other.uid) && fits(self.gid, other.gid)
    }
}

/// Reads the callers. `clients` are the names that they may refer to.
pub(super) fn callers(root: &mut Section<'_>, clients: &BTreeSet<ClientName>) -> Vec<Caller> {
    let sections = root.tables("caller");
    if sections.is_empty() {
        root.missing("caller", "name at least one service that may ask the daemon under [[caller]]");
    }
    let methods = methods();
    let mut names = BTreeSet::new();
    let mut callers = Vec::new();
    for section in sections {
        if let Some(caller) = caller(section, clients, &methods, &mut names, &callers) {
            callers.push(caller);
        }
    }
    callers
}

fn caller(
    mut section: Section<'_>,
    clients: &BTreeSet<ClientName>,
    methods: &BTreeMap<String, bool>,
    names: &mut BTreeSet<CallerName>,
    earlier: &[Caller],
) -> Option<Caller> {
    let name = section
        .parsed("name", |text| CallerName::parse(text).map_err(|must_be| format!("must be {must_be}")));
    section.missing("name", "give the caller a name, such as \"checkout\"");
    if let Some(name) = &name
        && !names.insert(name.clone())
    {
        section.problem("name", "another [[caller]] has this name; choose a different one");
    }
    // The highest number means "nobody" to the operating system.
    let uid = section.integer("uid", 0, u32::MAX - 1);
    let gid = section.integer("gid", 0, u32::MAX - 1);
    let token = secret_file::optional(&mut section, TOKEN).and_then(|secret| token(&section, &secret));
    let san = section.parsed("san", |text| San::parse(text).map_err(|must_be| format!("must be {must_be}")));
    let ways = ["uid", "gid", TOKEN.inline, TOKEN.file, TOKEN.credential, "san"];
    if !ways.iter().any(|key| section.has(key)) {
        section.problem(
            "uid",
            "no way to recognise this caller: give uid, gid, san, token_file or token_credential",
        );
    }
    let events = section.boolean("events").unwrap_or(false);
    let access_token = section.boolean("access_token").unwrap_or(false);
    let admin = section.boolean("admin").unwrap_or(false);
    let clients = granted_clients(&mut section, clients, admin);
    let rpcs = rpcs(&mut section, methods, admin, access_token);
    let limits = limits(section.table("limits"));
    let caller = name.zip(rpcs).map(|(name, rpcs)| Caller {
        name,
        uid,
        gid,
        token,
        san,
        clients,
        rpcs,
        events,
        access_token,
        admin,
        limits,
    });
    if let Some(caller) = &caller {
        refuse_twins(&section, caller, earlier);
    }
    section.finish();
    caller
}

fn token(section: &Section<'_>, secret: &Secret) -> Option<TokenHash> {
    if secret.text.len() >= SHORTEST_TOKEN && secret.text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(TokenHash::of(&secret.text));
    }
    let message = format!(
        "{}: a token must be {SHORTEST_TOKEN} characters or more of printable ASCII without spaces; `openssl rand \
         -base64 32` makes a good one",
        secret.path.display()
    );
    section.document().problem(&secret.at, message);
    None
}

/// Reports callers that could not be told apart.
fn refuse_twins(section: &Section<'_>, caller: &Caller, earlier: &[Caller]) {
    let key = if caller.uid.is_some() { "uid" } else { "gid" };
    let named = caller.uid.is_some() || caller.gid.is_some();
    if let Some(other) = earlier.iter().find(|other| named && other.covers(caller)) {
        let same = (other.uid, other.gid) == (caller.uid, caller.gid);
        let message = if same {
            format!("caller \"{}\" has the same uid and gid; each caller needs its own", other.name)
        } else {
            format!(
                "caller \"{}\" fits all that this one fits, and the first that fits is meant; move this one above it",
                other.name
            )
        };
        section.problem(key, message);
    }
    if let Some(other) = earlier.iter().find(|other| caller.san.is_some() && other.san == caller.san) {
        let message = format!("caller \"{}\" has the same name; each caller needs its own", other.name);
        section.problem("san", message);
    }
    let same_token =
        |other: &&Caller| matches!((&other.token, &caller.token), (Some(a), Some(b)) if a.matches(b));
    if let Some(other) = earlier.iter().find(same_token) {
        let key = if section.has(TOKEN.file) { TOKEN.file } else { TOKEN.credential };
        section
            .problem(key, format!("caller \"{}\" has the same token; each caller needs its own", other.name));
    }
}

fn granted_clients(
    section: &mut Section<'_>,
    known: &BTreeSet<ClientName>,
    admin: bool,
) -> BTreeSet<ClientName> {
    const REMEDY: &str = "name the clients that this caller may use, such as [\"shop\"]";
    let found = section.strings("clients");
    if !admin {
        section.missing_or_empty("clients", REMEDY);
    }
    let mut granted = BTreeSet::new();
    for item in found.into_iter().flatten() {
        let name = ClientName::parse(item.value).ok().filter(|name| known.contains(name));
        if let Some(name) = name {
            granted.insert(name);
            continue;
        }
        let names: Vec<_> = known.iter().map(ClientName::as_str).collect();
        let remedy = match nearest(item.value, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if names.is_empty() => "none is configured; add it under [[client]]".to_owned(),
            None => format!("configured: {}", names.join(", ")),
        };
        let message = format!("no [[client]] is named {}; {remedy}", shown(item.value));
        section.document().problem(&item.at, message);
    }
    granted
}

fn rpcs(
    section: &mut Section<'_>,
    methods: &BTreeMap<String, bool>,
    admin: bool,
    access_token: bool,
) -> Option<Rpcs> {
    const REMEDY: &str = "name what this caller may ask for, such as [\"StartAuthorization\", \
                          \"CompleteAuthorization\"], or [\"*\"] for all";
    section.missing_or_empty("rpcs", REMEDY);
    let found = section.strings("rpcs")?;
    let all = found.iter().any(|item| item.value == "*");
    if all && found.len() > 1 {
        section.problem("rpcs", "\"*\" is all of them: let it stand alone, or remove it");
    }
    let mut named = BTreeSet::new();
    for item in found.iter().filter(|item| item.value != "*") {
        let message = match methods.get(item.value) {
            Some(true) if !admin => "is of the AdminService: set admin = true too, or remove it".to_owned(),
            Some(_) if item.value == ACCESS_TOKEN_RPC && !access_token => {
                "hands out access tokens: set access_token = true too, or remove it".to_owned()
            }
            Some(_) => {
                named.insert(item.value.to_owned());
                continue;
            }
            None => {
                let known = methods.keys().map(String::as_str);
                let remedy = match nearest(item.value, known.clone()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
                };
                format!("no RPC is named {}; {remedy}", shown(item.value))
            }
        };
        section.document().problem(&item.at, message);
    }
    Some(if all { Rpcs::All } else { Rpcs::Named(named) })
}

fn limits(mut section: Section<'_>) -> CallerLimits {
    let default = CallerLimits::default();
    let mut limit = |key, most, default| section.integer(key, 1, most).unwrap_or(default);
    let limits = CallerLimits {
        concurrent_calls: limit("concurrent_calls", 100_000, default.concurrent_calls),
        streams: limit("streams", 1_000_000, default.streams),
        pending_sessions: section.integer("pending_sessions", 1, 1_000_000_000),
    };
    section.finish();
    limits
}

/// The contract's RPCs, and whether each is the administrators'.
fn methods() -> BTreeMap<String, bool> {
    let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let services = files.file.into_iter().flat_map(|file| file.service);
    let methods = services.flat_map(|service| {
        let admin = service.name() == ADMIN_SERVICE;
        service.method.into_iter().map(move |method| (method.name().to_owned(), admin))
    });
    methods.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_names_its_methods() {
        let methods = methods();
        assert_eq!(methods.get("StartAuthorization"), Some(&false));
        assert_eq!(methods.get(ACCESS_TOKEN_RPC), Some(&false));
        assert_eq!(methods.get("GetStatus"), Some(&true));
    }
}
