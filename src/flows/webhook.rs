//! Taking in a webhook: verified before it is read, durable before it is acknowledged.
//!
//! There are two ways in, `IngestWebhook` and the HTTP listener, and one function behind both, so that each knows the
//! other's duplicates.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{Client, Flows, Registered, ids::random};
use crate::{
    domain::{
        ClientName, Envelope, EventId, Flood, Moment, Reason, Refusal, Session, SessionId, SigningSecret,
        Stage, Status, Viewer,
    },
    store::{Event, Ingested, NewEvent},
};

/// A webhook that a caller received and hands on.
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

/// Why a webhook is refused before the store hears of it. For the log: the sender is told the same of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// No signature, or several.
    NotOneSignature,
    /// The signature is malformed, or of other bytes, or made with another secret.
    BadSignature,
}

impl Forgery {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotOneSignature => "not one signature",
            Self::BadSignature => "bad signature",
        }
    }
}

/// What became of a client's webhooks since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookCounts {
    /// Verified, duplicates too, by the secret that fitted, in the order of the configuration.
    pub verified: Vec<u64>,
    /// Those of them that are kept, each once.
    pub kept: u64,
    /// Those of them that were kept before.
    pub duplicates: u64,
    /// Refused for their signature.
    pub refused: u64,
    /// When the last one was verified.
    pub last: Option<Moment>,
}

/// Counts a client's webhooks.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// One for each of the client's secrets.
    verified: Vec<Arc<AtomicU64>>,
    common: Arc<Common>,
}

/// What is counted whatever the secret.
#[derive(Debug, Default)]
struct Common {
    kept: AtomicU64,
    duplicates: AtomicU64,
    refused: Flood,
    /// When the last one was verified.
    last: Mutex<Option<Moment>>,
}

impl Counter {
    /// A counter for a client; what was counted for the same client before a reload goes on, secret by secret.
    pub(super) fn new(client: &Client, before: Option<&Registered>) -> Self {
        let counted = |signing: &SigningSecret| {
            let before = before?;
            let mut known = before.webhook_secrets.iter().zip(&before.webhooks.verified);
            known.find(|(known, _)| known.secret == signing.secret).map(|(_, count)| Arc::clone(count))
        };
        let verified = client.webhook_secrets.iter().map(|signing| counted(signing).unwrap_or_default());
        let common = before.map(|before| Arc::clone(&before.webhooks.common)).unwrap_or_default();
        Self { verified: verified.collect(), common }
    }

    fn verified(&self, now: Moment, secret: usize) {
        *self.last() = Some(now);
        if let Some(count) = self.verified.get(secret) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that was verified is durable.
    fn durable(&self, is_duplicate: bool) {
        let count = if is_duplicate { &self.common.duplicates } else { &self.common.kept };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> WebhookCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WebhookCounts {
            verified: self.verified.iter().map(|count| read(count)).collect(),
            kept: read(&self.common.kept),
            duplicates: read(&self.common.duplicates),
            refused: self.common.refused.count(),
            last: *self.last(),
        }
    }

    /// When the last one was verified since the daemon started.
    pub(super) fn last_verified(&self) -> Option<Moment> {
        *self.last()
    }

    fn last(&self) -> MutexGuard<'_, Option<Moment>> {
        self.common.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flows {
    /// Takes in a webhook that a caller hands on.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, and those of [`Flows::take_in`].
    pub async fn ingest(&self, webhook: Webhook) -> Result<IngestAnswer, Refusal> {
        let Webhook { viewer, client, body, signature } = webhook;
        let client = self.client(&viewer, &client)?;
        let Ingested { event, duplicate, session } = self.take_in(&client, body, &signature).await?;
        let session = session.filter(|session| viewer.sees(session)).map(|session| session.id);
        Ok(IngestAnswer { event, duplicate, session })
    }

    /// Verifies a webhook, keeps it once, and moves the session that it is about. Durable when it answers.
    ///
    /// # Errors
    /// `WEBHOOK_SIGNATURE_INVALID` (nothing is written), the store's.
    pub async fn take_in(
        &self,
        client: &Registered,
        body: Vec<u8>,
        signature: &str,
    ) -> Result<Ingested, Refusal> {
        let now = self.now();
        let signer = SigningSecret::signer(&client.webhook_secrets, &body, signature, now.wall);
        let Some((index, signing)) =
            signer.and_then(|index| Some((index, client.webhook_secrets.get(index)?)))
        else {
            return Err(self.forged(client, Forgery::BadSignature, body.len()));
        };
        client.webhooks.verified(now, index);
        let envelope = Envelope::read(&body);
        let id = EventId::new(now.wall, random()?);
        let new =
            NewEvent { id, client: client.name.clone(), body, envelope, secret: signing.secret.clone() };
        let ingested = self.store.ingest(now, new).await?;
        client.webhooks.durable(ingested.duplicate);
        let Ingested { event, duplicate, session } = &ingested;
        let (id, status) =
            (session.as_ref().map(|session| session.id), session.as_ref().map(Session::status));
        tracing::info!(
            session = id.map(display), client = %client.name, event = %event.id, duplicate,
            status = status.map(Status::as_str), "a webhook is kept"
        );
        Ok(ingested)
    }

    /// Refuses what claims to be a webhook of a client: it is counted, and told in the log at most once a second. `bytes`
    /// is how long its body is, as far as it was read.
    pub fn forged(&self, client: &Registered, forgery: Forgery, bytes: usize) -> Refusal {
        let reason = Reason::WebhookSignatureInvalid;
        if let Some(refused) = client.webhooks.common.refused.more(self.now()) {
            let what = forgery.as_str();
            tracing::warn!(
                %reason, client = %client.name, what, bytes, refused,
                "a webhook with a bad signature was refused; `refused` counts all since the start"
            );
        }
        Refusal::at(Stage::Webhook, reason)
    }

    /// What became of a client's webhooks since the daemon started.
    pub fn webhook_counts(&self, client: &ClientName) -> Option<WebhookCounts> {
        self.clients.get(client).map(|client| client.webhooks.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BootTime, Timestamp};

    fn at(millis: u64) -> Moment {
        Moment { wall: Timestamp::from_millis(0), boot: BootTime { boot: 1, millis } }
    }

    #[test]
    fn what_becomes_of_webhooks_is_counted() {
        let verified = vec![Arc::default(), Arc::default()];
        let counter = Counter { verified, ..Counter::default() };
        counter.common.refused.more(at(6000));
        counter.verified(at(7000), 1);
        counter.durable(false);
        counter.durable(true);
        counter.durable(true);
        let last = Some(at(7000));
        assert_eq!(
            counter.counts(),
            WebhookCounts { verified: vec![0, 1], kept: 1, duplicates: 2, refused: 1, last }
        );
    }
}
