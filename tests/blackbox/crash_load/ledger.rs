//! What callers were told, and what the provider saw.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use cairld::api::proto::{ClaimValue, Session, SessionStatus, StartAuthorizationRequest, claim_value::Kind};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Provider, parameter};

/// One flow, as its caller knows it.
#[derive(Clone, Debug)]
pub struct Flow {
    pub request: StartAuthorizationRequest,
    /// What the user will say.
    pub claims: BTreeMap<&'static str, Option<bool>>,
    /// Empty while the start got no answer.
    pub id: String,
    pub authorization_url: String,
    /// None until the user has approved.
    pub callback: Option<String>,
    pub told: Told,
    pub unanswered: Unanswered,
    /// How many kills it has seen.
    pub kills: u32,
}

/// The furthest that answers have acknowledged a session to be.
#[derive(Clone, Debug)]
pub enum Told {
    /// Open, and at least so far.
    Open(SessionStatus),
    /// Its token is held.
    Token,
    /// Over, and nobody said how.
    Over,
    /// Over, and what it came to, once a whole session was answered.
    Ended(SessionStatus, Option<Box<Session>>),
}

/// Calls that were made and got no answer: each may have had its effect, or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unanswered {
    pub complete: bool,
    pub cancel: bool,
}

impl Flow {
    pub fn new(request: StartAuthorizationRequest, claims: [Option<bool>; 2]) -> Self {
        Self {
            request,
            claims: ["age_18_plus", "name_match"].into_iter().zip(claims).collect(),
            id: String::new(),
            authorization_url: String::new(),
            callback: None,
            told: Told::Open(SessionStatus::Pending),
            unanswered: Unanswered::default(),
            kills: 0,
        }
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.told, Told::Over | Told::Ended(..))
    }

    pub fn claims_json(&self) -> Value {
        json!(self.claims)
    }

    /// The journal's name for its code; empty before there is one.
    pub fn code_digest(&self) -> String {
        let Some(callback) = &self.callback else { return String::new() };
        let mut digest = HEXLOWER.encode(&Sha256::digest(parameter(callback, "code")));
        digest.truncate(16);
        digest
    }

    /// Takes down that the session is as `read`; says what is wrong with that.
    pub fn read(&mut self, read: Session) -> Result<(), String> {
        use SessionStatus as S;
        let status = read.status();
        let Unanswered { complete, cancel } = self.unanswered;
        let may_be = match (&self.told, status) {
            (Told::Open(least), S::Pending | S::Authenticated | S::Verified) => status >= *least,
            (Told::Open(_), S::Exchanging | S::Complete | S::Indeterminate) => complete,
            (Told::Token, S::Exchanging) => true,
            (Told::Token, S::Complete) => complete,
            (Told::Open(_) | Told::Token, S::Cancelled) => cancel,
            (Told::Over, S::Complete | S::Cancelled | S::Indeterminate) => true,
            (Told::Open(_) | Told::Token | Told::Over, _) => false,
            (Told::Ended(ended, whole), status) => {
                *ended == status && whole.as_ref().is_none_or(|whole| lasting(whole) == lasting(&read))
            }
        };
        if !may_be {
            return Err(format!("{self:?}\n  reads {read:?}"));
        }
        self.check_content(&read)?;
        self.unanswered = Unanswered::default();
        self.told = match status {
            S::Pending | S::Authenticated | S::Verified => Told::Open(status),
            S::Exchanging => Told::Token,
            S::Unspecified | S::Complete | S::Failed | S::Expired | S::Cancelled | S::Indeterminate => {
                Told::Ended(status, Some(Box::new(read)))
            }
        };
        Ok(())
    }

    /// It is this flow's session, and has its user's claims exactly when it is complete.
    fn check_content(&self, read: &Session) -> Result<(), String> {
        let claim = |said: &Option<bool>| {
            let kind = said.map_or(Kind::NullValue(0), Kind::BoolValue);
            ClaimValue { kind: Some(kind) }
        };
        let expected = if read.status() == SessionStatus::Complete {
            self.claims.iter().map(|(name, said)| ((*name).to_owned(), claim(said))).collect()
        } else {
            HashMap::new()
        };
        if read.id != self.id || read.reference != self.request.reference || read.claims != expected {
            return Err(format!("{self:?}\n  is answered with {read:?}"));
        }
        Ok(())
    }

    /// Whether the provider saw of its code what the session says.
    pub fn check_sends(&self, sends: &Sends) -> Result<(), String> {
        let sent = sends.of(&self.code_digest());
        let bought = sent.iter().filter(|status| **status == Some(200)).count();
        let is_right = match &self.told {
            Told::Open(_) => sent.iter().all(|status| may_follow(*status)),
            Told::Token | Told::Ended(SessionStatus::Complete, _) => bought == 1,
            Told::Over | Told::Ended(..) => bought <= 1,
        };
        if is_right { Ok(()) } else { Err(format!("{self:?}\n  sent its code so: {sent:?}")) }
    }
}

/// What does not change any more once a session has ended: a token runs out all the same.
fn lasting(session: &Session) -> Session {
    Session { token: None, ..session.clone() }
}

/// A webhook, as its sender knows it.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub body: Vec<u8>,
    /// The event that it was acknowledged as.
    pub event: Option<String>,
}

/// Token requests by the digest of their code, each with the status that was answered; none where the daemon was gone.
#[derive(Debug, Default)]
pub struct Sends(HashMap<String, Vec<Option<u16>>>);

/// Whether the same code may be sent again: the answer said that it was not spent, or that nobody knows yet.
fn may_follow(status: Option<u16>) -> bool {
    matches!(status, Some(402 | 500..))
}

impl Sends {
    /// Adds what came in since the last time.
    pub async fn gather(&mut self, provider: &Provider) {
        for entry in provider.journal("").await {
            if entry["path"] == "/api/oauth/token" {
                let digest = entry["form"]["code_digest"].as_str().expect("a code in each token request");
                let status = entry["status"].as_u64().map(|status| u16::try_from(status).unwrap());
                self.0.entry(digest.to_owned()).or_default().push(status);
            }
        }
        provider.clear_journal().await;
    }

    pub fn of(&self, digest: &str) -> &[Option<u16>] {
        self.0.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Codes that were sent again after a request that may have spent them.
    pub fn sent_twice(&self) -> Vec<String> {
        let twice = |sent: &[Option<u16>]| {
            sent.split_last().is_some_and(|(_, earlier)| !earlier.iter().all(|status| may_follow(*status)))
        };
        self.0
            .iter()
            .filter(|(_, sent)| twice(sent))
            .map(|(digest, sent)| format!("{digest}: {sent:?}"))
            .collect()
    }

    pub fn summary(&self) -> String {
        let requests: usize = self.0.values().map(Vec::len).sum();
        format!(
            "{requests} token requests for {} codes, double-sent = {}",
            self.0.len(),
            self.sent_twice().len()
        )
    }
}

/// What it all comes to.
#[derive(Debug, Default)]
pub struct Account {
    /// Sessions whose start was acknowledged, at once or when it was repeated.
    pub started: u64,
    /// Starts without a request id that got no answer.
    pub nameless: u64,
    /// Other calls that got no answer.
    pub unanswered: u64,
    pub completed: u64,
    pub cancelled: u64,
    pub indeterminate: u64,
    /// Completed after a kill: that were open, and that held a token.
    pub resumed: (u64, u64),
    pub webhooks: u64,
    /// Acknowledged, and not so afterwards; or what nothing explains.
    pub wrong: Vec<String>,
}

impl Account {
    pub fn add(&mut self, other: Self) {
        self.started += other.started;
        self.nameless += other.nameless;
        self.unanswered += other.unanswered;
        self.completed += other.completed;
        self.cancelled += other.cancelled;
        self.indeterminate += other.indeterminate;
        self.resumed.0 += other.resumed.0;
        self.resumed.1 += other.resumed.1;
        self.webhooks += other.webhooks;
        self.wrong.extend(other.wrong);
    }

    /// Counts a flow that is over.
    pub fn count(&mut self, flow: &Flow) {
        match flow.told {
            Told::Ended(SessionStatus::Complete, _) => self.completed += 1,
            Told::Ended(SessionStatus::Cancelled, _) => self.cancelled += 1,
            Told::Ended(SessionStatus::Indeterminate, _) => self.indeterminate += 1,
            Told::Open(_) | Told::Token | Told::Over | Told::Ended(..) => {}
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions started, {} calls unanswered, {} completed, {} indeterminate, {} cancelled, resumed {} open \
             and {} with a token, {} webhooks, lost = {}",
            self.started,
            self.unanswered + self.nameless,
            self.completed,
            self.indeterminate,
            self.cancelled,
            self.resumed.0,
            self.resumed.1,
            self.webhooks,
            self.wrong.len(),
        )
    }
}
