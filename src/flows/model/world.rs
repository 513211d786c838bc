//! One history, run: the real flows over the real store, a step at a time, beside the reference.

mod hear;
mod look;
mod perform;
mod setting;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use url::Url;

use self::{
    hear::{Call, Heard, Wanted},
    setting::{RETENTION, auditor, budget, client, configured, signed, viewer},
};
use super::{
    Bug,
    fact::{Fact, Said},
    ledger::Ledger,
    provider::{Asked, Desk, Scripted},
    reference::{Place, Presented, Reference, Token, View, age, sees},
    step::{Answer, CALLER_NAMES, CLIENT_NAMES, SESSIONS, Shown, Step},
    turnstile::{Turnstile, Waiting, callback},
};
use crate::{
    domain::{
        AuthorizationCode, Binding, BootTime, Callback, Clock, Moment, Presented as Shows, ProviderSessionId,
        Reason, Refusal, RunId, Session, SessionId, State, Status, Terminal, Timestamp, millis,
    },
    flows::{Complete, Flows, Start, StartAnswer, Webhook},
    store::{
        EventFilter, EventLimits, Inbox, KeyRing, Lookup, MasterKey, RedbStore, Store, StoreError,
        disk::{Disk, Loss},
    },
};

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
}
