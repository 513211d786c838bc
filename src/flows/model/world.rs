//! One history, run: the real flows over the real store, a step at a time, beside the reference.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::{task::JoinHandle, time::Instant};
use url::Url;

use super::{
    Bug,
    fact::{Fact, Said},
    ledger::Ledger,
    provider::{Asked, Desk, Scripted},
    reference::{Place, Presented, Reference, View, age, sees},
    step::{Answer, CALLER_NAMES, CLIENT_NAMES, SESSIONS, Shown, Step},
    turnstile::{Turnstile, Waiting, callback},
};
use crate::{
    domain::{
        ApiKey, AuthorizationCode, Binding, BootTime, BudgetKind, BudgetTerms, Callback, CallerName,
        ClientName, Clock, Moment, Presented as Shows, ProviderSessionId, Reason, Refusal, RunId, Session,
        SessionId, SigningSecret, State, Status, Terminal, Timestamp, Viewer, WebhookSecret, millis,
    },
    flows::{Client, Complete, Flows, Start, StartAnswer, Webhook},
    provider::Provider,
    store::{
        EventFilter, EventLimits, Inbox, KeyRing, Lookup, MasterKey, RedbStore, Store, StoreError,
        disk::{Disk, Loss},
    },
};

const RETENTION: Duration = Duration::from_secs(3600);
/// Requests in a minute, few so that they are spent.
const TOKEN_LIMIT: usize = 4;
const SESSION_LIMIT: usize = 3;
const SECRET: &str = "whsec_of_the_model";

/// A history that broke a rule.
#[derive(Debug)]
pub(super) struct Broken {
    /// The step in which, counted from 0.
    pub(super) step: usize,
    /// Which rule.
    pub(super) rule: String,
    /// What happened until then, if it was to be told.
    pub(super) story: Vec<String>,
}

/// What a history came to, to see that histories are worth running.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) steps: u64,
    pub(super) facts: u64,
    pub(super) requests: u64,
    pub(super) lives: u64,
    pub(super) completed: u64,
    pub(super) doubts: u64,
}

/// The daemon's clock: the runtime's, which stands still unless the history lets time pass.
#[derive(Debug)]
struct ModelClock {
    began: Instant,
    base: Moment,
}

impl Clock for ModelClock {
    fn now(&self) -> Moment {
        self.base.plus(self.began.elapsed())
    }
}

/// A session that a caller was told of.
#[derive(Clone)]
struct Begun {
    id: SessionId,
    state: State,
    binding: Option<String>,
}

/// What a caller waits for.
enum Wanted {
    Start {
        session: u8,
        binding: Option<String>,
    },
    Complete {
        id: SessionId,
        caller: usize,
        secret: [u8; 32],
        binding: Option<String>,
        callback: String,
        since: Moment,
    },
    Session {
        id: SessionId,
        caller: usize,
    },
    Cancel {
        id: SessionId,
    },
    Revoke {
        id: SessionId,
    },
    Webhook {
        client: usize,
        body: Vec<u8>,
    },
    Chore,
}

enum Heard {
    Started(Result<StartAnswer, Refusal>),
    Session(Result<Session, Refusal>),
    Kept(Result<bool, Refusal>),
    Nothing,
}

struct Call {
    number: usize,
    wanted: Wanted,
    task: JoinHandle<Heard>,
}

/// The history and all that outlives the daemon.
pub(super) struct World {
    steps: VecDeque<(usize, Step)>,
    step: usize,
    bug: Option<Bug>,
    story: Option<Vec<String>>,
    /// Ids of sessions in the order in which the story names them.
    names: Vec<String>,
    disk: Disk,
    reference: Reference,
    /// What may be instead, since the disk failed while it came about.
    doubt: Option<Reference>,
    /// When the next life begins, by its clocks, and in truth.
    base: Moment,
    truth: u64,
    is_set_back: bool,
    /// Sessions that facts were about since they were looked at last.
    touched: BTreeSet<SessionId>,
    begun: Vec<Option<Begun>>,
    generations: Vec<u32>,
    challenges: BTreeMap<String, SessionId>,
    /// Sessions that were seen to have ended.
    ended: BTreeMap<SessionId, Terminal>,
    ledger: Ledger,
    calls: usize,
    tally: Tally,
}

/// One run of the daemon.
struct Life {
    clock: Arc<ModelClock>,
    store: Arc<Turnstile>,
    flows: Arc<Flows>,
    desk: Arc<Mutex<Desk>>,
    calls: Vec<Call>,
}

/// How a life ends.
enum End {
    Crash { loss: Loss, reboot: bool, wall: i64, again: Option<u64> },
    Stop { wall: i64 },
    Over,
}

type Checked<T = ()> = Result<T, String>;

fn caller(index: usize) -> CallerName {
    CallerName::parse(CALLER_NAMES[index]).unwrap()
}

fn client(index: usize) -> ClientName {
    ClientName::parse(CLIENT_NAMES[index]).unwrap()
}

/// A caller: both clients are his, and the second one's sessions are everybody's.
fn viewer(index: usize) -> Viewer {
    Viewer {
        caller: caller(index),
        clients: Arc::new(BTreeSet::from([client(0), client(1)])),
        shared: Arc::new(BTreeSet::from([client(1)])),
        sees_unlinked: false,
    }
}

/// Who may see everything.
fn auditor() -> Viewer {
    let all = Arc::new(BTreeSet::from([client(0), client(1)]));
    let caller = CallerName::parse("auditor").unwrap();
    Viewer { caller, clients: Arc::clone(&all), shared: all, sees_unlinked: true }
}

/// The key of a client; both clients share the one that session queries are counted by.
fn terms(index: usize, kind: BudgetKind) -> (BudgetTerms, usize) {
    let (credential, limit) = match kind {
        BudgetKind::Token => (CLIENT_NAMES[index], TOKEN_LIMIT),
        BudgetKind::Session => ("shared key", SESSION_LIMIT),
    };
    let (credential, patience) = (ApiKey::new(credential), Duration::from_secs(30));
    (BudgetTerms { kind, credential, limit: u32::try_from(limit).unwrap(), patience }, limit)
}

fn budget(index: usize, asked: &Asked) -> Option<(String, usize)> {
    let kind = match asked {
        Asked::Exchange { .. } => BudgetKind::Token,
        Asked::Session { .. } => BudgetKind::Session,
        Asked::Userinfo { .. } | Asked::Revoke { .. } => return None,
    };
    let (terms, limit) = terms(index, kind);
    Some((Reference::budget_of(kind, terms.credential.expose()), limit))
}

fn configured(index: usize, provider: Arc<dyn Provider>) -> Client {
    let base = Url::parse("https://provider.example").unwrap();
    Client {
        name: client(index),
        base_url: base.clone(),
        authorize: base,
        authorize_params: BTreeMap::new(),
        client_id: ApiKey::new("key"),
        redirect_uris: vec!["https://shop.example/cb".to_owned()],
        require_binding: false,
        test_mode: true,
        issuer: None,
        callers: [caller(0), caller(1)].into(),
        webhook_secrets: vec![SigningSecret { secret: WebhookSecret::new(SECRET), until: None }],
        token_budget: terms(index, BudgetKind::Token).0,
        session_budget: terms(index, BudgetKind::Session).0,
        provider,
    }
}

fn signed(body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(body);
    format!("sha256={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()))
}

impl World {
    /// A world in which a history is to happen.
    pub(super) fn new(steps: &[Step], bug: Option<Bug>, is_told: bool) -> Self {
        Self {
            steps: steps.iter().copied().enumerate().collect(),
            step: 0,
            bug,
            story: is_told.then(Vec::new),
            names: Vec::new(),
            disk: Disk::default(),
            reference: Reference::default(),
            doubt: None,
            base: Moment {
                wall: Timestamp::from_millis(1_800_000_000_000),
                boot: BootTime { boot: 1, millis: 1_000_000 },
            },
            truth: 0,
            is_set_back: false,
            touched: BTreeSet::new(),
            begun: vec![None; SESSIONS.into()],
            generations: vec![0; SESSIONS.into()],
            challenges: BTreeMap::new(),
            ended: BTreeMap::new(),
            ledger: Ledger::default(),
            calls: 0,
            tally: Tally::default(),
        }
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// The rule that was broken.
    pub(super) fn run(mut self) -> Result<Tally, Broken> {
        match self.lives() {
            Ok(()) => {
                self.tally.requests = self.ledger.requests;
                Ok(self.tally)
            }
            Err(rule) => {
                let rule = self.named(rule);
                Err(Broken { step: self.step, rule, story: self.story.unwrap_or_default() })
            }
        }
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.story.is_some() {
            let line = self.named(line());
            self.story.get_or_insert_default().push(line);
        }
    }

    /// A line with numbers for the ids of sessions, which differ from run to run.
    fn named(&mut self, mut line: String) -> String {
        while let Some(at) = line.find("ses_") {
            let id = line[at..].chars().take(30).collect::<String>();
            let place = self.names.iter().position(|known| *known == id).unwrap_or_else(|| {
                self.names.push(id.clone());
                self.names.len() - 1
            });
            line = line.replace(&id, &format!("#{place}"));
        }
        line
    }

    /// What happens in it, line by line, and the rule that it breaks, if it does.
    pub(super) fn told(self) -> (Vec<String>, Option<String>) {
        let (mut told, mut world) = (Vec::new(), self);
        let rule = world.lives().err().map(|rule| world.named(rule));
        told.append(&mut world.story.unwrap_or_default());
        (told, rule)
    }

    fn lives(&mut self) -> Checked {
        let mut again = None;
        for run in 1.. {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .map_err(|error| error.to_string())?;
            let end = runtime.block_on(self.life(run, again.take()))?;
            self.tally.lives += 1;
            let (reboot, wall) = match end {
                End::Crash { loss, reboot, wall, again: at } => {
                    again = at.map(|at| (at, loss));
                    self.disk.pull(loss);
                    drop(runtime);
                    (reboot, wall)
                }
                End::Stop { wall } => {
                    drop(runtime);
                    self.disk.pull(Loss::Nothing);
                    (false, wall)
                }
                End::Over => return Ok(()),
            };
            if reboot {
                self.base.boot = BootTime { boot: self.base.boot.boot + 1, millis: 5_000 };
            }
            // Which of the sessions and tokens that had run out have not, by the wall clock, is the clock's affair.
            if wall < 0 || (reboot && self.is_set_back) {
                self.ended.retain(|_, how| !matches!(how, Terminal::Expired | Terminal::Failed));
            }
            // Over a minute back in all, sessions would be of an age that nobody knows.
            let wall = if wall < 0 && std::mem::replace(&mut self.is_set_back, true) { 0 } else { wall };
            let wall_now = self.base.wall.as_millis();
            self.base.wall = Timestamp::from_millis(wall_now.saturating_add_signed(wall));
        }
        Ok(())
    }

    fn open(&self, run: u64) -> Result<RedbStore, String> {
        let keys = KeyRing::new(&MasterKey::new([1; 32]), &[]);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&run.to_le_bytes());
        let plug = self.disk.plug();
        // On a thread that belongs to no runtime: the writer then answers by itself. It would have the runtime do it, which
        // stands still while the history waits for an answer.
        let (id, now) = (RunId::new(id), self.base);
        let open = || RedbStore::open_on(plug, keys, RETENTION, id, now);
        let opened = thread::scope(|scope| scope.spawn(open).join().unwrap());
        opened.map_err(|error| error.to_string())
    }

    /// One run of the daemon, from its start to its end.
    async fn life(&mut self, run: u64, again: Option<(u64, Loss)>) -> Checked<End> {
        if let Some((after, loss)) = again {
            let keys = KeyRing::new(&MasterKey::new([1; 32]), &[]);
            let plug = self.disk.plug();
            self.disk.fail_after(after);
            let opened = RedbStore::open_on(plug, keys, RETENTION, RunId::new([255; 16]), self.base);
            let has_failed = self.disk.fails();
            self.disk.pull(loss);
            drop(opened);
            self.tell(|| {
                format!(
                    "      the first start {}",
                    if has_failed { "is cut off" } else { "comes to its end" }
                )
            });
        }
        let store = self.open(run).map_err(|error| format!("the store does not open again: {error}"))?;
        let clock = Arc::new(ModelClock { began: Instant::now(), base: self.base });
        self.reference.restart(run, self.base);
        if let Some(doubt) = &mut self.doubt {
            doubt.restart(run, self.base);
        }
        self.ledger.restarts(self.truth);
        let store = Arc::new(Turnstile::new(store, self.disk.clone(), millis(RETENTION), self.bug));
        let desk = Arc::new(Mutex::new(Desk::default()));
        self.ledger_numbers(&desk);
        let clients = (0..CLIENT_NAMES.len())
            .map(|index| {
                let (clock, desk) = (Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(&desk));
                configured(index, Arc::new(Scripted { client: index, clock, desk }))
            })
            .collect();
        let limits =
            EventLimits { retention: Duration::from_secs(7 * 86_400), bytes: 1 << 20, unread_bytes: 1 << 20 };
        let dyn_store = Arc::clone(&store) as Arc<dyn Store>;
        let flows = Arc::new(Flows::new(dyn_store, clients, limits, Arc::clone(&clock) as Arc<dyn Clock>));
        let worker = Arc::clone(&flows);
        tokio::spawn(async move { worker.revoke_waiting().await });
        let mut life = Life { clock, store, flows, desk, calls: Vec::new() };
        self.find_out(&life).await?;
        let end = loop {
            let Some((number, step)) = self.steps.pop_front() else {
                self.step += 1;
                self.finish(&mut life).await?;
                break End::Over;
            };
            self.step = number;
            self.tally.steps += 1;
            self.tell(|| format!("{:4}. {step}", number + 1));
            match step {
                Step::Crash { loss, reboot, wall, again } => break End::Crash { loss, reboot, wall, again },
                Step::Restart { wall } => {
                    life.flows.stop();
                    self.settle(&mut life).await?;
                    break End::Stop { wall };
                }
                _ => self.perform(&mut life, step).await?,
            }
            self.settle(&mut life).await?;
            self.look(&life, false).await?;
            // A daemon whose store takes no writes ends, sooner or later.
            if self.doubt.is_some() && number % 3 == 0 {
                self.tell(|| "      the daemon exits, for its disk has failed".to_owned());
                break End::Crash { loss: Loss::Nothing, reboot: false, wall: 0, again: None };
            }
        };
        let now = life.clock.now();
        self.truth += age(self.base, now).unwrap_or_default();
        self.base = now;
        Ok(end)
    }

    /// Numbers of requests go on across lives.
    fn ledger_numbers(&self, desk: &Mutex<Desk>) {
        Scripted::lock(desk).next = usize::try_from(self.ledger.requests).unwrap_or(usize::MAX) + 1;
    }

    fn true_time(&self, boot_millis: u64) -> u64 {
        self.truth + boot_millis.saturating_sub(self.base.boot.millis)
    }

    /// What the file says after a start: which of the two that may be is.
    async fn find_out(&mut self, life: &Life) -> Checked {
        let Some(doubt) = self.doubt.take() else { return self.look(life, true).await };
        let certain = std::mem::replace(&mut self.reference, doubt);
        if self.look(life, true).await.is_ok() {
            self.tell(|| "      what was under way has come about".to_owned());
            return Ok(());
        }
        self.reference = certain;
        self.tell(|| "      what was under way has not come about".to_owned());
        self.look(life, true).await
    }

    /// Looks at all sessions through all callers' eyes; at all that is kept, where it is `whole`.
    async fn look(&mut self, life: &Life, is_whole: bool) -> Checked {
        if self.doubt.is_some() {
            return Ok(());
        }
        let now = life.clock.now();
        let (mut gone, mut written) = (Vec::new(), Vec::new());
        // The others are looked at in turn, unless all are wanted.
        let turn = self.tally.steps as usize % self.reference.sessions.len().max(1);
        let touched = std::mem::take(&mut self.touched);
        for (place, (id, known)) in self.reference.sessions.iter().enumerate() {
            if !is_whole && place != turn && !touched.contains(id) {
                continue;
            }
            let expected = known.view(now, self.reference.run);
            for index in 0..CALLER_NAMES.len() {
                let viewer = viewer(index);
                let seen = life.flows.session(&viewer, &Lookup::Id(*id)).await;
                let may_see = sees(&viewer, known);
                match seen {
                    Ok(_) if !may_see => {
                        return Err(format!("{} sees a session of {}", viewer.caller, known.caller));
                    }
                    Ok(session) => {
                        let seen = View::of(&session);
                        let as_swept = self.reference.may_be_written.get(id);
                        if let Some(swept) = as_swept.filter(|_| is_whole && seen != expected)
                            && swept.view(now, self.reference.run) == seen
                        {
                            written.push((*id, swept.clone()));
                        } else if seen != expected {
                            return Err(format!("session {id} should be {expected:?}, and is {seen:?}"));
                        }
                        if let Status::Ended(how) = seen.status
                            && *self.ended.entry(*id).or_insert(how) != how
                        {
                            return Err(format!("session {id} ended a second time, as {how:?}"));
                        }
                        if !matches!(seen.status, Status::Ended(_)) && self.ended.contains_key(id) {
                            return Err(format!("session {id} is open again"));
                        }
                    }
                    Err(refusal) if refusal.reason == Reason::SessionNotFound && !may_see => {}
                    Err(refusal)
                        if refusal.reason == Reason::SessionNotFound
                            && self.reference.may_be_gone.contains(id) =>
                    {
                        gone.push(*id);
                    }
                    Err(refusal) => {
                        return Err(format!(
                            "session {id} should be {expected:?}, and is {}",
                            refusal.reason
                        ));
                    }
                }
            }
        }
        for id in gone {
            self.reference.forget(id);
        }
        self.reference.sessions.extend(written);
        if is_whole { self.look_at_the_rest(life).await } else { Ok(()) }
    }

    /// Which of the sessions that a sweep may remove it has removed.
    async fn find_out_what_is_gone(&mut self, life: &Life) -> Checked {
        for id in self.reference.may_be_gone.clone() {
            let seen = life.store.session(life.clock.now(), &auditor(), &Lookup::Id(id)).await;
            if matches!(seen, Err(StoreError::Refused(refusal)) if refusal.reason == Reason::SessionNotFound)
            {
                self.reference.forget(id);
            }
        }
        Ok(())
    }

    async fn look_at_the_rest(&mut self, life: &Life) -> Checked {
        let mut kept = BTreeSet::new();
        for index in 0..CLIENT_NAMES.len() {
            let filter = EventFilter { client: client(index), kinds: Vec::new(), session: None };
            let page =
                life.store.list(&auditor(), &filter, 0, 1000).await.map_err(|error| error.to_string())?;
            for event in page.events {
                if !kept.insert((client(index), event.body)) {
                    return Err("an event is kept twice".to_owned());
                }
            }
        }
        if kept != self.reference.events {
            let (kept, known) = (kept.len(), self.reference.events.len());
            return Err(format!("{kept} events are kept, and {known} were acknowledged"));
        }
        let status = life.store.status();
        let waiting = self.reference.revocations.len() as u64;
        if status.revocations != waiting {
            return Err(format!("{} tokens wait to be revoked, and {waiting} should", status.revocations));
        }
        let (least, most) = (self.reference.sessions.len(), self.reference.sessions.len());
        let least = least.saturating_sub(self.reference.may_be_gone.len()) as u64;
        if !(least..=most as u64).contains(&status.sessions) {
            return Err(format!("{} sessions are kept, and {most} are known", status.sessions));
        }
        Ok(())
    }

    /// Lets everything run until it waits for the history, looks at what has reached the provider, and at what callers heard.
    async fn settle(&mut self, life: &mut Life) -> Checked {
        // The runtime's clock stands still until nothing is left to do, and goes on by a millisecond then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let news = std::mem::take(&mut Scripted::lock(&life.desk).news);
        for (number, index, asked, boot_millis) in news {
            self.tell(|| format!("      the provider is asked {asked}"));
            let now = self.true_time(boot_millis);
            if let Asked::Exchange { code, challenge } = &asked {
                self.check_exchange(code, challenge)?;
            }
            self.ledger.comes(number, &asked, budget(index, &asked), now)?;
        }
        let mut going_on = Vec::new();
        for call in std::mem::take(&mut life.calls) {
            if call.task.is_finished() {
                let (number, wanted) = (call.number, call.wanted);
                let heard = call.task.await.map_err(|_| format!("call {number} panicked"))?;
                self.hear(number, wanted, heard)?;
            } else {
                going_on.push(call);
            }
        }
        life.calls = going_on;
        Ok(())
    }

    /// A token request is at the provider: it must be known to be, whatever happens from now on.
    fn check_exchange(&self, code: &str, challenge: &str) -> Checked {
        let id =
            self.challenges.get(challenge).ok_or("a token request for a session that nobody was told of")?;
        let known = self.reference.sessions.get(id).ok_or("a token request for a session that is gone")?;
        let is_bound = known.bound.as_ref().is_some_and(|bound| bound.callback == code);
        match known.place {
            Place::Sent { run, .. } if run == self.reference.run && is_bound => Ok(()),
            place => Err(format!("{code} is sent for a session that is {place:?}")),
        }
    }

    /// What a caller hears must be so.
    fn hear(&mut self, number: usize, wanted: Wanted, heard: Heard) -> Checked {
        let said = match &heard {
            Heard::Started(Ok(_)) | Heard::Kept(Ok(_)) => "OK".to_owned(),
            Heard::Session(Ok(session)) => format!("{:?}", session.status()),
            Heard::Started(Err(refusal)) | Heard::Session(Err(refusal)) | Heard::Kept(Err(refusal)) => {
                refusal.reason.to_string()
            }
            Heard::Nothing => "done".to_owned(),
        };
        self.tell(|| format!("      call {number} hears {said}"));
        if let Heard::Started(Err(refusal)) | Heard::Session(Err(refusal)) | Heard::Kept(Err(refusal)) =
            &heard
            && matches!(refusal.reason, Reason::Internal | Reason::RecordCorrupt)
        {
            return Err(format!("call {number} hears {}", refusal.reason));
        }
        match (wanted, heard) {
            (Wanted::Start { session, binding }, Heard::Started(Ok(answer))) => {
                let id = answer.session.id;
                if !self.reference.sessions.contains_key(&id) {
                    return Err("a session is told of that is not durable".to_owned());
                }
                let Some((url, state)) = answer.authorization else { return Ok(()) };
                let state = State::parse(&state).map_err(|error| error.to_string())?;
                let url = Url::parse(&url).map_err(|error| error.to_string())?;
                let challenge = url.query_pairs().find(|(name, _)| name == "code_challenge");
                let challenge = challenge.ok_or("a URL without a challenge")?.1.into_owned();
                let slot = usize::from(session);
                let is_known = self.challenges.insert(challenge, id).is_some();
                if !is_known {
                    self.generations[slot] += 1;
                    self.begun[slot] = Some(Begun { id, state, binding });
                }
                Ok(())
            }
            (Wanted::Complete { id, caller, secret, binding, callback, since }, Heard::Session(answer)) => {
                self.hear_completed(id, caller, secret, binding.as_deref(), &callback, since, answer)
            }
            (Wanted::Session { id, caller }, Heard::Session(Ok(session))) => {
                let known = self.reference.sessions.get(&id).ok_or("a session is shown that is gone")?;
                if !sees(&viewer(caller), known) || session.id != id {
                    return Err("a session is shown to another caller".to_owned());
                }
                Ok(())
            }
            (Wanted::Cancel { id }, Heard::Session(Ok(_))) => match self.reference.sessions.get(&id) {
                Some(known) if known.place != Place::Ended(Terminal::Cancelled) => {
                    Err(format!("a cancellation is acknowledged of a session that is {:?}", known.place))
                }
                _ => Ok(()),
            },
            (Wanted::Revoke { id }, Heard::Session(Ok(session))) => {
                let is_revoked = self.reference.sessions.get(&id).is_none_or(|known| {
                    known.token == super::reference::Token::Revoked && View::of(&session).token == "revoked"
                });
                if is_revoked { Ok(()) } else { Err("a revocation is acknowledged that is none".to_owned()) }
            }
            (Wanted::Webhook { client: index, body }, Heard::Kept(Ok(_))) => {
                if self.reference.events.contains(&(client(index), body)) {
                    Ok(())
                } else {
                    Err("a webhook is acknowledged that is not kept".to_owned())
                }
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a caller presents")]
    fn hear_completed(
        &mut self,
        id: SessionId,
        caller: usize,
        secret: [u8; 32],
        binding: Option<&str>,
        callback: &str,
        since: Moment,
        answer: Result<Session, Refusal>,
    ) -> Checked {
        let viewer = viewer(caller);
        let presented = Presented { viewer: &viewer, secret, binding, callback };
        let Some(known) = self.reference.sessions.get(&id) else { return Ok(()) };
        match answer {
            Ok(session) => {
                // What gets an outcome has shown that it may have it.
                self.reference
                    .admit(id, &presented)
                    .map_err(|reason| format!("claims are handed out, and {reason} should be said"))?;
                if session.status() != Status::Ended(Terminal::Complete) || session.userinfo.is_none() {
                    return Err(format!("completing answers {:?}", session.status()));
                }
                if known.place != Place::Ended(Terminal::Complete) {
                    return Err(format!("claims are handed out of a session that is {:?}", known.place));
                }
                // Whoever comes after the end needs a binding, and two minutes are all he has.
                let had_ended = age(known.since, since).unwrap_or_default() > 0;
                if had_ended && known.binding.is_none() {
                    return Err("claims are handed out again without a binding".to_owned());
                }
                self.tally.completed += 1;
                Ok(())
            }
            Err(refusal) => match refusal.reason {
                Reason::ExchangeInProgress => {
                    Err("who presents the callback of an exchange under way gets its outcome".to_owned())
                }
                Reason::StateUnknown | Reason::BindingMismatch => {
                    match self.reference.admit(id, &presented) {
                        Err(reason) if reason == refusal.reason => Ok(()),
                        // It was swept meanwhile.
                        _ if self.reference.may_be_gone.contains(&id) => Ok(()),
                        other => {
                            Err(format!("it is refused with {}, and should be {other:?}", refusal.reason))
                        }
                    }
                }
                _ => match self.reference.admit(id, &presented) {
                    Err(reason @ (Reason::StateUnknown | Reason::BindingMismatch)) => {
                        Err(format!("it is refused with {}, which tells more than {reason}", refusal.reason))
                    }
                    _ => Ok(()),
                },
            },
        }
    }

    fn call(&mut self, life: &mut Life, wanted: Wanted, work: impl Future<Output = Heard> + Send + 'static) {
        self.calls += 1;
        let number = self.calls;
        self.tell(|| format!("      that is call {number}"));
        life.calls.push(Call { number, wanted, task: tokio::spawn(work) });
    }

    async fn perform(&mut self, life: &mut Life, step: Step) -> Checked {
        let flows = Arc::clone(&life.flows);
        match step {
            Step::Start { session, caller: by, client: at, is_bound, has_request } => {
                let (by, at) = (usize::from(by), usize::from(at));
                let binding = is_bound.then(|| format!("browser {session}"));
                let start = Start {
                    viewer: viewer(by),
                    client: CLIENT_NAMES[at].to_owned(),
                    redirect_uri: String::new(),
                    scopes: Vec::new(),
                    binding: binding.as_ref().map(Binding::new),
                    reference: String::new(),
                    request_id: has_request.then(|| format!("request {session}")),
                };
                let wanted = Wanted::Start { session, binding };
                self.call(life, wanted, async move { Heard::Started(flows.start(start).await) });
            }
            Step::Present { session, code, caller: by, shown, patience } => {
                let generation = self.generations[usize::from(code % SESSIONS)];
                let code = AuthorizationCode::new(format!("code {code}.{generation}"));
                self.present(life, session, by, shown, patience, Shows::Code(code));
            }
            Step::PresentError { session, caller: by, is_expired } => {
                let error = if is_expired { "session_expired" } else { "access_denied" }.to_owned();
                let error = Shows::Error { error, description: String::new() };
                self.present(life, session, by, Shown::Right, 60_000, error);
            }
            Step::GiveUp { call } => {
                if let Some(place) = usize::from(call).checked_rem(life.calls.len()) {
                    let call = life.calls.remove(place);
                    self.tell(|| format!("      that is call {}", call.number));
                    call.task.abort();
                }
            }
            Step::Refresh { session, caller: by, patience } => {
                let Some(begun) = self.begun[usize::from(session)].clone() else { return Ok(()) };
                let (viewer, patience) =
                    (viewer(by.into()), Instant::now() + Duration::from_millis(patience));
                let wanted = Wanted::Session { id: begun.id, caller: by.into() };
                self.call(life, wanted, async move {
                    Heard::Session(flows.refreshed_session(&viewer, &Lookup::Id(begun.id), patience).await)
                });
            }
            Step::Cancel { session, caller: by } => {
                let Some(begun) = self.begun[usize::from(session)].clone() else { return Ok(()) };
                let viewer = viewer(by.into());
                self.call(life, Wanted::Cancel { id: begun.id }, async move {
                    Heard::Session(flows.cancel(&viewer, begun.id).await)
                });
            }
            Step::Revoke { session, caller: by } => {
                let Some(begun) = self.begun[usize::from(session)].clone() else { return Ok(()) };
                let viewer = viewer(by.into());
                self.call(life, Wanted::Revoke { id: begun.id }, async move {
                    Heard::Session(flows.revoke(&viewer, begun.id).await)
                });
            }
            Step::Webhook { session, client: at, status, number } => {
                let status = status.as_str();
                let body = format!(
                    r#"{{"id":"e{number}","type":"session.moved","session_id":"hvf_{session}","status":"{status}"}}"#
                )
                .into_bytes();
                let signature = signed(&body);
                let webhook = Webhook {
                    viewer: viewer(0),
                    client: CLIENT_NAMES[usize::from(at)].to_owned(),
                    body: body.clone(),
                    signature,
                };
                self.call(life, Wanted::Webhook { client: at.into(), body }, async move {
                    Heard::Kept(flows.ingest(webhook).await.map(|answer| answer.duplicate))
                });
            }
            Step::Sweep => self.call(life, Wanted::Chore, async move {
                let _ = flows.sweep().await;
                Heard::Nothing
            }),
            Step::Trim => self.call(life, Wanted::Chore, async move {
                let _ = flows.trim_events().await;
                Heard::Nothing
            }),
            Step::Commit { pick, count } => {
                let picked = {
                    let mut waiting = life.store.waiting();
                    let Some(place) = usize::from(pick).checked_rem(waiting.len()) else { return Ok(()) };
                    let end = waiting.len().min(place + usize::from(count));
                    waiting.drain(place..end).collect()
                };
                self.commit(life, picked).await?;
            }
            Step::CommitAll => {
                // What follows from what was done is done, too, for a while.
                for _ in 0..12 {
                    let next = {
                        let mut waiting = life.store.waiting();
                        if waiting.is_empty() { None } else { Some(waiting.remove(0)) }
                    };
                    let Some(next) = next else { break };
                    self.commit(life, vec![next]).await?;
                    self.settle(life).await?;
                }
            }
            Step::Reply { pick, with } => self.reply(life, usize::from(pick), with),
            Step::Pass { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::PassToEnd { session, before } => {
                let Some(begun) = &self.begun[usize::from(session)] else { return Ok(()) };
                let Some(known) = self.reference.sessions.get(&begun.id) else { return Ok(()) };
                let old = age(known.created, life.clock.now()).unwrap_or(u64::MAX);
                // The step itself ends with a millisecond.
                let left = 1_800_000_u64.saturating_sub(old).saturating_sub(before + 1);
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
            Step::Fault { after } => self.disk.fail_after(after),
            Step::Crash { .. } | Step::Restart { .. } => {}
        }
        Ok(())
    }

    fn present(&mut self, life: &mut Life, session: u8, by: u8, shown: Shown, patience: u64, shows: Shows) {
        let Some(begun) = self.begun[usize::from(session)].clone() else { return };
        let binding = match (shown, begun.binding) {
            (Shown::Right, binding) => binding,
            (Shown::Wrong, Some(_)) => None,
            (Shown::Wrong, None) => Some("another browser".to_owned()),
        };
        let secret = *begun.state.secret.expose();
        let (callback, _) = callback(&shows);
        let complete = Complete {
            viewer: viewer(by.into()),
            callback: Callback {
                state: begun.state,
                presented: shows,
                provider_session: ProviderSessionId::parse(&format!("hvf_{session}")).ok(),
                issuer: None,
            },
            binding: binding.as_ref().map(Binding::new),
            patience: Instant::now() + Duration::from_millis(patience),
        };
        let flows = Arc::clone(&life.flows);
        let since = life.clock.now();
        let wanted = Wanted::Complete { id: begun.id, caller: by.into(), secret, binding, callback, since };
        self.call(life, wanted, async move { Heard::Session(flows.complete(complete).await) });
    }

    fn reply(&mut self, life: &mut Life, pick: usize, with: Answer) {
        let request = {
            let mut desk = Scripted::lock(&life.desk);
            let Some(place) = pick.checked_rem(desk.waiting.len()) else { return };
            desk.waiting.remove(place)
        };
        let now = self.true_time(life.clock.now().boot.millis);
        let client = CLIENT_NAMES[request.client];
        self.tell(|| format!("      that is {client}'s, which asks {}", request.asked));
        self.ledger.answered(request.number, with, now);
        // Whoever asked may have gone.
        let _ = request.answer.send(with);
    }

    /// The writer does some of what waits for it.
    async fn commit(&mut self, life: &Life, facts: Vec<Waiting>) -> Checked {
        let mut doubt = None;
        self.touched.extend(facts.iter().filter_map(|waiting| waiting.fact.session()));
        self.reference.saw(life.store.last_read());
        for happened in life.store.let_pass(facts) {
            let (fact, said) = (&happened.fact, &happened.said);
            self.tally.facts += 1;
            self.tell(|| format!("      {}: {}", short(fact), said.brief()));
            if *said == Said::Unavailable {
                if self.doubt.is_none() {
                    let after = doubt.get_or_insert_with(|| self.reference.clone());
                    if happened.was_begun {
                        after.suppose(fact);
                    }
                }
            } else if self.doubt.is_none() && doubt.is_none() {
                self.reference.happen(fact, said).map_err(|wrong| format!("{}: {wrong}", short(fact)))?;
            } else if !matches!(fact, Fact::Sweep { .. } | Fact::Other)
                && !matches!(said, Said::Refused(_) | Said::Spent)
            {
                return Err(format!("{} is acknowledged after the disk has failed", short(fact)));
            }
            if matches!(fact, Fact::Sweep { .. }) && self.doubt.is_none() {
                self.find_out_what_is_gone(life).await?;
            }
            (happened.deliver)();
        }
        if doubt.is_some() {
            self.tally.doubts += 1;
            self.doubt = doubt;
        }
        Ok(())
    }

    /// The history is over: all that was begun comes to an end, and all that was acknowledged is still there after another
    /// start.
    async fn finish(&mut self, life: &mut Life) -> Checked {
        if self.doubt.is_some() {
            return Ok(());
        }
        self.disk.mend();
        self.tell(|| "      the end: the provider answers everything, and time passes".to_owned());
        let good = Answer::Good { life: 600, status: crate::domain::ProviderStatus::Verified };
        for _ in 0..40 {
            while !life.store.waiting().is_empty() {
                self.perform(life, Step::CommitAll).await?;
                self.settle(life).await?;
            }
            while !Scripted::lock(&life.desk).waiting.is_empty() {
                self.reply(life, 0, good);
                self.settle(life).await?;
            }
            let is_quiet = life.store.waiting().is_empty() && life.calls.is_empty();
            if is_quiet {
                break;
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            self.settle(life).await?;
        }
        if let Some(call) = life.calls.first() {
            return Err(format!("call {} never ends", call.number));
        }
        self.look(life, true).await
    }
}

/// A fact, in short.
fn short(fact: &Fact) -> String {
    match fact {
        Fact::Start { .. } => "a start".to_owned(),
        Fact::Take { id, callback, .. } => format!("a take of {callback} for {id}"),
        Fact::EndExchange { id, end, .. } => format!("the end of an exchange of {id}, {end:?}"),
        Fact::EndClaims { id, end, .. } => format!("the end of fetching claims of {id}, {end:?}"),
        Fact::Cancel { id, .. } => format!("a cancellation of {id}"),
        Fact::Revoke { id, .. } => format!("a revocation of {id}"),
        Fact::EndRevocation { id, how } => format!("the end of a revocation of {id}, {how}"),
        Fact::Claim { budget, .. } => format!("a slot of {budget}"),
        Fact::EndQuery { id, status, .. } => format!("the end of a question about {id}, {status:?}"),
        Fact::Ingest { status, about, .. } => format!("a webhook about {about:?}, {status:?}"),
        Fact::Sweep { .. } => "a bite of the sweep".to_owned(),
        Fact::Other => "a bite of trimming".to_owned(),
    }
}
