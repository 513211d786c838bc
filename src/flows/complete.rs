//! Completing an authorization: one code, one request, one outcome.

use std::sync::Arc;

use tracing::Instrument;

use super::{
    Client, Flows,
    flight::{Passengers, Seat},
    retry::Retries,
};
use crate::{
    domain::{
        AccessToken, AuthorizationCode, Binding, Callback, CodeVerifier, ExchangeEnd, Presented,
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

/// What completing comes to.
type Outcome = Result<Session, Refusal>;

/// What a presented callback meets.
enum Met {
    /// An exchange under way, launched for it or before.
    Flight(Seat<Outcome>),
    /// An outcome that is there already.
    Outcome(Box<Outcome>),
}

impl Flows {
    /// Takes the state, exchanges the code, fetches the claims. The exchange goes on when the caller stops waiting; calls
    /// that present the same callback meanwhile share it.
    ///
    /// # Errors
    /// The refusals of [`Session::take`], of the provider, and the session's own.
    pub async fn complete(self: &Arc<Self>, complete: Complete) -> Outcome {
        let Complete { viewer, callback, binding } = complete;
        let Callback { state, presented, provider_session, issuer } = callback;
        // Only to refuse early, and to know the client; the take reads again.
        let lookup = Lookup::State(state.clone());
        let session = self.store.session(self.now(), &viewer, &lookup).await?;
        let client = self.clients.get(&session.client).ok_or(Reason::StateUnknown)?;
        client.check_issuer(issuer.as_deref())?;
        let take = Take { viewer, state, presented, binding, provider_session };
        let (flows, provider) = (Arc::clone(self), Arc::clone(&client.provider));
        // From here on the work belongs to the daemon: a caller that stops waiting leaves it running.
        let meeting = self.tasks.spawn(async move { flows.present(provider, take).await });
        let outcome = match meeting.await {
            Ok(Ok(Met::Flight(seat))) => seat.outcome().await,
            Ok(Ok(Met::Outcome(outcome))) => Some(*outcome),
            Ok(Err(refusal)) => Some(Err(refusal)),
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| {
            let reason = Reason::Internal;
            tracing::error!(%reason, session = %session.id, "completing ended by a panic");
            Err(reason.into())
        })
    }

    /// Joins the exchange that is under way, after the same checks that a take makes; else takes, and launches what the
    /// take asks for. Between the two nothing can change: the session's key is held.
    async fn present(self: Arc<Self>, provider: Arc<dyn Provider>, take: Take) -> Result<Met, Refusal> {
        let mut boarding = self.completions.board(take.state.session).await;
        let met = match boarding.join() {
            Some(seat) => self.store.admit(take).await.map(|_| Met::Flight(seat)),
            None => self.store.take(self.now(), take.clone()).await.map(|(session, taken)| {
                let (flows, id) = (Arc::clone(&self), session.id);
                // What is logged on the way says which session it is about.
                let span = tracing::error_span!("exchange", session = %id);
                match (taken, take.presented.clone()) {
                    (Taken::Send { verifier }, Presented::Code(code)) => {
                        Met::Flight(boarding.launch(|passengers| async move {
                            let work = flows.exchange(provider, take, session, code, verifier, passengers);
                            work.instrument(span).await
                        }))
                    }
                    (Taken::FetchClaims { token }, _) => {
                        Met::Flight(boarding.launch(|passengers| async move {
                            flows.fetch_claims(provider, id, token, passengers).instrument(span).await
                        }))
                    }
                    (Taken::Ended | Taken::Replay, _) => Met::Outcome(Box::new(answer(session, 0))),
                    // The domain asks for a request only where a code was presented.
                    (Taken::Send { .. }, Presented::Error { .. }) => {
                        Met::Outcome(Box::new(Err(Reason::Internal.into())))
                    }
                }
            }),
        };
        drop(boarding);
        Ok(met?)
    }

    /// Sends the token request of a session that is SENT; again, after a pause and another take, where that is safe and
    /// somebody still waits.
    async fn exchange(
        &self,
        provider: Arc<dyn Provider>,
        take: Take,
        mut session: Session,
        code: AuthorizationCode,
        mut verifier: CodeVerifier,
        passengers: Passengers,
    ) -> Outcome {
        let mut retries = Retries::new(&passengers, &self.stopping);
        loop {
            let id = session.id;
            let refusal = match self.exchange_once(&provider, session, code.clone(), verifier).await {
                Ok(token) => return self.fetch_claims(provider, id, token, passengers).await,
                Err(refusal) => refusal,
            };
            if !retries.again(refusal.reason).await {
                return Err(refusal);
            }
            match self.store.take(self.now(), take.clone()).await {
                Ok((taken, Taken::Send { verifier: again })) => (session, verifier) = (taken, again),
                Ok((ended, Taken::FetchClaims { .. } | Taken::Ended | Taken::Replay)) => {
                    return answer(ended, 0);
                }
                // It ended during the pause: what ended it is the answer, not that its callback is spent.
                Err(_) => {
                    let now = self.store.session(self.now(), &take.viewer, &Lookup::Id(id)).await?;
                    return if now.ended().is_some() { answer(now, 0) } else { Err(refusal) };
                }
            }
        }
    }

    /// Sends one token request and records how it ended, whatever happens. Answers the token, durable.
    async fn exchange_once(
        &self,
        provider: &Arc<dyn Provider>,
        session: Session,
        code: AuthorizationCode,
        verifier: CodeVerifier,
    ) -> Result<AccessToken, Refusal> {
        let id = session.id;
        let attempts = session.spent.map_or(1, |spent| spent.sends);
        let request = TokenRequest { code, verifier, redirect_uri: session.redirect_uri };
        let sender = Arc::clone(provider);
        // A task of its own, so that even a panic while sending has an outcome that can be recorded.
        let span = tracing::error_span!("attempt", session = %id, attempt = attempts);
        let sent = tokio::spawn(async move { sender.exchange(request).await }.instrument(span)).await;
        let end = sent.unwrap_or_else(|error| {
            let (reason, attempt) = (Reason::OutcomeUnknown, attempts);
            tracing::error!(%reason, session = %id, attempt, %error, "a token request ended by a panic");
            ExchangeEnd::Lost { reason, said: ProviderSaid::default() }
        });
        let token = match &end {
            ExchangeEnd::Token { token, .. } => Some(token.clone()),
            ExchangeEnd::Refused { .. } | ExchangeEnd::NeverSent { .. } | ExchangeEnd::Lost { .. } => None,
        };
        match (self.store.end_exchange(self.now(), id, end.with_attempts(attempts)).await, token) {
            (Ok(_), Some(token)) => Ok(token),
            (Ok(session), None) => {
                Err(answer(session, attempts).err().unwrap_or_else(|| Reason::Internal.into()))
            }
            (Err(error), token) => {
                let (reason, attempt) = (Reason::OutcomeUnknown, attempts);
                tracing::error!(%reason, session = %id, attempt, %error, "an outcome could not be made durable");
                if let Some(token) = token {
                    give_back(provider, id, &token, attempt).await;
                }
                Err(Refusal::at(Stage::Token, reason))
            }
        }
    }

    /// Fetches the claims of a session whose token is held; again after a pause, where somebody still waits.
    async fn fetch_claims(
        &self,
        provider: Arc<dyn Provider>,
        id: SessionId,
        token: AccessToken,
        passengers: Passengers,
    ) -> Outcome {
        let mut retries = Retries::new(&passengers, &self.stopping);
        loop {
            let attempt = retries.attempt();
            let span = tracing::error_span!("claims", attempt);
            let end = provider.userinfo(&token).instrument(span).await;
            let outcome = answer(self.store.end_claims(self.now(), id, end).await?, attempt);
            match &outcome {
                Err(refusal) if retries.again(refusal.reason).await => {}
                Ok(_) | Err(_) => return outcome,
            }
        }
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
            Self::NeverSent { said } => {
                Self::NeverSent { said: ProviderSaid { attempts: attempts.saturating_sub(1), ..said } }
            }
            Self::Lost { reason, said } => Self::Lost { reason, said: counted(said) },
        }
    }
}

/// The session where it is complete, else what stopped it; `attempt` is the one that it was stopped at, 0 without one.
fn answer(session: Session, attempt: u32) -> Outcome {
    let outcome = session.outcome();
    if let Err(refusal) = &outcome {
        let (reason, stage) = (refusal.reason, refusal.stage.as_str());
        let http_status = refusal.said.as_ref().map(|said| said.http_status);
        tracing::info!(%reason, session = %session.id, attempt, stage, http_status, "a callback did not complete");
    }
    outcome.map(|()| session)
}

/// Revokes a token that nobody will hear of, as far as possible.
async fn give_back(provider: &Arc<dyn Provider>, id: SessionId, token: &AccessToken, attempt: u32) {
    if let Err(refusal) = provider.revoke(token).await {
        tracing::error!(reason = %refusal.reason, session = %id, attempt, "its token could not be revoked either");
    }
}
