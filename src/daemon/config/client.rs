//! `[[client]]`: what the daemon is at the provider.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use url::Url;

use super::{
    address,
    certificates::roots,
    secret_file::{self, Secret, SecretKeys},
    section::Section,
    value::duration,
};
use crate::domain::{ApiKey, ClientName, ClientSecret, SigningSecret, WebhookSecret};

/// Parameters of the authorization URL that the daemon sets.
const OWN_PARAMETERS: [&str; 6] =
    ["client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method"];
/// What keys of the provider's test mode begin with.
const TEST_KEY: &str = "cairl_test_";
/// What keys for real users begin with.
const LIVE_KEY: &str = "cairl_live_";

const CLIENT_ID: SecretKeys =
    SecretKeys { inline: "client_id", file: "client_id_file", credential: "client_id_credential" };
const CLIENT_SECRET: SecretKeys = SecretKeys {
    inline: "client_secret",
    file: "client_secret_file",
    credential: "client_secret_credential",
};
const API_KEY: SecretKeys =
    SecretKeys { inline: "api_key", file: "api_key_file", credential: "api_key_credential" };
const WEBHOOK_SECRETS: SecretKeys = SecretKeys {
    inline: "webhook_secrets",
    file: "webhook_secret_files",
    credential: "webhook_secret_credentials",
};

/// One registration with the provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its name; unique.
    pub name: ClientName,
    /// The provider: `https`, or plain `http` to a loopback host; no user, query or fragment.
    pub base_url: Url,
    /// Where each of the provider's endpoints is.
    pub endpoints: Endpoints,
    /// The OAuth client id, printable ASCII without spaces.
    pub client_id: ApiKey,
    /// The OAuth client secret.
    pub client_secret: ClientSecret,
    /// The key for session queries, printable ASCII without spaces. By default the client id.
    pub api_key: ApiKey,
    /// What webhooks may be signed with, each until its end; may be empty.
    pub webhook_secrets: Vec<SigningSecret>,
    /// Where the provider may send browsers back to, byte for byte; at least one, absolute, without fragment.
    pub redirect_uris: Vec<String>,
    /// Whether a start without a binding is refused. By default for live keys alone.
    pub require_binding: bool,
    /// Whether its callers see each other's sessions.
    pub share: bool,
    /// What a callback's `iss` must equal (RFC 9207), where set.
    pub issuer: Option<String>,
    /// Whether the provider is told which trace a request belongs to.
    pub pass_trace: bool,
    /// Further fixed parameters of the authorization URL; none that the daemon sets itself.
    pub authorize_params: BTreeMap<String, String>,
    /// Whether the client id is a test key (`cairl_test_…`).
    pub test_mode: bool,
    /// Further root certificates to trust, PEM; at least one certificate where present.
    pub ca_pem: Option<Vec<u8>>,
    /// The proxy to use: `http` or `https`, host and port alone.
    pub proxy: Option<Url>,
    /// How long the provider may take.
    pub timeouts: Timeouts,
    /// How much the provider takes.
    pub limits: Limits,
}

/// The provider's endpoints, complete. None has a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where browsers are sent.
    pub authorize: Url,
    /// Exchanges codes.
    pub token: Url,
    /// Tells the claims.
    pub userinfo: Url,
    /// Revokes tokens (RFC 7009).
    pub revoke: Url,
    /// Tells how a session is; `/` and its id come behind.
    pub session: Url,
}

/// How long requests to the provider may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, 10 ms to 1 minute; 5 s by default.
    pub connect: Duration,
    /// For the whole request with its answer, 10 ms to 5 minutes; 30 s by default. No less than `connect`.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: Duration::from_secs(30) }
    }
}

/// How many requests the provider takes from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token requests in any 60 seconds, 1 to 6000; 30 by default.
    pub token_per_minute: u32,
    /// Session queries in any 60 seconds, 1 to 6000; 60 by default.
    pub session_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { token_per_minute: 30, session_per_minute: 60 }
    }
}

/// Reads the clients. The names are those of all sections, whether the rest of a section is right or not.
pub(super) fn clients(root: &mut Section<'_>) -> (Vec<Client>, BTreeSet<ClientName>) {
    let sections = root.tables("client");
    if sections.is_empty() {
        root.missing("client", "name at least one registration with the provider under [[client]]");
    }
    let mut names = BTreeSet::new();
    let clients = sections.into_iter().filter_map(|section| client(section, &mut names)).collect();
    (clients, names)
}

fn client(mut section: Section<'_>, names: &mut BTreeSet<ClientName>) -> Option<Client> {
    let name = section
        .parsed("name", |text| ClientName::parse(text).map_err(|must_be| format!("must be {must_be}")));
    section.missing("name", "give the client a name, by which callers ask for it, such as \"shop\"");
    if let Some(name) = &name
        && !names.insert(name.clone())
    {
        section.problem("name", "another [[client]] has this name; choose a different one");
    }
    let base_url = section.parsed("base_url", address::secure);
    section.missing("base_url", "give the provider's address, such as \"https://cairl.app\"");
    let endpoints = endpoints(section.table("endpoints"), base_url.as_ref());
    let client_id =
        secret_file::required(&mut section, CLIENT_ID).and_then(|secret| api_key(&section, &secret));
    let client_secret = secret_file::required(&mut section, CLIENT_SECRET);
    let api_key = secret_file::optional(&mut section, API_KEY).and_then(|secret| api_key(&section, &secret));
    section.refuse("webhook_secret", "secrets are files: name them in webhook_secret_files");
    let webhook_secrets = secret_file::list_with_ends(&mut section, WEBHOOK_SECRETS);
    let redirect_uris = redirect_uris(&mut section);
    let require_binding = section.boolean("require_binding");
    let share = section.boolean("share");
    let issuer = section.parsed("issuer", |text| address::secure(text).map(|_| text.to_owned()));
    let pass_trace = section.boolean("pass_trace");
    let authorize_params = authorize_params(&mut section);
    let ca = roots(&mut section, "ca_file", "root certificates");
    let proxy = section.parsed("proxy", address::proxy);
    let timeouts = timeouts(section.table("timeouts"));
    let limits = limits(section.table("limits"));
    section.finish();

    let client_id = client_id?;
    let key = client_id.expose();
    Some(Client {
        name: name?,
        base_url: base_url?,
        endpoints: endpoints?,
        client_secret: ClientSecret::new(client_secret?.text.as_str()),
        api_key: api_key.unwrap_or_else(|| client_id.clone()),
        webhook_secrets: webhook_secrets
            .iter()
            .map(|(secret, until)| SigningSecret {
                secret: WebhookSecret::new(secret.text.as_str()),
                until: *until,
            })
            .collect(),
        redirect_uris,
        require_binding: require_binding.unwrap_or_else(|| key.starts_with(LIVE_KEY)),
        share: share.unwrap_or(false),
        issuer,
        pass_trace: pass_trace.unwrap_or(true),
        authorize_params,
        test_mode: key.starts_with(TEST_KEY),
        ca_pem: ca.map(|(given, _)| given.pem),
        proxy,
        timeouts,
        limits,
        client_id,
    })
}

/// A key goes into headers and addresses.
fn api_key(section: &Section<'_>, secret: &Secret) -> Option<ApiKey> {
    if secret.text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(ApiKey::new(secret.text.as_str()));
    }
    let message = format!("{}: must hold printable ASCII without spaces", secret.path.display());
    section.document().problem(&secret.at, message);
    None
}

fn endpoints(mut section: Section<'_>, base: Option<&Url>) -> Option<Endpoints> {
    // Without a base, paths are still checked against some other, so that all is said at once.
    let stand_in = Url::parse("https://provider.invalid").ok();
    let mut endpoint = |key, default: &str| {
        let base = base.or(stand_in.as_ref())?;
        let given = section.has(key);
        let url = section.parsed(key, |text| address::endpoint(base, text));
        if given { url } else { address::endpoint(base, default).ok() }
    };
    let authorize = endpoint("authorize", "/verify/start");
    let token = endpoint("token", "/api/oauth/token");
    let userinfo = endpoint("userinfo", "/api/oauth/userinfo");
    let revoke = endpoint("revoke", "/api/oauth/revoke");
    let session = endpoint("session", "/api/verify/hvf-session");
    section.finish();
    Some(Endpoints {
        authorize: authorize?,
        token: token?,
        userinfo: userinfo?,
        revoke: revoke?,
        session: session?,
    })
}

fn redirect_uris(section: &mut Section<'_>) -> Vec<String> {
    const REMEDY: &str = "give at least one address that the provider may send browsers back to, such as \
                          [\"https://shop.example/callback\"]";
    section.missing_or_empty("redirect_uris", REMEDY);
    let mut uris = Vec::new();
    for uri in section.strings("redirect_uris").into_iter().flatten() {
        match address::redirect_uri(uri.value) {
            Ok(uri) if !uris.contains(&uri) => uris.push(uri),
            Ok(_) => section.document().problem(&uri.at, "is given twice; remove one"),
            Err(message) => section.document().problem(&uri.at, message),
        }
    }
    uris
}

fn authorize_params(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let mut params = BTreeMap::new();
    for (name, found) in section.map("authorize_params") {
        if name.is_empty() {
            section.document().problem(&found.at, "a parameter needs a name");
        } else if OWN_PARAMETERS.contains(&name) {
            section.document().problem(&found.at, "cairld sets this parameter itself; remove it");
        } else {
            params.insert(name.to_owned(), found.value.to_owned());
        }
    }
    params
}

fn timeouts(mut section: Section<'_>) -> Timeouts {
    const LEAST: Duration = Duration::from_millis(10);
    let default = Timeouts::default();
    let connect = section.parsed("connect", |text| duration(text, LEAST, Duration::from_secs(60), "5s"));
    let request = section.parsed("request", |text| duration(text, LEAST, Duration::from_secs(300), "30s"));
    let timeouts =
        Timeouts { connect: connect.unwrap_or(default.connect), request: request.unwrap_or(default.request) };
    if timeouts.connect > timeouts.request {
        let key = if request.is_some() { "request" } else { "connect" };
        section.problem(key, "connecting is part of the request: request must be no less than connect");
    }
    section.finish();
    timeouts
}

fn limits(mut section: Section<'_>) -> Limits {
    // Each slot is a part of the budget's record, which every request writes.
    const MOST: u32 = 6000;
    let default = Limits::default();
    let token = section.integer("token_per_minute", 1, MOST);
    let session = section.integer("session_per_minute", 1, MOST);
    section.finish();
    Limits {
        token_per_minute: token.unwrap_or(default.token_per_minute),
        session_per_minute: session.unwrap_or(default.session_per_minute),
    }
}
