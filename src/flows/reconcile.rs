//! Reconciliation: the provider is asked about sessions of which a webhook may have been missed.
//!
//! A webhook is delivered three times within six minutes and then never again. So after each start, and whenever no
//! webhook of a client has come for a while, the client's sessions are looked through: an open one whose provider
//! session is known is asked about, one that holds a token and misses its claims has them fetched. The one with the least
//! time left is the first. Of the budget of session queries half is left to callers. Sessions that no callback has
//! come for cannot be asked about, since only the callback tells the provider's id; they are counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{Flows, Registered, retry::doubling, watch::sleep};
use crate::{
    domain::{
        At, CallerName, ClientName, Moment, Reason, Refusal, Session, SessionId, Timestamp, TokenStanding,
        Viewer,
    },
    store::{Lookup, StoreError},
};

/// How long no webhook of a client has come when its sessions are asked about. Whatever the provider had to deliver before
/// it has given up by then: its attempts take six minutes.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// Most sessions that are kept in mind at once; more are looked up again when these are done.
const MOST_IN_MIND: usize = 4096;
/// Pause after a provider, or the store, has failed; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What came of reconciling a client since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconciliationStatus {
    /// When the last round ended; none before.
    pub last: Option<Timestamp>,
    /// Sessions that the provider was asked about.
    pub asked: u64,
    /// Those of them that were found in another place than they stood in.
    pub moved: u64,
    /// Those of the present round that are still to be asked about.
    pub waiting: u64,
    /// Open sessions that could not be asked about in the last round.
    pub unknown: u64,
}

/// A place in the order in which sessions are asked about: by when they end.
type Rank = (Timestamp, SessionId);

/// The sessions of a client to ask about.
#[derive(Debug, Default)]
struct Found {
    /// Who started each.
    sessions: BTreeMap<Rank, CallerName>,
    /// Whether there are more than could be kept in mind, behind the last.
    is_cut: bool,
    /// Open sessions that cannot be asked about.
    unknown: u64,
    /// How long until the next token is old enough for its claims to be fetched.
    next_claims: Option<Duration>,
}

/// What a session has to be asked.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    /// How it stands.
    Status,
    /// For its claims, in so long.
    Claims(Duration),
}

impl Question {
    /// What that session has to be asked; none where no answer could change it. The claims of a token are fetched when half
    /// of its life is over: until then whoever presented the callback may come back for the outcome himself.
    fn about(session: &Session, now: Moment) -> Option<Self> {
        match (session.at, &session.token) {
            (At::Open(_), _) => session.provider_session.is_some().then_some(Self::Status),
            (At::Token, TokenStanding::Held { since, life, .. }) => {
                let age = since.age(now).unwrap_or(*life);
                Some(Self::Claims((*life / 2).saturating_sub(age)))
            }
            (At::Token | At::Sent { .. } | At::Ended(_), _) => None,
        }
    }
}

impl Found {
    /// Takes in a session, unless it comes before `behind`.
    fn add(&mut self, session: &Session, now: Moment, behind: Option<Rank>) {
        match Question::about(session, now) {
            None => self.unknown += u64::from(matches!(session.at, At::Open(_))),
            Some(Question::Claims(wait)) if !wait.is_zero() => {
                self.next_claims = Some(self.next_claims.map_or(wait, |next| next.min(wait)));
            }
            Some(Question::Status | Question::Claims(_)) => {
                let rank = (end(session), session.id);
                if behind.is_none_or(|behind| rank > behind) {
                    self.sessions.insert(rank, session.caller.clone());
                }
                if self.sessions.len() > MOST_IN_MIND {
                    self.sessions.pop_last();
                    self.is_cut = true;
                }
            }
        }
    }
}

/// When a session ends if nothing completes it.
fn end(session: &Session) -> Timestamp {
    match (session.at, &session.token) {
        (At::Token, TokenStanding::Held { since, life, .. }) => since.wall.plus(*life),
        _ => session.expires(),
    }
}

impl Flows {
    /// Asks about the sessions of all clients after the start and after silence, until the daemon stops. A client that a
    /// reload brings is one after a start.
    pub async fn reconcile(self: &Arc<Self>) {
        // What time has ended is written down first: nobody need be asked about that.
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "the first sweep stopped early");
        }
        let mut reloads = self.clients.reloads();
        let (mut known, mut running) = (BTreeSet::new(), FuturesUnordered::new());
        loop {
            let clients = Arc::clone(&reloads.borrow_and_update());
            for name in clients.keys().filter(|name| known.insert((*name).clone())) {
                running.push(self.reconcile_client(name.clone()));
            }
            tokio::select! {
                // The sender is our own: it is there for as long as we are.
                _ = reloads.changed() => {}
                Some(name) = running.next() => drop(known.remove(&name)),
            }
        }
    }

    /// Asks about one client's sessions until it leaves the configuration; answers its name.
    async fn reconcile_client(self: &Arc<Self>, name: ClientName) -> ClientName {
        while let Some(client) = self.clients.get(&name) {
            let next = match (Round { flows: self, client: &client }.run().await) {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(client = %name, %error, "sessions could not be looked through; they are again in a minute");
                    Some(LONGEST_PAUSE)
                }
            };
            tokio::select! {
                () = sleep(next) => {}
                () = self.silence(&name) => {}
            }
        }
        name
    }

    /// Resolves when no webhook of a client has come for a while, nor has anything been asked, and when the client has left
    /// the configuration; never where no webhook can come.
    async fn silence(&self, name: &ClientName) {
        let since = self.now();
        let mut reloads = self.clients.reloads();
        loop {
            let Some(client) = reloads.borrow_and_update().get(name).cloned() else { return };
            let now = self.now();
            let heard = client.webhooks.last_verified();
            let quiet = [Some(since), heard].into_iter().flatten().filter_map(|at| at.age(now).ok()).min();
            let left = SILENCE.saturating_sub(quiet.unwrap_or_default());
            let left = (!client.webhook_secrets.is_empty()).then_some(left);
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            tokio::select! {
                () = sleep(left) => {}
                _ = reloads.changed() => {}
            }
        }
    }

    /// What came of reconciling a client since the daemon started.
    pub fn reconciliation(&self, client: &ClientName) -> ReconciliationStatus {
        let client = self.clients.get(client);
        client.map(|client| lock(&client.reconciliation).clone()).unwrap_or_default()
    }
}

/// One look through a client's sessions.
struct Round<'f> {
    flows: &'f Arc<Flows>,
    client: &'f Registered,
}

impl Round<'_> {
    /// Asks about each session that there is to ask about. Answers when there is one more, if that is known.
    async fn run(&self) -> Result<Option<Duration>, StoreError> {
        let before = self.status().clone();
        let mut behind = None;
        let found = loop {
            let mut found = self.find(behind).await?;
            behind = found.sessions.last_key_value().map(|(rank, _)| *rank);
            if self.ask_all(std::mem::take(&mut found.sessions)).await.is_break() || !found.is_cut {
                break found;
            }
        };
        let mut status = self.status();
        *status = ReconciliationStatus {
            last: Some(self.flows.time()),
            waiting: 0,
            unknown: found.unknown,
            ..*status
        };
        let (asked, moved, unknown) =
            (status.asked - before.asked, status.moved - before.moved, status.unknown);
        if asked > 0 {
            let client = &self.client.name;
            tracing::info!(%client, asked, moved, unknown, "asked about sessions whose webhooks may have been missed");
        }
        Ok(found.next_claims)
    }

    async fn find(&self, behind: Option<Rank>) -> Result<Found, StoreError> {
        let (mut found, mut after) = (Found::default(), None);
        loop {
            let now = self.flows.now();
            let live = self.flows.store.live_sessions(now, after).await?;
            for session in live.sessions.iter().filter(|session| session.client == self.client.name) {
                found.add(session, now, behind);
            }
            after = live.next;
            if after.is_none() {
                return Ok(found);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Asks about sessions, in order; breaks off where asking about the others would come to the same.
    async fn ask_all(&self, sessions: BTreeMap<Rank, CallerName>) -> ControlFlow<()> {
        for (left, ((_, id), caller)) in (0..sessions.len()).rev().zip(sessions) {
            self.status().waiting = u64::try_from(left).unwrap_or(u64::MAX).saturating_add(1);
            self.ask(id, caller).await?;
            if self.flows.clients.get(&self.client.name).is_none() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Asks about one session until the provider has answered, or nothing is left to ask.
    async fn ask(&self, id: SessionId, caller: CallerName) -> ControlFlow<()> {
        // It is asked on behalf of its own caller.
        let clients = Arc::new([self.client.name.clone()].into());
        let viewer = Viewer { caller, clients, shared: Arc::default(), sees_unlinked: false };
        let mut pauses = doubling(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let refusal = match self.ask_once(&viewer, id).await {
                Ok(()) => return ControlFlow::Continue(()),
                Err(refusal) => refusal,
            };
            let reason = refusal.reason;
            if matches!(reason, Reason::InvalidApiKey | Reason::MissingApiKey | Reason::Unauthorized) {
                let client = &self.client.name;
                tracing::error!(%client, %reason, "the provider refuses the client's key: its sessions are not asked about");
                return ControlFlow::Break(());
            }
            if !may_pass(reason) {
                tracing::warn!(session = %id, %reason, "a session could not be asked about");
                return ControlFlow::Continue(());
            }
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once, where there still is something to ask.
    async fn ask_once(&self, viewer: &Viewer, id: SessionId) -> Result<(), Refusal> {
        let lookup = Lookup::Id(id);
        let read = async || match self.flows.session(viewer, &lookup).await {
            Ok(session) => Ok(Some(session)),
            // Swept, or damaged, meanwhile.
            Err(gone) if matches!(gone.reason, Reason::SessionNotFound | Reason::RecordCorrupt) => Ok(None),
            Err(refusal) => Err(refusal),
        };
        let Some(before) = read().await? else { return Ok(()) };
        let answer = match Question::about(&before, self.flows.now()) {
            Some(Question::Status) => {
                self.client.gates.session.spare().await?;
                // Whoever waits in line goes first: it has no patience.
                self.flows.refreshed_session(viewer, &lookup, Instant::now(), None).await.map(drop)
            }
            Some(Question::Claims(wait)) if wait.is_zero() => {
                self.flows.fetch_missing_claims(self.client, &before).await
            }
            Some(Question::Claims(_)) | None => return Ok(()),
        };
        let has_moved = read().await?.is_none_or(|after| after.at != before.at);
        // What ended it is an answer too.
        if has_moved {
            let client = &self.client.name;
            tracing::info!(session = %id, %client, "a session moved on whose webhook may have been missed");
        } else {
            answer?;
        }
        let mut status = self.status();
        status.asked += 1;
        status.moved += u64::from(has_moved);
        Ok(())
    }

    fn status(&self) -> MutexGuard<'_, ReconciliationStatus> {
        lock(&self.client.reconciliation)
    }
}

/// Whether what refused a question may pass by itself.
fn may_pass(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ProviderError
            | Reason::ProviderUnreachable
            | Reason::RateLimited
            | Reason::Overloaded
            | Reason::StoreUnavailable
    )
}

fn lock(status: &Mutex<ReconciliationStatus>) -> MutexGuard<'_, ReconciliationStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
