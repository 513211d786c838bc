//! Cancelling a session.

use std::sync::Arc;

use super::Flows;
use crate::domain::{Reason, Refusal, Session, SessionId, Viewer};

impl Flows {
    /// Cancels an open session; a token that it already held is revoked.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `EXCHANGE_IN_PROGRESS`, `SESSION_FINISHED`, the store's.
    pub async fn cancel(self: &Arc<Self>, viewer: &Viewer, id: SessionId) -> Result<Session, Refusal> {
        let (flows, viewer) = (Arc::clone(self), viewer.clone());
        // A task of its own: a caller that stops waiting must not leave a cancelled session's token unrevoked.
        let work = self.tasks.spawn(async move {
            let (session, token) = flows.store.cancel(flows.now(), &viewer, id).await?;
            if let (Some(token), Some(client)) = (token, flows.clients.get(&session.client)) {
                let provider = Arc::clone(&client.provider);
                // The session is cancelled whatever becomes of this; the caller need not wait for it.
                flows.tasks.spawn(async move {
                    if let Err(refusal) = provider.revoke(&token).await {
                        tracing::warn!(session = %id, reason = %refusal.reason, "a cancelled session's token was not revoked");
                    }
                });
            }
            Ok(session)
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "cancelling ended by a panic");
            Err(Reason::Internal.into())
        })
    }
}
