//! What happened to a session, for whoever must understand it afterwards without reading the code.
//!
//! Each transition notes itself here; what was refused without a change leaves no trace. Nothing in it is secret: kinds are
//! fixed words, and details are others' codes and names, cut and masked where they came in.

use super::{
    reason::Reason,
    refusal::ProviderSaid,
    session::{Failure, Status},
    time::Timestamp,
};

/// Most entries that a session keeps.
const MAX_ENTRIES: usize = 200;
/// How many of the first entries are never dropped: how it began explains the most.
const KEPT_AT_THE_BEGINNING: usize = 20;
/// Longest detail, bytes.
const MAX_DETAIL: usize = 128;

/// Declares what can happen: the number that is stored, the word that is told, and the meaning.
macro_rules! happenings {
    ($($(#[doc = $doc:literal])* $variant:ident = $number:literal $word:literal,)*) => {
        /// What happened, as a short fixed word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Happening {
            $($(#[doc = $doc])* $variant = $number,)*
        }

        impl Happening {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word, as the contract tells it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The number, as the store keeps it. Never reused.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The one with that number.
            pub fn of_number(number: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|happening| happening.number() == number)
            }
        }
    };
}

happenings! {
    /// The session was started.
    Started = 1 "started",
    /// A callback with a code was presented, and the token request is being sent.
    Sent = 2 "sent",
    /// No connection was made: the token request was not sent after all.
    NotSent = 3 "not_sent",
    /// The provider refused the token request.
    Refused = 4 "refused",
    /// The token request was sent, and no answer came that can be used.
    AnswerLost = 5 "answer_lost",
    /// The daemon ended while the token request was under way.
    Interrupted = 6 "interrupted",
    /// The access token is here, the claims are missing.
    TokenReceived = 7 "token_received",
    /// The claims could not be fetched.
    ClaimsRefused = 8 "claims_refused",
    /// The claims are here.
    Completed = 9 "completed",
    /// The callback carried the provider's error.
    ErrorCallback = 10 "error_callback",
    /// The code may not be sent again: ten minutes have passed since it was first presented, or nine requests.
    CodeUsedUp = 11 "code_used_up",
    /// The provider was asked, and its session had moved.
    ProviderStatus = 12 "provider_status",
    /// A webhook came that is about the session.
    Webhook = 13 "webhook",
    /// The thirty minutes ran out.
    Expired = 14 "expired",
    /// The caller cancelled it.
    Cancelled = 15 "cancelled",
    /// The access token ran out.
    TokenExpired = 16 "token_expired",
    /// The access token is given up; the provider is being told.
    TokenRevoked = 17 "token_revoked",
    /// Telling the provider of a revoked token has ended.
    RevocationEnded = 18 "revocation_ended",
    /// The store was restored from a backup in which the session had not ended.
    Restored = 19 "restored",
}

/// One thing that happened, or several alike that followed one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// When; of several the last time.
    pub time: Timestamp,
    /// What.
    pub kind: Happening,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Why, where something was refused.
    pub reason: Option<Reason>,
    /// The provider's HTTP status; 0 where it did not answer.
    pub http_status: u16,
    /// Which token request for the code this was, from 1; 0 where it was none. Of several the last.
    pub attempt: u32,
    /// More: the provider's error code, its status, a webhook's type. Empty for nothing.
    pub detail: String,
    /// How many, at least 1.
    pub count: u32,
}

impl TimelineEntry {
    /// An entry without reason and detail.
    pub const fn new(time: Timestamp, kind: Happening, from: Status, to: Status) -> Self {
        Self {
            time,
            kind,
            from,
            to,
            reason: None,
            http_status: 0,
            attempt: 0,
            detail: String::new(),
            count: 1,
        }
    }

    /// The same, with why.
    #[must_use]
    pub fn because(self, failure: &Failure) -> Self {
        let entry = Self { reason: Some(failure.reason), ..self };
        match &failure.said {
            Some(ProviderSaid { error, http_status, attempts, .. }) => {
                Self { http_status: *http_status, attempt: *attempts, ..entry }.detailed(error)
            }
            None => entry,
        }
    }

    /// The same, with more.
    #[must_use]
    pub fn detailed(self, detail: &str) -> Self {
        Self {
            detail: detail.get(..detail.floor_char_boundary(MAX_DETAIL)).unwrap_or_default().to_owned(),
            ..self
        }
    }

    /// Whether another says the same of another time.
    fn is_like(&self, other: &Self) -> bool {
        let Self { time: _, kind, from, to, reason, http_status, attempt: _, detail, count: _ } = self;
        (kind, from, to, reason, http_status, detail)
            == (&other.kind, &other.from, &other.to, &other.reason, &other.http_status, &other.detail)
    }
}

/// What happened to a session since its start, oldest first; the start itself is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline(Vec<TimelineEntry>);

impl Timeline {
    /// One that was stored.
    pub fn new(entries: Vec<TimelineEntry>) -> Self {
        Self(entries)
    }

    /// Its entries.
    pub fn entries(&self) -> &[TimelineEntry] {
        &self.0
    }

    /// Adds an entry, to the last one if that says the same. When the timeline is full, the oldest goes that does not
    /// belong to the beginning.
    pub fn add(&mut self, entry: TimelineEntry) {
        if let Some(last) = self.0.last_mut()
            && last.is_like(&entry)
        {
            *last = TimelineEntry { count: last.count.saturating_add(1), ..entry };
            return;
        }
        // One place is the start's.
        if self.0.len() >= MAX_ENTRIES - 1 {
            self.0.remove(KEPT_AT_THE_BEGINNING);
        }
        self.0.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: u64, detail: &str) -> TimelineEntry {
        TimelineEntry::new(Timestamp::from_millis(time), Happening::Webhook, Status::Pending, Status::Pending)
            .detailed(detail)
    }

    #[test]
    fn alike_entries_are_one_with_a_count() {
        let mut timeline = Timeline::default();
        for (time, detail) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            timeline.add(TimelineEntry { attempt: 7, ..entry(time, detail) });
        }
        let told: Vec<_> = timeline
            .entries()
            .iter()
            .map(|entry| (entry.time.as_millis(), entry.detail.as_str(), entry.count))
            .collect();
        assert_eq!(told, [(2, "a", 2), (3, "b", 1), (4, "a", 1)]);
    }

    #[test]
    fn it_is_bounded_and_keeps_both_ends() {
        let mut timeline = Timeline::default();
        for number in 0..1000 {
            timeline.add(entry(number, &number.to_string()));
        }
        let details: Vec<_> = timeline.entries().iter().map(|entry| entry.detail.as_str()).collect();
        assert_eq!(details.len(), MAX_ENTRIES - 1);
        assert_eq!((details[0], details[19], details[20], details[198]), ("0", "19", "821", "999"));
    }

    #[test]
    fn details_are_short_and_numbers_read_back() {
        assert_eq!(entry(0, &"é".repeat(100)).detail.len(), 128);
        for happening in Happening::ALL {
            assert_eq!(Happening::of_number(happening.number()), Some(*happening));
        }
        assert_eq!(Happening::of_number(0), None);
    }
}
