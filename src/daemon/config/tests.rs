//! Whole configurations: what is accepted, what is reported, and that nothing secret is ever said.

mod documentation;
mod robust;
mod rules;
mod tls;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::store::{EventLimits, PendingLimits};

/// A token of a caller.
const TOKEN: &str = "0123456789abcdef0123456789abcdef-CANARY";

/// A folder with the secrets that configurations name, and what systemd passes.
struct Host {
    folder: TempDir,
    environment: Environment,
}

impl Host {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let credentials = folder.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        let environment = Environment { credentials_directory: Some(credentials), ..Environment::default() };
        let host = Self { folder, environment };
        let key = MasterKeyText::new(7);
        host.secret("store.key", &key.0);
        host.secret("client_id", "cairl_live_CANARY\n");
        host.secret("test_id", "cairl_test_CANARY\n");
        host.secret("client_secret", "CANARY-secret\r\n");
        host.secret("webhook", "CANARY-webhook");
        host.secret("token", TOKEN);
        host.credential("shop.id", "cairl_test_CANARY\n");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn secret(&self, name: &str, content: &str) {
        self.file(name, content, 0o600);
    }

    fn credential(&self, name: &str, content: &str) {
        self.file(&format!("credentials/{name}"), content, 0o644);
    }

    fn parse(&self, text: &str) -> Result<Config, Problems> {
        Config::parse(text, &self.path("cairld.toml"), &self.environment)
    }

    /// What is said of a text, without the folder.
    fn told(&self, text: &str) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        let problems = self.parse(text).expect_err(text);
        assert_eq!(problems.len(), problems.to_string().lines().count(), "one line each: {problems}");
        assert!(!format!("{problems}{problems:?}").contains("CANARY"), "{problems}");
        problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }

    fn good(&self, text: &str) -> Config {
        self.parse(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
    }
}

/// A master key's text.
struct MasterKeyText(String);

impl MasterKeyText {
    fn new(byte: u8) -> Self {
        Self(crate::store::MasterKey::new([byte; 32]).expose().to_string())
    }
}

/// The least that is a configuration; each section can get further lines.
#[derive(Clone, Copy, Default)]
struct Lines<'l> {
    grpc: &'l str,
    store: &'l str,
    keys: &'l str,
    client: &'l str,
    caller: &'l str,
    end: &'l str,
}

/// A complete configuration in which `lines` take the place of the same keys, or are added.
fn with(lines: Lines<'_>) -> String {
    let section = |header: &str, base: &[&str], lines: &str| {
        let key = |line: &str| line.split([' ', '=']).next().unwrap_or_default().to_owned();
        let replaced: Vec<_> = lines.lines().map(key).collect();
        let kept = base.iter().filter(|line| !replaced.contains(&key(line))).copied();
        let lines = lines.lines().filter(|line| !line.starts_with('-') && !line.is_empty());
        let kept: Vec<_> =
            kept.filter(|line| !replaced.contains(&format!("-{}", key(line)))).chain(lines).collect();
        format!("{header}\n{}\n", kept.join("\n"))
    };
    [
        section("[grpc]", &[r#"unix = "cairld.sock""#], lines.grpc),
        section("[store]", &[r#"path = "cairld.redb""#], lines.store),
        section("[keys]", &[r#"files = ["store.key"]"#], lines.keys),
        section(
            "[[client]]",
            &[
                r#"name = "shop""#,
                r#"base_url = "https://cairl.app""#,
                r#"client_id_file = "client_id""#,
                r#"client_secret_file = "client_secret""#,
                r#"redirect_uris = ["https://shop.example/callback"]"#,
            ],
            lines.client,
        ),
        section(
            "[[caller]]",
            &[r#"name = "checkout""#, "uid = 1001", r#"clients = ["shop"]"#, r#"rpcs = ["*"]"#],
            lines.caller,
        ),
        lines.end.to_owned(),
    ]
    .concat()
}

#[test]
fn the_least_configuration_has_defaults() {
    let host = Host::new();
    let config = host.good(&with(Lines::default()));
    assert_eq!(config.grpc, Grpc { unix: Some(host.path("cairld.sock")), tcp: None, insecure: false });
    assert_eq!(config.http, Http::default());
    let store = StoreConfig {
        path: host.path("cairld.redb"),
        cache_bytes: 64 << 20,
        retention: std::time::Duration::from_secs(86_400),
        events: EventLimits {
            retention: std::time::Duration::from_secs(30 * 86_400),
            bytes: 1 << 30,
            unread_bytes: 4 << 30,
        },
        pending: PendingLimits { caller: 100_000, all: 1_000_000 },
    };
    assert_eq!(config.store, store);
    assert!(config.keys.others.is_empty());
    let [client] = config.clients.as_slice() else { panic!("one client") };
    assert_eq!(client.client_id.expose(), "cairl_live_CANARY");
    assert_eq!(client.api_key.expose(), "cairl_live_CANARY", "the client id, by default");
    assert_eq!(client.client_secret.expose(), "CANARY-secret");
    assert_eq!(client.endpoints.authorize.as_str(), "https://cairl.app/verify/start");
    assert_eq!(client.endpoints.token.as_str(), "https://cairl.app/api/oauth/token");
    assert_eq!(client.endpoints.userinfo.as_str(), "https://cairl.app/api/oauth/userinfo");
    assert_eq!(client.endpoints.revoke.as_str(), "https://cairl.app/api/oauth/revoke");
    assert_eq!(client.endpoints.session.as_str(), "https://cairl.app/api/verify/hvf-session");
    assert_eq!((client.timeouts, client.limits), (Timeouts::default(), Limits::default()));
    assert!(client.require_binding && !client.test_mode, "a live key");
    assert!(!client.share && client.webhook_secrets.is_empty() && client.ca_pem.is_none());
    let [caller] = config.callers.as_slice() else { panic!("one caller") };
    assert_eq!((caller.uid, caller.gid, caller.rpcs.clone()), (Some(1001), None, crate::api::Rpcs::All));
    assert!(!caller.events && !caller.access_token && !caller.admin && caller.token.is_none());
    let printed = format!("{config:?}");
    assert!(!printed.contains("CANARY") && !printed.contains(&MasterKeyText::new(7).0), "{printed}");
}

#[test]
fn everything_can_be_set() {
    let host = Host::new();
    host.secret("second.key", &MasterKeyText::new(8).0);
    host.file("ca.pem", tls::certificate("ca.internal").0, 0o644);
    let config = host.good(&with(Lines {
        grpc: "tcp = \"[::1]:50051\"\ninsecure = true\n",
        store: "cache = \"1GiB\"\nretention = \"365d\"\nbackend = \"redb\"",
        keys: "files = [\"second.key\", \"store.key\"]",
        client: "-client_id_file\nclient_id_credential = \"shop.id\"\napi_key_file = \"token\"\n\
                 webhook_secret_files = [\"webhook\", { file = \"client_secret\", until = \"2026-12-01T00:00:00Z\" }]\nshare = true\nrequire_binding = false\n\
                 base_url = \"http://localhost:8080/cairl/\"\nissuer = \"https://cairl.app\"\n\
                 authorize_params = { response_type = \"code\" }\nca_file = \"ca.pem\"\n\
                 proxy = \"http://proxy.internal:3128\"\nendpoints.token = \"https://id.example/token\"\n\
                 timeouts = { connect = \"1s\", request = \"2s\" }\nlimits = { token_per_minute = 1_000 }",
        caller: "gid = 7\ntoken_file = \"token\"\nrpcs = [\"GetSession\", \"GetAccessToken\", \"GetStatus\"]\n\
                 events = true\naccess_token = true\nadmin = true",
        end: "[http]\nwebhooks = \"0.0.0.0:8980\"\n[[client]]\nname = \"other\"\nbase_url = \"https://cairl.app\"\nclient_id_file = \"test_id\"\n\
              client_secret_file = \"client_secret\"\nredirect_uris = [\"app.example:/cb\"]\n",
    }));
    assert_eq!(config.grpc.tcp, Some("[::1]:50051".parse().unwrap()));
    assert_eq!(config.http.webhooks, Some("0.0.0.0:8980".parse().unwrap()), "any address");
    assert_eq!(config.store.cache_bytes, 1 << 30);
    assert_eq!(config.keys.first.expose().as_str(), MasterKeyText::new(8).0, "the first seals");
    assert_eq!(config.keys.others.len(), 1);
    let [client, other] = config.clients.as_slice() else { panic!("two clients") };
    assert!(client.test_mode && !client.require_binding && client.share);
    assert_eq!(client.api_key.expose(), TOKEN);
    assert_eq!(client.endpoints.token.as_str(), "https://id.example/token");
    assert_eq!(client.endpoints.revoke.as_str(), "http://localhost:8080/cairl/api/oauth/revoke");
    let ends: Vec<_> =
        client.webhook_secrets.iter().map(|secret| secret.until.map(|until| until.as_millis())).collect();
    assert_eq!(ends, [None, Some(1_796_083_200_000)]);
    assert_eq!(client.authorize_params.get("response_type").map(String::as_str), Some("code"));
    assert!(client.ca_pem.is_some() && client.proxy.is_some() && client.issuer.is_some());
    assert_eq!(client.limits, Limits { token_per_minute: 1000, session_per_minute: 60 });
    assert!(other.test_mode && !other.require_binding, "by default for live keys alone");
    let [caller] = config.callers.as_slice() else { panic!("one caller") };
    assert!(caller.token.unwrap().matches(&crate::api::TokenHash::of(TOKEN)));
    assert_eq!(
        caller.rpcs,
        crate::api::Rpcs::Named(["GetAccessToken", "GetSession", "GetStatus"].map(str::to_owned).into())
    );
}

#[test]
fn a_file_is_loaded() {
    let host = Host::new();
    let path = host.path("cairld.toml");
    let told = |path: &Path| load(path, &host.environment).unwrap_err().to_string();
    assert!(told(&path).ends_with("cairld.toml: no such file; name the configuration with --config FILE"));
    host.file("cairld.toml", with(Lines::default()), 0o644);
    assert!(load(&path, &host.environment).is_ok());
    host.file("cairld.toml", b"[grpc]\n# \xff\n", 0o644);
    assert!(told(&path).ends_with("not UTF-8 in line 2; TOML is UTF-8"));
    host.file("cairld.toml", vec![b'\n'; 1024 * 1024 + 1], 0o644);
    assert!(told(&path).ends_with("over 1 MiB; this is no configuration"));
    assert!(told(host.folder.path()).contains("cannot be read"));
}
