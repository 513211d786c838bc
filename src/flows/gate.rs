//! The gate to the provider: what needs a slot of a rate budget passes here, or waits in line for one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Client,
    clients::ByName,
    flight::Passengers,
    line::{Line, LineIsFull, Position, Ticket},
};
use crate::{
    domain::{BudgetKind, BudgetTerms, ClientName, Clock, Outlook, Reason, Refusal, Timestamp},
    store::{Store, StoreError},
};

/// One rate budget with the line before it.
pub(super) struct Gate {
    pub(super) terms: BudgetTerms,
    line: Arc<Line>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
}

/// The gates of one client.
pub(super) struct Gates {
    /// For token requests.
    pub(super) token: Arc<Gate>,
    /// For session queries.
    pub(super) session: Arc<Gate>,
}

/// How a rate budget stands.
#[derive(Clone, Copy, Debug)]
pub struct BudgetStatus {
    /// What it limits.
    pub kind: BudgetKind,
    /// Requests in any 60 s.
    pub limit: u32,
    /// Slots that are held.
    pub used: u32,
    /// Until when the provider has closed it.
    pub closed_until: Option<Timestamp>,
    /// How many wait in line.
    pub waiting: usize,
}

/// The gates of all clients. Clients that share a credential share its gate, with the smallest of their limits; the line
/// that stood there `before` stays.
pub(super) fn gates(
    clients: &BTreeMap<ClientName, Client>,
    before: &ByName,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    stopping: &CancellationToken,
) -> BTreeMap<ClientName, Gates> {
    let all_terms = || clients.values().flat_map(|client| [&client.token_budget, &client.session_budget]);
    let is_same = |one: &BudgetTerms, other: &BudgetTerms| {
        one.kind == other.kind && one.credential.expose() == other.credential.expose()
    };
    let gates_before = || before.values().flat_map(|client| [&client.gates.token, &client.gates.session]);
    let mut gates: Vec<Arc<Gate>> = Vec::new();
    let mut gate = |terms: &BudgetTerms| {
        if let Some(known) = gates.iter().find(|gate| is_same(&gate.terms, terms)) {
            return Arc::clone(known);
        }
        let shared = || all_terms().filter(|other| is_same(other, terms));
        let limit = shared().map(|other| other.limit).min().unwrap_or(terms.limit);
        let patience = shared().map(|other| other.patience).max().unwrap_or(terms.patience);
        let line = gates_before().find(|gate| is_same(&gate.terms, terms)).map(|gate| Arc::clone(&gate.line));
        let terms = BudgetTerms { limit, patience, ..terms.clone() };
        let gate = Arc::new(Gate {
            terms,
            line: line.unwrap_or_default(),
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            stopping: stopping.clone(),
        });
        gates.push(Arc::clone(&gate));
        gate
    };
    let mut of_client =
        |client: &Client| Gates { token: gate(&client.token_budget), session: gate(&client.session_budget) };
    clients.iter().map(|(name, client)| (name.clone(), of_client(client))).collect()
}

/// Why something did not pass.
#[derive(Debug)]
pub(super) enum NotPassed {
    /// Nobody waits for it any more. Nothing was consumed.
    Abandoned,
    /// It was refused.
    Refused(Refusal),
}

/// What keeps a flight on the ground: it waits in line.
#[derive(Clone)]
pub(super) struct Hindrance {
    gate: Arc<Gate>,
    position: Position,
    /// Before this time no slot is to be had, whoever leaves the line.
    not_before: Instant,
}

impl Gate {
    /// Makes an attempt that takes a slot, when its turn comes; again for as long as it finds none and somebody waits for
    /// it. An attempt that was begun is never dropped: it may have been made durable.
    pub(super) async fn pass<T, A>(
        self: &Arc<Self>,
        ticket: &Ticket,
        passengers: &Passengers,
        attempt: impl Fn() -> A,
    ) -> Result<T, NotPassed>
    where
        A: Future<Output = Result<T, StoreError>>,
    {
        // Who finds nobody waiting need not line up for a slot that is there.
        if self.line.is_empty() {
            match attempt().await {
                Err(StoreError::BudgetSpent(_)) => {}
                passed => return Ok(passed?),
            }
        }
        let mut place = self.line.enter(ticket)?;
        let outlook = self.outlook().await?;
        let waiting = passengers.hindered(self.hindrance(place.position(), &outlook));
        self.wait(passengers, place.turn()).await??;
        loop {
            // Nothing is begun any more that the end of the daemon would cut off.
            if self.stopping.is_cancelled() {
                return Err(NotPassed::Refused(Reason::ShuttingDown.into()));
            }
            match attempt().await {
                Err(StoreError::BudgetSpent(outlook)) => {
                    waiting.renew(self.hindrance(place.position(), &outlook));
                    let free = time::timeout(outlook.wait_behind(0), place.nudged());
                    self.wait(passengers, free).await.map(drop)?;
                }
                passed => return Ok(passed?),
            }
        }
    }

    /// How the budget stands.
    pub(super) async fn status(&self) -> Result<BudgetStatus, StoreError> {
        let now = self.clock.now();
        let outlook = self.store.outlook(now, &self.terms).await?;
        Ok(BudgetStatus {
            kind: self.terms.kind,
            limit: self.terms.limit,
            used: outlook.used,
            closed_until: outlook.closed_for.map(|span| now.wall.plus(span)),
            waiting: self.line.len(),
        })
    }

    /// The use of a slot ended, which may be news to whoever waits for one.
    pub(super) fn changed(&self) {
        self.line.nudge();
    }

    /// Waits until nobody is in line and more than half of the slots are free: for what must not be in anybody's way.
    pub(super) async fn spare(&self) -> Result<(), StoreError> {
        loop {
            let reserve = usize::try_from(self.terms.limit / 2).unwrap_or(usize::MAX);
            let wait = self.outlook().await?.wait_behind(reserve.saturating_add(self.line.len()));
            if wait.is_zero() {
                return Ok(());
            }
            time::sleep(wait).await;
        }
    }

    /// When slots are to be had.
    pub(super) async fn outlook(&self) -> Result<Outlook, StoreError> {
        self.store.outlook(self.clock.now(), &self.terms).await
    }

    /// What the provider refused with 429, with the time after which the budget is open again.
    pub(super) async fn timed(&self, refusal: Refusal) -> Refusal {
        if refusal.reason != Reason::RateLimited {
            return refusal;
        }
        let retry_after = self.outlook().await.ok().and_then(|outlook| outlook.closed_for);
        Refusal { retry_after: retry_after.or(refusal.retry_after), ..refusal }
    }

    fn hindrance(self: &Arc<Self>, position: Position, outlook: &Outlook) -> Hindrance {
        let not_before = Instant::now() + outlook.not_before;
        Hindrance { gate: Arc::clone(self), position, not_before }
    }

    /// Waits for something that can be dropped, while it makes sense.
    async fn wait<F: Future>(&self, passengers: &Passengers, event: F) -> Result<F::Output, NotPassed> {
        tokio::select! {
            biased;
            happened = event => Ok(happened),
            () = self.stopping.cancelled() => Err(NotPassed::Refused(Reason::ShuttingDown.into())),
            () = passengers.gone() => Err(NotPassed::Abandoned),
        }
    }
}

impl Hindrance {
    /// Whether it is certain to last beyond a time.
    pub(super) fn lasts_beyond(&self, time: Instant) -> bool {
        self.not_before > time
    }

    /// What a caller hears who does not wait any longer.
    pub(super) async fn refusal(&self) -> Refusal {
        let ahead = self.position.ahead();
        let wait = self.gate.outlook().await.map_or(Duration::ZERO, |outlook| outlook.wait_behind(ahead));
        // Where a slot is to be had at once, somebody else is about to take it.
        Refusal { retry_after: Some(wait.max(Duration::from_secs(1))), ..Reason::RateLimited.into() }
    }
}

impl From<LineIsFull> for NotPassed {
    fn from(_: LineIsFull) -> Self {
        Self::Refused(Reason::Overloaded.into())
    }
}

impl From<StoreError> for NotPassed {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}
