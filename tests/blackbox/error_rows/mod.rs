//! The provider's error page over the wire: the sandbox is made to answer as each row says, and each test sees what the
//! caller is told, what becomes of the session, and how many requests it cost.
//!
//! The rows are data, `src/domain/catalogue/page.toml`. Each section of the page has its test, which meets all rows of the
//! section; a row that no test knows how to meet fails one.

mod limits;
mod query;
mod redirect;
mod server_errors;
mod token;
mod unlisted;
mod webhooks;

use std::time::Duration;

use cairld::api::proto::{Session, SessionStatus};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Client, Daemon, World, parameter, refused};

/// What the provider says beside a code, in these tests.
const DESCRIPTION: &str = "as the provider describes it";

/// A row of the page; `page.toml` says what its fields mean.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    section: Section,
    pub(crate) at: String,
    status: Option<u16>,
    pub(crate) error: Option<String>,
    reason: String,
    becomes: Option<String>,
    #[serde(default)]
    resumable: bool,
    #[serde(default = "one")]
    requests: usize,
}

/// The page's sections. Each is met by a test: of `query`, `redirect`, `token` with `server_errors`, `webhooks`, `limits`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Section {
    Authentication,
    Redirect,
    Token,
    #[serde(rename = "session query")]
    SessionQuery,
    #[serde(rename = "webhook delivery")]
    WebhookDelivery,
    #[serde(rename = "rate limits")]
    RateLimits,
}

fn one() -> usize {
    1
}

/// The rows of a section.
pub(crate) fn rows(section: Section) -> Vec<Row> {
    #[derive(Deserialize)]
    struct Page {
        row: Vec<Row>,
    }
    let page: Page = toml::from_str(include_str!("../../../src/domain/catalogue/page.toml")).unwrap();
    let rows: Vec<Row> = page.row.into_iter().filter(|row| row.section == section).collect();
    assert!(!rows.is_empty());
    rows
}

impl Row {
    /// The contract's status for its reason.
    fn code(&self) -> Code {
        match self.reason.as_str() {
            "PROVIDER_ERROR" => Code::Unavailable,
            "RATE_LIMITED" => Code::ResourceExhausted,
            "PROVIDER_SESSION_NOT_FOUND" => Code::NotFound,
            "WEBHOOK_SIGNATURE_INVALID" => Code::InvalidArgument,
            _ => Code::FailedPrecondition,
        }
    }

    /// The answer that it is about, for the sandbox to give.
    pub(crate) fn answer(&self) -> Value {
        let body = match (self.at.as_str(), &self.error) {
            (_, None) => json!({}),
            ("token", Some(error)) => json!({"error": error, "error_description": DESCRIPTION}),
            (_, Some(error)) => json!({"success": false, "error": error}),
        };
        json!({"endpoint": self.at, "times": self.requests, "status": self.status, "body": body})
    }

    /// What a caller is told of it: status, details and trailers, which say the same.
    fn check(&self, status: &Status) {
        let refusal = refused(Err::<(), _>(status.clone()));
        let metadata = |key: &str| refusal.metadata.get(key).map(String::as_str);
        assert_eq!((refusal.code, refusal.reason.as_str()), (self.code(), self.reason.as_str()), "{self:?}");
        assert_eq!(metadata("stage"), Some(self.at.as_str()), "{self:?}");
        assert_eq!(metadata("provider_error"), self.error.as_deref(), "{self:?}");
        assert_eq!(
            metadata("http_status"),
            self.status.map(|status| status.to_string()).as_deref(),
            "{self:?}"
        );
        let is_token = self.at == "token";
        assert_eq!(metadata("attempts"), is_token.then(|| self.requests.to_string()).as_deref(), "{self:?}");
        assert_eq!(metadata("request_time").is_some(), self.section != Section::WebhookDelivery, "{self:?}");
        assert_eq!(metadata("resumable"), self.resumable.then_some("true"), "{self:?}");
        assert_eq!(metadata("resume_until").is_some(), self.resumable, "{self:?}");
        for time in ["request_time", "resume_until"].into_iter().filter_map(metadata) {
            assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        }
        assert!(refusal.fields.is_empty(), "no field of the request is to blame: {self:?}");
        let is_retryable = matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted);
        assert_eq!(refusal.is_retryable, is_retryable, "{self:?}");

        let trailer = status.metadata().get("cairld-remedy").unwrap().as_bytes().to_vec();
        let remedy = percent_encoding::percent_decode(&trailer).decode_utf8().unwrap();
        assert_eq!(Some(remedy.as_ref()), metadata("remedy"), "{self:?}");
        let help = status.get_details_help().unwrap().links.remove(0).url;
        let (page, anchor) = help.split_once('#').unwrap();
        let page = std::fs::read_to_string(format!("{}/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(page.contains(&format!("\n## {}\n", anchor.to_uppercase())), "{help} leads nowhere");
        let size: usize =
            status.clone().into_http::<()>().headers().iter().map(|(_, value)| value.len()).sum();
        assert!(size < 4096, "{size} bytes of trailers: {self:?}");
    }

    /// What has become of the session that met it, which stood so before.
    fn check_session(&self, session: &Session, before: SessionStatus) {
        let expected = match self.becomes.as_deref() {
            Some("as it was") => before,
            Some("FAILED") => SessionStatus::Failed,
            Some("EXPIRED") => SessionStatus::Expired,
            other => panic!("{other:?} is no status: {self:?}"),
        };
        assert_eq!(session.status(), expected, "{self:?}");
    }

    /// That the session remembers it.
    fn check_failure(&self, session: &Session) {
        let failure = session.failure.as_ref().unwrap();
        assert_eq!(failure.reason().as_str_name(), format!("REASON_{}", self.reason), "{self:?}");
        assert_eq!(failure.provider_error, self.error.clone().unwrap_or_default(), "{self:?}");
        assert!(!failure.remedy.is_empty() && !failure.description.is_empty(), "{self:?}");
        if !matches!(self.code(), Code::Unavailable | Code::ResourceExhausted) {
            assert_eq!((failure.resumable, failure.resume_until.is_some()), (self.resumable, self.resumable));
        }
    }
}

/// When a refusal may be repeated, as its `RetryInfo` says.
fn retry_delay(status: &Status) -> Duration {
    status.get_details_retry_info().unwrap().retry_delay.unwrap()
}

/// A sandbox, a daemon and a client.
struct Scene {
    world: World,
    client: Client,
    _daemon: Daemon,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let daemon = world.daemon();
        Self { client: world.unix().await, world, _daemon: daemon }
    }

    async fn answer(&self, answer: Value) {
        self.world.provider.fault(answer).await;
    }

    async fn session(&self, id: &str) -> Session {
        self.client.clone().session(id).await.unwrap()
    }

    /// Completes a callback; what it is refused with.
    async fn refusal(&self, callback: &str) -> Status {
        self.client.clone().completed(callback).await.unwrap_err()
    }

    /// A session that is still open, and whose provider's session is known: its first attempt met an empty wallet.
    async fn known(&self) -> (String, String) {
        let (id, callback) = self.world.approved(&mut self.client.clone()).await;
        let unpaid = json!({"error": "payment_required"});
        self.answer(json!({"endpoint": "token", "times": 1, "status": 402, "body": unpaid})).await;
        assert_eq!(refused(Err::<(), _>(self.refusal(&callback).await)).reason, "PAYMENT_REQUIRED");
        (id, callback)
    }

    /// How many token requests were made with the code of a callback.
    async fn requests_with(&self, callback: &str) -> usize {
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(parameter(callback, "code")));
        let url = format!("{}/sandbox/journal", self.world.provider.url());
        let journal: Vec<Value> = http().get(url).send().await.unwrap().json().await.unwrap();
        journal.iter().filter(|entry| entry["form"]["code_digest"] == digest[..16]).count()
    }

    /// How many questions about sessions were asked.
    async fn queries(&self) -> usize {
        self.world.provider.requests("/api/verify/hvf-session/").await
    }
}

/// A client of the sandbox that follows no redirect.
fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}
