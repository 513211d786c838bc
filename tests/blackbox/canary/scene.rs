//! A daemon all of whose secrets are known, and callers that keep all that they hear.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use cairld::api::proto::{
    ExplainSessionRequest, ExplainSessionResponse, Session, StartAuthorizationRequest,
    StartAuthorizationResponse,
};
use prost::Message;
use tokio::net::TcpSocket;
use tonic::{Request, Response, Status, metadata::KeyAndValueRef};

use super::{
    provider::Scripted,
    search::{Canaries, Canary},
};
use crate::support::{Client, Daemon, REDIRECT_URI, World, cairld, complete_request, refused, start_request};

/// Where a secret could turn up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line on standard error: log, panic, or what a command has to say.
    Log,
    /// Standard output of the daemon or of a command.
    Output,
    /// Arguments and environment of the process.
    Process,
    /// A status: message, details, trailers.
    Refusal,
    /// What a start answers.
    Start,
    /// A session, in whatever answer.
    Session,
    /// The history of a session and the next step.
    Timeline,
    /// `GetStatus`.
    Status,
    /// `GetAccessToken`.
    Token,
    /// An event, in whatever answer.
    Event,
    /// What the webhook listener answers: head and body.
    Http,
    /// A file that the daemon made.
    File,
}

/// A place, which one it is, and its bytes.
pub type Heard = (Place, String, Vec<u8>);

/// A session under way.
pub struct Flow {
    pub id: String,
    pub state: String,
    pub code: String,
    pub callback: String,
    pub binding: String,
    pub provider_session: String,
}

/// A scripted provider, a folder, and what was heard.
pub struct Scene {
    pub world: World,
    pub provider: Scripted,
    pub secrets: Arc<Canaries>,
    pub callers: [String; 4],
    heard: Mutex<Vec<Heard>>,
    reasons: Mutex<BTreeSet<String>>,
}

impl Scene {
    pub async fn new() -> Self {
        let world = World::new().await;
        let secrets = Arc::new(Canaries::default());
        let provider = Scripted::start(Arc::clone(&secrets)).await;
        let mut key = [0; 32];
        getrandom::fill(&mut key).unwrap();
        let key_text = data_encoding::BASE64.encode(&key);
        secrets.add(Canary::MasterKey, &key);
        secrets.add(Canary::MasterKey, key_text.as_bytes());
        world.write_secret("store.key", &key_text);
        let id = format!("cairl_test_{}", secrets.fresh(Canary::ClientId));
        world.write_secret("client.id", &id);
        let callers = ["checkout.token", "other.token", "reader.token", "nobody.token"].map(|file| {
            let token = secrets.fresh(Canary::CallerToken);
            world.write_secret(file, &token);
            token
        });
        for (file, kind) in [
            ("client.secret", Canary::ClientSecret),
            ("api.key", Canary::ApiKey),
            ("webhook.secret", Canary::WebhookSecret),
            ("webhook.old", Canary::WebhookSecret),
        ] {
            world.write_secret(file, &secrets.fresh(kind));
        }
        // Bound and not listening: nobody else gets the port, and connections to it are refused.
        let bound = TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nowhere = bound.local_addr().unwrap();
        let shop = world.config_text().replace(world.provider.url(), &provider.url).replace(
            "timeouts = { connect = \"20s\", request = \"30s\" }",
            "api_key_file = \"api.key\"\nlimits = { token_per_minute = 6000, session_per_minute = 6000 }\n\
             timeouts = { connect = \"10s\", request = \"10s\" }",
        );
        let shop = shop.replace("[\"webhook.secret\"]", "[\"webhook.secret\", \"webhook.old\"]");
        let section = &shop[shop.find("[[client]]").unwrap()..shop.find("[[caller]]").unwrap()];
        // The same client behind a provider that is not there.
        let gone = section
            .replace("\"shop\"", "\"gone\"")
            .replace(&provider.url, &format!("http://{nowhere}"))
            .replace("timeouts", "issuer = \"https://issuer.example\"\ntimeouts");
        let config = shop
            .replacen("[[caller]]", &format!("{gone}[[caller]]"), 1)
            .replace(r#"clients = ["shop"]"#, r#"clients = ["shop", "gone"]"#)
            .replacen("admin = true", "admin = true\nevents = true", 1);
        fs::write(world.config(), config).unwrap();
        Self { world, provider, secrets, callers, heard: Mutex::default(), reasons: Mutex::default() }
    }

    /// A daemon that says all it can, its standard output in a file.
    pub fn daemon(&self, log: &str) -> Daemon {
        self.daemon_by(cairld(), log)
    }

    pub fn daemon_by(&self, mut command: Command, log: &str) -> Daemon {
        let stdout = fs::File::options().append(true).create(true).open(self.world.path("stdout")).unwrap();
        command.env("RUST_LOG", log).env("RUST_BACKTRACE", "full").stdout(Stdio::from(stdout));
        let daemon = Daemon::start_by(command, &self.world.config());
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{}/{file}", daemon.pid());
            self.hear(Place::Process, &path, fs::read(&path).unwrap());
        }
        daemon
    }

    /// The caller of that number, over TCP: its token crosses the wire.
    pub async fn caller(&self, daemon: &Daemon, number: usize) -> Client {
        Client::tcp(daemon.tcp(), Some(&self.callers[number])).await
    }

    pub fn hear(&self, place: Place, what: &str, bytes: impl Into<Vec<u8>>) {
        lock(&self.heard).push((place, what.to_owned(), bytes.into()));
    }

    /// Keeps what an answer says.
    pub fn note<T: Message>(&self, place: Place, what: &str, answer: &Result<T, Status>) {
        match answer {
            Ok(message) => self.hear(place, what, message.encode_to_vec()),
            Err(status) => self.note_refusal(what, status),
        }
    }

    pub fn note_refusal(&self, what: &str, status: &Status) {
        let mut bytes = [status.message().as_bytes(), b"\n", status.details(), b"\n"].concat();
        for entry in status.metadata().iter() {
            let (name, value) = match entry {
                KeyAndValueRef::Ascii(name, value) => (name.to_string(), value.as_encoded_bytes().to_vec()),
                KeyAndValueRef::Binary(name, value) => (name.to_string(), value.to_bytes().unwrap().to_vec()),
            };
            let decoded = percent_encoding::percent_decode(&value).collect::<Vec<_>>();
            bytes.extend([name.as_bytes(), b": ", &value, b"\n", &decoded, b"\n"].concat());
        }
        self.hear(Place::Refusal, what, bytes);
        lock(&self.reasons).insert(refused(Err::<(), _>(status.clone())).reason);
    }

    /// The reasons that callers have heard.
    pub fn reasons(&self) -> BTreeSet<String> {
        lock(&self.reasons).clone()
    }

    pub fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut lock(&self.heard))
    }

    /// A start all of whose values are secrets.
    pub fn start_with(&self, binding: &str) -> StartAuthorizationRequest {
        StartAuthorizationRequest {
            client: "shop".into(),
            binding: binding.into(),
            reference: self.secrets.fresh(Canary::Reference),
            request_id: self.secrets.fresh(Canary::RequestId).replace(['/', '+', '~', '='], "-"),
            ..start_request()
        }
    }

    pub async fn start(
        &self,
        client: &mut Client,
        request: StartAuthorizationRequest,
    ) -> StartAuthorizationResponse {
        self.secrets.add(Canary::RequestId, request.request_id.as_bytes());
        let started = client.start(request).await;
        self.note(Place::Start, "StartAuthorization", &started);
        let started = started.unwrap();
        self.secrets.add_state(&started.state);
        started
    }

    /// A session that the user has approved.
    pub async fn flow(&self, client: &mut Client) -> Flow {
        self.flow_for(client, "shop").await
    }

    pub async fn flow_for(&self, client: &mut Client, name: &str) -> Flow {
        let binding = self.secrets.fresh(Canary::Binding);
        let request = StartAuthorizationRequest { client: name.into(), ..self.start_with(&binding) };
        let started = self.start(client, request).await;
        let code = self.secrets.fresh(Canary::Code);
        let provider_session = format!("hvf_{}", fastrand::u64(..));
        let pairs = [("code", &code), ("state", &started.state), ("session_id", &provider_session)];
        let callback = url::Url::parse_with_params(REDIRECT_URI, pairs).unwrap().to_string();
        let id = started.session.unwrap().id;
        Flow { id, state: started.state, code, callback, binding, provider_session }
    }

    /// Presents a callback, and looks at what is known of its session then, as its own caller and as another's.
    pub async fn complete(&self, client: &mut Client, flow: &Flow) -> Result<Session, Status> {
        let answer = self.present(client, &flow.callback, &flow.binding).await;
        self.look(client, flow).await;
        answer
    }

    pub async fn present(
        &self,
        client: &mut Client,
        callback: &str,
        binding: &str,
    ) -> Result<Session, Status> {
        let request = cairld::api::proto::CompleteAuthorizationRequest {
            binding: binding.into(),
            ..complete_request(callback)
        };
        let answer = client.complete(request).await;
        self.note(Place::Session, "CompleteAuthorization", &answer);
        answer
    }

    /// What its own caller may know of a session.
    pub async fn look(&self, client: &mut Client, flow: &Flow) {
        self.note(Place::Session, "GetSession", &client.session(&flow.id).await);
        let request = ExplainSessionRequest { session_id: flow.id.clone() };
        let request = client.request(request);
        let mut explained = client.integration.explain_session(request).await.map(Response::into_inner);
        if let Ok(ExplainSessionResponse { session, .. }) = &mut explained {
            self.note(Place::Session, "ExplainSession", &Ok(session.take().unwrap()));
        }
        self.note(Place::Timeline, "ExplainSession", &explained);
    }

    /// Keeps every file of the folder but the secrets' own.
    pub fn read_files(&self, when: &str) {
        for entry in fs::read_dir(self.world.config().parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_secret =
                [".key", ".id", ".token", ".secret", ".old"].iter().any(|end| name.ends_with(end));
            if entry.file_type().unwrap().is_file() && !is_secret {
                let place = if name == "stdout" { Place::Output } else { Place::File };
                self.hear(place, &format!("{name}, {when}"), fs::read(entry.path()).unwrap());
            }
        }
    }
}

/// A unary call's answer by itself.
pub fn inner<T>(answer: Result<Response<T>, Status>) -> Result<T, Status> {
    answer.map(Response::into_inner)
}

/// A request of a caller that sends another token beside his own.
pub fn with_token<T>(mut request: Request<T>, token: &str) -> Request<T> {
    request.metadata_mut().append("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
