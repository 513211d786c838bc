//! The stand-in's memory and rules: clients, sessions, codes and tokens. Pure: time and chance come from outside.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Client;
use super::authorize::{self, Refusal, Request};
use super::clock::Moment;
use super::limits::{DailyCap, Window};
use super::params::Params;

/// A verification lives this long from the moment the browser arrives.
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(30 * 60);
/// When a session is forgotten: by then its code (10 minutes) and its token (an hour) are dead too.
const KEPT: Duration = Duration::from_secs(2 * 60 * 60);

/// How the provider names the stages of a session. The stand-in verifies and issues the code in one step, so
/// nobody finds it between the two (`verified`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Authenticated,
    Complete,
    Failed,
    Expired,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Authenticated => "authenticated",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

/// What the user does.
pub(super) enum Outcome {
    /// Verifies; these claims differ from `true`, or were not asked for.
    Approve {
        claims: Map<String, Value>,
    },
    Decline,
    Fail,
    Expire,
}

/// What follows from it.
pub(super) struct Decision {
    /// Where the browser goes.
    pub(super) callback_url: String,
    /// What the provider tells the client's webhook endpoint: the client, and the event.
    pub(super) event: Option<(String, Value)>,
}

pub(super) struct Session {
    pub(super) request: Request,
    pub(super) created: Moment,
    pub(super) status: Status,
    /// Where the browser was sent when the user had decided.
    callback: Option<String>,
    pub(super) claims: Map<String, Value>,
    pub(super) code: Option<Code>,
    pub(super) token: Option<Token>,
}

pub(super) struct Code {
    value: String,
    pub(super) issued: Moment,
    pub(super) spent: bool,
}

pub(super) struct Token {
    pub(super) value: String,
    pub(super) issued: Moment,
    pub(super) revoked: bool,
}

impl Session {
    fn live(&self, now: Moment) -> bool {
        self.status != Status::Expired && now < self.created.plus(SESSION_LIFE)
    }
}

/// Everything the stand-in knows. A session owns its code and its token; the rest are ways to find it.
pub(super) struct World {
    seed: [u8; 32],
    drawn: u64,
    pub(super) clients: HashMap<String, Client>,
    pub(super) sessions: HashMap<String, Session>,
    /// The last session of a client and a state, for the user who reloads the page.
    latest: HashMap<(String, String), String>,
    pub(super) by_code: HashMap<String, String>,
    pub(super) by_token: HashMap<String, String>,
    oldest_first: VecDeque<(Moment, String)>,
    pub(super) token_requests: Window,
    pub(super) session_queries: Window,
    pub(super) daily: DailyCap,
}

impl World {
    pub(super) fn new(seed: [u8; 32], daily_cap: Option<u32>) -> Self {
        Self {
            seed,
            drawn: 0,
            clients: HashMap::new(),
            sessions: HashMap::new(),
            latest: HashMap::new(),
            by_code: HashMap::new(),
            by_token: HashMap::new(),
            oldest_first: VecDeque::new(),
            token_requests: Window::per_minute(30),
            session_queries: Window::per_minute(60),
            daily: DailyCap::new(daily_cap),
        }
    }

    /// Leaves the limits by the minute out.
    pub(super) fn lift_limits(&mut self) {
        self.token_requests = Window::per_minute(usize::MAX);
        self.session_queries = Window::per_minute(usize::MAX);
    }

    /// Registers a client, or replaces it; says whether it is new.
    pub(super) fn register(&mut self, client: Client) -> Result<bool, String> {
        client.check()?;
        Ok(self.clients.insert(client.client_id.clone(), client).is_none())
    }

    /// 32 unguessable bytes: the seed is secret and SHA-256 one-way, so one value tells nothing of the next.
    pub(super) fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        Sha256::new().chain_update(self.seed).chain_update(self.drawn.to_be_bytes()).finalize().into()
    }

    pub(super) fn draw_id(&mut self, prefix: &str) -> String {
        let bytes = self.draw();
        format!("{prefix}{}", BASE64URL_NOPAD.encode(bytes.first_chunk::<16>().unwrap_or(&[0; 16])))
    }

    /// An authorization URL was opened: its session goes on while it is live and undecided, else a new one begins.
    pub(super) fn begin(&mut self, params: &Params, now: Moment) -> Result<String, Refusal> {
        let request = authorize::check(params, &self.clients)?;
        self.forget(now);
        let key = (request.client_id.clone(), request.state.clone());
        if let Some(id) = self.latest.get(&key)
            && let Some(session) = self.sessions.get(id)
            && session.request == request
            && session.callback.is_none()
            && session.live(now)
        {
            return Ok(id.clone());
        }
        let id = self.draw_id("hvf_");
        let session = Session {
            request,
            created: now,
            status: Status::Pending,
            callback: None,
            claims: Map::new(),
            code: None,
            token: None,
        };
        self.sessions.insert(id.clone(), session);
        self.latest.insert(key, id.clone());
        self.oldest_first.push_back((now, id.clone()));
        Ok(id)
    }

    /// The consent page is on its way to the user, who is logged in from here on.
    pub(super) fn show(&mut self, id: &str) -> Option<(&Session, &Client)> {
        let session = self.sessions.get_mut(id)?;
        if session.status == Status::Pending {
            session.status = Status::Authenticated;
        }
        Some((session, self.clients.get(&session.request.client_id)?))
    }

    /// When the user has to be done.
    pub(super) fn deadline(&self, id: &str) -> Option<Moment> {
        self.sessions.get(id).map(|session| session.created.plus(SESSION_LIFE))
    }

    /// The user decides. A second click gets the answer of the first; an expired session yields no code.
    pub(super) fn decide(&mut self, id: &str, outcome: Outcome, now: Moment) -> Option<Decision> {
        let (code, event_id) = (self.draw_id(""), self.draw_id("evt_"));
        let session = self.sessions.get_mut(id)?;
        if !session.live(now) {
            if session.callback.is_none() {
                session.status = Status::Expired;
            }
            return Some(Decision { callback_url: session.request.fail("session_expired"), event: None });
        }
        if let Some(callback_url) = session.callback.clone() {
            return Some(Decision { callback_url, event: None });
        }
        let (status, callback_url, event) = match outcome {
            Outcome::Approve { claims } => {
                session.claims =
                    session.request.scopes.iter().map(|name| (name.clone(), json!(true))).collect();
                session.claims.extend(claims);
                let url = session.request.succeed(&code, id);
                session.code = Some(Code { value: code.clone(), issued: now, spent: false });
                self.by_code.insert(code, id.to_owned());
                let data = json!({"session_id": id, "claims": session.claims});
                (Status::Complete, url, Some(("vae.resolved", data)))
            }
            Outcome::Decline => (Status::Failed, session.request.fail("access_denied"), None),
            // The provider documents that other lifecycle events exist, not their names: this one is the sandbox's.
            Outcome::Fail => {
                let data = json!({"session_id": id});
                (Status::Failed, session.request.fail("verification_failed"), Some(("vae.failed", data)))
            }
            Outcome::Expire => (Status::Expired, session.request.fail("session_expired"), None),
        };
        session.status = status;
        session.callback = Some(callback_url.clone());
        let client_id = session.request.client_id.clone();
        let event =
            event.map(|(kind, data)| (client_id, json!({"id": event_id, "type": kind, "data": data})));
        Some(Decision { callback_url, event })
    }

    fn forget(&mut self, now: Moment) {
        while let Some((created, id)) = self.oldest_first.front()
            && created.plus(KEPT) <= now
        {
            if let Some(session) = self.sessions.remove(id) {
                let key = (session.request.client_id, session.request.state);
                if self.latest.get(&key) == Some(id) {
                    self.latest.remove(&key);
                }
                session.code.map(|code| self.by_code.remove(&code.value));
                session.token.map(|token| self.by_token.remove(&token.value));
            }
            self.oldest_first.pop_front();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use url::Url;

    use super::super::authorize::tests::{CHALLENGE, client};
    use super::*;

    pub(in super::super) const START: u64 = 1_800_000_000_000;

    pub(in super::super) fn after(seconds: u64) -> Moment {
        Moment::at(START + seconds * 1000)
    }

    pub(in super::super) fn world() -> World {
        let mut world = World::new([7; 32], None);
        world.register(client()).unwrap();
        world
    }

    pub(in super::super) fn params(state: &str) -> Params {
        Params::parse(
            format!(
                "client_id=cairl_test_shop&redirect_uri=https://shop.example/cb&state={state}\
                 &scope=age_18_plus+name_match&code_challenge={CHALLENGE}&code_challenge_method=S256"
            )
            .as_bytes(),
        )
    }

    pub(in super::super) fn approve() -> Outcome {
        Outcome::Approve { claims: Map::new() }
    }

    /// A session that has been approved, and its code.
    pub(in super::super) fn approved(world: &mut World) -> (String, String) {
        let id = world.begin(&params("a state of its own"), after(0)).unwrap();
        let decision = world.decide(&id, approve(), after(0)).unwrap();
        (id, param(&decision.callback_url, "code").unwrap())
    }

    pub(in super::super) fn param(url: &str, name: &str) -> Option<String> {
        Url::parse(url)
            .unwrap()
            .query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    fn status(world: &mut World, id: &str, now: Moment) -> Value {
        world.session(Some("Bearer cairl_test_shop"), id, now).unwrap()["session"]["status"].clone()
    }

    #[test]
    fn reloading_goes_on_with_the_session_until_it_is_decided_or_dead() {
        let mut world = world();
        let first = world.begin(&params("0123456789abcdef"), after(0)).unwrap();
        assert_eq!(world.begin(&params("0123456789abcdef"), after(1799)).unwrap(), first);
        assert_ne!(world.begin(&params("another state of it"), after(0)).unwrap(), first);
        let second = world.begin(&params("0123456789abcdef"), after(1800)).unwrap();
        assert_ne!(second, first);
        world.decide(&second, approve(), after(1801)).unwrap();
        assert_ne!(world.begin(&params("0123456789abcdef"), after(1802)).unwrap(), second);
    }

    #[test]
    fn a_session_walks_through_its_stages() {
        let mut world = world();
        let id = world.begin(&params("0123456789abcdef"), after(0)).unwrap();
        assert_eq!(status(&mut world, &id, after(0)), "pending");
        assert!(world.show(&id).is_some());
        assert_eq!(status(&mut world, &id, after(0)), "authenticated");
        let decision = world.decide(&id, approve(), after(1)).unwrap();
        assert_eq!(status(&mut world, &id, after(1)), "complete");
        assert_eq!(param(&decision.callback_url, "state").unwrap(), "0123456789abcdef");
        assert_eq!(param(&decision.callback_url, "session_id").unwrap(), id);
        assert!(world.show(&id).is_some());
        assert_eq!(
            status(&mut world, &id, after(1)),
            "complete",
            "showing the page again takes nothing back"
        );
    }

    #[test]
    fn each_refusal_of_the_user_has_its_error_and_no_code() {
        for (outcome, error, ends) in [
            (Outcome::Decline, "access_denied", "failed"),
            (Outcome::Fail, "verification_failed", "failed"),
            (Outcome::Expire, "session_expired", "expired"),
        ] {
            let mut world = world();
            let id = world.begin(&params("0123456789abcdef"), after(0)).unwrap();
            let url = world.decide(&id, outcome, after(0)).unwrap().callback_url;
            assert_eq!(url, format!("https://shop.example/cb?error={error}&state=0123456789abcdef"));
            assert_eq!(status(&mut world, &id, after(0)), ends);
        }
    }

    #[test]
    fn a_decision_stands_and_an_expired_session_yields_no_code() {
        let mut world = world();
        let id = world.begin(&params("0123456789abcdef"), after(0)).unwrap();
        let first = world.decide(&id, approve(), after(0)).unwrap();
        let second = world.decide(&id, Outcome::Decline, after(1)).unwrap();
        assert_eq!(second.callback_url, first.callback_url);
        assert!(first.event.is_some() && second.event.is_none());

        for (end, when) in [(Some(Outcome::Expire), after(1)), (None, after(1800))] {
            let id = world.begin(&params("another state of it"), after(0)).unwrap();
            end.map(|outcome| world.decide(&id, outcome, after(0)));
            let url = world.decide(&id, approve(), when).unwrap().callback_url;
            assert_eq!(param(&url, "error").unwrap(), "session_expired");
            assert_eq!(param(&url, "code"), None);
        }
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let mut world = world();
        approved(&mut world);
        world.begin(&params("0123456789abcdef"), after(7200)).unwrap();
        assert_eq!((world.sessions.len(), world.latest.len(), world.by_code.len()), (1, 1, 0));
    }
}
