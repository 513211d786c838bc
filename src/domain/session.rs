//! A session: what is known of one user's way through one verification. How it changes stands in [`super::transition`].

use std::time::Duration;

use super::{
    claims::Userinfo,
    id::{RunId, SessionId},
    name::{CallerName, ClientName, ProviderSessionId, Scope},
    reason::{Reason, Stage},
    refusal::{ProviderSaid, Refusal},
    secret::{AccessToken, CodeVerifier, KeyedHash},
    time::{Moment, Timestamp},
    timeline::Timeline,
};

/// How long an open session lives, as the provider's does.
pub const SESSION_LIFE: Duration = Duration::from_secs(30 * 60);
/// How long an authorization code lives, counted from its first presentation here.
pub const CODE_LIFE: Duration = Duration::from_secs(10 * 60);
/// How many token requests one code may cost over all calls.
pub const MAX_SENDS: u32 = 9;
/// How long a bound callback gets its stored outcome again.
pub const REPLAY_WINDOW: Duration = Duration::from_secs(2 * 60);

/// The provider's progress, as far as it leaves a session open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenStatus {
    /// The user has not come far yet.
    Pending,
    /// The user has signed in.
    Authenticated,
    /// The user is verified; a code may have been issued.
    Verified,
}

/// What the provider says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderStatus {
    /// `pending`
    Pending,
    /// `authenticated`
    Authenticated,
    /// `verified`
    Verified,
    /// `complete`: a code was issued.
    Complete,
    /// `failed`
    Failed,
    /// `expired`
    Expired,
}

impl ProviderStatus {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Pending, Self::Authenticated, Self::Verified, Self::Complete, Self::Failed, Self::Expired];

    /// The provider's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Authenticated => "authenticated",
            Self::Verified => "verified",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Reads the provider's word; none for one that is not documented.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.as_str() == word)
    }
}

/// The statuses that never change again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Terminal {
    /// Claims are here.
    Complete,
    /// Refused for good.
    Failed,
    /// The thirty minutes ran out.
    Expired,
    /// The caller cancelled it.
    Cancelled,
    /// Nobody can know whether the code was spent.
    Indeterminate,
}

/// Where a session stands, as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Open: the user has not come far yet.
    Pending,
    /// Open: the user has signed in.
    Authenticated,
    /// Open: the user is verified.
    Verified,
    /// A token request is under way, or the claims are missing.
    Exchanging,
    /// Over.
    Ended(Terminal),
}

impl Status {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Pending,
        Self::Authenticated,
        Self::Verified,
        Self::Exchanging,
        Self::Ended(Terminal::Complete),
        Self::Ended(Terminal::Failed),
        Self::Ended(Terminal::Expired),
        Self::Ended(Terminal::Cancelled),
        Self::Ended(Terminal::Indeterminate),
    ];

    /// Its name in the contract, in small letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Authenticated => "authenticated",
            Self::Verified => "verified",
            Self::Exchanging => "exchanging",
            Self::Ended(Terminal::Complete) => "complete",
            Self::Ended(Terminal::Failed) => "failed",
            Self::Ended(Terminal::Expired) => "expired",
            Self::Ended(Terminal::Cancelled) => "cancelled",
            Self::Ended(Terminal::Indeterminate) => "indeterminate",
        }
    }
}

impl From<At> for Status {
    fn from(at: At) -> Self {
        match at {
            At::Open(OpenStatus::Pending) => Self::Pending,
            At::Open(OpenStatus::Authenticated) => Self::Authenticated,
            At::Open(OpenStatus::Verified) => Self::Verified,
            At::Sent { .. } | At::Token => Self::Exchanging,
            At::Ended(ended) => Self::Ended(ended.status),
        }
    }
}

/// How and when a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub status: Terminal,
    /// When.
    pub at: Moment,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Nothing was sent, or nothing that counts.
    Open(OpenStatus),
    /// A token request may be on the wire.
    Sent {
        /// Where it goes back to if the request turns out not to count.
        before: OpenStatus,
        /// Who sent it.
        run: RunId,
        /// When.
        since: Moment,
    },
    /// The token is held, the claims are missing.
    Token,
    /// Over.
    Ended(Ended),
}

/// Which callback a state was bound to.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// Keyed hash of the code, or of the error callback.
    pub callback: KeyedHash,
    /// Whether it was an error callback.
    pub is_error: bool,
    /// When it was presented first.
    pub first_presented: Moment,
    /// Token requests sent for it.
    pub sends: u32,
}

/// What ended a session, or refused its last attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// Where.
    pub stage: Stage,
    /// What the provider said, where it was the provider.
    pub said: Option<ProviderSaid>,
}

/// What is known of the access token.
#[derive(Clone, Debug)]
pub enum TokenStanding {
    /// None, or none yet.
    None,
    /// Held.
    Held {
        /// The token.
        token: AccessToken,
        /// When it was received.
        since: Moment,
        /// How long it lives from then.
        life: Duration,
    },
    /// Revoked, or about to be.
    Revoked,
    /// Ran out.
    Expired,
}

/// One session, opened.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The client of the provider that it runs for.
    pub client: ClientName,
    /// Who started it.
    pub caller: CallerName,
    /// What is asked for.
    pub scopes: Vec<Scope>,
    /// Where the provider sends the browser back to.
    pub redirect_uri: String,
    /// The caller's correlation text; empty for none.
    pub reference: String,
    /// Whether the client's key is a test key.
    pub test_mode: bool,
    /// When it was started.
    pub created: Moment,
    /// When it last changed.
    pub updated: Timestamp,
    /// Keyed hash of the state's secret half.
    pub state: KeyedHash,
    /// Keyed hash of the binding, where there is one.
    pub binding: Option<KeyedHash>,
    /// The PKCE verifier, until it is used or useless.
    pub verifier: Option<CodeVerifier>,
    /// The provider's id of its session, where a callback brought one.
    pub provider_session: Option<ProviderSessionId>,
    /// The callback that the state is bound to.
    pub spent: Option<Spent>,
    /// What ended it, or refused its last attempt.
    pub failure: Option<Failure>,
    /// Where it stands.
    pub at: At,
    /// Its access token.
    pub token: TokenStanding,
    /// What the provider says about the user, once complete.
    pub userinfo: Option<Userinfo>,
    /// What happened to it since its start.
    pub timeline: Timeline,
}

impl Session {
    /// Where it stands, as callers see it.
    pub fn status(&self) -> Status {
        self.at.into()
    }

    /// When it ends if nothing completes it.
    pub fn expires(&self) -> Timestamp {
        self.created.wall.plus(SESSION_LIFE)
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        match self.at {
            At::Ended(ended) => Some(ended),
            At::Open(_) | At::Sent { .. } | At::Token => None,
        }
    }

    /// Until when the same callback can complete after a refusal that can be mended; none where it cannot, or where that
    /// time is over.
    pub fn can_resume(&self, now: Timestamp) -> Option<Timestamp> {
        self.resume_until().filter(|until| *until > now)
    }

    /// Until when the same callback can complete after a refusal that can be mended, over or not.
    pub fn resume_until(&self) -> Option<Timestamp> {
        self.failure.as_ref()?;
        match (self.at, &self.token, &self.spent) {
            (At::Open(_), _, Some(spent)) if spent.sends < MAX_SENDS => {
                Some(spent.first_presented.wall.plus(CODE_LIFE).min(self.expires()))
            }
            (At::Token, TokenStanding::Held { since, life, .. }, _) => Some(since.wall.plus(*life)),
            _ => None,
        }
    }

    /// What a terminal session, or one that was refused for now, answers to its callback: nothing to object when it is
    /// complete, else the refusal.
    ///
    /// # Errors
    /// The session's own refusal.
    pub fn outcome(&self) -> Result<(), Refusal> {
        let own = |reason| Err(Refusal::new(reason));
        match (self.ended().map(|ended| ended.status), &self.failure) {
            (Some(Terminal::Complete), _) => Ok(()),
            (Some(Terminal::Cancelled), _) => own(Reason::SessionCancelled),
            (Some(Terminal::Expired), None) => own(Reason::SessionExpired),
            (Some(Terminal::Expired), Some(failure)) if failure.reason != Reason::SessionExpired => {
                own(Reason::SessionExpired)
            }
            (_, Some(failure)) => Err(Refusal {
                said: failure.said.clone().map(Box::new),
                resume_until: self.resume_until(),
                ..Refusal::at(failure.stage, failure.reason)
            }),
            (Some(Terminal::Failed | Terminal::Indeterminate) | None, None) => own(Reason::SessionFinished),
        }
    }
}
