//! What the provider's other endpoints can say: userinfo and the session query.

use super::{Becomes, Entry, Http, Says, Word};
use crate::domain::{
    reason::{Reason, Stage},
    session::ProviderStatus,
};

const fn at(
    stage: Stage,
    says: Says,
    reason: Reason,
    becomes: Becomes,
    cause: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { stage: Some(stage), says, reason, becomes, cause, remedy }
}

pub(super) const ENTRIES: &[Entry] = &[
    // Userinfo: the token is held, and the same callback fetches the claims.
    at(
        Stage::Userinfo,
        Says::Answer(Http::Is(401), Word::Any(None)),
        Reason::Unauthorized,
        Becomes::Failed,
        "The access token ran out or was revoked before the claims were fetched.",
        "Call StartAuthorization again: the code is spent and the token is of no more use.",
    ),
    at(
        Stage::Userinfo,
        Says::Answer(Http::Refused, Word::Any(None)),
        Reason::ProviderRefused,
        Becomes::AsItWas,
        "The provider did not hand out the claims, in a way that its documentation does not list.",
        "Look at http_status and provider_error; check endpoints.userinfo of this [[client]] in cairld.toml and what stands \
         on the way. Then call CompleteAuthorization with the same callback again, until resume_until: the token is held, \
         and only the claims are fetched.",
    ),
    at(
        Stage::Userinfo,
        Says::Unusable,
        Reason::ProviderProtocol,
        Becomes::AsItWas,
        "The claims cannot be read: the answer is a redirect, not the JSON expected, or too long.",
        "Check base_url and endpoints.userinfo of this [[client]] in cairld.toml, and what stands on the way (a proxy, a \
         login page); reload cairld after a change. Then call CompleteAuthorization with the same callback again, until \
         resume_until: the token is held, and only the claims are fetched.",
    ),
    // The session query: it says how a session is, and only the provider's own statuses move one.
    at(
        Stage::Session,
        Says::Session(ProviderStatus::Failed),
        Reason::VerificationFailed,
        Becomes::Failed,
        "The provider says that the user abandoned the verification or did not pass it.",
        "Nothing is broken. Offer the user another try: call StartAuthorization again and send the browser to the new \
         authorization_url.",
    ),
    at(
        Stage::Session,
        Says::Session(ProviderStatus::Expired),
        Reason::SessionExpired,
        Becomes::Expired,
        "The provider ended the session: its thirty minutes are over.",
        "Call StartAuthorization again and send the browser to the new authorization_url.",
    ),
    at(
        Stage::Session,
        Says::Answer(Http::Is(403), Word::Text("Forbidden: this session belongs to a different API key")),
        Reason::ForeignSession,
        Becomes::AsItWas,
        "The provider's session was begun with another API key than the one that asks.",
        "Put the API key that belongs to client_id_file of this [[client]] into its api_key_file, or leave api_key_file out: \
         the client id is the key then. Reload cairld (restart it where the key is a credential \
         from systemd). The session itself goes on; call GetSession without refresh meanwhile.",
    ),
    at(
        Stage::Session,
        Says::Answer(Http::Is(404), Word::Any(Some("Session not found or expired"))),
        Reason::ProviderSessionNotFound,
        Becomes::AsItWas,
        "The provider does not know the session: its thirty minutes are over, or the id in the callback was wrong.",
        "If the user has not come back, call StartAuthorization again. If the callback is here, call \
         CompleteAuthorization: it needs no answer to this.",
    ),
    at(
        Stage::Session,
        Says::Answer(Http::Is(429), Word::Any(None)),
        Reason::RateLimited,
        Becomes::AsItWas,
        "The provider takes no more session queries for now: its limit is 60 a minute for each API key.",
        "Call GetSession without refresh, which asks nobody, or repeat the call after the retry delay. To learn of changes \
         without asking, use WatchSession and pass webhooks on to IngestWebhook.",
    ),
];
