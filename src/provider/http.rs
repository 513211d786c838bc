//! The provider over HTTP.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{Certificate, Client, ClientBuilder, Proxy, RequestBuilder, redirect, retry, tls};
use tokio::time::Instant;
use url::Url;

use super::{
    Contact, Provider, ProviderMetrics, TokenRequest,
    answer::{Answer, Body},
    metrics::{ClientMetrics, End},
};
use crate::domain::{
    AccessToken, ApiKey, ClaimsEnd, ClientName, ClientSecret, Clock, ExchangeEnd, ProviderSaid,
    ProviderSessionId, QueryEnd, Reason, Refusal, Stage, Timestamp, Userinfo, api_reason, token_verdict,
};

/// Where a client's provider is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The client's name.
    pub client: ClientName,
    /// The token endpoint.
    pub token: Url,
    /// The userinfo endpoint.
    pub userinfo: Url,
    /// The revocation endpoint.
    pub revoke: Url,
    /// The session query, without the id.
    pub session: Url,
    /// The client id.
    pub client_id: ApiKey,
    /// The client secret.
    pub client_secret: ClientSecret,
    /// The key of the session query.
    pub api_key: ApiKey,
    /// Further root certificates, PEM.
    pub roots: Option<Vec<u8>>,
    /// A proxy to go through; the environment's proxy variables are never obeyed.
    pub proxy: Option<Url>,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How long a whole request may take.
    pub request_timeout: Duration,
}

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}; TLS needs the system's CA certificates (Debian: the package ca-certificates), or a ca_file with the provider's"
)]
pub struct BuildError(String);

/// One client's provider, over HTTP/1.1.
pub struct HttpProvider {
    settings: Settings,
    /// For token requests: keeps no connection, so that none can turn out to be dead with a code on it.
    single: Client,
    pooled: Client,
    clock: Arc<dyn Clock>,
    contact: Mutex<Contact>,
    metrics: ClientMetrics,
}

impl HttpProvider {
    /// A provider that is spoken to as the settings say.
    ///
    /// # Errors
    /// [`BuildError`] when TLS cannot be set up.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: ProviderMetrics,
    ) -> Result<Self, BuildError> {
        let failed = |error: reqwest::Error| BuildError(error.to_string());
        let single = builder(&settings)?.pool_max_idle_per_host(0).build().map_err(failed)?;
        let pooled = builder(&settings)?.build().map_err(failed)?;
        let metrics = ClientMetrics { client: settings.client.clone(), all: metrics };
        Ok(Self { settings, single, pooled, clock, contact: Mutex::default(), metrics })
    }

    /// Sends a request to an endpoint; `unanswered` is what it means that no answer comes to one that was sent.
    async fn send(&self, endpoint: Stage, request: RequestBuilder, unanswered: Reason) -> Sent {
        let (request_time, began) = (self.now(), Instant::now());
        let ended = |end| self.metrics.ended(endpoint.as_str(), end, began.elapsed());
        let said = ProviderSaid { request_time, ..ProviderSaid::default() };
        match request.send().await {
            Ok(response) => {
                let answer = Answer::read(response, self.now()).await;
                ended(End::Answered(answer.status));
                self.lock_contact().answered = Some((self.now(), answer.status));
                Sent::Answered(answer, request_time)
            }
            Err(error) => {
                let error = error.without_url();
                ended(if error.is_connect() { End::Unreachable } else { End::Unanswered });
                self.lock_contact().failed = Some(self.now());
                let reason = if error.is_connect() { Reason::ProviderUnreachable } else { unanswered };
                tracing::warn!(
                    %reason,
                    host = self.settings.token.host_str(),
                    error = causes(&error),
                    "no answer from the provider"
                );
                if error.is_connect() { Sent::Never(said) } else { Sent::NoAnswer(said) }
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    fn lock_contact(&self) -> std::sync::MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusal of a request that is safe to repeat.
    fn api_refusal(stage: Stage, sent: Sent, secrets: &[&str]) -> Refusal {
        match sent {
            Sent::Answered(answer, time) => {
                let reason = match answer.status {
                    400.. => api_reason(stage, answer.status, answer.error().as_deref()),
                    // Lost on its way, and so as good as none: another request may bring the whole of it.
                    200..=299 if matches!(answer.body, Body::Lost) => Reason::ProviderUnreachable,
                    _ => Reason::ProviderProtocol,
                };
                Refusal::at(stage, reason).said(answer.said(time, secrets))
            }
            Sent::Never(said) | Sent::NoAnswer(said) => {
                Refusal::at(stage, Reason::ProviderUnreachable).said(said)
            }
        }
    }
}

/// How far a request came.
enum Sent {
    Answered(Answer, Timestamp),
    /// No connection was made: not a byte was sent.
    Never(ProviderSaid),
    NoAnswer(ProviderSaid),
}

#[async_trait]
impl Provider for HttpProvider {
    async fn exchange(&self, request: TokenRequest) -> ExchangeEnd {
        let Settings { client_id, client_secret, .. } = &self.settings;
        let secrets = [request.code.expose(), request.verifier.expose(), client_secret.expose()];
        let form = [
            ("grant_type", "authorization_code"),
            ("code", request.code.expose()),
            ("client_id", client_id.expose()),
            ("client_secret", client_secret.expose()),
            ("redirect_uri", &request.redirect_uri),
            ("code_verifier", request.verifier.expose()),
        ];
        let request = self.single.post(self.settings.token.clone()).form(&form);
        match self.send(Stage::Token, request, Reason::OutcomeUnknown).await {
            Sent::Never(said) => ExchangeEnd::NeverSent { said },
            Sent::NoAnswer(said) => ExchangeEnd::Lost { reason: Reason::OutcomeUnknown, said },
            Sent::Answered(answer, time) => {
                let said = answer.said(time, &secrets);
                match answer.status {
                    200..=299 => match answer.token() {
                        Ok((token, life)) => ExchangeEnd::Token { token, life },
                        Err(reason) => ExchangeEnd::Lost { reason, said },
                    },
                    400.. => {
                        let verdict = token_verdict(answer.status, answer.error().as_deref());
                        ExchangeEnd::Refused { verdict, said }
                    }
                    _ => ExchangeEnd::Lost { reason: Reason::ProviderProtocol, said },
                }
            }
        }
    }

    async fn userinfo(&self, token: &AccessToken) -> ClaimsEnd {
        let request = self.pooled.get(self.settings.userinfo.clone()).bearer_auth(token.expose());
        let sent = self.send(Stage::Userinfo, request, Reason::ProviderUnreachable).await;
        let secrets = [token.expose(), self.settings.client_secret.expose()];
        match &sent {
            Sent::Answered(answer, time) if answer.status == 401 => {
                return ClaimsEnd::TokenRefused(answer.said(*time, &secrets));
            }
            Sent::Answered(answer, _) if (200..300).contains(&answer.status) => {
                if let Some(Ok(userinfo)) = answer.whole().map(Userinfo::parse) {
                    return ClaimsEnd::Claims(userinfo);
                }
            }
            Sent::Answered(..) | Sent::Never(_) | Sent::NoAnswer(_) => {}
        }
        let refusal = Self::api_refusal(Stage::Userinfo, sent, &secrets);
        ClaimsEnd::Failed { reason: refusal.reason, said: refusal.said.map(|said| *said).unwrap_or_default() }
    }

    async fn session(&self, id: &ProviderSessionId) -> QueryEnd {
        let mut url = self.settings.session.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(id.as_str());
        }
        let key = self.settings.api_key.expose();
        let request = self.pooled.get(url).bearer_auth(key);
        let sent = self.send(Stage::Session, request, Reason::ProviderUnreachable).await;
        if let Sent::Answered(answer, _) = &sent
            && (200..300).contains(&answer.status)
            && let Ok(status) = answer.session_status()
        {
            return QueryEnd::Status(status);
        }
        let was_sent = !matches!(sent, Sent::Never(_));
        let secrets = [key, self.settings.client_secret.expose()];
        QueryEnd::Refused { refusal: Self::api_refusal(Stage::Session, sent, &secrets), was_sent }
    }

    async fn revoke(&self, token: &AccessToken) -> Result<(), Refusal> {
        let Settings { client_id, client_secret, .. } = &self.settings;
        let form = [
            ("token", token.expose()),
            ("token_type_hint", "access_token"),
            ("client_id", client_id.expose()),
            ("client_secret", client_secret.expose()),
        ];
        let request = self.pooled.post(self.settings.revoke.clone()).form(&form);
        let sent = self.send(Stage::Revoke, request, Reason::ProviderUnreachable).await;
        if let Sent::Answered(answer, _) = &sent
            && (200..300).contains(&answer.status)
        {
            return Ok(());
        }
        Err(Self::api_refusal(Stage::Revoke, sent, &[token.expose(), client_secret.expose()]))
    }

    fn contact(&self) -> Contact {
        *self.lock_contact()
    }
}

/// An error with all its causes, without the URL: only they tell a refused connection from a bad certificate.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn builder(settings: &Settings) -> Result<ClientBuilder, BuildError> {
    let failed = |error: reqwest::Error| BuildError(error.to_string());
    let mut builder = Client::builder()
        .user_agent(concat!("cairld/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .tls_version_min(tls::Version::TLS_1_2)
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.request_timeout);
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(Proxy::all(proxy.clone()).map_err(failed)?);
    }
    if let Some(roots) = &settings.roots {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(roots).map_err(failed)?);
    }
    Ok(builder)
}
