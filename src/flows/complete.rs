//! Completing an authorization: one code, one request, one outcome.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Abandoned, Client, Flows, Landing,
    flight::Passengers,
    gate::{Gate, NotPassed},
    line::Ticket,
    retry::Retries,
};
use crate::{
    domain::{
        AccessToken, At, Binding, Callback, CodeVerifier, ExchangeEnd, Presented, ProviderSaid, Reason,
        Refusal, Session, Stage, TokenStanding, TraceContext, Viewer,
    },
    provider::{Errand, Provider, TokenRequest},
    store::{Admitted, Lookup, Next, Slot, Take, Took},
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
    /// Until when the caller waits in line for the rate budget.
    pub patience: Instant,
    /// The span of the call.
    pub trace: Option<TraceContext>,
}

/// What completing comes to.
type Outcome = Result<Session, Refusal>;

impl Flows {
    /// Takes the state, exchanges the code, fetches the claims. The exchange goes on when the caller stops waiting; calls
    /// that present the same callback meanwhile share it.
    ///
    /// # Errors
    /// The refusals of [`Session::take`], of the provider, and the session's own; `RATE_LIMITED` and `OVERLOADED` where
    /// there is no slot for it, with nothing consumed.
    pub async fn complete(self: &Arc<Self>, complete: Complete) -> Outcome {
        let Complete { viewer, callback, binding, patience, trace } = complete;
        let Callback { state, presented, provider_session, issuer } = callback;
        let take = Take { viewer, state, presented, since: self.now(), binding, provider_session };
        loop {
            // Whoever shares an outcome has shown before that he may have it.
            let Admitted { session, callback } = self.store.admit(self.now(), take.clone()).await?;
            let client = self.clients.get(&session.client).ok_or(Reason::StateUnknown)?;
            client.check_issuer(issuer.as_deref())?;
            let id = session.id;
            let mut boarding = self.completions.board((id, callback)).await;
            let seat = boarding.join().unwrap_or_else(|| {
                boarding.launch(|passengers| {
                    let (flows, take) = (Arc::clone(self), take.clone());
                    let (provider, gate) = (Arc::clone(&client.provider), Arc::clone(&client.gates.token));
                    let ticket = Self::ticket(&take, &session);
                    // It is a part of the call that launched it, whoever joins.
                    let errand = Errand { session: id, trace: trace.clone() };
                    // What is logged on the way says which session it is about.
                    let span = tracing::error_span!("exchange", session = %id);
                    let journey = Journey { flows, provider, gate, take, ticket, errand, passengers };
                    journey.outcome().instrument(span)
                })
            });
            drop(boarding);
            match seat.outcome(patience).await {
                Ok(Some(Ok(outcome))) => return outcome,
                Ok(Some(Err(Abandoned))) => {}
                Ok(None) => {
                    let reason = Reason::Internal;
                    tracing::error!(%reason, session = %id, "completing ended by a panic");
                    return Err(reason.into());
                }
                Err(hindrance) => return Err(hindrance.refusal().await),
            }
        }
    }

    /// Fetches the claims of a session whose token is held; again after a pause, where somebody still waits.
    pub(super) async fn fetch_claims(
        &self,
        provider: &Arc<dyn Provider>,
        passengers: &Passengers,
        errand: &Errand,
        token: AccessToken,
    ) -> Outcome {
        let mut retries = Retries::new(passengers, &self.stopping);
        loop {
            let attempt = retries.attempt();
            let span = tracing::error_span!("claims", attempt);
            let end = provider.userinfo(errand, &token).instrument(span).await;
            let outcome = answer(self.store.end_claims(self.now(), errand.session, end).await?, attempt);
            match &outcome {
                Err(refusal) if retries.again(refusal.reason).await => {}
                Ok(_) | Err(_) => return outcome,
            }
        }
    }

    /// Fetches the claims of a session that holds a token and misses them, for nobody in particular. Whoever presents its
    /// callback meanwhile shares the outcome.
    ///
    /// # Errors
    /// As for [`Flows::complete`].
    pub(super) async fn fetch_missing_claims(
        self: &Arc<Self>,
        client: &Client,
        session: &Session,
    ) -> Result<(), Refusal> {
        let (Some(spent), TokenStanding::Held { token, .. }) = (session.spent, &session.token) else {
            return Ok(());
        };
        let id = session.id;
        let mut boarding = self.completions.board((id, *spent.callback.as_bytes())).await;
        let seat = boarding.join().unwrap_or_else(|| {
            boarding.launch(|passengers| {
                let (flows, provider, token) =
                    (Arc::clone(self), Arc::clone(&client.provider), token.clone());
                let errand = Errand { session: id, trace: None };
                async move { Ok(flows.fetch_claims(&provider, &passengers, &errand, token).await) }
            })
        });
        drop(boarding);
        match seat.outcome(Instant::now()).await {
            Ok(Some(Ok(outcome))) => outcome.map(drop),
            Ok(Some(Err(Abandoned))) => Ok(()),
            Ok(None) => Err(Reason::Internal.into()),
            Err(hindrance) => Err(hindrance.refusal().await),
        }
    }

    /// A callback's place in the line for token requests; none where it cannot need one. A request under way may end so that
    /// another is needed.
    fn ticket(take: &Take, session: &Session) -> Option<Ticket> {
        let may_send =
            matches!((&take.presented, session.at), (Presented::Code(_), At::Open(_) | At::Sent { .. }));
        let presented = session.spent.map_or(take.since, |spent| spent.first_presented).wall;
        may_send.then(|| Ticket { caller: take.viewer.caller.clone(), presented })
    }
}

/// One callback on its way to an outcome, for all who present it.
struct Journey {
    flows: Arc<Flows>,
    provider: Arc<dyn Provider>,
    gate: Arc<Gate>,
    take: Take,
    ticket: Option<Ticket>,
    errand: Errand,
    passengers: Passengers,
}

impl Journey {
    /// Takes the state and does what that asks for.
    async fn outcome(self) -> Landing<Session> {
        let Took { session, next } = match self.take().await {
            Ok(took) => took,
            Err(NotPassed::Refused(refusal)) => return Ok(Err(refusal)),
            Err(NotPassed::Abandoned) => return Err(Abandoned),
        };
        Ok(match next {
            Next::Send { verifier, slot } => {
                let client = session.client.clone();
                let outcome = self.exchange(session, verifier, slot).await;
                self.flows.metrics.exchanged(&client, &outcome);
                outcome
            }
            Next::FetchClaims { token } => self.fetch_claims(token).await,
            Next::Answer => answer(session, 0),
        })
    }

    /// Takes the state, in turn where that needs a slot of the rate budget.
    async fn take(&self) -> Result<Took, NotPassed> {
        let attempt = || self.flows.store.take(self.flows.now(), self.take.clone(), &self.gate.terms);
        match &self.ticket {
            Some(ticket) => self.gate.pass(ticket, &self.passengers, attempt).await,
            None => Ok(attempt().await?),
        }
    }

    /// Sends the token request of a session that is SENT; again, after a pause and another take, where that is safe and
    /// somebody still waits.
    async fn exchange(&self, mut session: Session, mut verifier: CodeVerifier, mut slot: Slot) -> Outcome {
        let mut retries = Retries::new(&self.passengers, &self.flows.stopping);
        loop {
            let id = session.id;
            let refusal = match self.exchange_once(session, verifier, slot).await {
                Ok(token) => return self.fetch_claims(token).await,
                Err(refusal) => refusal,
            };
            if !retries.again(refusal.reason).await {
                return Err(refusal);
            }
            match self.take().await {
                Ok(Took { session: taken, next: Next::Send { verifier: same, slot: another } }) => {
                    (session, verifier, slot) = (taken, same, another);
                }
                Ok(Took { session: ended, next: Next::FetchClaims { .. } | Next::Answer }) => {
                    return answer(ended, 0);
                }
                Err(NotPassed::Abandoned) => return Err(refusal),
                // It ended during the pause: what ended it is the answer, not that its callback is spent.
                Err(NotPassed::Refused(_)) => {
                    let lookup = Lookup::Id(id);
                    let now = self.flows.store.session(self.flows.now(), &self.take.viewer, &lookup).await?;
                    return if now.ended().is_some() { answer(now, 0) } else { Err(refusal) };
                }
            }
        }
    }

    /// Sends one token request and records how it ended, whatever happens. Answers the token, durable.
    async fn exchange_once(
        &self,
        session: Session,
        verifier: CodeVerifier,
        slot: Slot,
    ) -> Result<AccessToken, Refusal> {
        // The domain asks for a request only where a code was presented.
        let Presented::Code(code) = self.take.presented.clone() else { return Err(Reason::Internal.into()) };
        let id = session.id;
        let attempts = session.spent.map_or(1, |spent| spent.sends);
        let request = TokenRequest { code, verifier, redirect_uri: session.redirect_uri };
        let (sender, errand) = (Arc::clone(&self.provider), self.errand.clone());
        // A task of its own, so that even a panic while sending has an outcome that can be recorded.
        let span = tracing::error_span!("attempt", session = %id, attempt = attempts);
        let sent =
            tokio::spawn(async move { sender.exchange(&errand, request).await }.instrument(span)).await;
        let end = sent.unwrap_or_else(|error| {
            let (reason, attempt) = (Reason::OutcomeUnknown, attempts);
            tracing::error!(%reason, session = %id, attempt, %error, "a token request ended by a panic");
            ExchangeEnd::Lost { reason, said: ProviderSaid::default() }
        });
        let token = match &end {
            ExchangeEnd::Token { token, .. } => Some(token.clone()),
            ExchangeEnd::Refused { .. } | ExchangeEnd::NeverSent { .. } | ExchangeEnd::Lost { .. } => None,
        };
        let (store, now) = (&self.flows.store, self.flows.now());
        let ended = store.end_exchange(now, id, slot, end.with_attempts(attempts)).await;
        self.gate.changed();
        match (ended, token) {
            (Ok(_), Some(token)) => Ok(token),
            (Ok(session), None) => {
                let refusal = answer(session, attempts).err().unwrap_or_else(|| Reason::Internal.into());
                Err(self.gate.timed(refusal).await)
            }
            (Err(error), token) => {
                let (reason, attempt) = (Reason::OutcomeUnknown, attempts);
                tracing::error!(%reason, session = %id, attempt, %error, "an outcome could not be made durable");
                if let Some(token) = token {
                    give_back(&self.provider, &self.errand, &token, attempt).await;
                }
                Err(Refusal::at(Stage::Token, reason))
            }
        }
    }

    async fn fetch_claims(&self, token: AccessToken) -> Outcome {
        self.flows.fetch_claims(&self.provider, &self.passengers, &self.errand, token).await
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

/// The session where it is complete, else what stopped it; `attempt` is the one that it ended at, 0 without one.
fn answer(session: Session, attempt: u32) -> Outcome {
    let outcome = session.outcome();
    let (id, client, caller) = (session.id, &session.client, &session.caller);
    match &outcome {
        Ok(()) if attempt > 0 => {
            tracing::info!(session = %id, %client, %caller, attempt, "a session is complete")
        }
        Ok(()) => tracing::debug!(session = %id, %client, %caller, "a complete session was shown again"),
        Err(_) => {}
    }
    if let Err(refusal) = &outcome {
        let (reason, stage) = (refusal.reason, refusal.stage.as_str());
        let http_status = refusal.said.as_ref().map(|said| said.http_status);
        tracing::info!(
            %reason, session = %id, %client, %caller, attempt, stage, http_status,
            "a callback did not complete"
        );
    }
    outcome.map(|()| session)
}

/// Revokes a token that nobody will hear of, as far as possible.
async fn give_back(provider: &Arc<dyn Provider>, errand: &Errand, token: &AccessToken, attempt: u32) {
    if let Err(refusal) = provider.revoke(errand, token).await {
        tracing::error!(reason = %refusal.reason, session = %errand.session, attempt, "its token could not be revoked either");
    }
}
