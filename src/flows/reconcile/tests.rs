//! Whom reconciliation asks about, when, and how often.

use std::collections::BTreeSet;

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinHandle, time};

use super::*;
use crate::{
    domain::{
        AccessToken, ApiKey, AuthorizationCode, BudgetKind, BudgetTerms, ClaimsEnd, Clock, CodeVerifier,
        ConsumerName, ExchangeEnd, Presented, ProviderSaid, ProviderSessionId, ProviderStatus, QueryEnd,
        RunId, SigningSecret, Stage, State, StateSecret, Status, Terminal, Userinfo, WebhookSecret,
        token_verdict,
    },
    flows::{
        Client,
        testing::{RuntimeClock, TimeStands},
    },
    provider::{Contact, Errand, Provider, TokenRequest},
    store::{
        Consumer, EventLimits, KeyRing, MasterKey, NewSession, Next, PendingLimits, RedbStore, Settings,
        Store, Take,
    },
};

/// Session queries that the provider takes in a minute.
const LIMIT: u32 = 10;
const BODY: &[u8] = b"{}";
/// `printf {} | openssl dgst -sha256 -hmac whsec`
const SIGNATURE: &str = "sha256=ae6341ea7f40a435db57d903d02cba19085efb8a913f8cfbd8cff3d7df0c7a2d";

/// A provider that says of every session that it is verified, unless told otherwise.
#[derive(Default)]
struct Scripted {
    /// What was asked, in order.
    asked: watch::Sender<Vec<String>>,
    /// Refuses instead: so many times, for that reason.
    refusing: Mutex<(u32, Option<Reason>)>,
}

impl Scripted {
    fn refuse(&self, times: u32, reason: Reason) {
        *self.refusing.lock().unwrap() = (times, Some(reason));
    }

    fn note(&self, what: &str) {
        self.asked.send_modify(|asked| asked.push(what.to_owned()));
    }
}

#[async_trait]
impl Provider for Scripted {
    async fn exchange(&self, _: &Errand, _: TokenRequest) -> ExchangeEnd {
        panic!("nobody presents a callback");
    }

    async fn userinfo(&self, _: &Errand, token: &AccessToken) -> ClaimsEnd {
        self.note(token.expose());
        ClaimsEnd::Claims(Userinfo::parse(br#"{"sub":"s","claims":{"age_18_plus":true}}"#).unwrap())
    }

    async fn session(&self, _: &Errand, id: &ProviderSessionId) -> QueryEnd {
        self.note(&id.to_string());
        let mut refusing = self.refusing.lock().unwrap();
        match &mut *refusing {
            (times @ 1.., Some(reason)) => {
                *times -= 1;
                QueryEnd::Refused { refusal: Refusal::at(Stage::Session, *reason), was_sent: true }
            }
            _ => QueryEnd::Status(Some(ProviderStatus::Verified)),
        }
    }

    async fn revoke(&self, _: &Errand, _: &AccessToken) -> Result<(), Refusal> {
        panic!("nobody revokes a token");
    }

    fn contact(&self) -> Contact {
        Contact::default()
    }
}

struct Scene {
    store: Arc<dyn Store>,
    flows: Arc<Flows>,
    provider: Arc<Scripted>,
    clock: Arc<RuntimeClock>,
    viewer: Viewer,
    terms: BudgetTerms,
    _stands: TimeStands,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("cairld.redb"),
            cache_bytes: 1 << 20,
            retention: Duration::from_secs(86_400),
            keys: KeyRing::new(&MasterKey::new([1; 32]), &[]),
        };
        let clock = Arc::new(RuntimeClock::new());
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(settings, RunId::new([1; 16]), clock.now()).unwrap());
        let provider = Arc::new(Scripted::default());
        let name = ClientName::parse("shop").unwrap();
        let viewer = Viewer {
            caller: CallerName::parse("checkout").unwrap(),
            clients: Arc::new(BTreeSet::from([name.clone()])),
            shared: Arc::default(),
            sees_unlinked: false,
        };
        let terms = |kind, limit| BudgetTerms {
            kind,
            credential: ApiKey::new("cairl_test_1"),
            limit,
            patience: Duration::from_secs(30),
        };
        let url = || "http://127.0.0.1:1/".parse().unwrap();
        let client = Client {
            name,
            base_url: url(),
            authorize: url(),
            authorize_params: BTreeMap::new(),
            client_id: ApiKey::new("cairl_test_1"),
            redirect_uris: Vec::new(),
            require_binding: false,
            test_mode: true,
            issuer: None,
            callers: BTreeSet::from([viewer.caller.clone()]),
            webhook_secrets: vec![SigningSecret { secret: WebhookSecret::new("whsec"), until: None }],
            token_budget: terms(BudgetKind::Token, 1000),
            session_budget: terms(BudgetKind::Session, LIMIT),
            provider: Arc::clone(&provider) as Arc<dyn Provider>,
        };
        let terms = client.token_budget.clone();
        let limits =
            EventLimits { retention: Duration::from_secs(3600), bytes: 1 << 20, unread_bytes: 1 << 20 };
        let flows =
            Flows::new(Arc::clone(&store), vec![client], limits, Arc::clone(&clock) as Arc<dyn Clock>);
        let flows = Arc::new(flows);
        let stands = TimeStands::still();
        Self { store, flows, provider, clock, viewer, terms, _stands: stands, _folder: folder }
    }

    /// A session that nobody has come back for yet.
    async fn started(&self, number: u8) -> SessionId {
        let new = NewSession {
            id: SessionId::new(self.clock.now().wall, [number; 10]),
            client: ClientName::parse("shop").unwrap(),
            caller: self.viewer.caller.clone(),
            scopes: Vec::new(),
            redirect_uri: String::new(),
            reference: String::new(),
            test_mode: true,
            secret: StateSecret::new([number; 32]),
            verifier: CodeVerifier::new("v"),
            binding: None,
            request_id: None,
            limits: PendingLimits::default(),
        };
        self.store.start(self.clock.now(), new).await.unwrap().session.id
    }

    /// A session whose token request ended so.
    async fn presented(&self, number: u8, end: ExchangeEnd) -> SessionId {
        let session = self.started(number).await;
        let take = Take {
            viewer: self.viewer.clone(),
            state: State { session, secret: StateSecret::new([number; 32]) },
            presented: Presented::Code(AuthorizationCode::new(format!("code-{number}"))),
            since: self.clock.now(),
            binding: None,
            provider_session: ProviderSessionId::parse(&format!("hvf_{number}")).ok(),
        };
        let took = self.store.take(self.clock.now(), take, &self.terms).await.unwrap();
        let Next::Send { slot, .. } = took.next else { panic!("{:?}", took.next) };
        self.store.end_exchange(self.clock.now(), session, slot, end).await.unwrap();
        session
    }

    /// One that waits for the account to be funded.
    async fn refused(&self, number: u8) -> SessionId {
        let (verdict, said) = (token_verdict(402, Some("payment_required")), ProviderSaid::default());
        self.presented(number, ExchangeEnd::Refused { verdict, said }).await
    }

    fn reconcile(&self) -> JoinHandle<()> {
        let flows = Arc::clone(&self.flows);
        tokio::spawn(async move { flows.reconcile().await })
    }

    async fn asked(&self, count: usize) -> Vec<String> {
        let mut asked = self.provider.asked.subscribe();
        asked.wait_for(|asked| asked.len() >= count).await.unwrap().clone()
    }

    fn asked_so_far(&self) -> usize {
        self.provider.asked.borrow().len()
    }

    /// Lets time pass, and whatever that brings about happen.
    async fn pass(&self, seconds: u64) {
        let nobody = Consumer {
            caller: self.viewer.caller.clone(),
            client: ClientName::parse("shop").unwrap(),
            name: ConsumerName::parse("nobody").unwrap(),
        };
        for _ in 0..seconds {
            time::advance(Duration::from_secs(1)).await;
            // Behind whatever the store was asked before; several times, since one thing leads to another.
            for _ in 0..8 {
                self.store.acknowledge(&nobody, 1).await.unwrap_err();
                tokio::task::yield_now().await;
            }
        }
    }

    async fn status_of(&self, id: SessionId) -> Status {
        self.flows.session(&self.viewer, &Lookup::Id(id)).await.unwrap().status()
    }

    fn told(&self) -> ReconciliationStatus {
        self.flows.reconciliation(&ClientName::parse("shop").unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_start_those_are_asked_about_that_can_be_the_soonest_to_end_first() {
    let scene = Scene::new();
    let first = scene.refused(3).await;
    scene.pass(1).await;
    let second = scene.refused(1).await;
    scene.pass(1).await;
    scene.started(7).await;
    let cancelled = scene.refused(4).await;
    scene.store.cancel(scene.clock.now(), &scene.viewer, cancelled).await.unwrap();
    let third = scene.refused(2).await;
    let _task = scene.reconcile();
    assert_eq!(scene.asked(3).await, ["hvf_3", "hvf_1", "hvf_2"]);
    scene.pass(1).await;
    for id in [first, second, third] {
        assert_eq!(scene.status_of(id).await, Status::Verified);
    }
    let told = scene.told();
    assert_eq!((told.asked, told.moved, told.waiting, told.unknown), (3, 3, 0, 1));
    assert!(told.last.is_some());
}

#[tokio::test(start_paused = true)]
async fn half_of_the_budget_is_left_to_callers() {
    let scene = Scene::new();
    for number in 1..=8 {
        scene.refused(number).await;
    }
    let _task = scene.reconcile();
    scene.asked(5).await;
    scene.pass(59).await;
    assert_eq!(scene.asked_so_far(), 5);
    assert_eq!(scene.told().waiting, 3);
    // Callers have what is left.
    for number in 20..25 {
        let id = scene.refused(number).await;
        let patience = Instant::now();
        scene.flows.refreshed_session(&scene.viewer, &Lookup::Id(id), patience, None).await.unwrap();
    }
    scene.pass(2).await;
    assert_eq!(scene.asked_so_far(), 10, "what callers use counts too");
    scene.pass(60).await;
    assert_eq!(scene.asked_so_far(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_is_asked_again_and_again() {
    let scene = Scene::new();
    let id = scene.refused(1).await;
    scene.provider.refuse(8, Reason::ProviderUnreachable);
    let _task = scene.reconcile();
    scene.asked(1).await;
    scene.pass(300).await;
    assert_eq!(scene.asked_so_far(), 9);
    assert_eq!(scene.status_of(id).await, Status::Verified);
    assert_eq!(scene.told().asked, 1, "one session, however often");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_in_vain_ends_with_the_session() {
    let scene = Scene::new();
    let id = scene.refused(1).await;
    scene.provider.refuse(u32::MAX, Reason::ProviderError);
    let _task = scene.reconcile();
    scene.asked(1).await;
    scene.pass(1860).await;
    assert_eq!(scene.status_of(id).await, Status::Ended(Terminal::Expired));
    let so_far = scene.asked_so_far();
    scene.pass(600).await;
    assert_eq!(scene.asked_so_far(), so_far);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_not_tried_with_every_session() {
    let scene = Scene::new();
    for number in 1..=4 {
        scene.refused(number).await;
    }
    scene.provider.refuse(1, Reason::InvalidApiKey);
    let _task = scene.reconcile();
    scene.asked(1).await;
    scene.pass(120).await;
    assert_eq!(scene.asked_so_far(), 1);
    scene.pass(490).await;
    assert_eq!(scene.asked_so_far(), 5, "the next round tries again");
}

#[tokio::test(start_paused = true)]
async fn one_that_the_provider_does_not_know_stands_in_nobodys_way() {
    let scene = Scene::new();
    scene.refused(1).await;
    let second = scene.refused(2).await;
    scene.provider.refuse(1, Reason::ProviderSessionNotFound);
    let _task = scene.reconcile();
    assert_eq!(scene.asked(2).await, ["hvf_1", "hvf_2"]);
    scene.pass(1).await;
    assert_eq!(scene.status_of(second).await, Status::Verified);
}

#[tokio::test(start_paused = true)]
async fn missing_claims_are_fetched_when_half_of_the_tokens_life_is_over() {
    let scene = Scene::new();
    let token = AccessToken::new("the-token");
    let end = ExchangeEnd::Token { token, life: Duration::from_secs(400) };
    let id = scene.presented(1, end).await;
    let _task = scene.reconcile();
    scene.pass(199).await;
    assert_eq!(scene.asked_so_far(), 0, "whoever presented it may come back");
    assert_eq!(scene.status_of(id).await, Status::Exchanging);
    scene.pass(2).await;
    assert_eq!(scene.asked(1).await, ["the-token"]);
    scene.pass(1).await;
    assert_eq!(scene.status_of(id).await, Status::Ended(Terminal::Complete));
}

#[tokio::test(start_paused = true)]
async fn silence_is_followed_by_questions_and_webhooks_break_it() {
    let scene = Scene::new();
    let _task = scene.reconcile();
    scene.pass(1).await;
    let id = scene.refused(1).await;
    scene.pass(590).await;
    let client = scene.flows.client_named("shop").unwrap();
    scene.flows.take_in(&client, BODY.to_vec(), SIGNATURE).await.unwrap();
    scene.pass(599).await;
    assert_eq!(scene.asked_so_far(), 0);
    scene.pass(2).await;
    assert_eq!(scene.asked(1).await, ["hvf_1"]);
    scene.pass(1).await;
    assert_eq!(scene.status_of(id).await, Status::Verified);
    scene.pass(590).await;
    assert_eq!(scene.asked_so_far(), 1);
    scene.pass(15).await;
    assert_eq!(scene.asked_so_far(), 2, "and again, for as long as it lasts");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_in_mind_is_bounded_and_goes_on_behind_the_last() {
    let scene = Scene::new();
    let id = scene.refused(1).await;
    let one = scene.flows.session(&scene.viewer, &Lookup::Id(id)).await.unwrap();
    let now = scene.clock.now();
    let others = (0..5000).map(|number| {
        let created = one.created.plus(Duration::from_millis(number));
        Session { id: SessionId::new(created.wall, [1; 10]), created, ..one.clone() }
    });
    let sessions: Vec<_> = others.collect();
    let mut found = Found::default();
    for session in sessions.iter().rev() {
        found.add(session, now, None);
    }
    assert!(found.is_cut && found.sessions.len() == MOST_IN_MIND);
    let last = *found.sessions.last_key_value().unwrap().0;
    assert_eq!(last.1, sessions[MOST_IN_MIND - 1].id, "the soonest to end are kept");
    let mut rest = Found::default();
    for session in &sessions {
        rest.add(session, now, Some(last));
    }
    assert!(!rest.is_cut);
    assert_eq!(rest.sessions.len(), 5000 - MOST_IN_MIND);
}
