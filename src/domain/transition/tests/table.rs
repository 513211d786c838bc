//! The table of `docs/architecture.md`, made by letting everything happen to a session in every place.

use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/architecture.md");
const BEGIN: &str =
    "<!-- Made from the code: CAIRLD_BLESS=1 cargo test --lib the_table_of_transitions renews it. -->\n";
const END: &str = "<!-- Here it ends. -->\n";

/// A column: sessions that most events find alike.
struct Place {
    name: &'static str,
    sessions: Vec<Session>,
}

/// A row: what happens, in one way or in several that must come to the same.
struct Event {
    name: &'static str,
    /// Whether the sessions have a binding; only a replay asks for one.
    bound: bool,
    ways: Vec<Way>,
}

type Way = Box<dyn Fn(&mut Session) -> Answer>;

/// What whoever brought the event about is told.
enum Answer {
    /// A call is answered, with these words where the session does not say all.
    Call(Result<&'static str, Refusal>),
    /// Nobody asked.
    Nobody,
}

/// Where sessions can be when something happens, eleven seconds after their start. Those that are bound to a callback
/// are bound to `code(1, …)`.
fn columns(bound: bool) -> Vec<Place> {
    let open = started(bound);
    let after = |session: &Session, happen: &dyn Fn(&mut Session)| {
        let mut session = session.clone();
        happen(&mut session);
        session
    };
    let told = |session: &Session, status| {
        after(session, &|session| assert!(session.observe(at(11), RUN, status), "{status:?} moves nothing"))
    };
    let verified = told(&open, ProviderStatus::Verified);
    let sent = after(&verified, &|session| drop(take(session, 10, &code(1, bound)).unwrap()));
    let ended =
        |end: fn() -> ExchangeEnd| after(&sent, &|session| session.exchange_ended(at(11), end()).unwrap());
    let refused_once = ended(|| refused(402, Some("payment_required")));
    let held = ended(|| token(3600));
    let complete = after(&held, &|session| session.claims_ended(at(11), claims()));
    let cancelled = |session: &Session| after(session, &|session| drop(session.cancel(at(11), RUN).unwrap()));
    let [failed, expired] = [ProviderStatus::Failed, ProviderStatus::Expired];
    let place = |name, sessions| Place { name, sessions };
    vec![
        place("OPEN", vec![open.clone()]),
        place("OPEN, bound", vec![refused_once.clone()]),
        place("SENT", vec![sent.clone()]),
        place("TOKEN", vec![held]),
        place("ended, never presented", vec![told(&open, failed), told(&open, expired), cancelled(&open)]),
        place(
            "ended, presented",
            vec![
                complete,
                ended(|| refused(400, Some("invalid_grant"))),
                told(&refused_once, expired),
                cancelled(&refused_once),
                ended(lost),
            ],
        ),
    ]
}

fn presenting(seconds: u64, presented: PresentedHashes, owner: Option<SessionId>) -> Way {
    Box::new(move |session| {
        let taken = session.take(at(seconds), RUN, &viewer("checkout"), &presented, owner, None);
        Answer::Call(taken.map(|taken| match taken {
            Taken::Send { .. } | Taken::Ended => "",
            Taken::FetchClaims { .. } => "claims are fetched",
            Taken::Replay => "the outcome again",
        }))
    })
}

fn exchange(end: impl Fn() -> ExchangeEnd + 'static) -> Way {
    Box::new(move |session| {
        // Outside SENT there is no request whose end could be recorded.
        drop(session.exchange_ended(at(12), end()));
        Answer::Nobody
    })
}

fn fetching(end: impl Fn() -> ClaimsEnd + 'static) -> Way {
    Box::new(move |session| {
        session.claims_ended(at(12), end());
        Answer::Nobody
    })
}

fn observing(status: ProviderStatus) -> Way {
    Box::new(move |session| {
        session.observe(at(12), RUN, status);
        Answer::Nobody
    })
}

fn settling(seconds: u64, run: RunId) -> Way {
    Box::new(move |session| {
        session.settle(at(seconds), run);
        Answer::Nobody
    })
}

fn event(name: &'static str, ways: impl IntoIterator<Item = Way>) -> Event {
    Event { name, bound: false, ways: ways.into_iter().collect() }
}

/// Everything that can happen to a session.
fn rows() -> Vec<Event> {
    use ProviderStatus as P;
    let answered = |status, word: &'static str| {
        exchange(move || refused(status, Some(word).filter(|word| !word.is_empty())))
    };
    let never_sent = || ExchangeEnd::NeverSent { said: ProviderSaid::default() };
    let unusable = || ExchangeEnd::Lost { reason: Reason::ProviderProtocol, said: ProviderSaid::default() };
    let failed = || ClaimsEnd::Failed { reason: Reason::ProviderError, said: ProviderSaid::default() };
    let elsewhere = Some(SessionId::from_bytes([9; 16]));
    vec![
        event("callback: its code ¹", [presenting(12, code(1, false), None)]),
        event("callback: another code", [presenting(12, code(2, false), None)]),
        event(
            "callback: its code, ten minutes after the first time",
            [presenting(610, code(1, false), None)],
        ),
        event("callback: a code first presented elsewhere", [presenting(12, code(1, false), elsewhere)]),
        event("callback: an error", [presenting(12, error("access_denied"), None)]),
        event("callback: the error `session_expired`", [presenting(12, error("session_expired"), None)]),
        event("callback: with a wrong binding", [presenting(12, code(1, true), None)]),
        Event {
            bound: true,
            ..event(
                "callback: its code and binding, within two minutes ²",
                [presenting(130, code(1, true), None)],
            )
        },
        Event {
            bound: true,
            ..event(
                "callback: its code and binding, two minutes later",
                [presenting(131, code(1, true), None)],
            )
        },
        event("exchange: a token", [exchange(|| token(3600))]),
        event(
            "exchange: refused, and can be mended ³",
            [
                answered(401, "invalid_client"),
                answered(402, "payment_required"),
                answered(403, "client_inactive"),
                answered(403, ""),
                answered(429, ""),
                answered(503, ""),
            ],
        ),
        event("exchange: refused for good, say `invalid_grant`", [answered(400, "invalid_grant")]),
        event("exchange: no connection was made", [exchange(never_sent)]),
        event("exchange: the answer is lost", [exchange(lost)]),
        event("exchange: an answer that cannot be used", [exchange(unusable)]),
        event("claims: fetched", [fetching(claims)]),
        event("claims: 401", [fetching(|| ClaimsEnd::TokenRefused(ProviderSaid::default()))]),
        event("claims: anything else", [fetching(failed)]),
        event(
            "cancel",
            [Box::new(|session: &mut Session| {
                let cancelled = session.cancel(at(12), RUN);
                Answer::Call(cancelled.map(|token| if token.is_some() { "the token is revoked" } else { "" }))
            }) as Way],
        ),
        event(
            "revoke",
            [Box::new(|session: &mut Session| {
                let revoked = session.revoke(at(12), RUN);
                Answer::Call(revoked.map(|token| if token.is_some() { "the token is revoked" } else { "" }))
            }) as Way],
        ),
        event("provider says `pending` ⁴", [observing(P::Pending)]),
        event("provider says `authenticated`", [observing(P::Authenticated)]),
        event("provider says `verified`, `complete`", [observing(P::Verified), observing(P::Complete)]),
        event("provider says `failed`", [observing(P::Failed)]),
        event("provider says `expired`", [observing(P::Expired)]),
        event(
            "the token runs out",
            [Box::new(|session: &mut Session| {
                if let TokenStanding::Held { life, .. } = &mut session.token {
                    *life = Duration::from_secs(1);
                }
                session.settle(at(12), RUN);
                Answer::Nobody
            }) as Way],
        ),
        event("thirty minutes since the start", [settling(1800, RUN)]),
        event("another run of the daemon", [settling(12, NEXT_RUN)]),
    ]
}

fn stage(session: &Session) -> &'static str {
    match session.at {
        At::Open(_) => "OPEN",
        At::Sent { .. } => "SENT",
        At::Token => "TOKEN",
        At::Ended(ended) => match ended.status {
            Terminal::Complete => "COMPLETE",
            Terminal::Failed => "FAILED",
            Terminal::Expired => "EXPIRED",
            Terminal::Cancelled => "CANCELLED",
            Terminal::Indeterminate => "INDETERMINATE",
        },
    }
}

/// What an event does to one session, in a few words.
fn outcome(before: &Session, way: &Way) -> String {
    let mut after = before.clone();
    let answer = way(&mut after);
    let mut words = Vec::new();
    match (before.at, after.at) {
        (At::Open(from), At::Open(to)) if from < to => words.push(format!("→ {to:?}").to_uppercase()),
        (At::Sent { before, .. }, At::Open(to)) => {
            assert_eq!(before, to);
            words.push("→ OPEN, as before".into());
        }
        (from, to) if from == to => {}
        _ => words.push(format!("→ {}", stage(&after))),
    }
    let failure = after.failure.as_ref().filter(|failure| before.failure.as_ref() != Some(failure));
    match failure {
        Some(failure) if after.ended().is_some() => words.push(format!("`{}`", failure.reason)),
        Some(_) if words.is_empty() => words.push("stays, with the failure".into()),
        Some(_) | None => {}
    }
    let ran_out =
        matches!((&before.token, &after.token), (TokenStanding::Held { .. }, TokenStanding::Expired));
    if ran_out && before.ended().is_some() {
        words.push("its token is EXPIRED".into());
    }
    match answer {
        Answer::Call(Err(refusal)) => {
            assert_eq!(before.at, after.at, "a refusal changes nothing");
            let is_own = before.outcome().is_err_and(|own| own.reason == refusal.reason);
            words = vec![if is_own { "its own refusal ⁵".into() } else { format!("`{}`", refusal.reason) }];
        }
        Answer::Call(Ok(told)) if !told.is_empty() => words.push(told.into()),
        Answer::Call(Ok(_)) if words.is_empty() => words.push("OK".into()),
        Answer::Call(Ok(_)) | Answer::Nobody => {}
    }
    if words.is_empty() { "–".to_owned() } else { words.join(", ") }
}

/// One cell: what its sessions have in common, and which are different.
fn cell(place: &Place, event: &Event) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for session in &place.sessions {
        let mut outcomes = event.ways.iter().map(|way| outcome(session, way));
        let text = outcomes.next().unwrap();
        assert!(outcomes.all(|other| other == text), "{} is not one event in {}", event.name, place.name);
        match groups.iter_mut().find(|(known, _)| *known == text) {
            Some((_, stages)) => stages.push(stage(session)),
            None => groups.push((text, vec![stage(session)])),
        }
    }
    groups.sort_by_key(|(_, stages)| stages.len());
    let (most, _) =
        groups.last().filter(|(_, stages)| stages.len() > 1 || groups.len() == 1).cloned().unzip();
    let named = groups.iter().filter(|(text, _)| Some(text) != most.as_ref());
    let mut texts: Vec<_> = named.map(|(text, stages)| format!("{}: {text}", stages.join(", "))).collect();
    if let Some(most) = most {
        texts.push(if texts.is_empty() { most } else { format!("else {most}") });
    }
    texts.join("; ")
}

fn render() -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let columns = [columns(false), columns(true)];
    let mut head = vec!["event".to_owned()];
    head.extend(columns[0].iter().map(|place| place.name.to_owned()));
    let mut text = line(head.clone()) + &line(vec!["---".to_owned(); head.len()]);
    for event in rows() {
        let mut cells = vec![event.name.to_owned()];
        cells.extend(columns[usize::from(event.bound)].iter().map(|place| cell(place, &event)));
        text += &line(cells);
    }
    text
}

#[test]
fn the_table_of_transitions_is_the_code() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where the table ends");
    let made = format!("{before}{BEGIN}{}{END}{after}", render());
    if std::env::var_os("CAIRLD_BLESS").is_some() {
        std::fs::write(PAGE, &made).unwrap();
    }
    assert!(
        std::fs::read_to_string(PAGE).unwrap() == made,
        "the table of docs/architecture.md is not what the code does; the comment above it says how to renew it"
    );
}
