//! The error catalogue: what can be said at each stage, what it means, and what to do about it.
//!
//! One entry for each thing that the provider can say ([`Says`]) and each refusal of the daemon's own. All else is
//! derived from it: what an answer means for a session ([`super::answer`], [`super::transition`]), the details and
//! trailers of a status, `cairlctl explain`, and `docs/errors.md`. What goes wrong outside every call, so that no refusal
//! can name it, is a [`Condition`].
//!
//! The entries stand by where they arise: `redirect`, `token`, `api` (the provider's other endpoints), `anywhere`, and
//! `daemon`. Causes and remedies are written for whoever is woken by them: what to do, where, and whether to start anew.
//! `page.toml` lists the rows of the provider's error page; a test shows that each has its entry.

mod anywhere;
mod api;
mod conditions;
mod daemon;
mod redirect;
mod says;
#[cfg(test)]
mod tests;
mod token;

use super::{
    reason::{Reason, Stage},
    refusal::ProviderSaid,
};

pub use self::{
    conditions::{Condition, Topic, conditions},
    says::{Http, Says, Word},
};

/// What the catalogue says about one thing that can be said at a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it arises; [`None`] for every stage at the provider that has no nearer entry.
    pub stage: Option<Stage>,
    /// What the provider says.
    pub says: Says,
    /// The reason that callers are given.
    pub reason: Reason,
    /// What becomes of the session.
    pub becomes: Becomes,
    /// What happened.
    pub cause: &'static str,
    /// What to do about it, and where.
    pub remedy: &'static str,
}

/// What becomes of a session that meets an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// It stays as it was.
    AsItWas,
    /// FAILED, for good.
    Failed,
    /// EXPIRED, for good.
    Expired,
    /// INDETERMINATE, for good.
    Indeterminate,
    /// There is no session that it could be about, or none that the caller may see.
    NoSession,
}

impl Becomes {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsItWas => "as it was",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Indeterminate => "INDETERMINATE",
            Self::NoSession => "–",
        }
    }
}

impl Entry {
    /// Whether the same callback completes once the cause is mended. What is retryable completes without that, and where
    /// no callback was under way, there is nothing to resume.
    pub fn is_resumable(&self) -> bool {
        let is_of_exchange = matches!(self.stage, Some(Stage::Token | Stage::Userinfo));
        is_of_exchange && self.becomes == Becomes::AsItWas && !self.reason.is_retryable()
    }

    /// Its place in `docs/errors.md`.
    pub fn anchor(&self) -> String {
        anchor(self.reason.as_str())
    }
}

/// The place in `docs/errors.md` of a reason or condition, as a link has it.
pub fn anchor(name: &str) -> String {
    format!("docs/errors.md#{}", name.to_ascii_lowercase())
}

/// The whole catalogue, by where an entry arises.
pub fn catalogue() -> impl Iterator<Item = &'static Entry> {
    [redirect::ENTRIES, token::ENTRIES, api::ENTRIES, anywhere::ENTRIES, daemon::ENTRIES]
        .into_iter()
        .flatten()
}

/// The entry for a redirect that carries this error.
pub(super) fn redirected(error: &str) -> &'static Entry {
    said_at(Stage::Redirect, |says| says.covers_redirect(error))
}

/// The entry for an answer of the provider: its HTTP status, and the `error` in its body where there is a readable one.
pub(super) fn answered(stage: Stage, http_status: u16, error: Option<&str>) -> &'static Entry {
    said_at(stage, |says| says.covers_answer(http_status, error))
}

/// The first entry whose words are these: the stage's own, or else one that holds anywhere.
fn said_at(stage: Stage, is_said: impl Fn(Says) -> bool) -> &'static Entry {
    let at = |place| catalogue().filter(move |entry| entry.stage == place);
    at(Some(stage)).chain(at(None)).find(|entry| is_said(entry.says)).unwrap_or(&UNLISTED)
}

/// The entry of a reason that was given at a stage: where there are several, the one for what the provider said.
pub fn entry(stage: Stage, reason: Reason, said: Option<&ProviderSaid>) -> &'static Entry {
    let is_said = |entry: &&Entry| {
        said.is_some_and(|said| {
            let error = Some(said.error.as_str()).filter(|error| !error.is_empty());
            entry.says.covers_answer(said.http_status, error)
        })
    };
    let at = |place| catalogue().filter(move |entry| entry.reason == reason && entry.stage == place);
    let wherever = || catalogue().filter(move |entry| entry.reason == reason);
    (at(Some(stage)).find(is_said))
        .or_else(|| at(Some(stage)).next())
        .or_else(|| at(None).find(is_said))
        .or_else(|| at(None).next())
        .or_else(|| at(Some(Stage::Daemon)).next())
        .or_else(|| wherever().next())
        .unwrap_or(&UNLISTED)
}

/// What something without an entry would say; a test shows that there is no such thing.
const UNLISTED: Entry = Entry {
    stage: None,
    says: Says::Nothing,
    reason: Reason::Internal,
    becomes: Becomes::AsItWas,
    cause: "The daemon has no explanation for this reason.",
    remedy: "Report it with the daemon's version and its log around this time.",
};
