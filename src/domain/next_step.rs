//! What to do next with a session, in words: for a person who looks into it.

use super::{
    catalogue::entry,
    session::{At, Session},
    time::Timestamp,
};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextStep {
    /// In one or two sentences.
    pub words: String,
    /// Until when it can be done, where that is limited.
    pub until: Option<Timestamp>,
}

impl Session {
    /// What to do next with the session as it stands now.
    pub fn next_step(&self, now: Timestamp) -> NextStep {
        let remedy = || self.outcome().err().map_or("", |refusal| refusal.entry().remedy);
        let (words, until) = match (self.at, &self.failure) {
            (At::Open(_), None) => (
                "Wait for the user, who is at the provider or has left it. Present the callback to CompleteAuthorization \
                 when the browser comes back."
                    .to_owned(),
                Some(self.expires()),
            ),
            (At::Open(_), Some(failure)) => {
                let remedy = entry(failure.stage, failure.reason, failure.said.as_ref()).remedy;
                match self.can_resume(now) {
                    Some(until) => (remedy.to_owned(), Some(until)),
                    None => (format!("{remedy} The code is used up, or too old: call StartAuthorization again."), None),
                }
            }
            (At::Sent { .. }, _) => {
                ("Wait: a token request is under way. GetSession or WatchSession tells its outcome.".to_owned(), None)
            }
            (At::Token, _) => (
                "Present the same callback to CompleteAuthorization again: the token is held, only the claims are missing."
                    .to_owned(),
                self.can_resume(now),
            ),
            (At::Ended(_), _) if self.outcome().is_ok() => {
                ("Nothing: it is complete, and GetSession has the claims.".to_owned(), None)
            }
            (At::Ended(_), _) => (remedy().to_owned(), None),
        };
        NextStep { words, until }
    }
}
