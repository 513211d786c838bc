//! What every backend must do, concurrency included. A backend's tests call [`suite`] with a way to open itself.

mod budgets;
mod consumers;
mod inbox;
mod live;
mod orders;
mod pending;
mod revocations;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub(super) use self::{
    inbox::{LIMITS, event, seen, trim_all},
    revocations::complete,
};
use super::*;
use crate::domain::{
    AccessToken, ApiKey, At, AuthorizationCode, BootTime, BudgetKind, ExchangeEnd, OpenStatus, ProviderSaid,
    RunId, Terminal, TokenStanding, Userinfo, token_verdict,
};

/// Retention that the suite expects the store to be opened with.
pub(super) const RETENTION: Duration = Duration::from_secs(3600);

/// A store of some backend that survives being closed.
pub(super) trait Backend {
    /// Opens it for a run that begins now; the one opened before is dropped already.
    fn open_at(&self, run: RunId, now: Moment) -> Arc<dyn Store>;

    /// [`Backend::open_at`] where it does not matter when.
    fn open(&self, run: RunId) -> Arc<dyn Store> {
        self.open_at(run, at(0))
    }
}

/// Runs the whole suite, each part on a backend of its own.
pub(super) async fn suite<B: Backend>(fresh: impl Fn() -> B) {
    a_session_survives_and_is_seen_by_its_own_only(&fresh()).await;
    the_same_request_id_makes_one_session(&fresh()).await;
    one_of_many_takes_wins(&fresh()).await;
    a_code_belongs_to_one_session(&fresh()).await;
    a_refused_take_writes_nothing(&fresh()).await;
    an_exchange_ends_in_claims_and_is_replayed_when_bound(&fresh()).await;
    a_request_of_an_ended_run_is_indeterminate(&fresh()).await;
    the_first_to_complete_owns_the_provider_session(&fresh()).await;
    what_was_read_as_ended_is_not_moved_by_what_was_asked_for_earlier(&fresh()).await;
    the_sweep_ends_and_removes(&fresh()).await;
    a_clock_that_was_wrong_does_not_stop_the_sweep(&fresh()).await;
    a_clock_set_forward_removes_nothing_that_lives(&fresh()).await;
    a_token_that_ran_out_is_erased(&fresh()).await;
    claims_that_arrive_after_the_token_ran_out_come_too_late(&fresh()).await;
    budgets::suite(&fresh).await;
    inbox::suite(&fresh).await;
    consumers::suite(&fresh).await;
    live::suite(&fresh).await;
    pending::suite(&fresh).await;
    orders::webhooks_come_in_every_order(&fresh()).await;
    revocations::a_revoked_token_waits_until_its_revocation_ends(&fresh()).await;
    revocations::cancelling_moves_a_token_into_the_queue(&fresh()).await;
    revocations::the_queue_is_read_by_what_is_left_of_life_and_outlives_the_sessions(&fresh()).await;
}

pub(super) fn run(number: u8) -> RunId {
    RunId::new([number; 16])
}

pub(super) fn at(seconds: u64) -> Moment {
    let millis = seconds * 1000;
    Moment { wall: Timestamp::from_millis(1_800_000_000_000 + millis), boot: BootTime { boot: 1, millis } }
}

pub(super) fn client() -> ClientName {
    ClientName::parse("shop").unwrap()
}

pub(super) fn viewer(caller: &str) -> Viewer {
    Viewer {
        caller: CallerName::parse(caller).unwrap(),
        clients: Arc::new(BTreeSet::from([client()])),
        shared: Arc::default(),
        sees_unlinked: false,
    }
}

pub(super) fn new_session(seconds: u64, number: u8) -> NewSession {
    NewSession {
        id: SessionId::new(at(seconds).wall, [number; 10]),
        client: client(),
        caller: CallerName::parse("checkout").unwrap(),
        scopes: vec![Scope::parse("age_18_plus").unwrap()],
        redirect_uri: "https://shop.example/cb".into(),
        reference: "canary-reference".into(),
        test_mode: true,
        secret: StateSecret::new([number; 32]),
        verifier: CodeVerifier::new("canary-verifier"),
        binding: None,
        request_id: None,
        limits: PendingLimits::default(),
    }
}

pub(super) fn state(number: u8, seconds: u64) -> State {
    State { session: SessionId::new(at(seconds).wall, [number; 10]), secret: StateSecret::new([number; 32]) }
}

pub(super) fn take_of(number: u8, code: &str) -> Take {
    Take {
        viewer: viewer("checkout"),
        state: state(number, 0),
        presented: Presented::Code(AuthorizationCode::new(code)),
        since: at(0),
        binding: None,
        provider_session: None,
    }
}

pub(super) fn hint(id: &str) -> Option<ProviderSessionId> {
    Some(ProviderSessionId::parse(id).unwrap())
}

fn refused<T>(result: Result<T, StoreError>) -> Reason {
    match result {
        Err(StoreError::Refused(refusal)) => refusal.reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

/// Terms that nothing here exhausts.
pub(super) fn terms() -> BudgetTerms {
    BudgetTerms {
        kind: BudgetKind::Token,
        credential: ApiKey::new("cairl_test_canary_key"),
        limit: 1000,
        patience: Duration::from_secs(30),
    }
}

/// Ends an exchange where its slot does not matter.
async fn end_exchange(
    store: &Arc<dyn Store>,
    now: Moment,
    id: SessionId,
    end: ExchangeEnd,
) -> Result<Session, StoreError> {
    let slot = store.claim(now, &terms()).await.unwrap();
    store.end_exchange(now, id, slot, end).await
}

pub(super) fn token() -> ExchangeEnd {
    ExchangeEnd::Token { token: AccessToken::new("canary-token"), life: Duration::from_secs(600) }
}

pub(super) fn claims() -> ClaimsEnd {
    let body =
        br#"{"sub":"canary-subject","claims":{"age_18_plus":true,"name_match":null,"canary_claim":[1.0]}}"#;
    ClaimsEnd::Claims(Userinfo::parse(body).unwrap())
}

async fn get(store: &Arc<dyn Store>, seconds: u64, number: u8) -> Session {
    store.session(at(seconds), &viewer("checkout"), &Lookup::Id(state(number, 0).session)).await.unwrap()
}

async fn get_at(store: &Arc<dyn Store>, seconds: u64, started: u64, number: u8) -> Session {
    store
        .session(at(seconds), &viewer("checkout"), &Lookup::Id(state(number, started).session))
        .await
        .unwrap()
}

async fn a_session_survives_and_is_seen_by_its_own_only(backend: &impl Backend) {
    let store = backend.open(run(1));
    let started = store.start(at(0), new_session(0, 1)).await.unwrap();
    assert!(started.usable.is_some());
    drop(store);
    let store = backend.open(run(2));
    assert_eq!(store.newest(), at(0).wall);
    assert_eq!(store.status().sessions, 1);
    for lookup in [Lookup::Id(state(1, 0).session), Lookup::State(state(1, 0))] {
        let session = store.session(at(5), &viewer("checkout"), &lookup).await.unwrap();
        assert_eq!(format!("{session:?}"), format!("{:?}", started.session), "as it was");
        assert_eq!(session.reference, "canary-reference");
        let foreign = store.session(at(5), &viewer("other"), &lookup).await;
        let absent = matches!(lookup, Lookup::State(_));
        let expected = if absent { Reason::StateUnknown } else { Reason::SessionNotFound };
        assert_eq!(refused(foreign), expected, "forbidden looks like unknown");
    }
    let shared = Viewer { shared: Arc::new(BTreeSet::from([client()])), ..viewer("other") };
    assert!(store.session(at(5), &shared, &Lookup::Id(state(1, 0).session)).await.is_ok());
    let wrong = State { secret: StateSecret::new([9; 32]), ..state(1, 0) };
    assert_eq!(
        refused(store.session(at(5), &viewer("checkout"), &Lookup::State(wrong)).await),
        Reason::StateUnknown
    );
    let unknown = Lookup::Id(state(7, 0).session);
    assert_eq!(refused(store.session(at(5), &viewer("checkout"), &unknown).await), Reason::SessionNotFound);
    let expired = get(&store, 1800, 1).await;
    assert_eq!(expired.ended().unwrap().status, Terminal::Expired, "without a sweep");
}

async fn the_same_request_id_makes_one_session(backend: &impl Backend) {
    let with_id = |number: u8| NewSession { request_id: Some("r-1".into()), ..new_session(0, number) };
    let store = backend.open(run(1));
    let starts: Vec<_> = (1..=16)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.start(at(0), with_id(number)).await.unwrap() })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for start in starts {
        let started = start.await.unwrap();
        let (state, verifier) = started.usable.expect("usable");
        assert_eq!(state.session, started.session.id);
        assert_eq!(verifier.expose(), "canary-verifier");
        let read = store.session(at(1), &viewer("checkout"), &Lookup::State(state)).await.unwrap();
        ids.insert(read.id);
    }
    assert_eq!(ids.len(), 1, "sixteen at once made one");
    let other = NewSession { reference: "other".into(), ..with_id(20) };
    assert_eq!(refused(store.start(at(1), other).await), Reason::RequestIdReused);
    let other_caller = NewSession { caller: CallerName::parse("other").unwrap(), ..with_id(21) };
    assert!(store.start(at(1), other_caller).await.is_ok(), "request ids belong to their caller");
    drop(store);

    let store = backend.open(run(2));
    let again = store.start(at(2), with_id(30)).await.unwrap();
    let (state, _) = again.usable.expect("usable after a restart");
    let take = Take { state, ..take_of(1, "code") };
    store.take(at(3), take, &terms()).await.unwrap();
    let spent = store.start(at(4), with_id(31)).await.unwrap();
    assert!(spent.usable.is_none(), "a spent state is handed out no more");
    assert_eq!(spent.session.id, again.session.id);
}

async fn one_of_many_takes_wins(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let takes: Vec<_> = (0..64)
        .map(|number| {
            let (store, code) = (Arc::clone(&store), format!("code-{}", number % 4));
            tokio::spawn(async move { store.take(at(1), take_of(1, &code), &terms()).await })
        })
        .collect();
    let mut sent = 0;
    for take in takes {
        match take.await.unwrap() {
            Ok(Took { session, next: Next::Send { verifier, .. } }) => {
                assert!(matches!(session.at, At::Sent { .. }));
                assert_eq!(verifier.expose(), "canary-verifier");
                sent += 1;
            }
            other => {
                let reason = refused(other);
                assert!(matches!(reason, Reason::ExchangeInProgress | Reason::StateAlreadyUsed), "{reason}");
            }
        }
    }
    assert_eq!(sent, 1);
}

async fn a_code_belongs_to_one_session(backend: &impl Backend) {
    let store = backend.open(run(1));
    for number in 1..=8 {
        store.start(at(0), new_session(0, number)).await.unwrap();
    }
    let takes: Vec<_> = (1..=8)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.take(at(1), take_of(number, "the code"), &terms()).await })
        })
        .collect();
    let mut sent = 0;
    for take in takes {
        match take.await.unwrap() {
            Ok(Took { next: Next::Send { .. }, .. }) => sent += 1,
            other => assert_eq!(refused(other), Reason::CodeAlreadyUsed),
        }
    }
    assert_eq!(sent, 1);
}

async fn a_refused_take_writes_nothing(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), NewSession { binding: Some(Binding::new("b")), ..new_session(0, 1) }).await.unwrap();
    let bound = |binding: Option<&str>| Take { binding: binding.map(Binding::new), ..take_of(1, "code") };
    let before = format!("{:?}", get(&store, 1, 1).await);
    assert_eq!(refused(store.take(at(1), bound(None), &terms()).await), Reason::BindingMismatch);
    assert_eq!(refused(store.take(at(1), bound(Some("c")), &terms()).await), Reason::BindingMismatch);
    let foreign = Take { viewer: viewer("other"), ..bound(Some("b")) };
    assert_eq!(refused(store.take(at(1), foreign, &terms()).await), Reason::StateUnknown);
    let unknown = Take { state: state(9, 0), ..bound(Some("b")) };
    assert_eq!(refused(store.take(at(1), unknown, &terms()).await), Reason::StateUnknown);
    assert_eq!(format!("{:?}", get(&store, 1, 1).await), before);
    assert_eq!(refused(store.admit(at(1), bound(Some("c"))).await), Reason::BindingMismatch);
    let admitted = store.admit(at(1), bound(Some("b"))).await.unwrap();
    assert_eq!(format!("{:?}", admitted.session), before);
    let taken = store.take(at(1), bound(Some("b")), &terms()).await;
    assert!(matches!(taken, Ok(Took { next: Next::Send { .. }, .. })), "nothing was consumed");
    let again = store.admit(at(1), bound(Some("b"))).await.unwrap();
    assert_eq!(again.callback, admitted.callback);
    assert!(matches!(again.session.at, At::Sent { .. }));
    let other = Take { presented: Presented::Code(AuthorizationCode::new("other")), ..bound(Some("b")) };
    assert_eq!(refused(store.admit(at(1), other).await), Reason::StateAlreadyUsed);
    assert_eq!(store.admit(at(1800), bound(Some("b"))).await.unwrap().session.at, again.session.at);
}

async fn an_exchange_ends_in_claims_and_is_replayed_when_bound(backend: &impl Backend) {
    let bound = || Take { binding: Some(Binding::new("b")), ..take_of(1, "code") };
    let store = backend.open(run(1));
    store.start(at(0), NewSession { binding: Some(Binding::new("b")), ..new_session(0, 1) }).await.unwrap();
    store.take(at(1), bound(), &terms()).await.unwrap();
    let said = ProviderSaid { http_status: 402, error: "payment_required".into(), ..ProviderSaid::default() };
    let refusal =
        ExchangeEnd::Refused { verdict: token_verdict(402, Some("payment_required")), said: said.clone() };
    let session = end_exchange(&store, at(2), state(1, 0).session, refusal).await.unwrap();
    assert_eq!(session.at, At::Open(OpenStatus::Pending));
    drop(store);

    let store = backend.open(run(2));
    assert_eq!(get(&store, 3, 1).await.failure.unwrap().said, Some(said), "the last refusal stands");
    store.take(at(3), bound(), &terms()).await.unwrap();
    let session = end_exchange(&store, at(4), state(1, 0).session, token()).await.unwrap();
    assert_eq!(session.at, At::Token);
    drop(store);

    let store = backend.open(run(3));
    let Took { next, .. } = store.take(at(5), bound(), &terms()).await.unwrap();
    assert!(
        matches!(next, Next::FetchClaims { token } if token.expose() == "canary-token"),
        "TOKEN outlives a run"
    );
    store.end_claims(at(6), state(1, 0).session, claims()).await.unwrap();
    drop(store);

    let store = backend.open(run(4));
    let Took { session, next } = store.take(at(7), bound(), &terms()).await.unwrap();
    assert!(matches!(next, Next::Answer));
    let userinfo = session.userinfo.unwrap();
    assert_eq!(userinfo.subject, "canary-subject");
    assert_eq!(userinfo.claims["canary_claim"], "[1.0]", "as the provider wrote it");
    assert_eq!(userinfo.claims["name_match"], "null");
    assert!(matches!(session.token, TokenStanding::Held { .. }));
    assert_eq!(refused(end_exchange(&store, at(8), session.id, token()).await), Reason::SessionFinished);
    assert_eq!(refused(store.cancel(at(8), &viewer("checkout"), session.id).await), Reason::SessionFinished);
}

async fn a_request_of_an_ended_run_is_indeterminate(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    store.take(at(1), take_of(1, "code"), &terms()).await.unwrap();
    assert_eq!(refused(store.take(at(2), take_of(1, "code"), &terms()).await), Reason::ExchangeInProgress);
    drop(store);
    let store = backend.open(run(2));
    assert_eq!(get(&store, 3, 1).await.ended().unwrap().status, Terminal::Indeterminate);
    assert_eq!(refused(store.take(at(3), take_of(1, "code"), &terms()).await), Reason::StateAlreadyUsed);
}

async fn the_first_to_complete_owns_the_provider_session(backend: &impl Backend) {
    let store = backend.open(run(1));
    for number in [1, 2] {
        store.start(at(0), new_session(0, number)).await.unwrap();
        let take = Take { provider_session: hint("hvf_1"), ..take_of(number, &format!("code-{number}")) };
        store.take(at(1), take, &terms()).await.unwrap();
    }
    let lookup = Lookup::ProviderSession(hint("hvf_1").unwrap());
    let owner = |store: Arc<dyn Store>| {
        let lookup = &lookup;
        async move { store.session(at(3), &viewer("checkout"), lookup).await.unwrap().id }
    };
    assert_eq!(owner(Arc::clone(&store)).await, state(1, 0).session, "the first to name it");
    end_exchange(&store, at(2), state(2, 0).session, token()).await.unwrap();
    assert_eq!(owner(Arc::clone(&store)).await, state(2, 0).session, "the first to complete");
    end_exchange(&store, at(2), state(1, 0).session, token()).await.unwrap();
    assert_eq!(owner(Arc::clone(&store)).await, state(2, 0).session, "and it stays");
}

async fn what_was_read_as_ended_is_not_moved_by_what_was_asked_for_earlier(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    assert_eq!(get(&store, 1800, 1).await.ended().unwrap().status, Terminal::Expired);
    // They have waited for the writer since.
    let taken = store.take(at(1799), take_of(1, "code"), &terms()).await;
    assert_eq!(refused(taken), Reason::SessionExpired);
    let cancelled = store.cancel(at(1799), &viewer("checkout"), state(1, 0).session).await;
    assert_eq!(refused(cancelled), Reason::SessionFinished);
    assert_eq!(get(&store, 1799, 1).await.ended().unwrap().status, Terminal::Expired, "nor read as open");
}

async fn sweep_all(store: &Arc<dyn Store>, seconds: u64) -> (u64, u64) {
    let (mut ended, mut removed) = (0, 0);
    loop {
        let swept = store.sweep(at(seconds)).await.unwrap();
        ended += swept.ended;
        removed += swept.removed;
        if !swept.more {
            return (ended, removed);
        }
    }
}

async fn the_sweep_ends_and_removes(backend: &impl Backend) {
    let store = backend.open(run(1));
    for number in 1..=200 {
        let request_id = (number == 1).then(|| "r".to_owned());
        store.start(at(0), NewSession { request_id, ..new_session(0, number) }).await.unwrap();
    }
    store.start(at(100), new_session(100, 201)).await.unwrap();
    store
        .take(at(1), Take { provider_session: hint("hvf_1"), ..take_of(2, "code") }, &terms())
        .await
        .unwrap();
    end_exchange(&store, at(2), state(2, 0).session, token()).await.unwrap();
    store.end_claims(at(3), state(2, 0).session, claims()).await.unwrap();
    assert_eq!(sweep_all(&store, 1799).await, (0, 0), "nothing is older than its life");
    assert_eq!(sweep_all(&store, 1800).await, (199, 0));
    let session = get(&store, 1801, 3).await;
    assert!(session.verifier.is_none() && session.ended().unwrap().status == Terminal::Expired);
    assert_eq!(session.ended().unwrap().at, at(1800), "to the second, however late the sweep");
    assert_eq!(sweep_all(&store, 5399).await, (1, 0), "kept for the retention");
    assert_eq!(sweep_all(&store, 5400).await, (0, 200));
    assert_eq!(store.status().sessions, 1);
    // All that belonged to them is gone as well: the code, the provider's session and the request id are free again.
    assert!(
        store
            .session(at(1), &viewer("checkout"), &Lookup::ProviderSession(hint("hvf_1").unwrap()))
            .await
            .is_err()
    );
    drop(store);
    let store = backend.open(run(3));
    let anew = NewSession { request_id: Some("r".into()), reference: "other".into(), ..new_session(0, 3) };
    store.start(at(0), anew).await.unwrap();
    assert!(matches!(
        store.take(at(1), take_of(3, "code"), &terms()).await,
        Ok(Took { next: Next::Send { .. }, .. })
    ));
}

/// The clock stood far ahead for one start: neither that session nor the order of ids behind it may stop the sweep.
async fn a_clock_that_was_wrong_does_not_stop_the_sweep(backend: &impl Backend) {
    let year = 365 * 24 * 3600;
    let in_boot =
        |seconds: u64, boot: u64| Moment { boot: BootTime { boot, ..at(seconds).boot }, ..at(seconds) };
    let store = backend.open(run(1));
    store.start(in_boot(year, 7), new_session(year, 1)).await.unwrap();
    drop(store);
    let store = backend.open(run(2));
    for number in 2..=20 {
        // Ids never go back, so these carry the wrong clock's time; what counts is when they were made.
        let new = NewSession { id: SessionId::new(at(year).wall, [number; 10]), ..new_session(0, number) };
        store.start(at(0), new).await.unwrap();
    }
    assert_eq!(
        get_at(&store, 0, year, 1).await.ended().unwrap().status,
        Terminal::Expired,
        "from the future: over"
    );
    assert_eq!(sweep_all(&store, 1799).await, (0, 0), "but kept as it is: the clock may be set right");
    assert_eq!(sweep_all(&store, 1801).await, (19, 0));
    assert_eq!(sweep_all(&store, 5401).await, (0, 19));
    assert_eq!(store.status().sessions, 1);
}

/// The wall clock is set forward by a day while nothing else happens: the boot clock knows better.
async fn a_clock_set_forward_removes_nothing_that_lives(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    let a_minute_later = Moment { wall: at(2 * 24 * 3600).wall, boot: at(60).boot };
    let swept = store.sweep(a_minute_later).await.unwrap();
    assert_eq!((swept.ended, swept.removed), (0, 0));
    let session =
        store.session(a_minute_later, &viewer("checkout"), &Lookup::Id(state(1, 0).session)).await.unwrap();
    assert_eq!(session.ended(), None);
}

async fn a_token_that_ran_out_is_erased(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    store.take(at(1), take_of(1, "code"), &terms()).await.unwrap();
    end_exchange(&store, at(2), state(1, 0).session, token()).await.unwrap();
    store.end_claims(at(3), state(1, 0).session, claims()).await.unwrap();
    assert_eq!(sweep_all(&store, 1900).await, (0, 0), "it had ended before");
    drop(store);
    // What is written says so by itself, without a look at the clock.
    let store = backend.open(run(2));
    let session = get(&store, 4, 1).await;
    assert!(matches!(session.token, TokenStanding::Expired), "{:?}", session.token);
}

async fn claims_that_arrive_after_the_token_ran_out_come_too_late(backend: &impl Backend) {
    let store = backend.open(run(1));
    store.start(at(0), new_session(0, 1)).await.unwrap();
    store.take(at(1), take_of(1, "code"), &terms()).await.unwrap();
    end_exchange(&store, at(2), state(1, 0).session, token()).await.unwrap();
    // Whoever looks now hears so, and it must stay true.
    assert_eq!(get(&store, 602, 1).await.ended().unwrap().status, Terminal::Failed);
    let session = store.end_claims(at(601), state(1, 0).session, claims()).await.unwrap();
    assert_eq!(session.ended().unwrap().status, Terminal::Failed);
    assert!(session.userinfo.is_none());
}
