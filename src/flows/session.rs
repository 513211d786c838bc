//! Reading a session, if asked for after asking the provider.

use super::Flows;
use crate::{
    domain::{At, Reason, Refusal, Session, Terminal, Viewer},
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
    /// not asked.
    ///
    /// # Errors
    /// As for [`Flows::session`]; `PROVIDER_SESSION_UNKNOWN`; the provider's refusals.
    pub async fn refreshed_session(&self, viewer: &Viewer, lookup: &Lookup) -> Result<Session, Refusal> {
        let session = self.session(viewer, lookup).await?;
        if !matches!(session.at, At::Open(_)) {
            return Ok(session);
        }
        let id = session.provider_session.as_ref().ok_or(Reason::ProviderSessionUnknown)?;
        let client = self.clients.get(&session.client).ok_or(Reason::SessionNotFound)?;
        match client.provider.session(id).await {
            Ok(Some(status)) => Ok(self.store.observe(self.now(), session.id, status).await?),
            Ok(None) => self.session(viewer, lookup).await,
            Err(refusal) if refusal.reason == Reason::ProviderSessionNotFound => {
                let session = self.session(viewer, lookup).await?;
                let has_run_out = session.ended().is_some_and(|ended| ended.status == Terminal::Expired);
                Err(Refusal {
                    reason: if has_run_out { Reason::SessionExpired } else { refusal.reason },
                    ..refusal
                })
            }
            Err(refusal) => Err(refusal),
        }
    }
}
