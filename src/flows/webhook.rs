//! Taking in a webhook: verified before it is read, durable before it is acknowledged.

use super::{Flows, ids::random};
use crate::{
    domain::{Envelope, EventId, Reason, Refusal, SessionId, Stage, Viewer, verify_signature},
    store::{Event, Ingested, NewEvent},
};

/// A webhook as it was received.
pub struct Webhook {
    /// Who hands it on.
    pub viewer: Viewer,
    /// Name of the client; empty for the only one.
    pub client: String,
    /// Its body, verbatim.
    pub body: Vec<u8>,
    /// Its signature header.
    pub signature: String,
}

/// What became of it.
pub struct IngestAnswer {
    /// The event; for a duplicate the one kept before.
    pub event: Event,
    /// Whether it was kept before.
    pub duplicate: bool,
    /// The session it belongs to, where one is known that the caller may see.
    pub session: Option<SessionId>,
}

impl Flows {
    /// Verifies a webhook, keeps it once, and moves the session that it is about.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, `WEBHOOK_SIGNATURE_INVALID` (nothing is written), the store's.
    pub async fn ingest(&self, webhook: Webhook) -> Result<IngestAnswer, Refusal> {
        let Webhook { viewer, client, body, signature } = webhook;
        let client = self.client(&viewer, &client)?;
        let secrets = client.webhook_secrets.iter().map(|secret| secret.expose().as_bytes());
        let Some(secret) =
            verify_signature(&body, &signature, secrets).and_then(|fit| client.webhook_secrets.get(fit))
        else {
            let reason = Reason::WebhookSignatureInvalid;
            tracing::warn!(%reason, client = %client.name, bytes = body.len(), "a webhook was refused");
            return Err(Refusal::at(Stage::Webhook, reason));
        };
        let now = self.now();
        let envelope = Envelope::read(&body);
        let id = EventId::new(now.wall, random()?);
        let new = NewEvent { id, client: client.name.clone(), body, envelope, secret: secret.clone() };
        let Ingested { event, duplicate, session } = self.store.ingest(now, new).await?;
        let session = session.filter(|session| viewer.sees(session)).map(|session| session.id);
        Ok(IngestAnswer { event, duplicate, session })
    }
}
