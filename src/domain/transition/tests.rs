//! The state machine under every event in every place, and under random orders of events.

mod orders;
mod restored;
mod table;

use super::*;
use crate::domain::{BootTime, CallerName, ClientName, Revocation, Status, Timeline, token_verdict};

const RUN: RunId = RunId::new([1; 16]);
const NEXT_RUN: RunId = RunId::new([2; 16]);
const START: u64 = 1_800_000_000_000;

fn at(seconds: u64) -> Moment {
    Moment {
        wall: Timestamp::from_millis(START + seconds * 1000),
        boot: BootTime { boot: 1, millis: seconds * 1000 },
    }
}

fn viewer(caller: &str) -> Viewer {
    Viewer {
        caller: CallerName::parse(caller).unwrap(),
        clients: [ClientName::parse("shop").unwrap()]
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into(),
        shared: std::collections::BTreeSet::new().into(),
        sees_unlinked: false,
    }
}

fn started(binding: bool) -> Session {
    Session {
        id: SessionId::new(at(0).wall, [3; 10]),
        client: ClientName::parse("shop").unwrap(),
        caller: CallerName::parse("checkout").unwrap(),
        scopes: vec![],
        redirect_uri: "https://shop.example/cb".into(),
        reference: String::new(),
        test_mode: true,
        created: at(0),
        updated: at(0).wall,
        state: KeyedHash::new([1; 32]),
        binding: binding.then(|| KeyedHash::new([2; 32])),
        verifier: Some(CodeVerifier::new("verifier")),
        provider_session: None,
        spent: None,
        failure: None,
        at: At::Open(OpenStatus::Pending),
        token: TokenStanding::None,
        userinfo: None,
        timeline: Timeline::default(),
    }
}

fn code(number: u8, binding: bool) -> PresentedHashes {
    PresentedHashes {
        state: KeyedHash::new([1; 32]),
        binding: binding.then(|| KeyedHash::new([2; 32])),
        callback: KeyedHash::new([number; 32]),
        error: None,
        since: None,
    }
}

fn error(word: &str) -> PresentedHashes {
    PresentedHashes {
        callback: KeyedHash::new([200; 32]),
        error: Some((word.to_owned(), String::new())),
        ..code(0, false)
    }
}

fn take(session: &mut Session, seconds: u64, presented: &PresentedHashes) -> Result<Taken, Refusal> {
    session.take(at(seconds), RUN, &viewer("checkout"), presented, None, None)
}

fn token(life: u64) -> ExchangeEnd {
    ExchangeEnd::Token { token: AccessToken::new("token"), life: Duration::from_secs(life) }
}

fn refused(status: u16, error: Option<&str>) -> ExchangeEnd {
    ExchangeEnd::Refused { verdict: token_verdict(status, error), said: ProviderSaid::default() }
}

fn lost() -> ExchangeEnd {
    ExchangeEnd::Lost { reason: Reason::OutcomeUnknown, said: ProviderSaid::default() }
}

fn claims() -> ClaimsEnd {
    ClaimsEnd::Claims(Userinfo::parse(br#"{"sub":"a","claims":{"x":true}}"#).unwrap())
}

fn reason<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Reason {
    result.expect_err("a refusal").reason
}

fn status(session: &Session) -> Option<Terminal> {
    session.ended().map(|ended| ended.status)
}

/// It ends with its thirty minutes, or when the request is refused that was under way then; and not when somebody looks,
/// however far the clock was set forward between two runs. What can be had again can be had for two minutes from the end.
#[test]
fn an_end_by_time_is_not_put_off_to_when_it_is_seen() {
    for (refused_at, end) in [(1795, 1800), (1810, 1810)] {
        for set_forward in [0, 3600] {
            let at = |seconds: u64| Moment {
                wall: Timestamp::from_millis(START + (seconds + set_forward) * 1000),
                boot: at(seconds).boot,
            };
            let mut session = started(true);
            take(&mut session, 1790, &code(1, true)).unwrap();
            session.exchange_ended(at(refused_at), refused(503, None)).unwrap();
            let again = |seconds| {
                session.clone().take(at(seconds), RUN, &viewer("checkout"), &code(1, true), None, None)
            };
            assert!(matches!(again(end + 119), Ok(Taken::Ended | Taken::Replay)), "{end} {set_forward}");
            assert_eq!(reason(again(end + 120)), Reason::StateAlreadyUsed, "{end} {set_forward}");
        }
    }
}

/// A session in each place that there is.
fn places() -> Vec<(&'static str, Session)> {
    let open = started(false);
    let mut sent = open.clone();
    take(&mut sent, 10, &code(1, false)).unwrap();
    let mut refused_once = sent.clone();
    refused_once.exchange_ended(at(11), refused(402, Some("payment_required"))).unwrap();
    let mut held = sent.clone();
    held.exchange_ended(at(11), token(3600)).unwrap();
    let mut complete = held.clone();
    complete.claims_ended(at(12), claims());
    let mut failed = sent.clone();
    failed.exchange_ended(at(11), refused(400, Some("invalid_grant"))).unwrap();
    let mut expired = open.clone();
    expired.settle(at(1800), RUN);
    let mut cancelled = open.clone();
    cancelled.cancel(at(10), RUN).unwrap();
    let mut indeterminate = sent.clone();
    indeterminate.exchange_ended(at(11), lost()).unwrap();
    vec![
        ("open", open),
        ("open, refused once", refused_once),
        ("sent", sent),
        ("token", held),
        ("complete", complete),
        ("failed", failed),
        ("expired", expired),
        ("cancelled", cancelled),
        ("indeterminate", indeterminate),
    ]
}

#[test]
fn the_whole_way_to_claims() {
    let mut session = started(false);
    assert!(matches!(take(&mut session, 5, &code(1, false)), Ok(Taken::Send { .. })));
    assert!(matches!(session.at, At::Sent { before: OpenStatus::Pending, run: RUN, .. }));
    session.exchange_ended(at(6), token(3600)).unwrap();
    assert_eq!(session.at, At::Token);
    assert!(session.verifier.is_none(), "a verifier of no more use is erased");
    session.claims_ended(at(7), claims());
    assert_eq!(session.ended(), Some(Ended { status: Terminal::Complete, at: at(7) }));
    assert_eq!(session.outcome(), Ok(()));
}

#[test]
fn what_another_callback_meets_in_each_place() {
    let expected = [
        ("open", None),
        ("open, refused once", Some(Reason::StateAlreadyUsed)),
        ("sent", Some(Reason::StateAlreadyUsed)),
        ("token", Some(Reason::StateAlreadyUsed)),
        ("complete", Some(Reason::StateAlreadyUsed)),
        ("failed", Some(Reason::StateAlreadyUsed)),
        ("expired", Some(Reason::SessionExpired)),
        ("cancelled", Some(Reason::SessionCancelled)),
        ("indeterminate", Some(Reason::StateAlreadyUsed)),
    ];
    for ((name, mut session), (expected_name, expected)) in places().into_iter().zip(expected) {
        assert_eq!(name, expected_name);
        for presented in [code(9, false), error("access_denied")] {
            let mut session = session.clone();
            assert_eq!(
                take(&mut session, 20, &presented).err().map(|refusal| refusal.reason),
                expected,
                "{name}"
            );
        }
        let before = format!("{session:?}");
        let foreign = session.take(at(20), RUN, &viewer("other"), &code(1, false), None, None);
        assert_eq!(reason(foreign), Reason::StateUnknown, "{name}");
        let bound = take(&mut session, 20, &code(1, true));
        assert_eq!(reason(bound), Reason::BindingMismatch, "{name}");
        assert_eq!(format!("{session:?}"), before, "{name}: a refusal changes nothing");
    }
}

#[test]
fn what_the_same_callback_meets_in_each_place() {
    for (name, mut session) in places() {
        let taken = take(&mut session, 20, &code(1, false));
        match name {
            "open" | "open, refused once" => assert!(matches!(taken, Ok(Taken::Send { .. })), "{name}"),
            "sent" => assert_eq!(reason(taken), Reason::ExchangeInProgress),
            "token" => assert!(matches!(taken, Ok(Taken::FetchClaims { .. }))),
            "expired" => assert_eq!(reason(taken), Reason::SessionExpired),
            "cancelled" => assert_eq!(reason(taken), Reason::SessionCancelled),
            _ => assert_eq!(reason(taken), Reason::StateAlreadyUsed, "{name}: no binding, no replay"),
        }
    }
}

#[test]
fn cancelling_in_each_place() {
    for (name, mut session) in places() {
        let cancelled = session.cancel(at(20), RUN);
        match name {
            "open" | "open, refused once" | "cancelled" => assert!(matches!(cancelled, Ok(None)), "{name}"),
            "token" => {
                assert_revokes_the_token(&cancelled.unwrap(), name);
                assert!(matches!(session.token, TokenStanding::Revoked));
            }
            "sent" => assert_eq!(reason(cancelled), Reason::ExchangeInProgress),
            _ => assert_eq!(reason(cancelled), Reason::SessionFinished, "{name}"),
        }
    }
}

/// What is left to do is about the token that the session held, with the life that it had.
fn assert_revokes_the_token(revocation: &Option<Revocation>, name: &str) {
    let revocation = revocation.as_ref().expect("the token is to be revoked");
    assert_eq!((revocation.session, &revocation.client), (started(false).id, &started(false).client));
    assert_eq!(revocation.token.expose(), "token", "{name}");
    assert_eq!((revocation.since, revocation.life), (at(11), Duration::from_secs(3600)), "{name}");
}

#[test]
fn revoking_in_each_place() {
    for (name, mut session) in places() {
        let before = session.clone();
        let revoked = session.revoke(at(20), RUN);
        match name {
            "complete" => {
                assert_revokes_the_token(&revoked.unwrap(), name);
                assert!(matches!(session.token, TokenStanding::Revoked));
                assert_eq!((session.ended(), session.updated), (before.ended(), at(20).wall));
                assert!(session.userinfo.is_some(), "the claims stay");
                assert!(matches!(session.revoke(at(21), RUN), Ok(None)), "revoked before: nothing to do");
                assert_eq!(session.updated, at(20).wall);
            }
            "token" => {
                assert_eq!(reason(revoked), Reason::ExchangeInProgress, "the claims need it");
                assert_eq!(format!("{session:?}"), format!("{before:?}"));
                session.cancel(at(20), RUN).unwrap();
                assert!(matches!(session.revoke(at(21), RUN), Ok(None)), "cancelling revoked it");
            }
            _ => {
                assert_eq!(reason(revoked), Reason::TokenNotHeld, "{name}");
                assert_eq!(format!("{session:?}"), format!("{before:?}"), "{name}");
            }
        }
    }
}

#[test]
fn a_token_that_ran_out_is_not_revoked() {
    let mut session = started(false);
    take(&mut session, 1, &code(1, false)).unwrap();
    session.exchange_ended(at(2), token(600)).unwrap();
    session.claims_ended(at(3), claims());
    assert!(matches!(session.clone().revoke(at(601), RUN), Ok(Some(_))));
    assert_eq!(reason(session.revoke(at(602), RUN)), Reason::TokenNotHeld);
}

#[test]
fn the_provider_moves_open_sessions_forward_only() {
    use ProviderStatus as P;
    for (name, session) in places() {
        for word in [P::Pending, P::Authenticated, P::Verified, P::Complete, P::Failed, P::Expired] {
            let mut session = session.clone();
            let before = session.at;
            let moved = session.observe(at(20), RUN, word);
            if name.starts_with("open") {
                assert_eq!(moved, word != P::Pending, "{name} {word:?}");
            } else {
                assert!(!moved && session.at == before, "{name} {word:?}");
            }
        }
    }
    let mut session = started(false);
    assert!(session.observe(at(1), RUN, P::Complete));
    assert_eq!(session.at, At::Open(OpenStatus::Verified), "complete only says that a code was issued");
    assert!(!session.observe(at(2), RUN, P::Authenticated), "never back");
}

#[test]
fn answers_of_the_token_endpoint_end_the_session_or_leave_it_as_it_was() {
    let rows: [(u16, Option<&str>, bool); 9] = [
        (400, Some("invalid_grant"), false),
        (400, Some("invalid_request"), false),
        (403, Some("access_denied"), false),
        (401, Some("invalid_client"), true),
        (402, Some("payment_required"), true),
        (403, Some("client_inactive"), true),
        (403, None, true),
        (429, None, true),
        (503, Some("server_error"), true),
    ];
    for (http_status, error, as_it_was) in rows {
        let mut session = started(false);
        session.observe(at(1), RUN, ProviderStatus::Authenticated);
        take(&mut session, 10, &code(1, false)).unwrap();
        session.exchange_ended(at(11), refused(http_status, error)).unwrap();
        if as_it_was {
            assert_eq!(session.at, At::Open(OpenStatus::Authenticated), "{http_status}");
            assert_eq!(session.resume_until(), Some(at(610).wall), "{http_status}: the code's ten minutes");
            assert!(
                matches!(take(&mut session, 30, &code(1, false)), Ok(Taken::Send { .. })),
                "{http_status}"
            );
        } else {
            assert_eq!(status(&session), Some(Terminal::Failed), "{http_status}");
            assert_eq!(session.resume_until(), None);
            assert!(session.verifier.is_none());
        }
    }
}

#[test]
fn a_code_costs_at_most_nine_requests_and_ten_minutes() {
    let mut session = started(false);
    for attempt in 0..9 {
        assert!(matches!(take(&mut session, attempt, &code(1, false)), Ok(Taken::Send { .. })), "{attempt}");
        session.exchange_ended(at(attempt), refused(503, None)).unwrap();
    }
    assert_eq!(session.resume_until(), None);
    assert!(matches!(take(&mut session, 20, &code(1, false)), Ok(Taken::Ended)));
    assert_eq!(reason(session.outcome()), Reason::InvalidGrant);

    for (seconds, lives) in [(609, true), (610, false)] {
        let mut session = started(false);
        take(&mut session, 10, &code(1, false)).unwrap();
        session.exchange_ended(at(11), refused(503, None)).unwrap();
        let again = take(&mut session, seconds, &code(1, false)).unwrap();
        assert_eq!(matches!(again, Taken::Send { .. }), lives, "{seconds}");
    }
}

#[test]
fn invalid_grant_after_a_server_error_tells_both() {
    let mut session = started(false);
    take(&mut session, 1, &code(1, false)).unwrap();
    let said = ProviderSaid { http_status: 503, error: "server_error".into(), ..ProviderSaid::default() };
    session.exchange_ended(at(2), ExchangeEnd::Refused { verdict: token_verdict(503, None), said }).unwrap();
    // Whatever stands between does not hide it.
    take(&mut session, 3, &code(1, false)).unwrap();
    session.exchange_ended(at(3), ExchangeEnd::NeverSent { said: ProviderSaid::default() }).unwrap();
    take(&mut session, 3, &code(1, false)).unwrap();
    session.exchange_ended(at(3), refused(402, Some("payment_required"))).unwrap();
    take(&mut session, 3, &code(1, false)).unwrap();
    session.exchange_ended(at(4), refused(400, Some("invalid_grant"))).unwrap();
    let refusal = session.outcome().unwrap_err();
    assert_eq!(refusal.reason, Reason::InvalidGrant);
    assert_eq!(refusal.said.unwrap().first_error.as_deref(), Some("503 server_error"));
}

#[test]
fn a_connection_that_was_never_made_costs_nothing() {
    let mut session = started(false);
    for _ in 0..20 {
        assert!(matches!(take(&mut session, 10, &code(1, false)), Ok(Taken::Send { .. })));
        session.exchange_ended(at(11), ExchangeEnd::NeverSent { said: ProviderSaid::default() }).unwrap();
        assert_eq!(reason(session.outcome()), Reason::ProviderUnreachable);
    }
    assert_eq!(session.spent.unwrap().sends, 0);
}

#[test]
fn a_code_of_another_session_is_refused() {
    let mut session = started(false);
    let owner = Some(SessionId::from_bytes([9; 16]));
    let taken = session.take(at(1), RUN, &viewer("checkout"), &code(1, false), owner, None);
    assert_eq!(reason(taken), Reason::CodeAlreadyUsed);
    assert!(session.spent.is_none());
    let id = session.id;
    assert!(
        session.take(at(1), RUN, &viewer("checkout"), &code(1, false), Some(id), None).is_ok(),
        "its own is fine"
    );
}

#[test]
fn a_request_of_an_ended_run_reads_indeterminate() {
    let mut session = started(true);
    take(&mut session, 10, &code(1, true)).unwrap();
    session.settle(at(11), RUN);
    assert_eq!(session.ended(), None);
    session.settle(at(11), NEXT_RUN);
    assert_eq!(status(&session), Some(Terminal::Indeterminate));
    assert_eq!(reason(session.outcome()), Reason::OutcomeUnknown);
}

#[test]
fn thirty_minutes_to_the_second() {
    let mut session = started(false);
    session.settle(at(1799), RUN);
    assert_eq!(session.ended(), None);
    assert_eq!(reason(take(&mut session.clone(), 1800, &code(1, false))), Reason::SessionExpired);
    session.settle(at(1800), RUN);
    assert_eq!(session.ended(), Some(Ended { status: Terminal::Expired, at: at(1800) }));

    let mut sent = started(false);
    take(&mut sent, 1799, &code(1, false)).unwrap();
    sent.settle(at(1801), RUN);
    assert_eq!(sent.ended(), None, "in SENT the outcome decides");
    sent.exchange_ended(at(1801), token(3600)).unwrap();
    sent.settle(at(2000), RUN);
    assert_eq!(sent.at, At::Token, "TOKEN ends by the token's expiry");
    sent.settle(at(1801 + 3600), RUN);
    assert_eq!(status(&sent), Some(Terminal::Failed));
}

#[test]
fn a_session_from_the_future_reads_expired() {
    let mut session = started(false);
    let other_boot = |seconds_before: u64| Moment {
        wall: Timestamp::from_millis(START - seconds_before * 1000),
        boot: BootTime { boot: 2, millis: 0 },
    };
    session.settle(other_boot(60), RUN);
    assert_eq!(session.ended(), None);
    session.settle(other_boot(61), RUN);
    assert_eq!(status(&session), Some(Terminal::Expired));
}

#[test]
fn only_a_bound_callback_is_replayed_and_only_for_two_minutes() {
    for bound in [true, false] {
        let mut session = started(bound);
        take(&mut session, 1, &code(1, bound)).unwrap();
        session.exchange_ended(at(2), token(3600)).unwrap();
        session.claims_ended(at(3), claims());
        let replay = |seconds| take(&mut session.clone(), seconds, &code(1, bound));
        if bound {
            assert!(matches!(replay(122), Ok(Taken::Replay)));
            assert_eq!(reason(replay(123)), Reason::StateAlreadyUsed);
        } else {
            assert_eq!(reason(replay(4)), Reason::StateAlreadyUsed);
        }
    }
}

#[test]
fn an_error_callback_spends_the_state() {
    for (word, expected, terminal) in [
        ("access_denied", Reason::AccessDenied, Terminal::Failed),
        ("verification_failed", Reason::VerificationFailed, Terminal::Failed),
        ("session_expired", Reason::SessionExpired, Terminal::Expired),
        ("invalid_redirect_uri", Reason::InvalidRedirectUri, Terminal::Failed),
        ("invalid_request", Reason::InvalidRequest, Terminal::Failed),
        ("temporarily_unavailable", Reason::ProviderRefused, Terminal::Failed),
    ] {
        let mut session = started(false);
        assert!(matches!(take(&mut session, 1, &error(word)), Ok(Taken::Ended)));
        assert_eq!(reason(session.outcome()), expected);
        assert_eq!(status(&session), Some(terminal), "{word}");
        assert_eq!(reason(take(&mut session, 2, &code(1, false))), Reason::StateAlreadyUsed);
    }
}

#[test]
fn claims_that_could_not_be_fetched_are_fetched_later() {
    let mut session = started(false);
    take(&mut session, 1, &code(1, false)).unwrap();
    session.exchange_ended(at(2), token(600)).unwrap();
    let said = ProviderSaid { http_status: 503, ..ProviderSaid::default() };
    session.claims_ended(at(3), ClaimsEnd::Failed { reason: Reason::ProviderError, said });
    assert_eq!(session.at, At::Token);
    assert_eq!(session.resume_until(), Some(at(602).wall));
    assert_eq!(reason(session.outcome()), Reason::ProviderError);
    assert!(matches!(take(&mut session, 4, &code(1, false)), Ok(Taken::FetchClaims { .. })));
    session.claims_ended(at(5), ClaimsEnd::TokenRefused(ProviderSaid::default()));
    assert_eq!(status(&session), Some(Terminal::Failed));
    session.claims_ended(at(6), claims());
    assert_eq!(status(&session), Some(Terminal::Failed), "too late");
}

#[test]
fn a_code_that_waited_too_long_in_line_is_not_sent() {
    let waited = |seconds| PresentedHashes { since: Some(at(5)), ..code(seconds, false) };
    let mut session = started(false);
    assert!(matches!(take(&mut session, 604, &waited(1)), Ok(Taken::Send { .. })));
    let mut session = started(false);
    assert!(matches!(take(&mut session, 605, &waited(1)), Ok(Taken::Ended)));
    assert_eq!(reason(session.outcome()), Reason::InvalidGrant);
}

#[test]
fn what_is_over_cannot_be_resumed() {
    let mut session = started(false);
    take(&mut session, 1, &code(1, false)).unwrap();
    session.exchange_ended(at(2), refused(402, Some("payment_required"))).unwrap();
    assert_eq!(session.can_resume(at(600).wall), Some(at(601).wall));
    assert_eq!(session.can_resume(at(601).wall), None);
    assert!(session.next_step(at(600).wall).until.is_some());
    assert!(session.next_step(at(601).wall).words.contains("StartAuthorization"));
}

#[test]
fn an_end_by_time_is_told_after_the_refusal_that_came_after_it() {
    let mut session = started(false);
    take(&mut session, 1799, &code(1, false)).unwrap();
    session.exchange_ended(at(1810), refused(503, None)).unwrap();
    session.settle(at(1810), RUN);
    let times: Vec<_> = session.timeline.entries().iter().map(|entry| entry.time).collect();
    assert_eq!(times, [at(1799).wall, at(1810).wall, at(1810).wall]);
    assert_eq!(status(&session), Some(Terminal::Expired));
}
