//! Reading a session, if asked for after asking the provider.

use std::sync::Arc;

use tracing::Instrument;

use super::{Flows, flight::Passengers, retry::Retries};
use crate::{
    domain::{At, ProviderSessionId, Reason, Refusal, Session, SessionId, Terminal, Viewer},
    provider::Provider,
    store::Lookup,
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
    /// As for [`Flows::session`]; `PROVIDER_SESSION_UNKNOWN`; the provider's refusals.
    pub async fn refreshed_session(
        self: &Arc<Self>,
        viewer: &Viewer,
        lookup: &Lookup,
    ) -> Result<Session, Refusal> {
        let session = self.session(viewer, lookup).await?;
        if !matches!(session.at, At::Open(_)) {
            return Ok(session);
        }
        let provider_session = session.provider_session.clone().ok_or(Reason::ProviderSessionUnknown)?;
        let client = self.clients.get(&session.client).ok_or(Reason::SessionNotFound)?;
        let mut boarding = self.refreshes.board(session.id).await;
        let seat = boarding.join().unwrap_or_else(|| {
            let (flows, provider) = (Arc::clone(self), Arc::clone(&client.provider));
            boarding.launch(|passengers| async move {
                flows.ask(provider, session.id, provider_session, passengers).await
            })
        });
        drop(boarding);
        let asked = seat.outcome().await.unwrap_or_else(|| Err(Reason::Internal.into()));
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

    async fn ask(
        &self,
        provider: Arc<dyn Provider>,
        id: SessionId,
        provider_session: ProviderSessionId,
        passengers: Passengers,
    ) -> Result<(), Refusal> {
        let mut retries = Retries::new(&passengers, &self.stopping);
        loop {
            // What is logged on the way says which session and which attempt it is about.
            let attempt = retries.attempt();
            let span = tracing::error_span!("refresh", session = %id, attempt);
            let refusal = match provider.session(&provider_session).instrument(span).await {
                Ok(None) => return Ok(()),
                Ok(Some(status)) => {
                    self.store.observe(self.now(), id, status).await?;
                    return Ok(());
                }
                Err(refusal) => refusal,
            };
            tracing::info!(session = %id, reason = %refusal.reason, attempt, "the provider did not say how a session is");
            if !retries.again(refusal.reason).await {
                return Err(refusal);
            }
        }
    }
}
