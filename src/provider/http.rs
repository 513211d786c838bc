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
    Contact, Errand, Provider, ProviderMetrics, TokenRequest,
    answer::{Answer, Body},
    metrics::{ClientMetrics, End},
};
use crate::domain::{
    AccessToken, ApiKey, Attribute, ClaimsEnd, ClientName, ClientSecret, Clock, EndedSpan, ExchangeEnd,
    ProviderSaid, ProviderSessionId, QueryEnd, Reason, Refusal, SpanKind, Stage, Timestamp, TraceContext,
    Tracer, Userinfo, api_reason, millis, token_verdict,
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
    /// Whether requests say which trace they belong to.
    pub pass_trace: bool,
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
    tracer: Arc<dyn Tracer>,
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
        tracer: Arc<dyn Tracer>,
    ) -> Result<Self, BuildError> {
        let failed = |error: reqwest::Error| BuildError(error.to_string());
        let single = builder(&settings)?.pool_max_idle_per_host(0).build().map_err(failed)?;
        let pooled = builder(&settings)?.build().map_err(failed)?;
        let metrics = ClientMetrics { client: settings.client.clone(), all: metrics };
        Ok(Self { settings, single, pooled, clock, contact: Mutex::default(), metrics, tracer })
    }

    /// Sends a request to an endpoint; `unanswered` is what it means that no answer comes to one that was sent.
    async fn send(
        &self,
        endpoint: Stage,
        errand: &Errand,
        request: RequestBuilder,
        unanswered: Reason,
    ) -> Sent {
        let (request_time, began) = (self.now(), Instant::now());
        let span = self.tracer.span(errand.trace.as_ref());
        let (http, request) = self.traced(request, span.as_ref()).build_split();
        let (method, host) = match &request {
            Ok(request) => (request.method().to_string(), request.url().host_str().map(str::to_owned)),
            Err(_) => Default::default(),
        };
        let session = errand.session;
        let ended = |end, failed: Option<String>| {
            let took = began.elapsed();
            self.metrics.ended(endpoint.as_str(), end, took);
            if let Some(context) = span.clone().filter(|span| self.tracer.records(span)) {
                let attributes = attributes(&method, host.as_deref(), end);
                let (session, client) = (Some(session), Some(self.settings.client.clone()));
                let (kind, name) = (SpanKind::Sent, format!("{method} {}", endpoint.as_str()));
                self.tracer.ended(EndedSpan {
                    context,
                    kind,
                    name,
                    took,
                    session,
                    client,
                    attributes,
                    failed,
                });
            }
        };
        let said = ProviderSaid { request_time, ..ProviderSaid::default() };
        let sent = match request {
            Ok(request) => http.execute(request).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(response) => {
                let answer = Answer::read(response, self.now()).await;
                let http_status = answer.status;
                ended(End::Answered(http_status), (http_status >= 400).then(|| http_status.to_string()));
                let took_ms = millis(began.elapsed());
                tracing::debug!(
                    %session, client = %self.settings.client, endpoint = endpoint.as_str(), http_status, took_ms,
                    "the provider answered"
                );
                self.lock_contact().answered = Some((self.now(), answer.status));
                Sent::Answered(answer, request_time)
            }
            Err(error) => {
                let error = error.without_url();
                let reason = if error.is_connect() { Reason::ProviderUnreachable } else { unanswered };
                let end = if error.is_connect() { End::Unreachable } else { End::Unanswered };
                ended(end, Some(reason.to_string()));
                self.lock_contact().failed = Some(self.now());
                tracing::warn!(
                    %reason,
                    %session,
                    client = %self.settings.client,
                    endpoint = endpoint.as_str(),
                    host,
                    error = causes(&error),
                    "no answer from the provider"
                );
                if error.is_connect() { Sent::Never(said) } else { Sent::NoAnswer(said) }
            }
        }
    }

    /// The request, saying which span it is; where the client's provider is not to know, it says nothing.
    fn traced(&self, request: RequestBuilder, span: Option<&TraceContext>) -> RequestBuilder {
        let Some(span) = span.filter(|_| self.settings.pass_trace) else { return request };
        let request = request.header("traceparent", span.traceparent());
        match span.tracestate() {
            Some(state) => request.header("tracestate", state),
            None => request,
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
    async fn exchange(&self, errand: &Errand, request: TokenRequest) -> ExchangeEnd {
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
        match self.send(Stage::Token, errand, request, Reason::OutcomeUnknown).await {
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

    async fn userinfo(&self, errand: &Errand, token: &AccessToken) -> ClaimsEnd {
        let request = self.pooled.get(self.settings.userinfo.clone()).bearer_auth(token.expose());
        let sent = self.send(Stage::Userinfo, errand, request, Reason::ProviderUnreachable).await;
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

    async fn session(&self, errand: &Errand, id: &ProviderSessionId) -> QueryEnd {
        let mut url = self.settings.session.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(id.as_str());
        }
        let key = self.settings.api_key.expose();
        let request = self.pooled.get(url).bearer_auth(key);
        let sent = self.send(Stage::Session, errand, request, Reason::ProviderUnreachable).await;
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

    async fn revoke(&self, errand: &Errand, token: &AccessToken) -> Result<(), Refusal> {
        let Settings { client_id, client_secret, .. } = &self.settings;
        let form = [
            ("token", token.expose()),
            ("token_type_hint", "access_token"),
            ("client_id", client_id.expose()),
            ("client_secret", client_secret.expose()),
        ];
        let request = self.pooled.post(self.settings.revoke.clone()).form(&form);
        let sent = self.send(Stage::Revoke, errand, request, Reason::ProviderUnreachable).await;
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

/// What is told of a request, by the conventions of OpenTelemetry for HTTP clients. The path of a session query holds the
/// provider's id of a user's session, so none is told.
fn attributes(method: &str, host: Option<&str>, end: End) -> Vec<(&'static str, Attribute)> {
    let mut attributes = vec![("http.request.method", Attribute::Text(method.to_owned()))];
    attributes.extend(host.map(|host| ("server.address", Attribute::Text(host.to_owned()))));
    if let End::Answered(status) = end {
        attributes.push(("http.response.status_code", Attribute::Number(status.into())));
    }
    attributes
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
