//! Webhooks about a session in every order, and at every place of a flow.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::*;
use crate::domain::{Ended, Envelope, EventId, Status, WebhookSecret};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The caller starts the session.
    Start,
    /// A callback is presented. It tells which session of the provider's this one is.
    Callback,
    /// The provider refuses its token request for now.
    Refusal,
    /// The provider gives the token, and the claims.
    Answer,
    /// The caller cancels.
    Cancel,
    /// A webhook says that the provider's session is there. A second one of the same is the same, byte for byte.
    Webhook(&'static str),
}

use Step::{Answer, Callback, Cancel, Refusal, Start, Webhook};

/// A flow that has two tries: open, linked and waiting, over. Its steps come in this order alone.
const FLOW: [Step; 5] = [Start, Callback, Refusal, Callback, Answer];

/// What comes between them, at any place and in any order.
const BETWEEN: [&[Step]; 4] = [
    &[Webhook("authenticated"), Webhook("verified"), Webhook("verified")],
    &[Webhook("verified"), Webhook("failed"), Cancel],
    &[Webhook("failed"), Webhook("failed"), Webhook("expired")],
    &[Webhook("complete"), Webhook("complete"), Cancel],
];

/// Every order of `between` within and around the flow.
fn orders(flow: &[Step], between: &[Step]) -> Vec<Vec<Step>> {
    if flow.is_empty() && between.is_empty() {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    let mut follow = |first: Step, flow: &[Step], between: &[Step]| {
        for mut rest in self::orders(flow, between) {
            rest.insert(0, first);
            orders.push(rest);
        }
    };
    if let Some((first, rest)) = flow.split_first() {
        follow(*first, rest, between);
    }
    for (index, first) in between.iter().enumerate() {
        // Of two that are alike, either is the first.
        if !between[..index].contains(first) {
            follow(*first, flow, &[&between[..index], &between[index + 1..]].concat());
        }
    }
    orders
}

/// What must become of a session: the state machine once more, in its own words.
#[derive(Clone, Copy, Debug)]
struct Expected {
    status: Option<Status>,
    /// Whether the session is known as the one of the provider's.
    is_linked: bool,
    /// Where it stood before its token request, which is under way.
    before: Option<Status>,
}

impl Expected {
    /// What a step makes of it; whether the store does it.
    fn after(&mut self, step: Step) -> bool {
        use Status::{Authenticated, Ended, Exchanging, Pending, Verified};
        let is_open = matches!(self.status, Some(Pending | Authenticated | Verified));
        match step {
            Start => self.status = Some(Pending),
            Callback if is_open => {
                (self.before, self.status, self.is_linked) = (self.status, Some(Exchanging), true);
            }
            Refusal if self.before.is_some() => self.status = self.before.take(),
            Answer if self.before.is_some() => {
                (self.before, self.status) = (None, Some(Ended(Terminal::Complete)));
            }
            Cancel if is_open || self.status == Some(Ended(Terminal::Cancelled)) => {
                self.status = Some(Ended(Terminal::Cancelled));
            }
            Webhook(word) => {
                // What was heard before the session was known says nothing of it any more.
                if is_open && self.is_linked {
                    self.status = match (word, self.status) {
                        ("failed", _) => Some(Ended(Terminal::Failed)),
                        ("expired", _) => Some(Ended(Terminal::Expired)),
                        ("authenticated", Some(Pending)) => Some(Authenticated),
                        ("verified" | "complete", _) => Some(Verified),
                        (_, status) => status,
                    };
                }
            }
            Callback | Refusal | Answer | Cancel => return false,
        }
        true
    }
}

/// One session on its way through one order.
struct Way {
    number: usize,
    order: Vec<Step>,
    expected: Expected,
    slot: Option<Slot>,
    ended: Option<Ended>,
    /// The webhooks that were kept.
    kept: Vec<(&'static str, EventId)>,
}

impl Way {
    fn new(number: usize, order: Vec<Step>) -> Self {
        let expected = Expected { status: None, is_linked: false, before: None };
        Self { number, order, expected, slot: None, ended: None, kept: Vec::new() }
    }

    /// What sessions and their states are made of: a number that is not too large, and a time.
    fn parts(&self) -> (u64, u8) {
        ((self.number / 250) as u64, (self.number % 250) as u8 + 1)
    }

    fn state(&self) -> State {
        let (seconds, number) = self.parts();
        state(number, seconds)
    }

    async fn go(mut self, store: Arc<dyn Store>, round: usize) -> Self {
        let (now, step) = (at(1000 + round as u64), self.order[round]);
        // A duplicate changes nothing, whatever the first of it has met.
        let is_duplicate = self.kept.iter().any(|(word, _)| step == Webhook(word));
        let is_done = !is_duplicate && self.expected.after(step);
        match step {
            Start => {
                let (seconds, number) = self.parts();
                store.start(now, new_session(seconds, number)).await.unwrap();
            }
            Callback => {
                let took = self.take(&store, now).await;
                assert_eq!(took.is_ok(), is_done, "{:?} at {round}: {took:?}", self.order);
                if let Ok(Took { next: Next::Send { slot, .. }, .. }) = took {
                    self.slot = Some(slot);
                }
            }
            Refusal => {
                if let Some(slot) = self.slot.take() {
                    let verdict = token_verdict(503, None);
                    let end = ExchangeEnd::Refused { verdict, said: ProviderSaid::default() };
                    store.end_exchange(now, self.state().session, slot, end).await.unwrap();
                }
            }
            Answer => {
                if let Some(slot) = self.slot.take() {
                    let id = self.state().session;
                    store.end_exchange(now, id, slot, token()).await.unwrap();
                    store.end_claims(now, id, claims()).await.unwrap();
                }
            }
            Cancel => {
                let cancelled = store.cancel(now, &viewer("checkout"), self.state().session).await;
                assert_eq!(cancelled.is_ok(), is_done, "{:?} at {round}: {cancelled:?}", self.order);
            }
            Webhook(word) => self.hear(&store, now, round, word).await,
        }
        self.check(&store, now, round).await;
        self
    }

    async fn take(&self, store: &Arc<dyn Store>, now: Moment) -> Result<Took, StoreError> {
        let take = Take {
            state: self.state(),
            presented: Presented::Code(AuthorizationCode::new(format!("code-{}", self.number))),
            since: now,
            provider_session: hint(&format!("hvf_{}", self.number)),
            ..take_of(1, "")
        };
        // A budget of its own: thousands of them in one would be measured instead.
        let credential = ApiKey::new(format!("cairl_test_{}", self.number));
        store.take(now, take, &BudgetTerms { credential, ..terms() }).await
    }

    async fn hear(&mut self, store: &Arc<dyn Store>, now: Moment, round: usize, word: &'static str) {
        let number = self.number;
        let body = format!(
            r#"{{"id":"{number}-{word}","type":"session.{word}","session_id":"hvf_{number}","status":"{word}"}}"#
        );
        let mut random = [0; 10];
        random[..8].copy_from_slice(&((number * 100 + round) as u64).to_be_bytes());
        let new = NewEvent {
            id: EventId::new(now.wall, random),
            client: client(),
            envelope: Envelope::read(body.as_bytes()),
            body: body.into_bytes(),
            secret: WebhookSecret::new("whsec_1"),
        };
        let ingested = store.ingest(now, new).await.unwrap();
        let before = self.kept.iter().find(|(kept, _)| *kept == word);
        assert_eq!(ingested.duplicate, before.is_some(), "{:?} at {round}", self.order);
        match before {
            Some((_, id)) => assert_eq!(ingested.event.id, *id),
            None => self.kept.push((word, ingested.event.id)),
        }
        let session = ingested.session.map(|session| session.id);
        assert_eq!(
            session,
            self.expected.is_linked.then(|| self.state().session),
            "{:?} at {round}",
            self.order
        );
    }

    /// It stands where it must, and what has ended stays as it ended.
    async fn check(&mut self, store: &Arc<dyn Store>, now: Moment, round: usize) {
        let lookup = Lookup::Id(self.state().session);
        let session = store.session(now, &viewer("checkout"), &lookup).await;
        let status = session.as_ref().ok().map(Session::status);
        assert_eq!(status, self.expected.status, "{:?} at {round}", self.order);
        let ended = session.ok().and_then(|session| session.ended());
        if self.ended.is_some() {
            assert_eq!(ended, self.ended, "{:?} at {round}: it has ended before", self.order);
        }
        self.ended = ended;
    }
}

/// A consumer: how often it was told of each event, and as which session's the last time.
struct Reader {
    viewer: Viewer,
    reached: u64,
    told: BTreeMap<EventId, (u32, Option<SessionId>)>,
}

impl Reader {
    fn new(viewer: Viewer) -> Self {
        Self { viewer, reached: 0, told: BTreeMap::new() }
    }

    async fn read_on(&mut self, store: &Arc<dyn Store>) {
        let filter = EventFilter { client: client(), kinds: Vec::new(), session: None };
        loop {
            let page = store.read_on(&self.viewer, &filter, self.reached, 1000).await.unwrap();
            self.reached = page.reached;
            for event in page.events {
                let told = self.told.entry(event.id).or_default();
                *told = (told.0 + 1, event.session.map(|(id, _)| id));
            }
            if !page.more {
                return;
            }
        }
    }
}

/// In every order: the session stands where the state machine has it, never reopens, and has each of its events once, known
/// late or not.
pub(super) async fn webhooks_come_in_every_order(backend: &impl Backend) {
    let orders = BETWEEN.iter().flat_map(|between| orders(&FLOW, between));
    let mut ways: Vec<_> = orders.enumerate().map(|(number, order)| Way::new(number, order)).collect();
    // 8! / 5! ways to lay three among five, and half of them where two are alike.
    assert_eq!(ways.len(), 336 + 3 * 168);

    let store = backend.open(run(1));
    let mut owner = Reader::new(viewer("checkout"));
    let mut overseer = Reader::new(Viewer { sees_unlinked: true, ..viewer("checkout") });
    for round in 0..FLOW.len() + BETWEEN[0].len() {
        let mut steps: JoinSet<_> = ways.drain(..).map(|way| way.go(Arc::clone(&store), round)).collect();
        while let Some(way) = steps.join_next().await {
            ways.push(way.unwrap());
        }
        owner.read_on(&store).await;
        overseer.read_on(&store).await;
    }
    drop(store);

    let store = backend.open(run(2));
    let mut newcomer = Reader::new(viewer("checkout"));
    newcomer.read_on(&store).await;
    let mut kept = 0;
    for way in &mut ways {
        way.check(&store, at(2000), FLOW.len()).await;
        assert!(way.ended.is_some(), "{:?}", way.order);
        let session = way.expected.is_linked.then(|| way.state().session);
        // Who sees no events of no session is told of them when they have found theirs.
        let once = session.map(|session| (1, Some(session)));
        for (_, id) in &way.kept {
            assert_eq!(owner.told.remove(id), once, "{:?}", way.order);
            assert_eq!(newcomer.told.remove(id), once, "{:?}", way.order);
            assert_eq!(overseer.told.remove(id).map(|(count, _)| count), Some(1), "{:?}", way.order);
        }
        kept += way.kept.len() as u64;
    }
    assert_eq!(store.status().events, kept);
    for reader in [owner, overseer, newcomer] {
        assert!(reader.told.is_empty(), "nothing else was told");
    }
}
