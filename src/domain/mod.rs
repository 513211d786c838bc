//! Decides. Pure: no clock, no I/O; time and randomness are arguments.
//!
//! A transition is a function from a session, an input and the present moment to the changed session, or a
//! [`Refusal`]. The store calls it inside its write transaction; the flows perform what it asks for.

mod answer;
mod budget;
mod callback;
mod catalogue;
mod claims;
mod event;
mod flood;
mod id;
mod name;
mod next_step;
mod pkce;
mod reason;
mod refusal;
mod retry_after;
mod revocation;
mod secret;
mod session;
mod time;
mod timeline;
mod trace;
mod transition;
mod viewer;

pub use answer::{Verdict, api_reason, is_bearer, token_verdict};
pub use budget::{Budget, BudgetKind, BudgetTerms, Closure, HeldSlot, Outlook, SlotEnd, SlotId};
pub use callback::{Callback, CallbackParameters, Presented, parse_callback_url, parse_parameters};
pub use catalogue::{
    Becomes, Condition, Entry, Http, Says, Topic, Word, anchor, catalogue, conditions, entry,
};
pub use claims::{Userinfo, UserinfoError};
pub use event::{Envelope, MAX_WEBHOOK_BYTES, SigningSecret, verify_signature};
pub use flood::Flood;
pub use id::{EventId, IdError, RunId, SessionId, State};
pub use name::{CallerName, ClientName, ConsumerName, NameError, ProviderSessionId, Scope};
pub use next_step::NextStep;
pub use pkce::CodeChallenge;
pub use reason::{Reason, Stage};
pub use refusal::{ProviderSaid, Refusal, Violation, tame};
pub use retry_after::parse_retry_after;
pub use revocation::{Revocation, RevocationEnd};
pub use secret::{
    AccessToken, ApiKey, AuthorizationCode, Binding, ClientSecret, CodeVerifier, KeyedHash, StateSecret,
    WebhookSecret,
};
pub use session::{
    At, CODE_LIFE, Ended, Failure, MAX_SENDS, OpenStatus, ProviderStatus, REPLAY_WINDOW, SESSION_LIFE,
    Session, Spent, Status, Terminal, TokenStanding,
};
pub use time::{BootTime, Clock, FromTheFuture, Moment, Timestamp, millis};
pub use timeline::{Happening, Timeline, TimelineEntry};
#[cfg(test)]
pub(crate) use trace::testing::Notes;
pub use trace::{Attribute, EndedSpan, SpanId, SpanKind, TraceContext, TraceId, Tracer};
pub use transition::{ClaimsEnd, ExchangeEnd, PresentedHashes, QueryEnd, Taken};
pub use viewer::Viewer;
