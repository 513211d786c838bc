//! Revoking tokens: one fact in the store for the caller, and a worker that empties the queue at the provider.
//!
//! The caller's part ends when the token is in the queue: nobody can read it any more, and what is left survives the
//! daemon. The worker asks the provider until the revocation ends, one way or another. Asking twice does no harm (RFC
//! 7009 §2.2), so a request that is cut off, by `kill -9` or by the daemon's own end, is simply made again.

mod schedule;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};

use self::schedule::{Schedule, Step};
use super::{Flows, watch::sleep};
use crate::{
    domain::{ClientName, Reason, Refusal, Revocation, RevocationEnd, Session, SessionId, Stage, Viewer},
    provider::Errand,
};

/// How long a 429 closes a client's lane that does not say how long.
const RATE_LIMITED_PAUSE: Duration = Duration::from_secs(60);

/// What became of a step.
enum Done {
    /// The revocation has ended.
    Ended(RevocationEnd),
    /// It was asked for in vain, and is to be asked for again.
    Failed(Refusal),
}

impl Flows {
    /// Revokes a session's token: nobody can have it from here on. The provider is told as soon as it listens.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `TOKEN_NOT_HELD`, `EXCHANGE_IN_PROGRESS`, the store's.
    pub async fn revoke(&self, viewer: &Viewer, id: SessionId) -> Result<Session, Refusal> {
        let session = self.store.revoke(self.now(), viewer, id).await?;
        let (client, caller) = (&session.client, &viewer.caller);
        tracing::info!(session = %id, %client, %caller, "a token is given up, and waits to be revoked by the provider");
        Ok(session)
    }

    /// Empties the queue of tokens that are to be revoked, and whatever joins it, until the daemon stops. What is in
    /// flight then is dropped: it is asked for again after the next start.
    pub async fn revoke_waiting(&self) {
        self.stopping.run_until_cancelled(self.empty_queue()).await;
    }

    async fn empty_queue(&self) {
        // Before the first look at the queue: what joins it after the look is not missed.
        let mut news = self.store.new_revocations();
        let mut reloads = self.clients.reloads();
        let mut schedule = Schedule::new(reloads.borrow_and_update().keys().cloned());
        let mut unknown = BTreeSet::new();
        let mut steps = FuturesUnordered::new();
        self.read_queue(&mut schedule, &mut unknown).await;
        loop {
            while let Some(step) = schedule.next(self.now()) {
                steps.push(self.perform(step));
            }
            let wake = schedule.next_after(self.now());
            tokio::select! {
                Some((id, done)) = steps.next() => self.note(&mut schedule, id, done),
                Ok(()) = news.changed() => self.read_queue(&mut schedule, &mut unknown).await,
                Ok(()) = reloads.changed() => {
                    schedule.serve(reloads.borrow_and_update().keys().cloned().collect());
                }
                () = sleep(wake) => {}
            }
        }
    }

    /// Schedules what is in the queue and not known yet. A client's tokens stay in the queue when it leaves the
    /// configuration, since it may come back; `unknown` are those that the log has been told of.
    async fn read_queue(&self, schedule: &mut Schedule, unknown: &mut BTreeSet<ClientName>) {
        let queue = match self.store.revocations(self.now()).await {
            Ok(queue) => queue,
            Err(error) => {
                return tracing::error!(%error, "the tokens to be revoked cannot be read; the next one brings another look");
            }
        };
        for revocation in queue {
            let client = &revocation.client;
            if self.clients.get(client).is_none() && unknown.insert(client.clone()) {
                tracing::warn!(%client, "tokens of a client that is no longer configured wait to be revoked; without it they stay until they run out");
            }
            schedule.add(revocation, self.now());
        }
    }

    async fn perform(&self, step: Step) -> (SessionId, Done) {
        let (id, end) = match step {
            Step::RunOut(id) => (id, RevocationEnd::RanOut),
            Step::Ask(revocation) => {
                let answer = self.ask_to_revoke(&revocation).await;
                match RevocationEnd::of(answer) {
                    Ok(end) => (revocation.session, end),
                    Err(refusal) => return (revocation.session, Done::Failed(refusal)),
                }
            }
        };
        // A row that cannot be removed now is found, and asked for again, after the next start.
        if let Err(error) = self.store.end_revocation(self.now(), id, end).await {
            tracing::error!(session = %id, %error, "the end of a revocation could not be made durable");
        }
        (id, Done::Ended(end))
    }

    async fn ask_to_revoke(&self, revocation: &Revocation) -> Result<(), Refusal> {
        let internal = || Refusal::at(Stage::Revoke, Reason::Internal);
        let client = self.clients.get(&revocation.client).ok_or_else(internal)?;
        // Its call has been answered long ago.
        let errand = Errand { session: revocation.session, trace: None };
        let asked = AssertUnwindSafe(client.provider.revoke(&errand, &revocation.token)).catch_unwind().await;
        asked.unwrap_or_else(|_| {
            tracing::error!(session = %revocation.session, "a revocation request ended by a panic");
            Err(internal())
        })
    }

    fn note(&self, schedule: &mut Schedule, id: SessionId, done: Done) {
        match done {
            Done::Ended(end) => {
                schedule.ended(id, end);
                match end {
                    RevocationEnd::Revoked => {
                        tracing::info!(session = %id, "the provider has revoked a token")
                    }
                    RevocationEnd::Refused { http_status } => {
                        tracing::warn!(session = %id, http_status, "the provider refuses to revoke a token, which lives until it runs out");
                    }
                    RevocationEnd::RanOut => {
                        tracing::warn!(session = %id, "a token ran out before the provider revoked it");
                    }
                }
            }
            Done::Failed(refusal) => {
                let reason = refusal.reason;
                let asked = refusal.said.and_then(|said| said.retry_after);
                let asked = asked.or((reason == Reason::RateLimited).then_some(RATE_LIMITED_PAUSE));
                let pause = schedule.failed(id, asked, self.now());
                tracing::warn!(session = %id, %reason, ?pause, "a token is not revoked yet; it is tried again");
            }
        }
    }
}
