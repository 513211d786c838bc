//! The state machine: every way in which a session changes, and the only place that has one.
//!
//! Each transition begins with a settled session ([`Session::settle`]) and either changes it or refuses and leaves it as
//! it was. A terminal session never reopens, whatever arrives in whatever order.

mod caller;
mod restored;

use std::time::Duration;

use super::{
    answer::Verdict,
    catalogue::{Becomes, redirected},
    claims::Userinfo,
    id::{RunId, SessionId},
    name::ProviderSessionId,
    reason::{Reason, Stage},
    refusal::{ProviderSaid, Refusal},
    secret::{AccessToken, CodeVerifier, KeyedHash},
    session::{
        At, CODE_LIFE, Ended, Failure, MAX_SENDS, OpenStatus, ProviderStatus, REPLAY_WINDOW, SESSION_LIFE,
        Session, Spent, Terminal, TokenStanding,
    },
    time::{Moment, Timestamp},
    timeline::{Happening, TimelineEntry},
    viewer::Viewer,
};

/// The keyed hashes of what a callback presents, and its provider error if it is an error callback.
#[derive(Clone, Debug)]
pub struct PresentedHashes {
    /// Of the state's secret half.
    pub state: KeyedHash,
    /// Of the binding, if one is presented.
    pub binding: Option<KeyedHash>,
    /// Of the code, or of the error.
    pub callback: KeyedHash,
    /// The provider's error code and words, if it is an error callback.
    pub error: Option<(String, String)>,
    /// Since when it is presented, where it has waited: a code's ten minutes go on meanwhile.
    pub since: Option<Moment>,
}

/// What presenting a callback asks for.
#[derive(Debug)]
pub enum Taken {
    /// Send the token request. The session is SENT, and must be durable before the first byte is.
    Send {
        /// The verifier to send.
        verifier: CodeVerifier,
    },
    /// The token is already held: fetch the claims.
    FetchClaims {
        /// The token to fetch them with.
        token: AccessToken,
    },
    /// The session ended just now; its outcome is the answer.
    Ended,
    /// It had ended before, and the same callback may have the outcome again. Nothing changed.
    Replay,
}

/// How a token request ended.
#[derive(Debug)]
pub enum ExchangeEnd {
    /// With a token.
    Token {
        /// The token.
        token: AccessToken,
        /// How long it lives from now.
        life: Duration,
    },
    /// With an answer of 400 or above.
    Refused {
        /// What it means.
        verdict: Verdict,
        /// What it said.
        said: ProviderSaid,
    },
    /// Without a connection: nothing was sent.
    NeverSent {
        /// What is known of the attempt.
        said: ProviderSaid,
    },
    /// Sent, and no answer that can be used: nobody can know whether the code was spent.
    Lost {
        /// `OUTCOME_UNKNOWN`, or `PROVIDER_PROTOCOL` where there was an answer.
        reason: Reason,
        /// What is known of the attempt.
        said: ProviderSaid,
    },
}

/// How fetching the claims ended.
#[derive(Debug)]
pub enum ClaimsEnd {
    /// With claims.
    Claims(Userinfo),
    /// The token is no longer accepted.
    TokenRefused(ProviderSaid),
    /// Otherwise: to be tried again.
    Failed {
        /// Why.
        reason: Reason,
        /// What is known of the attempt.
        said: ProviderSaid,
    },
}

/// How asking the provider about its session ended.
#[derive(Debug)]
pub enum QueryEnd {
    /// With a status; none where it is not a documented one.
    Status(Option<ProviderStatus>),
    /// Otherwise.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether the request was made at all.
        was_sent: bool,
    },
}

impl Session {
    /// Brings the session up to the present: what time or the end of a run has decided is decided here, for every view
    /// and before every transition, sweeper or not. Answers whether anything changed.
    pub fn settle(&mut self, now: Moment, run: RunId) -> bool {
        let mut is_changed = false;
        match self.at {
            At::Open(before) if self.created.is_over(SESSION_LIFE, now) => {
                let end = self.created.plus(SESSION_LIFE);
                // Its last change came before, even if the clock that told so was set back since.
                let told = end.wall.max(self.updated);
                self.end(Terminal::Expired, end);
                self.updated = told;
                self.note(told, Happening::Expired, At::Open(before));
                is_changed = true;
            }
            sent @ At::Sent { run: sender, since, .. } if sender != run => {
                self.failure =
                    Some(Failure { reason: Reason::OutcomeUnknown, stage: Stage::Token, said: None });
                self.end(Terminal::Indeterminate, since);
                self.note_failure(since.wall, Happening::Interrupted, sent);
                is_changed = true;
            }
            At::Open(_) | At::Sent { .. } | At::Token | At::Ended(_) => {}
        }
        if let TokenStanding::Held { since, life, .. } = self.token
            && since.is_over(life, now)
        {
            let (before, end) = (self.at, since.plus(life));
            self.token = TokenStanding::Expired;
            is_changed = true;
            if self.at == At::Token {
                self.failure =
                    Some(Failure { reason: Reason::Unauthorized, stage: Stage::Userinfo, said: None });
                self.end(Terminal::Failed, end);
            }
            self.note(end.wall, Happening::TokenExpired, before);
        }
        is_changed
    }

    /// Whether time can still change it: it has not ended, or holds a token that will run out.
    pub fn is_unfinished(&self) -> bool {
        self.ended().is_none() || matches!(self.token, TokenStanding::Held { .. })
    }

    /// Presents a callback: binds the state to it and says what to do.
    ///
    /// `code_owner` is the session that the code was first presented with, if any; `provider_session` the callback's
    /// hint.
    ///
    /// # Errors
    /// `STATE_UNKNOWN`, `BINDING_MISMATCH`, `STATE_ALREADY_USED`, `CODE_ALREADY_USED`, `EXCHANGE_IN_PROGRESS`, or the
    /// session's own refusal; nothing is changed then.
    pub fn take(
        &mut self,
        now: Moment,
        run: RunId,
        viewer: &Viewer,
        presented: &PresentedHashes,
        code_owner: Option<SessionId>,
        provider_session: Option<&ProviderSessionId>,
    ) -> Result<Taken, Refusal> {
        let is_same = self.admit(viewer, presented)?;
        self.settle(now, run);
        match self.at {
            At::Ended(ended) => self.take_ended(ended, now, is_same),
            At::Sent { .. } => Err(Reason::ExchangeInProgress.into()),
            At::Token => match &self.token {
                TokenStanding::Held { token, .. } => Ok(Taken::FetchClaims { token: token.clone() }),
                TokenStanding::None | TokenStanding::Revoked | TokenStanding::Expired => {
                    Err(Reason::TokenNotHeld.into())
                }
            },
            At::Open(before) => {
                if code_owner.is_some_and(|owner| owner != self.id) {
                    return Err(Reason::CodeAlreadyUsed.into());
                }
                if let Some(hint) = provider_session {
                    self.provider_session.get_or_insert_with(|| hint.clone());
                }
                self.take_open(before, now, run, presented)
            }
        }
    }

    /// Whether a callback may be presented at all, whatever the session has come to: its caller, state and binding are
    /// right, and the state is not bound to another callback. Answers whether it was presented before.
    ///
    /// # Errors
    /// `STATE_UNKNOWN`, `BINDING_MISMATCH`, `STATE_ALREADY_USED`.
    pub fn admit(&self, viewer: &Viewer, presented: &PresentedHashes) -> Result<bool, Refusal> {
        if !viewer.sees(self) || !self.state.matches(&presented.state) {
            return Err(Reason::StateUnknown.into());
        }
        if !self.is_bound_as(presented) {
            return Err(Reason::BindingMismatch.into());
        }
        match self.spent {
            None => Ok(false),
            Some(spent) if spent.callback.matches(&presented.callback) => Ok(true),
            Some(_) => Err(Reason::StateAlreadyUsed.into()),
        }
    }

    fn is_bound_as(&self, presented: &PresentedHashes) -> bool {
        match (&self.binding, &presented.binding) {
            (Some(ours), Some(theirs)) => ours.matches(theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// The replay rule: the same callback **with a binding** may have the outcome again for a while; without one, whoever
    /// got hold of a callback URL could have the claims handed to him.
    fn take_ended(&self, ended: Ended, now: Moment, is_same: bool) -> Result<Taken, Refusal> {
        if self.spent.is_none() {
            self.outcome()?;
        }
        if is_same && self.binding.is_some() && !ended.at.is_over(REPLAY_WINDOW, now) {
            return Ok(Taken::Replay);
        }
        Err(Reason::StateAlreadyUsed.into())
    }

    fn take_open(
        &mut self,
        before: OpenStatus,
        now: Moment,
        run: RunId,
        presented: &PresentedHashes,
    ) -> Result<Taken, Refusal> {
        let mut spent = self.spent.unwrap_or(Spent {
            callback: presented.callback,
            is_error: presented.error.is_some(),
            first_presented: presented.since.unwrap_or(now),
            sends: 0,
        });
        if let Some((error, description)) = &presented.error {
            self.spent = Some(spent);
            self.end_by_redirect(now, error, description);
            self.note_failure(now.wall, Happening::ErrorCallback, At::Open(before));
            return Ok(Taken::Ended);
        }
        if spent.sends >= MAX_SENDS || spent.first_presented.is_over(CODE_LIFE, now) {
            self.fail(now, Reason::InvalidGrant, Stage::Daemon, None);
            self.note_failure(now.wall, Happening::CodeUsedUp, At::Open(before));
            return Ok(Taken::Ended);
        }
        let Some(verifier) = self.verifier.clone() else {
            return Err(Reason::Internal.into());
        };
        spent.sends += 1;
        self.spent = Some(spent);
        self.at = At::Sent { before, run, since: now };
        self.updated = now.wall;
        let sent = TimelineEntry::new(now.wall, Happening::Sent, At::Open(before).into(), self.status());
        self.timeline.add(TimelineEntry { attempt: spent.sends, ..sent });
        Ok(Taken::Send { verifier })
    }

    fn end_by_redirect(&mut self, now: Moment, error: &str, description: &str) {
        let entry = redirected(error);
        let said = ProviderSaid {
            error: error.to_owned(),
            description: description.to_owned(),
            request_time: now.wall,
            ..ProviderSaid::default()
        };
        self.failure = Some(Failure { reason: entry.reason, stage: Stage::Redirect, said: Some(said) });
        let is_expired = entry.becomes == Becomes::Expired;
        self.end(if is_expired { Terminal::Expired } else { Terminal::Failed }, now);
    }

    /// Records how the token request ended. Past the thirty minutes too: in SENT the outcome decides.
    ///
    /// # Errors
    /// `SESSION_FINISHED` when no request is under way; nothing is changed then.
    pub fn exchange_ended(&mut self, now: Moment, end: ExchangeEnd) -> Result<(), Refusal> {
        let sent = self.at;
        let At::Sent { before, .. } = sent else {
            return Err(Reason::SessionFinished.into());
        };
        let happened = match &end {
            ExchangeEnd::Token { .. } => Happening::TokenReceived,
            ExchangeEnd::Refused { .. } => Happening::Refused,
            ExchangeEnd::NeverSent { .. } => Happening::NotSent,
            ExchangeEnd::Lost { .. } => Happening::AnswerLost,
        };
        match end {
            ExchangeEnd::Token { token, life } => {
                self.at = At::Token;
                self.token = TokenStanding::Held { token, since: now, life };
                self.verifier = None;
                self.failure = None;
            }
            ExchangeEnd::Refused { verdict, said } => {
                let said = ProviderSaid { first_error: self.first_error(), ..said };
                if verdict.keeps_session {
                    self.reopen(before, verdict.reason, said);
                } else {
                    self.fail(now, verdict.reason, Stage::Token, Some(said));
                }
            }
            ExchangeEnd::NeverSent { said } => {
                if let Some(spent) = &mut self.spent {
                    spent.sends = spent.sends.saturating_sub(1);
                }
                let said = ProviderSaid { first_error: self.first_error(), ..said };
                self.reopen(before, Reason::ProviderUnreachable, said);
            }
            ExchangeEnd::Lost { reason, said } => {
                self.failure = Some(Failure { reason, stage: Stage::Token, said: Some(said) });
                self.end(Terminal::Indeterminate, now);
            }
        }
        self.updated = now.wall;
        self.note_failure(now.wall, happened, sent);
        // What would leave it open after the thirty minutes ends it now: until now nobody knew.
        if self.at == At::Open(before) && self.created.is_over(SESSION_LIFE, now) {
            self.end(Terminal::Expired, now);
            self.note(now.wall, Happening::Expired, At::Open(before));
        }
        Ok(())
    }

    /// The first server error that an earlier attempt got: that one may have spent the code.
    fn first_error(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let said = failure.said.as_ref()?;
        let own = || format!("{} {}", said.http_status, said.error).trim_end().to_owned();
        said.first_error.clone().or_else(|| (failure.reason == Reason::ProviderError).then(own))
    }

    /// "As it was": back to the open status before. The state stays bound to its code.
    fn reopen(&mut self, before: OpenStatus, reason: Reason, said: ProviderSaid) {
        self.at = At::Open(before);
        self.failure = Some(Failure { reason, stage: Stage::Token, said: Some(said) });
    }

    /// Records how fetching the claims ended. Changes nothing when another call has already ended the session.
    pub fn claims_ended(&mut self, now: Moment, end: ClaimsEnd) {
        if self.at != At::Token {
            return;
        }
        match end {
            ClaimsEnd::Claims(userinfo) => {
                self.userinfo = Some(userinfo);
                self.failure = None;
                self.end(Terminal::Complete, now);
                self.note(now.wall, Happening::Completed, At::Token);
            }
            ClaimsEnd::TokenRefused(said) => {
                self.token = TokenStanding::Expired;
                self.fail(now, Reason::Unauthorized, Stage::Userinfo, Some(said));
                self.note_failure(now.wall, Happening::ClaimsRefused, At::Token);
            }
            ClaimsEnd::Failed { reason, said } => {
                self.failure = Some(Failure { reason, stage: Stage::Userinfo, said: Some(said) });
                self.updated = now.wall;
                self.note_failure(now.wall, Happening::ClaimsRefused, At::Token);
            }
        }
    }

    /// The provider was asked and said where the session is. Answers whether it moved.
    pub fn observe(&mut self, now: Moment, run: RunId, status: ProviderStatus) -> bool {
        self.settle(now, run);
        let before = self.at;
        let has_moved = self.advance(now, status);
        if has_moved {
            let entry = self.entry(now.wall, Happening::ProviderStatus, before);
            self.timeline.add(entry.detailed(status.as_str()));
        }
        has_moved
    }

    /// A webhook of that type is about the session; it may say where the session is.
    pub fn hear(&mut self, now: Moment, run: RunId, kind: &str, status: Option<ProviderStatus>) {
        self.settle(now, run);
        let before = self.at;
        if let Some(status) = status {
            self.advance(now, status);
        }
        let entry = self.entry(now.wall, Happening::Webhook, before);
        self.timeline.add(entry.detailed(kind));
    }

    /// Moves an open session to where the provider says it is, forward only. Answers whether it moved; in any other
    /// place what the provider says is ignored.
    fn advance(&mut self, now: Moment, status: ProviderStatus) -> bool {
        let At::Open(present) = self.at else {
            return false;
        };
        let forward = match status {
            ProviderStatus::Failed => {
                self.fail(now, Reason::VerificationFailed, Stage::Session, None);
                return true;
            }
            ProviderStatus::Expired => {
                self.end(Terminal::Expired, now);
                return true;
            }
            ProviderStatus::Pending => OpenStatus::Pending,
            ProviderStatus::Authenticated => OpenStatus::Authenticated,
            // `complete` says that a code was issued; only the exchange completes a session here.
            ProviderStatus::Verified | ProviderStatus::Complete => OpenStatus::Verified,
        };
        if forward <= present {
            return false;
        }
        self.at = At::Open(forward);
        self.updated = now.wall;
        true
    }

    fn fail(&mut self, now: Moment, reason: Reason, stage: Stage, said: Option<ProviderSaid>) {
        self.failure = Some(Failure { reason, stage, said });
        self.end(Terminal::Failed, now);
    }

    /// What happened, as the session now stands.
    fn entry(&self, time: Timestamp, kind: Happening, before: At) -> TimelineEntry {
        TimelineEntry::new(time, kind, before.into(), self.status())
    }

    fn note(&mut self, time: Timestamp, kind: Happening, before: At) {
        self.timeline.add(self.entry(time, kind, before));
    }

    /// Notes what happened, with why, where the session says why.
    fn note_failure(&mut self, time: Timestamp, kind: Happening, before: At) {
        let entry = self.entry(time, kind, before);
        self.timeline.add(match &self.failure {
            Some(failure) => entry.because(failure),
            None => entry,
        });
    }

    /// A terminal transition erases the verifier: nothing can be exchanged any more.
    fn end(&mut self, status: Terminal, at: Moment) {
        self.verifier = None;
        self.at = At::Ended(Ended { status, at });
        self.updated = at.wall;
    }
}

#[cfg(test)]
mod tests;
