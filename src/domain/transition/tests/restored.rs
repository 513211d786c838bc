//! What becomes of sessions that come out of a backup.

use super::*;
use crate::domain::{Happening, TimelineEntry};

/// In another boot, a day after the backup was made.
fn later() -> Moment {
    Moment { wall: Timestamp::from_millis(START + 86_400_000), boot: BootTime { boot: 2, millis: 1 } }
}

fn sent() -> Session {
    let mut session = started(true);
    take(&mut session, 1, &code(1, true)).unwrap();
    session
}

fn with_token() -> Session {
    let mut session = sent();
    session.exchange_ended(at(2), token(3600)).unwrap();
    session
}

fn last(session: &Session) -> &TimelineEntry {
    session.timeline.entries().last().unwrap()
}

#[test]
fn what_had_not_ended_is_indeterminate_and_its_token_is_given_up() {
    for (mut session, has_token) in [(started(true), false), (sent(), false), (with_token(), true)] {
        let before = session.status();
        let (is_changed, revocation) = session.restored(at(3), later(), NEXT_RUN);
        assert!(is_changed);
        assert_eq!(revocation.is_some(), has_token, "{before:?}");
        assert_eq!(session.status(), Status::Ended(Terminal::Indeterminate));
        assert_eq!(session.outcome().unwrap_err().reason, Reason::OutcomeUnknown);
        let entry = last(&session);
        assert_eq!((entry.kind, entry.from, entry.time), (Happening::Restored, before, later().wall));
        assert!(session.verifier.is_none());
        let again = session.take(later(), NEXT_RUN, &viewer("checkout"), &code(2, true), None, None);
        assert!(again.is_err(), "it never reopens");
        assert!(!session.restored(at(3), later(), NEXT_RUN).0, "restored again it is as it is");
    }
}

#[test]
fn what_had_ended_by_then_stays_as_it_ended() {
    let mut expired = started(true);
    expired.restored(at(1800), later(), NEXT_RUN);
    assert_eq!(expired.status(), Status::Ended(Terminal::Expired), "its thirty minutes were over");

    let mut complete = with_token();
    complete.claims_ended(at(3), ClaimsEnd::Claims(Userinfo::parse(br#"{"sub":"s"}"#).unwrap()));
    let entries = complete.timeline.entries().len();
    assert!(!complete.restored(at(4), later(), NEXT_RUN).0);
    assert_eq!(complete.status(), Status::Ended(Terminal::Complete));
    assert_eq!(complete.timeline.entries().len(), entries);
}
