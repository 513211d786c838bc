//! The sandbox, steered over its control calls.

use cairld::sandbox;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};

use super::REDIRECT_URI;

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

    async fn post(&self, call: &str, body: Value) -> Value {
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

    /// Faults to come beside those that are still to come; none at all takes those back.
    pub async fn faults(&self, faults: &[Value]) {
        self.post("faults", json!(faults)).await;
    }

    /// Waits until the token endpoint has a request in hand.
    pub async fn token_request_arrives(&self) {
        // Asking is all that there is; each question is a request of its own, so that this does not spin.
        while self.token_requests().await == 0 {}
    }

    /// How many requests the token endpoint has received.
    pub async fn token_requests(&self) -> usize {
        self.requests("/api/oauth/token").await
    }

    /// How many requests have been received under a path.
    pub async fn requests(&self, path: &str) -> usize {
        self.journal().await.iter().filter(|entry| entry["path"].as_str().unwrap().starts_with(path)).count()
    }

    /// Every request that has been received, in order.
    pub async fn journal(&self) -> Vec<Value> {
        let journal = self.http.get(format!("{}/sandbox/journal", self.url)).send().await.unwrap();
        journal.json().await.unwrap()
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
