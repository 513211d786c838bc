//! A town whose people verify themselves: sessions from their start to their end, in the proportions of a real day.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cairld::{
    domain::{
        AccessToken, ApiKey, AuthorizationCode, BootTime, BudgetKind, BudgetTerms, CallerName, ClaimsEnd,
        ClientName, CodeVerifier, Envelope, EventId, ExchangeEnd, Moment, Presented, ProviderSessionId,
        RevocationEnd, RunId, Scope, SessionId, State, StateSecret, Timestamp, Userinfo, Viewer,
        WebhookSecret,
    },
    store::{
        EventLimits, Inbox, KeyRing, MasterKey, NewEvent, NewSession, Next, PendingLimits, RedbStore,
        SWEEP_EVERY, Settings, Store, Take, TrimTerms,
    },
};
use futures_util::{StreamExt, stream};

const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Sessions under way at a time.
const AT_ONCE: usize = 512;
/// Each has a rate budget of its own.
const CLIENTS: u64 = 8;
/// Their limits are never met: more than a client's share of a step.
const MOST_AT_A_TIME: u32 = 1000;
/// Simulated time goes on by so much at a time, in which that many sessions begin.
const STEP: Duration = Duration::from_secs(300);

/// A quarter of a day.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    pub number: u64,
    /// Of the whole day.
    pub sessions: u64,
    pub quarter: u64,
}

/// The store, and the time.
pub struct Town {
    pub store: RedbStore,
    pub path: PathBuf,
    /// Milliseconds since the beginning.
    now: AtomicU64,
    clients: Vec<Neighbour>,
}

struct Neighbour {
    name: ClientName,
    viewer: Viewer,
    terms: BudgetTerms,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn moment(millis: u64) -> Moment {
    Moment {
        wall: Timestamp::from_millis(1_800_000_000_000 + millis),
        boot: BootTime { boot: 1, millis: 1000 + millis },
    }
}

impl Town {
    pub fn new(path: &Path) -> Self {
        let store = RedbStore::open(Self::settings(path), RunId::new([7; 16]), moment(0)).unwrap();
        let clients = (0..CLIENTS).map(|number| {
            let name = ClientName::parse(&format!("client{number}")).unwrap();
            let viewer = Viewer {
                caller: CallerName::parse("checkout").unwrap(),
                clients: Arc::new([name.clone()].into()),
                shared: Arc::default(),
                sees_unlinked: false,
            };
            let terms = BudgetTerms {
                kind: BudgetKind::Token,
                credential: ApiKey::new(format!("cairl_test_{number}")),
                limit: MOST_AT_A_TIME,
                patience: Duration::from_secs(30),
            };
            Neighbour { name, viewer, terms }
        });
        let path = path.to_owned();
        Self { store, path, now: AtomicU64::default(), clients: clients.collect() }
    }

    /// How a store is opened.
    pub fn settings(path: &Path) -> Settings {
        Settings {
            path: path.to_owned(),
            cache_bytes: 64 << 20,
            retention: RETENTION,
            keys: KeyRing::new(&MasterKey::new([1; 32]), &[]),
        }
    }

    /// Starts one session, whose user walks away.
    pub async fn start_one(&self) {
        let id = SessionId::new(self.now().wall, random());
        let new = new_session(&self.clients[0], id, StateSecret::new(random()));
        self.store.start(self.now(), new).await.unwrap();
    }

    pub fn now(&self) -> Moment {
        moment(self.now.load(Ordering::Relaxed))
    }

    /// Lives through six hours; answers how many sessions were started.
    pub async fn live(&self, day: Day) -> u64 {
        let steps = 6 * 3600 / STEP.as_secs();
        let (first, last) = (day.quarter * steps, (day.quarter + 1) * steps);
        let up_to = |step: u64| day.sessions * step / (4 * steps);
        for step in first..last {
            let people = up_to(step)..up_to(step + 1);
            stream::iter(people).for_each_concurrent(AT_ONCE, |number| self.verify(day.number, number)).await;
            self.pass(STEP).await;
        }
        up_to(last) - up_to(first)
    }

    /// Time goes on, and what is past its time goes, as often as the daemon has it go.
    pub async fn pass(&self, span: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let step = left.min(SWEEP_EVERY);
            left -= step;
            self.now.fetch_add(u64::try_from(step.as_millis()).unwrap(), Ordering::Relaxed);
            while self.store.sweep(self.now()).await.unwrap().more {}
            let readers: BTreeMap<ClientName, BTreeSet<CallerName>> = BTreeMap::new();
            let limits = EventLimits { retention: RETENTION, bytes: 1 << 30, unread_bytes: 4 << 30 };
            let in_force = self.secrets();
            let terms = || TrimTerms { limits, in_force: &in_force, readers: &readers };
            while self.store.trim(self.now(), terms()).await.unwrap().more {}
        }
        for revocation in self.store.revocations(self.now()).await.unwrap() {
            self.store.end_revocation(self.now(), revocation.session, RevocationEnd::Revoked).await.unwrap();
        }
    }

    /// Webhooks are signed with another secret each day; that of the day before is still in force. A webhook is known again for
    /// as long as its secret is.
    fn secrets(&self) -> [WebhookSecret; 2] {
        let day = self.now.load(Ordering::Relaxed) / 86_400_000;
        [day, day.saturating_sub(1)]
            .map(|day| WebhookSecret::new(format!("whsec_of_day_{day}_0123456789abcdef")))
    }

    /// One session: of twenty, fourteen complete (one is revoked behind that), two are declined, one is cancelled, and three
    /// of their users walk away.
    async fn verify(&self, day: u64, number: u64) {
        let neighbour = &self.clients[usize::try_from(number % CLIENTS).unwrap()];
        let (id, secret) = (SessionId::new(self.now().wall, random()), StateSecret::new(random()));
        self.store.start(self.now(), new_session(neighbour, id, secret.clone())).await.unwrap();
        let provider_session = ProviderSessionId::parse(&format!("hvf_{day}_{number}")).unwrap();
        let take = |presented| Take {
            viewer: neighbour.viewer.clone(),
            state: State { session: id, secret: secret.clone() },
            presented,
            since: self.now(),
            binding: None,
            provider_session: Some(provider_session.clone()),
        };
        match number % 20 {
            fate @ 0..14 => {
                let code = Presented::Code(AuthorizationCode::new(format!("code-{day}-{number}")));
                let took = self.store.take(self.now(), take(code), &neighbour.terms).await.unwrap();
                let Next::Send { slot, .. } = took.next else { panic!("{took:?}") };
                let token =
                    AccessToken::new(format!("token-{day}-{number}-0123456789abcdef0123456789abcdef"));
                let end = ExchangeEnd::Token { token, life: Duration::from_secs(3600) };
                self.store.end_exchange(self.now(), id, slot, end).await.unwrap();
                let userinfo = br#"{"sub":"user-0123456789abcdef","claims":{"age_18_plus":true,"identity_verified":true}}"#;
                let claims = ClaimsEnd::Claims(Userinfo::parse(userinfo).unwrap());
                self.store.end_claims(self.now(), id, claims).await.unwrap();
                self.hear(neighbour, &provider_session, "verification.completed").await;
                if fate == 0 {
                    self.store.revoke(self.now(), &neighbour.viewer, id).await.unwrap();
                }
            }
            14 | 15 => {
                let error =
                    Presented::Error { error: "access_denied".to_owned(), description: String::new() };
                self.store.take(self.now(), take(error), &neighbour.terms).await.unwrap();
                self.hear(neighbour, &provider_session, "verification.failed").await;
            }
            16 => drop(self.store.cancel(self.now(), &neighbour.viewer, id).await.unwrap()),
            _ => {}
        }
    }

    /// The provider's webhook about a session.
    async fn hear(&self, neighbour: &Neighbour, session: &ProviderSessionId, kind: &str) {
        let body = format!(
            r#"{{"id":"evt-{session}","event":"{kind}","created_at":"2027-01-15T08:00:00Z","data":{{"session_id":"{session}","status":"complete"}}}}"#
        );
        let [today, _] = self.secrets();
        let new = NewEvent {
            id: EventId::new(self.now().wall, random()),
            client: neighbour.name.clone(),
            envelope: Envelope::read(body.as_bytes()),
            body: body.into_bytes(),
            secret: today,
        };
        self.store.ingest(self.now(), new).await.unwrap();
    }
}

fn new_session(neighbour: &Neighbour, id: SessionId, secret: StateSecret) -> NewSession {
    NewSession {
        id,
        client: neighbour.name.clone(),
        caller: neighbour.viewer.caller.clone(),
        scopes: vec![Scope::parse("age_18_plus").unwrap(), Scope::parse("identity_verified").unwrap()],
        redirect_uri: "https://shop.example/callback".to_owned(),
        reference: "order-0123456789".to_owned(),
        test_mode: true,
        secret,
        verifier: CodeVerifier::from_random(random()),
        binding: None,
        request_id: Some(id.to_string()),
        limits: PendingLimits { caller: u64::MAX, all: u64::MAX },
    }
}
