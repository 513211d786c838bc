//! Cancelling a session.

use super::Flows;
use crate::domain::{Refusal, Session, SessionId, Viewer};

impl Flows {
    /// Cancels an open session; a token that it already held is revoked.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `EXCHANGE_IN_PROGRESS`, `SESSION_FINISHED`, the store's.
    pub async fn cancel(&self, viewer: &Viewer, id: SessionId) -> Result<Session, Refusal> {
        let session = self.store.cancel(self.now(), viewer, id).await?;
        let (client, caller) = (&session.client, &viewer.caller);
        tracing::info!(session = %id, %client, %caller, "a session is cancelled");
        Ok(session)
    }
}
