//! Cancelling a session.

use std::sync::Arc;

use super::Flows;
use crate::domain::{Refusal, Session, SessionId, Viewer};

impl Flows {
    /// Cancels an open session; a token that it already held is revoked.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `EXCHANGE_IN_PROGRESS`, `SESSION_FINISHED`, the store's.
    pub async fn cancel(&self, viewer: &Viewer, id: SessionId) -> Result<Session, Refusal> {
        let (session, token) = self.store.cancel(self.now(), viewer, id).await?;
        if let (Some(token), Some(client)) = (token, self.clients.get(&session.client)) {
            let provider = Arc::clone(&client.provider);
            // The session is cancelled whatever becomes of this; the caller need not wait for it.
            self.tasks.spawn(async move {
                if let Err(refusal) = provider.revoke(&token).await {
                    tracing::warn!(session = %id, reason = %refusal.reason, "a cancelled session's token was not revoked");
                }
            });
        }
        Ok(session)
    }
}
