//! A sandbox of the provider, a real daemon beside it, and clients of both.

mod authority;
mod daemon;
mod disk;
mod grpc;
pub mod http;
mod provider;
mod store;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use cairld::api::proto::{
    CompleteAuthorizationRequest, Session, StartAuthorizationRequest, StartAuthorizationResponse,
    complete_authorization_request::Callback,
};
use tempfile::TempDir;
use tonic::Status;

pub use self::{
    authority::{Authority, Issued},
    daemon::{Daemon, cairlctl, cairld, cairld_with, output, read_until, send_signal},
    disk::Disk,
    grpc::{Client, Refused, refused},
    provider::{CLIENT_ID, Provider, parameter},
    store::fill,
};

pub const REDIRECT_URI: &str = "http://127.0.0.1:8910/callback";
pub const WEBHOOK_SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";
/// How long something may take that surely happens; only what is broken takes so long.
pub const SURELY: Duration = Duration::from_secs(60);
/// Token of the caller `checkout`.
pub const CHECKOUT: &str = "tok_checkout_0123456789abcdef0123456789";
/// Token of the caller `other`, who may use the same client and sees nothing of `checkout`'s.
pub const OTHER: &str = "tok_other_0123456789abcdef0123456789abcd";
/// Token of the caller `reader`, who may only call GetSession.
pub const READER: &str = "tok_reader_0123456789abcdef0123456789abc";

/// A sandbox and the folder of a daemon that uses it.
pub struct World {
    pub provider: Provider,
    folder: TempDir,
}

impl World {
    /// A sandbox that knows the client `shop`, and a configuration for a daemon.
    pub async fn new() -> Self {
        Self::beside(Provider::start().await)
    }

    /// The same beside a sandbox, and for a daemon, that no limit holds up.
    pub async fn unlimited() -> Self {
        let world = Self::beside(Provider::unlimited().await);
        let limits = "limits = { token_per_minute = 6000, session_per_minute = 6000 }\n";
        let text = world.config_text().replace("timeouts = ", &format!("{limits}timeouts = "));
        fs::write(world.config(), text).unwrap();
        world
    }

    fn beside(provider: Provider) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { provider, folder };
        for (name, text) in [
            ("store.key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="),
            ("client.id", provider::CLIENT_ID),
            ("client.secret", provider::CLIENT_SECRET),
            ("webhook.secret", WEBHOOK_SECRET),
            ("checkout.token", CHECKOUT),
            ("other.token", OTHER),
            ("reader.token", READER),
        ] {
            world.write_secret(name, text);
        }
        fs::write(world.config(), world.config_text()).unwrap();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("cairld.toml")
    }

    pub fn config_text(&self) -> String {
        format!(
            r#"
[grpc]
unix = "cairld.sock"
tcp = "127.0.0.1:0"
insecure = true

[http]
webhooks = "127.0.0.1:0"
ops = "127.0.0.1:0"

[store]
path = "cairld.redb"

[keys]
files = ["store.key"]

[[client]]
name = "shop"
base_url = "{base_url}"
client_id_file = "client.id"
client_secret_file = "client.secret"
webhook_secret_files = ["webhook.secret"]
redirect_uris = ["{REDIRECT_URI}"]
timeouts = {{ connect = "20s", request = "30s" }}

[[caller]]
name = "checkout"
uid = {uid}
token_file = "checkout.token"
clients = ["shop"]
rpcs = ["*"]
access_token = true
admin = true

[[caller]]
name = "other"
token_file = "other.token"
clients = ["shop"]
rpcs = ["*"]

[[caller]]
name = "reader"
token_file = "reader.token"
clients = ["shop"]
rpcs = ["GetSession"]
"#,
            base_url = self.provider.url(),
            uid = rustix::process::geteuid().as_raw(),
        )
    }

    /// Lets a request end after two seconds, for a provider that hangs, before a daemon is started.
    pub fn impatient(&self) {
        let text = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), text.replace("\"20s\", request = \"30s\"", "\"2s\", request = \"2s\""))
            .unwrap();
    }

    /// Lets `checkout` see events of no session, before a daemon is started.
    pub fn show_all_events(&self) {
        let text = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), text.replacen("admin = true", "admin = true\nevents = true", 1)).unwrap();
    }

    /// Sets the client's limits, before a daemon is started.
    pub fn limit(&self, token_per_minute: u32, session_per_minute: u32) {
        let limits = format!(
            "limits = {{ token_per_minute = {token_per_minute}, session_per_minute = {session_per_minute} }}\ntimeouts ="
        );
        fs::write(self.config(), self.config_text().replace("timeouts =", &limits)).unwrap();
    }

    /// The text of a secret's file.
    pub fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap().trim().to_owned()
    }

    pub fn write_secret(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A daemon that is ready.
    pub fn daemon(&self) -> Daemon {
        Daemon::start(&self.config())
    }

    /// A session whose user has approved: its id and the callback URL.
    pub async fn approved(&self, client: &mut Client) -> (String, String) {
        let started = client.started().await;
        let callback = self.provider.approve(&started.authorization_url).await;
        (started.session.unwrap().id, callback)
    }

    /// A client over the Unix socket, recognised by its user id as `checkout`.
    pub async fn unix(&self) -> Client {
        Client::unix(&self.path("cairld.sock"), None).await
    }
}

/// A start with one scope.
pub fn start_request() -> StartAuthorizationRequest {
    StartAuthorizationRequest { scopes: vec!["age_18_plus".into()], ..StartAuthorizationRequest::default() }
}

/// A completion with a callback URL.
pub fn complete_request(callback_url: impl Into<String>) -> CompleteAuthorizationRequest {
    CompleteAuthorizationRequest {
        callback: Some(Callback::CallbackUrl(callback_url.into())),
        binding: String::new(),
    }
}

impl Client {
    pub async fn started(&mut self) -> StartAuthorizationResponse {
        self.start(start_request()).await.unwrap()
    }

    pub async fn started_for(&mut self, client: &str) -> StartAuthorizationResponse {
        let start = StartAuthorizationRequest { client: client.into(), ..start_request() };
        self.start(start).await.unwrap()
    }

    pub async fn completed(&mut self, callback_url: &str) -> Result<Session, Status> {
        self.complete(complete_request(callback_url)).await
    }
}

/// The signature header of a webhook body.
pub fn signature(body: &[u8]) -> String {
    signature_by(WEBHOOK_SECRET, body)
}

/// The same with another secret.
pub fn signature_by(secret: &str, body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let digest = mac.chain_update(body).finalize().into_bytes();
    format!("sha256={}", data_encoding::HEXLOWER.encode(&digest))
}

/// What a path holds, searched for bytes.
pub fn contains(path: &Path, needle: &[u8]) -> bool {
    fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
}
