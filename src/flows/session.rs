//! Reading a session, if asked for after asking the provider.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Abandoned, Flows, Landing,
    flight::Passengers,
    gate::{Gate, NotPassed},
    line::Ticket,
    retry::Retries,
};
use crate::{
    domain::{At, ProviderSessionId, QueryEnd, Reason, Refusal, Session, Terminal, TraceContext, Viewer},
    provider::{Errand, Provider},
    store::{Lookup, Slot, StoreError},
};

impl Flows {
    /// The session as it stands.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `STATE_UNKNOWN`, the store's.
    pub async fn session(&self, viewer: &Viewer, lookup: &Lookup) -> Result<Session, Refusal> {
        Ok(self.store.session(self.now(), viewer, lookup).await?)
    }

    /// The session after asking the provider how it stands. Where the answer could not change anything, the provider is
    /// not asked; calls that ask about the same session meanwhile share one answer.
    ///
    /// # Errors
    /// As for [`Flows::session`]; `PROVIDER_SESSION_UNKNOWN`; the provider's refusals; `RATE_LIMITED` and `OVERLOADED` where
    /// there is no slot for the question before `patience` ends.
    ///
    /// A question is a part of the span `trace` of whoever asked it first.
    pub async fn refreshed_session(
        self: &Arc<Self>,
        viewer: &Viewer,
        lookup: &Lookup,
        patience: Instant,
        trace: Option<&TraceContext>,
    ) -> Result<Session, Refusal> {
        let asked = loop {
            let session = self.session(viewer, lookup).await?;
            if !matches!(session.at, At::Open(_)) {
                return Ok(session);
            }
            let provider_session = session.provider_session.clone().ok_or(Reason::ProviderSessionUnknown)?;
            let client = self.clients.get(&session.client).ok_or(Reason::SessionNotFound)?;
            let mut boarding = self.refreshes.board(session.id).await;
            let seat = boarding.join().unwrap_or_else(|| {
                boarding.launch(|passengers| {
                    let (flows, provider) = (Arc::clone(self), Arc::clone(&client.provider));
                    let ticket = Ticket { caller: viewer.caller.clone(), presented: self.now().wall };
                    let (gate, viewer) = (Arc::clone(&client.gates.session), viewer.clone());
                    let errand = Errand { session: session.id, trace: trace.cloned() };
                    // What is logged on the way says which session it is about, and who asked.
                    let span = tracing::error_span!("refresh", session = %session.id);
                    Question { flows, provider, gate, ticket, viewer, errand, provider_session, passengers }
                        .ask()
                        .instrument(span)
                })
            });
            drop(boarding);
            match seat.outcome(patience).await {
                Ok(Some(Ok(asked))) => break asked,
                Ok(Some(Err(Abandoned))) => {}
                Ok(None) => break Err(Reason::Internal.into()),
                Err(hindrance) => break Err(hindrance.refusal().await),
            }
        };
        // What the answer changed is there; each caller reads it for himself.
        let session = self.session(viewer, lookup).await?;
        let has_run_out = session.ended().is_some_and(|ended| ended.status == Terminal::Expired);
        match asked {
            Ok(()) => Ok(session),
            Err(refusal) if refusal.reason == Reason::ProviderSessionNotFound && has_run_out => {
                Err(Refusal { reason: Reason::SessionExpired, ..refusal })
            }
            Err(refusal) => Err(refusal),
        }
    }
}

/// A question to the provider how its session stands, for all who ask it now.
struct Question {
    flows: Arc<Flows>,
    provider: Arc<dyn Provider>,
    gate: Arc<Gate>,
    ticket: Ticket,
    viewer: Viewer,
    errand: Errand,
    provider_session: ProviderSessionId,
    passengers: Passengers,
}

impl Question {
    /// Takes a slot; none where the session has ended while the question waited, so that the answer could change nothing.
    async fn claim(&self) -> Result<Option<Slot>, StoreError> {
        let now = self.flows.now();
        let session = self.flows.store.session(now, &self.viewer, &Lookup::Id(self.errand.session)).await?;
        if !matches!(session.at, At::Open(_)) {
            return Ok(None);
        }
        self.flows.store.claim(now, &self.gate.terms).await.map(Some)
    }

    /// Asks, in turn; again after a pause, where that is safe and somebody still waits.
    async fn ask(self) -> Landing<()> {
        let mut retries = Retries::new(&self.passengers, &self.flows.stopping);
        let mut last = Err(Abandoned);
        loop {
            let slot = match self.gate.pass(&self.ticket, &self.passengers, || self.claim()).await {
                Ok(Some(slot)) => slot,
                Ok(None) => return Ok(Ok(())),
                Err(NotPassed::Refused(refusal)) => return Ok(Err(refusal)),
                Err(NotPassed::Abandoned) => return last,
            };
            let (attempt, id) = (retries.attempt(), self.errand.session);
            let span = tracing::error_span!("question", attempt);
            let end = self.provider.session(&self.errand, &self.provider_session).instrument(span).await;
            let told = self.flows.store.end_query(self.flows.now(), id, slot, &end).await;
            self.gate.changed();
            if let Err(error) = told {
                return Ok(Err(error.into()));
            }
            let QueryEnd::Refused { refusal, .. } = end else { return Ok(Ok(())) };
            let refusal = self.gate.timed(refusal).await;
            tracing::info!(
                session = %id,
                reason = %refusal.reason,
                attempt,
                "the provider did not say how a session is"
            );
            if !retries.again(refusal.reason).await {
                return Ok(Err(refusal));
            }
            last = Ok(Err(refusal));
        }
    }
}
