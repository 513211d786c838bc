//! Histories as data: what is done, one step after the other. A seed makes one, and whatever is left of it when steps are
//! taken out is one, too.

use std::fmt;

use crate::{domain::ProviderStatus, store::disk::Loss};

/// Sessions, codes, callers, clients that a history has names for.
pub(super) const SESSIONS: u8 = 4;
pub(super) const CODES: u8 = 5;
pub(super) const CALLERS: u8 = 2;
pub(super) const CLIENTS: u8 = 2;

/// What is shown of a session's binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// As it was at the start.
    Right,
    /// Another one.
    Wrong,
}

/// How the provider answers, whatever it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// With what was asked for; a token lives for so many seconds.
    Good { life: u64, status: ProviderStatus },
    /// 503.
    Down,
    /// 400 `invalid_grant`, 401, 404: what is final for what was asked.
    Refused,
    /// 402.
    Unpaid,
    /// 429, with `Retry-After` or without.
    Limited { retry_after: Option<u64> },
    /// No connection was made.
    NeverSent,
    /// The answer got lost.
    Lost,
    /// A page of HTML.
    Unusable,
    /// The code that asks panics.
    Panics,
}

/// One step. Sessions and codes go by their names in the history; what waits goes by its place, counted round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A caller starts a session, with a request id that stands for it in the history where it has one.
    Start { session: u8, caller: u8, client: u8, is_bound: bool, has_request: bool },
    /// A callback with a code is presented, with the provider's id of the session.
    Present { session: u8, code: u8, caller: u8, shown: Shown, patience: u64 },
    /// A callback with an error is presented.
    PresentError { session: u8, caller: u8, is_expired: bool },
    /// A caller stops waiting.
    GiveUp { call: u8 },
    /// A caller asks for a session after asking the provider.
    Refresh { session: u8, caller: u8, patience: u64 },
    /// A caller cancels.
    Cancel { session: u8, caller: u8 },
    /// A caller revokes the token.
    Revoke { session: u8, caller: u8 },
    /// The provider tells of a session; the same number is the same body.
    Webhook { session: u8, client: u8, status: ProviderStatus, number: u8 },
    /// The sweep.
    Sweep,
    /// Trimming.
    Trim,
    /// The writer does some of what waits for it: the first of them by itself, the others in one transaction.
    Commit { pick: u8, count: u8 },
    /// The writer does all that waits for it.
    CommitAll,
    /// The provider answers something that it was asked.
    Reply { pick: u8, with: Answer },
    /// Time passes.
    Pass { millis: u64 },
    /// Time passes until so many milliseconds before a session's thirty minutes are over.
    PassToEnd { session: u8, before: u64 },
    /// The disk fails in the write or sync after so many.
    Fault { after: u64 },
    /// The daemon is killed, or loses power, and is started again, in whose course the disk may fail once more.
    Crash { loss: Loss, reboot: bool, wall: i64, again: Option<u64> },
    /// The daemon is stopped and started again.
    Restart { wall: i64 },
}

/// The history of a seed.
pub(super) fn history(seed: u64) -> Vec<Step> {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let length = dice.0.usize(10..=60);
    let mut steps = Vec::with_capacity(length + 8);
    // Nothing meets where there is nothing.
    for session in 0..dice.0.u8(1..=3) {
        steps.push(dice.start(session));
    }
    steps.push(Step::CommitAll);
    while steps.len() < length {
        steps.push(dice.step());
        if dice.0.u8(..100) < 45 {
            steps.push(Step::CommitAll);
        }
    }
    steps
}

struct Dice(fastrand::Rng);

impl Dice {
    fn session(&mut self) -> u8 {
        // Few, so that much happens to each.
        self.0.u8(..SESSIONS).min(self.0.u8(..SESSIONS))
    }

    fn caller(&mut self) -> u8 {
        // Mostly the one that starts most.
        u8::from(self.0.u8(..5) == 0)
    }

    fn start(&mut self, session: u8) -> Step {
        let (caller, client) = (u8::from(self.0.u8(..4) == 0), self.0.u8(..CLIENTS));
        Step::Start { session, caller, client, is_bound: self.0.bool(), has_request: self.0.bool() }
    }

    fn status(&mut self) -> ProviderStatus {
        ProviderStatus::ALL[self.0.usize(..ProviderStatus::ALL.len())]
    }

    fn patience(&mut self) -> u64 {
        [500, 5_000, 60_000, 60_000, 60_000, 120_000][self.0.usize(..6)]
    }

    fn wall(&mut self) -> i64 {
        // Mostly right; set back by less than a minute, or forward.
        [0, 0, 0, 0, -30_000, 45_000, 3_600_000][self.0.usize(..7)]
    }

    fn answer(&mut self) -> Answer {
        match self.0.u8(..100) {
            0..50 => {
                let life = [60, 600, 3_600][self.0.usize(..3)];
                Answer::Good { life, status: self.status() }
            }
            50..68 => Answer::Down,
            68..74 => Answer::Refused,
            74..77 => Answer::Unpaid,
            77..82 => Answer::Limited { retry_after: [None, Some(5), Some(90)][self.0.usize(..3)] },
            82..88 => Answer::NeverSent,
            88..94 => Answer::Lost,
            94..98 => Answer::Unusable,
            _ => Answer::Panics,
        }
    }

    fn step(&mut self) -> Step {
        let session = self.session();
        match self.0.u8(..100) {
            0..7 => self.start(session),
            7..29 => Step::Present {
                session,
                // Its own code most of the time, which is as good as any.
                code: if self.0.u8(..6) == 0 { self.0.u8(..CODES) } else { session },
                caller: self.caller(),
                shown: if self.0.u8(..8) == 0 { Shown::Wrong } else { Shown::Right },
                patience: self.patience(),
            },
            29..31 => Step::PresentError { session, caller: self.caller(), is_expired: self.0.bool() },
            31..33 => Step::GiveUp { call: self.0.u8(..) },
            33..38 => Step::Refresh { session, caller: self.caller(), patience: self.patience() },
            38..42 => Step::Cancel { session, caller: self.caller() },
            42..46 => Step::Revoke { session, caller: self.caller() },
            46..50 => Step::Webhook {
                session,
                client: self.0.u8(..CLIENTS),
                status: self.status(),
                number: self.0.u8(..4),
            },
            50..52 => Step::Sweep,
            52 => Step::Trim,
            53..63 => Step::Commit { pick: self.0.u8(..), count: self.0.u8(1..=4) },
            63..79 => Step::Reply { pick: self.0.u8(..), with: self.answer() },
            79..89 => {
                let spans =
                    [1, 300, 4_000, 20_000, 58_000, 60_000, 61_000, 120_000, 600_000, 1_800_000, 7_200_000];
                Step::Pass { millis: spans[self.0.usize(..spans.len()).min(self.0.usize(..spans.len()))] }
            }
            89..91 => Step::PassToEnd { session, before: self.0.u64(..3) },
            91..94 => Step::Fault { after: self.0.u64(..24) },
            94..99 => Step::Crash {
                loss: match self.0.u8(..4) {
                    0 => Loss::Nothing,
                    1 | 2 => Loss::All,
                    _ => Loss::Some(self.0.u64(..)),
                },
                reboot: self.0.u8(..3) == 0,
                wall: self.wall(),
                again: (self.0.u8(..4) == 0).then(|| self.0.u64(..20)),
            },
            _ => Step::Restart { wall: self.wall() },
        }
    }
}

/// What callers and clients are called.
pub(super) const CALLER_NAMES: [&str; CALLERS as usize] = ["alice", "bob"];
pub(super) const CLIENT_NAMES: [&str; CLIENTS as usize] = ["shop", "club"];

fn who(caller: u8) -> &'static str {
    CALLER_NAMES[usize::from(caller)]
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Start { session, caller, client, is_bound, has_request } => {
                let client = CLIENT_NAMES[usize::from(client)];
                let bound = if is_bound { ", tied to a browser" } else { "" };
                let request = if has_request { ", with a request id" } else { "" };
                write!(f, "{} starts session {session} at {client}{bound}{request}", who(caller))
            }
            Self::Present { session, code, caller, shown, patience } => {
                let binding = if shown == Shown::Wrong { ", with a wrong binding" } else { "" };
                let caller = who(caller);
                write!(
                    f,
                    "{caller} presents code {code} for session {session}{binding}, and waits {patience} ms"
                )
            }
            Self::PresentError { session, caller, is_expired } => {
                let error = if is_expired { "session_expired" } else { "access_denied" };
                write!(f, "{} presents the error {error} for session {session}", who(caller))
            }
            Self::GiveUp { call } => write!(f, "the caller of call {call}, counted round, stops waiting"),
            Self::Refresh { session, caller, patience } => {
                write!(f, "{} asks to refresh session {session}, and waits {patience} ms", who(caller))
            }
            Self::Cancel { session, caller } => write!(f, "{} cancels session {session}", who(caller)),
            Self::Revoke { session, caller } => {
                write!(f, "{} revokes the token of session {session}", who(caller))
            }
            Self::Webhook { session, client, status, number } => {
                let (client, status) = (CLIENT_NAMES[usize::from(client)], status.as_str());
                write!(f, "webhook {number} tells {client} that the provider's session {session} is {status}")
            }
            Self::Sweep => f.write_str("the sweep begins"),
            Self::Trim => f.write_str("events are trimmed"),
            Self::Commit { pick, count } => {
                write!(f, "the writer does {count} of what waits for it, from {pick} on, counted round")
            }
            Self::CommitAll => f.write_str("the writer does all that waits for it"),
            Self::Reply { pick, with } => {
                write!(f, "the provider answers request {pick}, counted round: {with:?}")
            }
            Self::Pass { millis } => write!(f, "{millis} ms pass"),
            Self::PassToEnd { session, before } => {
                write!(f, "time passes to {before} ms before the end of session {session}")
            }
            Self::Fault { after } => write!(f, "the disk will fail after {after} more writes and syncs"),
            Self::Crash { loss, reboot, wall, again } => {
                let what = if loss == Loss::Nothing { "is killed" } else { "loses power" };
                write!(f, "the daemon {what} ({loss:?})")?;
                if reboot {
                    f.write_str(", the machine boots")?;
                }
                if wall != 0 {
                    write!(f, ", its clock is set by {wall} ms")?;
                }
                if let Some(again) = again {
                    write!(f, ", and is cut off after {again} writes and syncs of its start")?;
                }
                Ok(())
            }
            Self::Restart { wall } => write!(f, "the daemon is restarted, the clock set by {wall} ms"),
        }
    }
}
