//! The sandbox, steered over its control calls.

use cairld::sandbox;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};

use super::{REDIRECT_URI, SURELY, WEBHOOK_SECRET};

pub const CLIENT_ID: &str = "cairl_test_0123456789abcdef";
pub const CLIENT_SECRET: &str = "cs_0123456789abcdef0123456789abcdef";

/// A sandbox in this process; daemons may be killed beside it.
pub struct Provider {
    url: String,
    http: reqwest::Client,
    _stop: oneshot::Sender<()>,
}

impl Provider {
    pub async fn start() -> Self {
        Self::start_with(sandbox::Settings::default()).await
    }

    /// A sandbox that lets through as many requests as come.
    pub async fn unlimited() -> Self {
        Self::start_with(sandbox::Settings { unlimited: true, ..sandbox::Settings::default() }).await
    }

    async fn start_with(settings: sandbox::Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let client = sandbox::Client {
            client_id: CLIENT_ID.into(),
            client_secret: CLIENT_SECRET.into(),
            redirect_uris: vec![REDIRECT_URI.into()],
            webhook_url: None,
            webhook_secret: None,
            name: Some("Shop".into()),
        };
        let settings = sandbox::Settings { clients: vec![client], ..settings };
        tokio::spawn(async {
            let stopped = async {
                let _ = stopped.await;
            };
            sandbox::run(listener, settings, stopped).await.unwrap();
        });
        Self { url, http: reqwest::Client::builder().no_proxy().build().unwrap(), _stop: stop }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn post(&self, call: &str, body: Value) -> Value {
        let response =
            self.http.post(format!("{}/sandbox/{call}", self.url)).json(&body).send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{call}: {} {}",
            response.status(),
            response.text().await.unwrap()
        );
        response.json().await.unwrap_or(Value::Null)
    }

    /// What a control call tells.
    pub async fn get(&self, call: &str) -> Value {
        self.http.get(format!("{}/sandbox/{call}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// Webhooks of the client go there from now on.
    pub async fn deliver_webhooks_to(&self, url: &str) {
        let client = json!({
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [REDIRECT_URI],
            "webhook_url": url,
            "webhook_secret": WEBHOOK_SECRET,
        });
        self.post("clients", client).await;
    }

    /// Sends webhooks as its control call takes them: a list in its order.
    pub async fn send_webhooks(&self, list: Value) {
        self.post("webhooks", list).await;
    }

    /// Waits until so many webhooks were acknowledged.
    pub async fn webhooks_are_delivered(&self, count: usize) {
        let url = format!("{}/sandbox/webhooks", self.url);
        let delivered = async {
            loop {
                let list: Vec<Value> = self.http.get(&url).send().await.unwrap().json().await.unwrap();
                if list.iter().filter(|delivery| delivery["fate"] == "delivered").count() >= count {
                    break;
                }
            }
        };
        tokio::time::timeout(SURELY, delivered).await.expect("deliveries");
    }

    /// Plays the user; answers the callback URL.
    pub async fn decide(&self, authorization_url: &str, outcome: &str) -> String {
        let body = json!({"authorization_url": authorization_url, "outcome": outcome});
        self.post("decide", body).await["callback_url"].as_str().unwrap().to_owned()
    }

    pub async fn approve(&self, authorization_url: &str) -> String {
        self.decide(authorization_url, "approve").await
    }

    pub async fn approve_with(&self, authorization_url: &str, claims: Value) -> String {
        let body = json!({"authorization_url": authorization_url, "outcome": "approve", "claims": claims});
        self.post("decide", body).await["callback_url"].as_str().unwrap().to_owned()
    }

    pub async fn fault(&self, fault: Value) {
        self.post("faults", json!([fault])).await;
    }

    /// The next request to an endpoint is held until there are [no more faults](Self::no_more_faults).
    pub async fn hold(&self, endpoint: &str) {
        self.fault(json!({"endpoint": endpoint, "fault": "hold"})).await;
    }

    pub async fn no_more_faults(&self) {
        self.faults(&[]).await;
    }

    /// What the userinfo endpoint answers to a token: its HTTP status.
    pub async fn userinfo(&self, token: &str) -> u16 {
        let request = self.http.get(format!("{}/api/oauth/userinfo", self.url)).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    }

    /// Faults to come beside those that are still to come; none at all takes those back.
    pub async fn faults(&self, faults: &[Value]) {
        self.post("faults", json!(faults)).await;
    }

    /// Waits until the token endpoint has a request in hand.
    pub async fn token_request_arrives(&self) {
        self.arrives("/api/oauth/token").await;
    }

    /// Waits until a request has been received under a path.
    pub async fn arrives(&self, path: &str) {
        // Asking is all that there is; each question is a request of its own, so that this does not spin.
        let arrived = async { while self.requests(path).await == 0 {} };
        tokio::time::timeout(SURELY, arrived).await.expect("a request");
    }

    /// Waits until the requests to the revocation endpoint, as they came, were answered so: by these statuses, none for
    /// one that is still in hand or whose answer was dropped.
    pub async fn revocations_answer(&self, wanted: &[Option<u16>]) {
        self.revocations(|answers| answers == wanted).await;
    }

    /// Waits until the answers of the revocation endpoint are as they should be.
    pub async fn revocations(&self, are_wanted: impl Fn(&[Option<u16>]) -> bool) {
        let mut answers = Vec::new();
        let answered = async {
            while !are_wanted(&answers) {
                let revocations = self.journal("/api/oauth/revoke").await;
                answers = revocations
                    .iter()
                    .map(|entry| entry["status"].as_u64().map(|status| u16::try_from(status).unwrap()))
                    .collect();
            }
        };
        let waited = tokio::time::timeout(SURELY, answered).await;
        assert!(waited.is_ok(), "the revocation endpoint has answered {answers:?}");
    }

    /// How many requests the token endpoint has received.
    pub async fn token_requests(&self) -> usize {
        self.requests("/api/oauth/token").await
    }

    /// How many requests have been received under a path.
    pub async fn requests(&self, path: &str) -> usize {
        self.journal(path).await.len()
    }

    /// What has been received under a path, in order.
    pub async fn journal(&self, path: &str) -> Vec<Value> {
        let answer = self.http.get(format!("{}/sandbox/journal", self.url)).send().await.unwrap();
        let mut entries: Vec<Value> = answer.json().await.unwrap();
        entries.retain(|entry| entry["path"].as_str().unwrap().starts_with(path));
        entries
    }

    /// When the token requests were received, in order, by the sandbox's clock.
    pub async fn token_request_times(&self) -> Vec<jiff::Timestamp> {
        let journal = self.journal("/api/oauth/token").await;
        journal.iter().map(|entry| entry["time"].as_str().unwrap().parse().unwrap()).collect()
    }

    /// Begins a new journal.
    pub async fn clear_journal(&self) {
        self.http.delete(format!("{}/sandbox/journal", self.url)).send().await.unwrap();
    }
}

/// A parameter of a URL.
pub fn parameter(url: &str, name: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}
