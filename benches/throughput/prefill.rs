//! Stores with many sessions, filled through [`Store`], since gRPC would take long; and what the sweep does to old ones.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cairld::{
    daemon::SystemClock,
    domain::{
        BootTime, CallerName, ClientName, Clock, CodeVerifier, Moment, RunId, Scope, SessionId, StateSecret,
    },
    store::{KeyRing, MasterKey, NewSession, PendingLimits, RedbStore, Settings, Store},
};
use futures_util::{StreamExt, stream};

use super::support::REDIRECT_URI;

/// Starts under way at a time.
const AT_ONCE: usize = 2048;
/// Most ids that are handed back, taken evenly from all.
const SAMPLE: u64 = 100_000;
const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Memory that the daemon has for cached pages by default.
pub const CACHE: usize = 64 << 20;

/// When sessions are made.
#[derive(Clone, Copy, Debug)]
pub enum Made {
    /// Now: they live.
    Now,
    /// Before their retention began: all are to be removed.
    LongAgo,
}

fn open(path: &Path, key: &Path, now: Moment) -> RedbStore {
    let key = MasterKey::parse(&std::fs::read_to_string(key).unwrap()).unwrap();
    let settings = Settings {
        path: path.to_owned(),
        cache_bytes: CACHE,
        retention: RETENTION,
        keys: KeyRing::new(&key, &[]),
    };
    RedbStore::open(settings, RunId::new([7; 16]), now).unwrap()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn session(now: Moment) -> NewSession {
    NewSession {
        id: SessionId::new(now.wall, random()),
        client: ClientName::parse("shop").unwrap(),
        caller: CallerName::parse("checkout").unwrap(),
        scopes: vec![Scope::parse("age_18_plus").unwrap()],
        redirect_uri: REDIRECT_URI.to_owned(),
        reference: String::new(),
        test_mode: true,
        secret: StateSecret::new(random()),
        verifier: CodeVerifier::from_random(random()),
        binding: None,
        request_id: None,
        limits: PendingLimits { caller: u64::MAX, all: u64::MAX },
    }
}

/// Adds so many sessions to a store, which is made where there is none; answers the ids of some.
pub async fn fill(path: &Path, key: &Path, number: u64, made: Made) -> Vec<SessionId> {
    let clock = SystemClock::new();
    let now = || match made {
        Made::Now => clock.now(),
        Made::LongAgo => {
            let wall = clock.now().wall.minus(RETENTION + Duration::from_secs(3600));
            Moment { wall, boot: BootTime::default() }
        }
    };
    let store = Arc::new(open(path, key, clock.now()));
    let every = number.div_ceil(SAMPLE).max(1);
    let starting = stream::iter(0..number).map(|place| {
        let (store, now) = (Arc::clone(&store), now());
        async move {
            let started = store.start(now, session(now)).await.unwrap();
            (place % every == 0).then_some(started.session.id)
        }
    });
    let ids: Vec<_> = starting.buffer_unordered(AT_ONCE).filter_map(async |id| id).collect().await;
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "ids are random");
    ids
}

/// What sweeping a store came to.
#[derive(Clone, Copy, Debug)]
pub struct Bites {
    pub removed: u64,
    pub number: usize,
    pub median_ms: f64,
    pub p99_ms: f64,
    pub longest_ms: f64,
}

/// Sweeps a store of old sessions in this process, bite after bite. A bite's time is that of finding what is due, doing it
/// in the writer, and committing: no other write waits longer for it.
pub async fn sweep(path: &Path, key: &Path) -> Bites {
    let clock = SystemClock::new();
    let store = open(path, key, clock.now());
    let (mut removed, mut took) = (0, Vec::new());
    loop {
        let began = Instant::now();
        let swept = store.sweep(clock.now()).await.unwrap();
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        removed += swept.removed;
        if !swept.more {
            break;
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() as f64 * share) as usize).min(took.len() - 1)];
    Bites { removed, number: took.len(), median_ms: at(0.5), p99_ms: at(0.99), longest_ms: at(1.0) }
}
