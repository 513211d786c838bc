//! A session as the rules have it, by itself.

use super::*;

/// How old something of `then` is now, milliseconds: by the boot clock within a boot, by the wall clock across boots,
/// where what is over a minute in the future has no known age.
pub(in crate::flows::model) fn age(then: Moment, now: Moment) -> Option<u64> {
    if then.boot.boot == now.boot.boot {
        return Some(now.boot.millis.saturating_sub(then.boot.millis));
    }
    let (then, now) = (then.wall.as_millis(), now.wall.as_millis());
    (then <= now + WINDOW).then(|| now.saturating_sub(then))
}

pub(in crate::flows::model) fn is_over(then: Moment, life: u64, now: Moment) -> bool {
    age(then, now).is_none_or(|age| age >= life)
}

/// Whether a caller may see a session: his own, and those of clients that are shared.
pub(in crate::flows::model) fn sees(viewer: &Viewer, session: &Known) -> bool {
    let is_his = session.caller == viewer.caller || viewer.shared.contains(&session.client);
    is_his && viewer.clients.contains(&session.client)
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flows::model) enum Place {
    Open(OpenStatus),
    Sent { before: OpenStatus, run: u64 },
    Token,
    Ended(Terminal),
}

/// Its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flows::model) enum Token {
    None,
    Held { since: Moment, life: u64 },
    Revoked,
    Expired,
}

/// The callback that its state is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::flows::model) struct Bound {
    pub(in crate::flows::model) callback: String,
    pub(in crate::flows::model) first: Moment,
    pub(in crate::flows::model) sends: u32,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::flows::model) struct Known {
    pub(in crate::flows::model) client: ClientName,
    pub(in crate::flows::model) caller: CallerName,
    pub(in crate::flows::model) binding: Option<String>,
    pub(in crate::flows::model) secret: [u8; 32],
    pub(in crate::flows::model) created: Moment,
    pub(in crate::flows::model) place: Place,
    pub(in crate::flows::model) since: Moment,
    pub(in crate::flows::model) bound: Option<Bound>,
    pub(in crate::flows::model) failure: Option<Reason>,
    pub(in crate::flows::model) token: Token,
    pub(in crate::flows::model) has_claims: bool,
    pub(in crate::flows::model) hint: Option<String>,
}

/// What is seen of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::flows::model) struct View {
    pub(in crate::flows::model) status: Status,
    pub(in crate::flows::model) failure: Option<Reason>,
    pub(in crate::flows::model) token: &'static str,
    pub(in crate::flows::model) has_claims: bool,
    pub(in crate::flows::model) sends: Option<u32>,
    pub(in crate::flows::model) hint: Option<String>,
}

impl View {
    /// What the daemon shows.
    pub(in crate::flows::model) fn of(session: &crate::domain::Session) -> Self {
        Self {
            status: session.status(),
            failure: session.failure.as_ref().map(|failure| failure.reason),
            token: match session.token {
                TokenStanding::None => "none",
                TokenStanding::Held { .. } => "held",
                TokenStanding::Revoked => "revoked",
                TokenStanding::Expired => "expired",
            },
            has_claims: session.userinfo.is_some(),
            sends: session.spent.map(|spent| spent.sends),
            hint: session.provider_session.as_ref().map(ToString::to_string),
        }
    }
}

impl Known {
    /// What time, and the end of the run that sent, have made of it.
    pub(in crate::flows::model) fn settle(&mut self, now: Moment, run: u64) {
        match self.place {
            Place::Open(_) if is_over(self.created, SESSION_LIFE, now) => {
                let end = self.created.plus(std::time::Duration::from_millis(SESSION_LIFE));
                // What was refused after the end ended then.
                let end = if age(end, self.since).is_some_and(|late| late > 0) { now } else { end };
                self.end(Terminal::Expired, end);
            }
            Place::Sent { run: sender, .. } if sender != run => {
                self.failure = Some(Reason::OutcomeUnknown);
                self.end(Terminal::Indeterminate, self.since);
            }
            Place::Open(_) | Place::Sent { .. } | Place::Token | Place::Ended(_) => {}
        }
        if let Token::Held { since, life } = self.token
            && is_over(since, life, now)
        {
            self.token = Token::Expired;
            if self.place == Place::Token {
                self.failure = Some(Reason::Unauthorized);
                self.end(Terminal::Failed, since.plus(std::time::Duration::from_millis(life)));
            }
        }
    }

    pub(in crate::flows::model) fn end(&mut self, how: Terminal, at: Moment) {
        (self.place, self.since) = (Place::Ended(how), at);
    }

    pub(in crate::flows::model) fn fail(&mut self, reason: Reason, at: Moment) {
        self.failure = Some(reason);
        self.end(Terminal::Failed, at);
    }

    /// As it is seen.
    pub(in crate::flows::model) fn view(&self, now: Moment, run: u64) -> View {
        let mut settled = self.clone();
        settled.settle(now, run);
        View {
            status: match settled.place {
                Place::Open(OpenStatus::Pending) => Status::Pending,
                Place::Open(OpenStatus::Authenticated) => Status::Authenticated,
                Place::Open(OpenStatus::Verified) => Status::Verified,
                Place::Sent { .. } | Place::Token => Status::Exchanging,
                Place::Ended(how) => Status::Ended(how),
            },
            failure: settled.failure,
            token: match settled.token {
                Token::None => "none",
                Token::Held { .. } => "held",
                Token::Revoked => "revoked",
                Token::Expired => "expired",
            },
            has_claims: settled.has_claims,
            sends: settled.bound.as_ref().map(|bound| bound.sends),
            hint: settled.hint,
        }
    }

    /// What the provider says of it moves it forward while it is open.
    pub(in crate::flows::model) fn hear(&mut self, status: ProviderStatus, now: Moment) {
        let Place::Open(present) = self.place else { return };
        let forward = match status {
            ProviderStatus::Failed => return self.fail(Reason::VerificationFailed, now),
            ProviderStatus::Expired => return self.end(Terminal::Expired, now),
            ProviderStatus::Pending => OpenStatus::Pending,
            ProviderStatus::Authenticated => OpenStatus::Authenticated,
            ProviderStatus::Verified | ProviderStatus::Complete => OpenStatus::Verified,
        };
        self.place = Place::Open(present.max(forward));
    }

    /// What its callback hears once it has ended, where nothing was ever presented.
    pub(in crate::flows::model) fn own_refusal(&self) -> Reason {
        match self.place {
            Place::Ended(Terminal::Cancelled) => Reason::SessionCancelled,
            Place::Ended(Terminal::Expired) => Reason::SessionExpired,
            _ => self.failure.unwrap_or(Reason::SessionFinished),
        }
    }
}
