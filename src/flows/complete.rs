//! Completing an authorization: one code, one request, one outcome.

use std::sync::Arc;

use super::{Client, Flows};
use crate::{
    domain::{
        AccessToken, AuthorizationCode, Binding, Callback, ClaimsEnd, CodeVerifier, ExchangeEnd, Presented,
        ProviderSaid, Reason, Refusal, Session, SessionId, Stage, Taken, Viewer,
    },
    provider::{Provider, TokenRequest},
    store::{Lookup, Take},
};

/// A callback to complete.
#[derive(Debug)]
pub struct Complete {
    /// Who presents it.
    pub viewer: Viewer,
    /// What the provider's redirect brought.
    pub callback: Callback,
    /// The binding given with it.
    pub binding: Option<Binding>,
}

impl Flows {
    /// Takes the state, exchanges the code, fetches the claims. The exchange goes on when the caller stops waiting.
    ///
    /// # Errors
    /// The refusals of [`Session::take`], of the provider, and the session's own.
    pub async fn complete(self: &Arc<Self>, complete: Complete) -> Result<Session, Refusal> {
        let Complete { viewer, callback, binding } = complete;
        let Callback { state, presented, provider_session, issuer } = callback;
        // Only to refuse early, and to know the client; the take reads again.
        let lookup = Lookup::State(state.clone());
        let session = self.store.session(self.now(), &viewer, &lookup).await?;
        let client = self.clients.get(&session.client).ok_or(Reason::StateUnknown)?;
        client.check_issuer(issuer.as_deref())?;

        let take = Take { viewer, state, presented, binding, provider_session };
        let (flows, provider) = (Arc::clone(self), Arc::clone(&client.provider));
        // From the take on the work belongs to the daemon: a caller that stops waiting leaves it running.
        let work = self.tasks.spawn(async move { flows.take_and_act(provider, take).await });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "completing ended by a panic");
            Err(Reason::Internal.into())
        })
    }

    async fn take_and_act(&self, provider: Arc<dyn Provider>, take: Take) -> Result<Session, Refusal> {
        let code = match &take.presented {
            Presented::Code(code) => Some(code.clone()),
            Presented::Error { .. } => None,
        };
        let (session, taken) = self.store.take(self.now(), take).await?;
        match (taken, code) {
            (Taken::Send { verifier }, Some(code)) => self.exchange(provider, session, code, verifier).await,
            (Taken::FetchClaims { token }, _) => self.fetch_claims(provider, session.id, token).await,
            (Taken::Ended | Taken::Replay, _) => answer(session),
            // The domain asks for a request only where a code was presented.
            (Taken::Send { .. }, None) => Err(Reason::Internal.into()),
        }
    }

    /// Sends the token request of a session that is SENT, and records how it ended, whatever happens.
    async fn exchange(
        &self,
        provider: Arc<dyn Provider>,
        session: Session,
        code: AuthorizationCode,
        verifier: CodeVerifier,
    ) -> Result<Session, Refusal> {
        let id = session.id;
        let attempts = session.spent.map_or(1, |spent| spent.sends);
        let request = TokenRequest { code, verifier, redirect_uri: session.redirect_uri };
        let sender = Arc::clone(&provider);
        // A task of its own, so that even a panic while sending has an outcome that can be recorded.
        let sent = tokio::spawn(async move { sender.exchange(request).await }).await;
        let end = sent.unwrap_or_else(|error| {
            tracing::error!(session = %id, %error, "a token request ended by a panic");
            ExchangeEnd::Lost { reason: Reason::OutcomeUnknown, said: ProviderSaid::default() }
        });
        let token = match &end {
            ExchangeEnd::Token { token, .. } => Some(token.clone()),
            ExchangeEnd::Refused { .. } | ExchangeEnd::NeverSent { .. } | ExchangeEnd::Lost { .. } => None,
        };
        match (self.store.end_exchange(self.now(), id, end.with_attempts(attempts)).await, token) {
            (Ok(_), Some(token)) => self.fetch_claims(provider, id, token).await,
            (Ok(session), None) => answer(session),
            (Err(error), token) => {
                tracing::error!(session = %id, %error, "the outcome of a token request could not be made durable");
                if let Some(token) = token {
                    give_back(provider, id, token).await;
                }
                Err(Refusal::at(Stage::Token, Reason::OutcomeUnknown))
            }
        }
    }

    async fn fetch_claims(
        &self,
        provider: Arc<dyn Provider>,
        id: SessionId,
        token: AccessToken,
    ) -> Result<Session, Refusal> {
        let end = provider.userinfo(&token).await;
        if let ClaimsEnd::Failed { reason, .. } = &end {
            tracing::warn!(session = %id, %reason, "the claims could not be fetched; the next call tries again");
        }
        answer(self.store.end_claims(self.now(), id, end).await?)
    }
}

impl Client {
    fn check_issuer(&self, presented: Option<&str>) -> Result<(), Refusal> {
        match (&self.issuer, presented) {
            (None, _) => Ok(()),
            (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
            (Some(_), _) => Err(Reason::IssuerMismatch.into()),
        }
    }
}

impl ExchangeEnd {
    /// The same, saying which attempt it was.
    fn with_attempts(self, attempts: u32) -> Self {
        let counted = |said: ProviderSaid| ProviderSaid { attempts, ..said };
        match self {
            Self::Token { token, life } => Self::Token { token, life },
            Self::Refused { verdict, said } => Self::Refused { verdict, said: counted(said) },
            Self::NeverSent { said } => Self::NeverSent { said: counted(said) },
            Self::Lost { reason, said } => Self::Lost { reason, said: counted(said) },
        }
    }
}

/// The session where it is complete, else what stopped it.
fn answer(session: Session) -> Result<Session, Refusal> {
    let outcome = session.outcome();
    if let Err(refusal) = &outcome {
        tracing::info!(session = %session.id, reason = %refusal.reason, "a callback did not complete");
    }
    outcome.map(|()| session)
}

/// Revokes a token that nobody will hear of, as far as possible.
async fn give_back(provider: Arc<dyn Provider>, id: SessionId, token: AccessToken) {
    if let Err(refusal) = provider.revoke(&token).await {
        tracing::error!(session = %id, reason = %refusal.reason, "its token could not be revoked either");
    }
}
