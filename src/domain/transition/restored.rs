//! What becomes of a session that comes out of a backup.

use crate::domain::{
    id::RunId,
    reason::{Reason, Stage},
    revocation::Revocation,
    session::{At, Failure, Session, Terminal},
    time::Moment,
    timeline::Happening,
};

impl Session {
    /// The store was restored from a backup `made` back then: a session that had not ended in it may have gone any way
    /// since, and its code may be spent. It ends INDETERMINATE, and a token that it held for its claims is revoked: nobody
    /// could read it any more. Answers whether anything changed, and that revocation.
    ///
    /// What had ended by then stays as it ended, that whose thirty minutes were over included.
    pub fn restored(&mut self, made: Moment, now: Moment, run: RunId) -> (bool, Option<Revocation>) {
        let was_sent = matches!(self.at, At::Sent { .. });
        let has_settled = !was_sent && self.settle(made, run);
        if self.ended().is_some() {
            return (has_settled, None);
        }
        let before = self.at;
        let revocation = self.give_token_up();
        let stage = if was_sent { Stage::Token } else { Stage::Daemon };
        self.failure = Some(Failure { reason: Reason::OutcomeUnknown, stage, said: None });
        self.end(Terminal::Indeterminate, now);
        self.note_failure(now.wall, Happening::Restored, before);
        (true, revocation)
    }
}
