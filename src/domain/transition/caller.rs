//! What a caller ends by himself: the session, or the life of its token.

use crate::domain::{
    id::RunId,
    reason::Reason,
    refusal::Refusal,
    revocation::{Revocation, RevocationEnd},
    session::{At, Ended, Session, Terminal, TokenStanding},
    time::Moment,
    timeline::{Happening, TimelineEntry},
};

impl Session {
    /// Cancels the session. Answers the revocation of its token, if one was held.
    ///
    /// # Errors
    /// `EXCHANGE_IN_PROGRESS`, `SESSION_FINISHED`; nothing is changed then.
    pub fn cancel(&mut self, now: Moment, run: RunId) -> Result<Option<Revocation>, Refusal> {
        self.settle(now, run);
        match self.at {
            At::Ended(Ended { status: Terminal::Cancelled, .. }) => Ok(None),
            At::Ended(_) => Err(Reason::SessionFinished.into()),
            At::Sent { .. } => Err(Reason::ExchangeInProgress.into()),
            At::Open(_) | At::Token => {
                let before = self.at;
                let revocation = self.give_token_up();
                self.end(Terminal::Cancelled, now);
                self.note(now.wall, Happening::Cancelled, before);
                Ok(revocation)
            }
        }
    }

    /// Revokes the session's token. Answers the revocation; none where there was one before.
    ///
    /// # Errors
    /// `TOKEN_NOT_HELD`; `EXCHANGE_IN_PROGRESS` while the token is still needed to fetch the claims. Nothing is changed
    /// then.
    pub fn revoke(&mut self, now: Moment, run: RunId) -> Result<Option<Revocation>, Refusal> {
        self.settle(now, run);
        match self.token {
            TokenStanding::Revoked => Ok(None),
            TokenStanding::None | TokenStanding::Expired => Err(Reason::TokenNotHeld.into()),
            TokenStanding::Held { .. } if self.at == At::Token => Err(Reason::ExchangeInProgress.into()),
            TokenStanding::Held { .. } => {
                self.updated = now.wall;
                self.note(now.wall, Happening::TokenRevoked, self.at);
                Ok(self.give_token_up())
            }
        }
    }

    /// Telling the provider that the token is given up has ended.
    pub fn revocation_ended(&mut self, now: Moment, how: RevocationEnd) {
        let entry = self.entry(now.wall, Happening::RevocationEnded, self.at).detailed(&how.to_string());
        let http_status = if let RevocationEnd::Refused { http_status } = how { http_status } else { 0 };
        self.timeline.add(TimelineEntry { http_status, ..entry });
    }

    /// A held token leaves the session: from here on nobody can read it there.
    pub(super) fn give_token_up(&mut self) -> Option<Revocation> {
        let TokenStanding::Held { token, since, life } = &self.token else { return None };
        let (client, token) = (self.client.clone(), token.clone());
        let revocation = Revocation { session: self.id, client, token, since: *since, life: *life };
        self.token = TokenStanding::Revoked;
        Some(revocation)
    }
}
