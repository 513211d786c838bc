//! The store's facts as the reference knows them: what is to come about, and what was said of it.

use super::reference::{Reference, View};
use crate::{
    domain::{
        CallerName, ClaimsEnd, ClientName, ExchangeEnd, Moment, ProviderStatus, QueryEnd, Reason,
        RevocationEnd, SessionId, Viewer, millis,
    },
    store::{Ingested, Next, Slot, Started, StoreError, Swept},
};

/// How a token request ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// With a token of that life, milliseconds.
    Token { life: u64 },
    /// Refused in a way that can be mended, or never made.
    AsItWas { reason: Reason, was_made: bool, limited: Option<Option<u64>> },
    /// Refused for good.
    Final(Reason),
    /// Nobody knows how.
    Unknown(Reason),
}

impl End {
    /// How the daemon says that it ended.
    pub(super) fn of(end: &ExchangeEnd) -> Self {
        match end {
            ExchangeEnd::Token { life, .. } => Self::Token { life: millis(*life) },
            ExchangeEnd::Refused { verdict, .. } if !verdict.keeps_session => Self::Final(verdict.reason),
            ExchangeEnd::Refused { verdict, said } => {
                let limited = (verdict.reason == Reason::RateLimited)
                    .then(|| said.retry_after.map(|span| span.as_secs()));
                Self::AsItWas { reason: verdict.reason, was_made: true, limited }
            }
            ExchangeEnd::NeverSent { .. } => {
                Self::AsItWas { reason: Reason::ProviderUnreachable, was_made: false, limited: None }
            }
            ExchangeEnd::Lost { reason, .. } => Self::Unknown(*reason),
        }
    }

    pub(super) fn was_made(&self) -> bool {
        !matches!(self, Self::AsItWas { was_made: false, .. })
    }

    pub(super) fn limited(&self) -> Option<Option<u64>> {
        if let Self::AsItWas { limited, .. } = self { *limited } else { None }
    }
}

/// Fetching claims: why there are none, and whether for good.
pub(super) fn claims_end(end: &ClaimsEnd) -> Result<(), (Reason, bool)> {
    match end {
        ClaimsEnd::Claims(_) => Ok(()),
        ClaimsEnd::TokenRefused(_) => Err((Reason::Unauthorized, true)),
        ClaimsEnd::Failed { reason, .. } => Err((*reason, false)),
    }
}

/// What is to come about.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    Start {
        now: Moment,
        id: SessionId,
        client: ClientName,
        caller: CallerName,
        secret: [u8; 32],
        binding: Option<String>,
        request: Option<String>,
        arguments: String,
    },
    Take {
        now: Moment,
        id: SessionId,
        viewer: Viewer,
        secret: [u8; 32],
        binding: Option<String>,
        callback: String,
        /// For an error callback whether it says that the session has expired.
        error: Option<bool>,
        since: Moment,
        hint: Option<String>,
        budget: String,
        limit: usize,
    },
    EndExchange {
        now: Moment,
        id: SessionId,
        slot: Slot,
        end: End,
    },
    EndClaims {
        now: Moment,
        id: SessionId,
        end: Result<(), (Reason, bool)>,
    },
    Cancel {
        now: Moment,
        id: SessionId,
        viewer: Viewer,
    },
    Revoke {
        now: Moment,
        id: SessionId,
        viewer: Viewer,
    },
    EndRevocation {
        id: SessionId,
        how: RevocationEnd,
    },
    Claim {
        now: Moment,
        budget: String,
        limit: usize,
    },
    EndQuery {
        now: Moment,
        id: SessionId,
        slot: Slot,
        status: Option<ProviderStatus>,
        was_made: bool,
        limited: Option<Option<u64>>,
    },
    Ingest {
        now: Moment,
        client: ClientName,
        body: Vec<u8>,
        about: Option<String>,
        status: Option<ProviderStatus>,
    },
    Sweep {
        now: Moment,
        retention: u64,
    },
    /// What the reference has no rules for.
    Other,
}

impl Fact {
    /// The session that it names.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self {
            Self::Start { id, .. }
            | Self::Take { id, .. }
            | Self::EndExchange { id, .. }
            | Self::EndClaims { id, .. }
            | Self::Cancel { id, .. }
            | Self::Revoke { id, .. }
            | Self::EndRevocation { id, .. }
            | Self::EndQuery { id, .. } => Some(*id),
            Self::Claim { .. } | Self::Ingest { .. } | Self::Sweep { .. } | Self::Other => None,
        }
    }

    /// When it comes about, where that is not when it was learned, or asked for.
    pub(super) fn now(&self) -> Option<Moment> {
        match self {
            Self::Take { now, .. }
            | Self::EndClaims { now, .. }
            | Self::Cancel { now, .. }
            | Self::Revoke { now, .. }
            | Self::EndQuery { now, .. }
            | Self::Ingest { now, .. } => Some(*now),
            // A session that waited for the writer is as old as that.
            Self::Start { .. }
            | Self::EndExchange { .. }
            | Self::EndRevocation { .. }
            | Self::Claim { .. }
            | Self::Sweep { .. }
            | Self::Other => None,
        }
    }

    /// The same, not before a time.
    pub(super) fn not_before(&self, latest: Moment) -> Self {
        let mut fact = self.clone();
        if let Self::Take { now, .. }
        | Self::EndClaims { now, .. }
        | Self::Cancel { now, .. }
        | Self::Revoke { now, .. }
        | Self::EndQuery { now, .. }
        | Self::Ingest { now, .. } = &mut fact
            && now.boot.millis < latest.boot.millis
        {
            *now = latest;
        }
        fact
    }

    /// How a question to the provider ended.
    pub(super) fn end_query(now: Moment, id: SessionId, slot: Slot, end: &QueryEnd) -> Self {
        let (status, was_made, limited) = match end {
            QueryEnd::Status(status) => (*status, true, None),
            QueryEnd::Refused { refusal, was_sent } => (None, *was_sent, Reference::limited(refusal)),
        };
        Self::EndQuery { now, id, slot, status, was_made, limited }
    }
}

/// What a take asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    Send(Slot),
    FetchClaims,
    Answer,
}

/// What was said of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Started {
        id: SessionId,
        is_usable: bool,
    },
    Took(Took, View),
    /// What a take would have said that nobody was told of.
    Sent,
    Session(View),
    /// With a slot; none where nobody was told which.
    Claimed(Option<Slot>),
    Kept {
        is_duplicate: bool,
    },
    Done,
    Refused(Reason),
    /// There is no slot.
    Spent,
    /// The store takes no writes: whether the fact came about, nobody knows.
    Unavailable,
    /// What never happens.
    Odd(String),
}

impl Said {
    /// What was said, where it is an answer, as `read` reads it.
    pub(super) fn of<T>(result: &Result<T, StoreError>, read: impl FnOnce(&T) -> Self) -> Self {
        match result {
            Ok(value) => read(value),
            Err(StoreError::Refused(refusal)) => Self::Refused(refusal.reason),
            Err(StoreError::BudgetSpent(_)) => Self::Spent,
            Err(StoreError::Unavailable(_)) => Self::Unavailable,
            Err(error @ (StoreError::Overloaded | StoreError::Corrupt(_))) => Self::Odd(error.to_string()),
        }
    }

    pub(super) fn started(started: &Started) -> Self {
        Self::Started { id: started.session.id, is_usable: started.usable.is_some() }
    }

    pub(super) fn took(took: &crate::store::Took) -> Self {
        let next = match &took.next {
            Next::Send { slot, .. } => Took::Send(*slot),
            Next::FetchClaims { .. } => Took::FetchClaims,
            Next::Answer => Took::Answer,
        };
        Self::Took(next, View::of(&took.session))
    }

    pub(super) fn kept(ingested: &Ingested) -> Self {
        Self::Kept { is_duplicate: ingested.duplicate }
    }

    /// In a few words, without what differs from run to run.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Took(Took::Send(_), view) => format!("send; {view:?}"),
            Self::Claimed(_) => "a slot".to_owned(),
            other => format!("{other:?}"),
        }
    }

    pub(super) fn swept(_: &Swept) -> Self {
        Self::Done
    }
}
