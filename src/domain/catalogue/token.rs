//! What the token endpoint can say. A session that is left as it was completes with the same callback, while its code
//! lives; where the code is lost with the refusal, the user starts anew.

use super::{Becomes, Entry, Http, Says, Word};
use crate::domain::reason::{Reason, Stage};

const fn at(
    says: Says,
    reason: Reason,
    becomes: Becomes,
    cause: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { stage: Some(Stage::Token), says, reason, becomes, cause, remedy }
}

/// A code after which the user starts anew.
const fn ends(
    status: u16,
    code: &'static str,
    reason: Reason,
    cause: &'static str,
    remedy: &'static str,
) -> Entry {
    at(Says::Answer(Http::Is(status), Word::Code(code)), reason, Becomes::Failed, cause, remedy)
}

/// A code whose cause can be mended while the session waits.
const fn waits(
    status: u16,
    code: &'static str,
    reason: Reason,
    cause: &'static str,
    remedy: &'static str,
) -> Entry {
    at(Says::Answer(Http::Is(status), Word::Code(code)), reason, Becomes::AsItWas, cause, remedy)
}

pub(super) const ENTRIES: &[Entry] = &[
    ends(
        400,
        "invalid_request",
        Reason::InvalidRequest,
        "The token endpoint found a field of the request missing or malformed.",
        "cairld sends every field, so something on the way is wrong: check that client_id_file and client_secret_file of \
         this [[client]] hold the credential and nothing else, that endpoints.token is the provider's token endpoint, and \
         that no proxy rewrites the body. Reload cairld (restart it where systemd hands it the \
         credentials) after a change, then call StartAuthorization again.",
    ),
    ends(
        400,
        "invalid_grant",
        Reason::InvalidGrant,
        "The code has expired (ten minutes), was already used, or does not fit its verifier.",
        "Call StartAuthorization again; this code is lost. Where first_error is set, the attempt that met it probably \
         spent the code. If it happens often without one, pass callbacks on as they arrive, and let nothing else redeem \
         their codes.",
    ),
    ends(
        400,
        "unsupported_grant_type",
        Reason::UnsupportedGrantType,
        "The token endpoint does not accept grant_type=authorization_code.",
        "cairld sends no other, so this is not the provider's token endpoint: correct base_url or endpoints.token of this \
         [[client]] in cairld.toml and reload cairld. Then call StartAuthorization again.",
    ),
    ends(
        400,
        "invalid_scope",
        Reason::InvalidScope,
        "A requested scope is not permitted for this client.",
        "Leave the claim out of scopes in your call of StartAuthorization, or have the provider's support enable it for \
         your account; then call StartAuthorization again.",
    ),
    ends(
        400,
        "invalid_redirect_uri",
        Reason::InvalidRedirectUri,
        "The provider says that the redirect URI is not the one of the authorization request.",
        "cairld sends the same one both times, so the provider compares it with another: make the URL registered there \
         and redirect_uris of this [[client]] in cairld.toml the same, trailing slash included, and let no proxy rewrite \
         it. Reload cairld after a change, then call StartAuthorization again.",
    ),
    waits(
        401,
        "invalid_client",
        Reason::InvalidClient,
        "The provider does not accept the client id or the client secret.",
        "Put the credentials that the provider shows for this client into client_id_file and client_secret_file of this \
         [[client]], and reload cairld. Then call CompleteAuthorization with the same callback again, until resume_until; \
         after that, start anew with StartAuthorization.",
    ),
    waits(
        402,
        "payment_required",
        Reason::PaymentRequired,
        "The wallet of your account with the provider is too low.",
        "Fund the wallet at cairl.app/home/billing ($50 at least). Then call CompleteAuthorization with the same callback \
         again, until resume_until; after that, start anew with StartAuthorization.",
    ),
    ends(
        403,
        "access_denied",
        Reason::EnrollmentBlocked,
        "The provider blocked the user's enrolment, for a duplicate face for example.",
        "Another try ends the same way, so do not offer one: contact the provider's support with the session's \
         provider_session_id and this error's request_time. Once they have lifted the block, call StartAuthorization again.",
    ),
    waits(
        403,
        "client_inactive",
        Reason::ClientInactive,
        "Your account with the provider is not activated yet.",
        "Complete the account's activation in the provider's dashboard. Then call CompleteAuthorization with the same \
         callback again, until resume_until; after that, start anew with StartAuthorization.",
    ),
    at(
        Says::Answer(Http::Failed, Word::Any(Some("server_error"))),
        Reason::ProviderError,
        Becomes::AsItWas,
        "The token endpoint answered with a server error, as often as it was asked.",
        "Repeat the same call, with the same callback, after the retry delay; a code is sent nine times at most, within ten \
         minutes. If it stays, the provider is down: tell its support request_time and provider_description, and have the \
         user start anew later.",
    ),
    at(
        Says::Answer(Http::Is(429), Word::Any(None)),
        Reason::RateLimited,
        Becomes::AsItWas,
        "The provider takes no more token requests for now: its limit is 30 a minute for each client.",
        "Repeat the same call, with the same callback, after the retry delay: the code was not spent. If it happens often, \
         find out what else uses this client's credentials, or ask the provider for a higher limit.",
    ),
    at(
        Says::Answer(Http::Refused, Word::Unlisted),
        Reason::ProviderRefused,
        Becomes::Failed,
        "The token endpoint refused with a code that the provider's documentation does not list.",
        "Call StartAuthorization again. If it comes back, ask the provider's support what provider_error means, with \
         request_time and provider_description; all three stand in this error's metadata.",
    ),
    at(
        Says::Answer(Http::Refused, Word::Missing),
        Reason::ProviderRefused,
        Becomes::AsItWas,
        "Something refused the token request without a readable code: probably not the provider, but a firewall or a proxy \
         on the way.",
        "Look at http_status, and from the daemon's host at what answers under base_url of this [[client]] (and its proxy, \
         if set). Once that is mended, call CompleteAuthorization with the same callback again, until resume_until; after \
         that, start anew with StartAuthorization.",
    ),
    at(
        Says::Unusable,
        Reason::ProviderProtocol,
        Becomes::Indeterminate,
        "The token endpoint's answer cannot be used: a redirect, not JSON, too long, or without a bearer token.",
        "Check base_url and endpoints.token of this [[client]] in cairld.toml, and what stands on the way (a proxy, a login \
         page); reload cairld after a change. Then call StartAuthorization again: the code may be spent, so it is not sent \
         a second time.",
    ),
    at(
        Says::NoAnswer,
        Reason::OutcomeUnknown,
        Becomes::Indeterminate,
        "The token request was sent, and its answer was lost or could not be made durable: the code may be spent.",
        "Call StartAuthorization again. cairld never repeats such a request: a provider that sees a spent code again can \
         revoke the token that it issued. If it happens often, look for a provider that is slower than timeouts.request of \
         this [[client]], and in the log of cairld.",
    ),
    at(
        Says::NoConnection,
        Reason::ProviderUnreachable,
        Becomes::AsItWas,
        "No connection to the token endpoint could be made, so nothing was sent.",
        "Repeat the same call, with the same callback, after the retry delay: the code was not spent. If it stays, check \
         from the daemon's host: base_url and proxy of this [[client]] in cairld.toml, DNS, the firewall, the CA \
         certificates. The log of cairld names the cause.",
    ),
];
