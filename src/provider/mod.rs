//! Talks to CAIRL: four requests, each sent once, each answer read with care.
//!
//! Nothing here retries, follows a redirect, keeps a cookie or decides what an answer means for a session: that is the
//! domain's. What the provider says is cut and masked here, where it enters.

mod answer;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod metrics;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;

pub use self::{
    http::{BuildError, HttpProvider, Settings},
    metrics::ProviderMetrics,
};
use crate::domain::{
    AccessToken, AuthorizationCode, ClaimsEnd, CodeVerifier, ExchangeEnd, ProviderSessionId, QueryEnd,
    Refusal, SessionId, Timestamp, TraceContext,
};

/// On whose behalf a request is sent.
#[derive(Clone, Debug)]
pub struct Errand {
    /// The session that it is about.
    pub session: SessionId,
    /// The span that it is a part of; none where nobody asked for it in a trace.
    pub trace: Option<TraceContext>,
}

/// What a token request sends besides the client's own credentials.
#[derive(Debug)]
pub struct TokenRequest {
    /// The code to redeem.
    pub code: AuthorizationCode,
    /// The verifier that belongs to it.
    pub verifier: CodeVerifier,
    /// The redirect URI of the authorization request.
    pub redirect_uri: String,
}

/// How the provider last behaved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// When it last answered, and the HTTP status.
    pub answered: Option<(Timestamp, u16)>,
    /// When a request last got no answer.
    pub failed: Option<Timestamp>,
}

/// One client's provider.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Redeems a code (RFC 6749 §4.1.3, RFC 7636 §4.5). Sends at most one request.
    async fn exchange(&self, errand: &Errand, request: TokenRequest) -> ExchangeEnd;

    /// Fetches the claims that the token stands for.
    async fn userinfo(&self, errand: &Errand, token: &AccessToken) -> ClaimsEnd;

    /// Asks how the provider's session stands. Sends at most one request.
    async fn session(&self, errand: &Errand, id: &ProviderSessionId) -> QueryEnd;

    /// Revokes a token (RFC 7009).
    ///
    /// # Errors
    /// The provider's refusal, or that it could not be reached.
    async fn revoke(&self, errand: &Errand, token: &AccessToken) -> Result<(), Refusal>;

    /// How it last behaved.
    fn contact(&self) -> Contact;
}

/// How long an access token lives whose answer does not say.
const DEFAULT_TOKEN_LIFE: Duration = Duration::from_secs(10 * 60);
