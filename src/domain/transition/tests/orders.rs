//! Everything that can happen to a session, in every order.

use proptest::prelude::*;

use super::*;

/// Anything that can happen to a session.
#[derive(Clone, Debug)]
enum Event {
    Code(u8),
    Error,
    Token,
    Refused(u16),
    NeverSent,
    Lost,
    Claims,
    NoClaims,
    TokenRefused,
    Observe(ProviderStatus),
    Cancel,
    Revoke,
    Restart,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    use Event as H;
    use ProviderStatus as P;
    prop_oneof![
        4 => (1u8..3).prop_map(H::Code),
        1 => Just(H::Error),
        3 => Just(H::Token),
        3 => prop_oneof![Just(400), Just(402), Just(429), Just(503)].prop_map(H::Refused),
        1 => Just(H::NeverSent),
        1 => Just(H::Lost),
        3 => Just(H::Claims),
        1 => Just(H::NoClaims),
        1 => Just(H::TokenRefused),
        2 => prop_oneof![Just(P::Pending), Just(P::Verified), Just(P::Complete), Just(P::Failed), Just(P::Expired)]
            .prop_map(H::Observe),
        1 => Just(H::Cancel),
        1 => Just(H::Revoke),
        1 => Just(H::Restart),
        2 => (0u64..700).prop_map(H::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever comes in whatever order: a terminal session never changes again, a state is bound to one callback, and a
    /// code costs at most nine requests. A token is given up once, and not held any more from then on.
    #[test]
    fn terminal_never_reopens(bound: bool, events in prop::collection::vec(event(), 1..40)) {
        let mut session = started(bound);
        let (mut seconds, mut run) = (0, RUN);
        let mut callback: Option<[u8; 32]> = None;
        let mut given_up = 0;
        for event in events {
            session.settle(at(seconds), run);
            let before = session.ended();
            let now = at(seconds);
            let taken = |session: &mut Session, presented| {
                let _ = session.take(now, run, &viewer("checkout"), presented, None, None);
            };
            match event {
                Event::Code(number) => taken(&mut session, &code(number, bound)),
                Event::Error => {
                    let presented = PresentedHashes { binding: code(1, bound).binding, ..error("access_denied") };
                    taken(&mut session, &presented);
                }
                Event::Token => drop(session.exchange_ended(now, token(900))),
                Event::Refused(status) => {
                    let word = (status == 400).then_some("invalid_grant");
                    let word = word.or((status == 402).then_some("payment_required"));
                    drop(session.exchange_ended(now, refused(status, word)));
                }
                Event::NeverSent => {
                    drop(session.exchange_ended(now, ExchangeEnd::NeverSent { said: ProviderSaid::default() }));
                }
                Event::Lost => drop(session.exchange_ended(now, lost())),
                Event::Claims => session.claims_ended(now, claims()),
                Event::NoClaims => session.claims_ended(
                    now,
                    ClaimsEnd::Failed { reason: Reason::ProviderError, said: ProviderSaid::default() },
                ),
                Event::TokenRefused => {
                    session.claims_ended(now, ClaimsEnd::TokenRefused(ProviderSaid::default()));
                }
                Event::Observe(status) => drop(session.observe(now, run, status)),
                Event::Cancel => given_up += session.cancel(now, run).ok().flatten().iter().len(),
                Event::Revoke => given_up += session.revoke(now, run).ok().flatten().iter().len(),
                Event::Restart => run = RunId::new([run.as_bytes()[0] + 1; 16]),
                Event::Wait(more) => seconds += more,
            }
            session.settle(at(seconds), run);
            if before.is_some() {
                prop_assert_eq!(session.ended(), before);
            }
            if session.ended().is_some() {
                prop_assert!(session.verifier.is_none());
            }
            if let Some(spent) = session.spent {
                prop_assert!(spent.sends <= MAX_SENDS);
                prop_assert_eq!(*callback.get_or_insert(*spent.callback.as_bytes()), *spent.callback.as_bytes());
            }
            prop_assert_eq!(status(&session) == Some(Terminal::Complete), session.userinfo.is_some());
            prop_assert_eq!(usize::from(matches!(session.token, TokenStanding::Revoked)), given_up);
        }
        // The timeline leads from the start to where the session stands, without a gap.
        let mut reached = Status::Pending;
        for entry in session.timeline.entries() {
            prop_assert_eq!(entry.from, reached, "{:?}", session.timeline);
            reached = entry.to;
        }
        prop_assert_eq!(reached, session.status());
    }
}
