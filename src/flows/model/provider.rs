//! A provider that does what the history says: it keeps what it is asked until a step answers it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::step::Answer;
use crate::{
    domain::{
        AccessToken, ClaimsEnd, Clock, ExchangeEnd, ProviderSaid, ProviderSessionId, QueryEnd, Reason,
        Refusal, Stage, Userinfo, token_verdict,
    },
    provider::{Contact, Errand, Provider, TokenRequest},
};

/// What it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To redeem a code. Which session it is for, the verifier tells, by its challenge.
    Exchange { code: String, challenge: String },
    /// For claims.
    Userinfo { token: String },
    /// How a session stands.
    Session { id: String },
    /// To revoke a token.
    Revoke { token: String },
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange { code, .. } => write!(f, "to redeem {code}"),
            Self::Userinfo { token } => write!(f, "for the claims of the {token}"),
            Self::Session { id } => write!(f, "how {id} stands"),
            Self::Revoke { token } => write!(f, "to revoke the {token}"),
        }
    }
}

/// A request that it has not answered yet.
#[derive(Debug)]
pub(super) struct Request {
    /// Which of all requests it is.
    pub(super) number: usize,
    /// Whose it is.
    pub(super) client: usize,
    /// What it asks.
    pub(super) asked: Asked,
    /// Where the answer goes.
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What has reached the provider.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// What was asked and not answered, oldest first.
    pub(super) waiting: Vec<Request>,
    /// What was asked since it was looked at, when by the daemon's clock, and by which number.
    pub(super) news: Vec<(usize, usize, Asked, u64)>,
    /// Which number the next request gets.
    pub(super) next: usize,
}

/// The provider, as one client of it knows it.
#[derive(Clone)]
pub(super) struct Scripted {
    pub(super) client: usize,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) desk: Arc<Mutex<Desk>>,
}

impl Scripted {
    pub(super) fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
        desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, asked: Asked) -> Answer {
        // Of all panics this is the one that callers are not to hear of as INTERNAL.
        let may_panic = matches!(asked, Asked::Exchange { .. });
        let answered = {
            let mut desk = Self::lock(&self.desk);
            let (answer, answered) = oneshot::channel();
            let number = desk.next;
            desk.next += 1;
            desk.news.push((number, self.client, asked.clone(), self.clock.now().boot.millis));
            desk.waiting.push(Request { number, client: self.client, asked, answer });
            answered
        };
        match answered.await {
            // Without the hook, which would tell of it at length.
            Ok(Answer::Panics) if may_panic => std::panic::resume_unwind(Box::new("as the history says")),
            Ok(answer) => answer,
            // The history is over.
            Err(_) => std::future::pending().await,
        }
    }
}

fn said(http_status: u16) -> ProviderSaid {
    ProviderSaid { http_status, ..ProviderSaid::default() }
}

#[async_trait]
impl Provider for Scripted {
    async fn exchange(&self, _: &Errand, request: TokenRequest) -> ExchangeEnd {
        let code = request.code.expose().to_owned();
        let challenge = request.verifier.challenge().as_str().to_owned();
        let answer = self.ask(Asked::Exchange { code: code.clone(), challenge }).await;
        let refused =
            |status, error, said| ExchangeEnd::Refused { verdict: token_verdict(status, error), said };
        match answer {
            Answer::Good { life, .. } => ExchangeEnd::Token {
                token: AccessToken::new(format!("token of {code}")),
                life: Duration::from_secs(life),
            },
            Answer::Down => refused(503, None, said(503)),
            Answer::Refused => refused(400, Some("invalid_grant"), said(400)),
            Answer::Unpaid => refused(402, Some("payment_required"), said(402)),
            Answer::Limited { retry_after } => {
                let retry_after = retry_after.map(Duration::from_secs);
                refused(429, None, ProviderSaid { retry_after, ..said(429) })
            }
            Answer::NeverSent => ExchangeEnd::NeverSent { said: said(0) },
            Answer::Lost | Answer::Panics => {
                ExchangeEnd::Lost { reason: Reason::OutcomeUnknown, said: said(0) }
            }
            Answer::Unusable => ExchangeEnd::Lost { reason: Reason::ProviderProtocol, said: said(200) },
        }
    }

    async fn userinfo(&self, _: &Errand, token: &AccessToken) -> ClaimsEnd {
        let failed = |reason, status| ClaimsEnd::Failed { reason, said: said(status) };
        match self.ask(Asked::Userinfo { token: token.expose().to_owned() }).await {
            Answer::Good { .. } => {
                let body = format!(r#"{{"sub":"{}","claims":{{"age_18_plus":true}}}}"#, token.expose());
                Userinfo::parse(body.as_bytes())
                    .map_or(failed(Reason::ProviderProtocol, 200), ClaimsEnd::Claims)
            }
            Answer::Refused => ClaimsEnd::TokenRefused(said(401)),
            Answer::Down => failed(Reason::ProviderError, 503),
            Answer::Unpaid => failed(Reason::ProviderRefused, 402),
            Answer::Limited { .. } => failed(Reason::RateLimited, 429),
            Answer::NeverSent | Answer::Lost | Answer::Panics => failed(Reason::ProviderUnreachable, 0),
            Answer::Unusable => failed(Reason::ProviderProtocol, 200),
        }
    }

    async fn session(&self, _: &Errand, id: &ProviderSessionId) -> QueryEnd {
        let refused = |reason, status, was_sent| QueryEnd::Refused {
            refusal: Refusal::at(Stage::Session, reason).said(said(status)),
            was_sent,
        };
        match self.ask(Asked::Session { id: id.as_str().to_owned() }).await {
            Answer::Good { status, .. } => QueryEnd::Status(Some(status)),
            Answer::Refused => refused(Reason::ProviderSessionNotFound, 404, true),
            Answer::Down => refused(Reason::ProviderError, 503, true),
            Answer::Unpaid => refused(Reason::ProviderRefused, 402, true),
            Answer::Limited { retry_after } => {
                let said = ProviderSaid { retry_after: retry_after.map(Duration::from_secs), ..said(429) };
                let refusal = Refusal::at(Stage::Session, Reason::RateLimited).said(said);
                QueryEnd::Refused { refusal, was_sent: true }
            }
            Answer::NeverSent => refused(Reason::ProviderUnreachable, 0, false),
            Answer::Lost | Answer::Panics => refused(Reason::ProviderUnreachable, 0, true),
            Answer::Unusable => refused(Reason::ProviderProtocol, 200, true),
        }
    }

    async fn revoke(&self, _: &Errand, token: &AccessToken) -> Result<(), Refusal> {
        let refused = |reason, status| Err(Refusal::at(Stage::Revoke, reason).said(said(status)));
        match self.ask(Asked::Revoke { token: token.expose().to_owned() }).await {
            Answer::Good { .. } => Ok(()),
            Answer::Refused | Answer::Unpaid => refused(Reason::ProviderRefused, 400),
            Answer::Down | Answer::Unusable => refused(Reason::ProviderError, 503),
            Answer::Limited { .. } => refused(Reason::RateLimited, 429),
            Answer::NeverSent | Answer::Lost | Answer::Panics => refused(Reason::ProviderUnreachable, 0),
        }
    }

    fn contact(&self) -> Contact {
        Contact::default()
    }
}
