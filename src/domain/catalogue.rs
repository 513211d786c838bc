//! The error catalogue: for each reason what happened and what to do, at the stage where that differs.
//!
//! Causes and remedies of the provider's refusals follow its error page. They are written for whoever is woken by them:
//! what to do, where, and whether to start anew.

use super::reason::{Entry, Reason, Stage};

const fn at(stage: Stage, reason: Reason, cause: &'static str, remedy: &'static str) -> Entry {
    Entry { stage: Some(stage), reason, cause, remedy }
}

const fn general(reason: Reason, cause: &'static str, remedy: &'static str) -> Entry {
    Entry { stage: None, reason, cause, remedy }
}

pub(super) const CATALOGUE: &[Entry] = &[
    // The redirect back.
    at(
        Stage::Redirect,
        Reason::AccessDenied,
        "The user declined at the provider's consent screen.",
        "Offer the user to try again; a new try is a new StartAuthorization.",
    ),
    at(
        Stage::Redirect,
        Reason::VerificationFailed,
        "The user abandoned the verification or did not pass it.",
        "Offer the user to try again; a new try is a new StartAuthorization.",
    ),
    at(
        Stage::Redirect,
        Reason::SessionExpired,
        "The provider ended the session: its thirty minutes ran out.",
        "Call StartAuthorization again and send the user to the new URL.",
    ),
    at(
        Stage::Redirect,
        Reason::InvalidRedirectUri,
        "The provider does not have this redirect URI registered for the API key.",
        "Register exactly the redirect_uris of this client's [[client]] section at the provider, byte for byte with \
         scheme and path, then call StartAuthorization again.",
    ),
    at(
        Stage::Redirect,
        Reason::InvalidRequest,
        "The provider found a parameter of the authorization URL missing or malformed.",
        "Send the browser to authorization_url unchanged, check authorize_params in cairld.toml, then call \
         StartAuthorization again.",
    ),
    at(
        Stage::Redirect,
        Reason::ProviderRefused,
        "The provider's redirect carried an error that its documentation does not list.",
        "Look at provider_error, then call StartAuthorization again; if it stays, ask the provider's support with the \
         time of the request.",
    ),
    // The token endpoint.
    at(
        Stage::Token,
        Reason::InvalidRequest,
        "The provider found a field of the token request missing or malformed.",
        "Check client_id_file and client_secret_file for stray characters, and this client's endpoints in cairld.toml; \
         then call StartAuthorization again.",
    ),
    at(
        Stage::Token,
        Reason::InvalidGrant,
        "The code has expired (ten minutes), was already used, or does not fit its verifier.",
        "Call StartAuthorization again. Where first_error is set, an earlier attempt that met a server error probably \
         spent the code; else, if it happens often, present the callback sooner and let nothing else exchange the code.",
    ),
    at(
        Stage::Token,
        Reason::UnsupportedGrantType,
        "The token endpoint does not accept authorization_code.",
        "Check endpoints.token of this client in cairld.toml: it points to something else than the provider's token \
         endpoint. Then call StartAuthorization again.",
    ),
    at(
        Stage::Token,
        Reason::InvalidScope,
        "A requested scope is not permitted for this client.",
        "Ask the provider to enable the claim for your account, or leave the scope out of StartAuthorization; then start \
         again.",
    ),
    at(
        Stage::Token,
        Reason::InvalidRedirectUri,
        "The provider says that the redirect URI is not the one of the authorization request.",
        "Make redirect_uris in cairld.toml and at the provider the same, trailing slash included, then call \
         StartAuthorization again.",
    ),
    at(
        Stage::Token,
        Reason::InvalidClient,
        "The provider does not accept the client id or the client secret.",
        "Put the right credentials into client_id_file and client_secret_file of this client and restart the daemon; the \
         same callback then completes while its code lives.",
    ),
    at(
        Stage::Token,
        Reason::PaymentRequired,
        "The provider account's wallet is too low.",
        "Fund the wallet on the billing page of the provider's dashboard; the same callback then completes while its \
         code lives.",
    ),
    at(
        Stage::Token,
        Reason::EnrollmentBlocked,
        "The provider blocked the user's enrolment, for a duplicate face for example.",
        "This user cannot be verified as things stand: contact the provider's support with the session's id and time. \
         Do not retry.",
    ),
    at(
        Stage::Token,
        Reason::ClientInactive,
        "The provider account is not activated yet.",
        "Complete the account's activation at the provider; the same callback then completes while its code lives.",
    ),
    at(
        Stage::Token,
        Reason::ProviderRefused,
        "The token endpoint refused in a way that the provider's documentation does not list.",
        "Look at provider_error and http_status. Where `resumable` is true (no readable answer, a firewall's page for \
         example), mend the way to the provider and present the same callback again; else call StartAuthorization again.",
    ),
    at(
        Stage::Token,
        Reason::OutcomeUnknown,
        "The token request was sent and its answer was lost, so the code may be spent.",
        "Call StartAuthorization again. The request is never repeated: replaying a spent code can make the provider \
         revoke the token that it issued.",
    ),
    at(
        Stage::Token,
        Reason::ProviderProtocol,
        "The token endpoint's answer cannot be used: a redirect, not JSON, too long, or without a bearer token.",
        "Check base_url and endpoints.token of this client in cairld.toml and whatever stands between (a proxy, a login \
         page); then call StartAuthorization again.",
    ),
    // Userinfo, session query, revocation.
    at(
        Stage::Userinfo,
        Reason::Unauthorized,
        "The access token ran out or was revoked before the claims were fetched.",
        "Call StartAuthorization again.",
    ),
    general(
        Reason::MissingApiKey,
        "The provider saw no API key, or one in the wrong format.",
        "Check api_key_file of this client (by default the client id is the key): one line, cairl_live_… or \
         cairl_test_…; and that no proxy removes the Authorization header.",
    ),
    general(
        Reason::InvalidApiKey,
        "The provider does not know the API key, or it was revoked.",
        "Check api_key_file of this client against the provider's dashboard; make a new key there if it was revoked, and restart the daemon.",
    ),
    general(
        Reason::Unauthorized,
        "The provider answered 401 for a cause that it does not explain.",
        "Check this client's credentials in the provider's dashboard, then try again.",
    ),
    at(
        Stage::Session,
        Reason::ForeignSession,
        "The provider session was begun with another API key.",
        "Use the api_key_file that belongs to the client_id_file of this client: both must hold the key that began the \
         session.",
    ),
    at(
        Stage::Session,
        Reason::ProviderSessionNotFound,
        "The provider does not know the session; its thirty minutes are over, or the id is wrong.",
        "Call StartAuthorization again if the session is still needed.",
    ),
    general(
        Reason::ProviderRefused,
        "The provider refused in a way that its documentation does not list.",
        "Look at provider_error and http_status; if it stays, ask the provider's support with the time of the request.",
    ),
    general(
        Reason::ProviderError,
        "The provider answered with a server error.",
        "Repeat the same call after the retry delay; if it stays, ask the provider's support with the time of the request.",
    ),
    general(
        Reason::RateLimited,
        "The rate limit of the provider is reached: 30 token requests and 60 session queries a minute.",
        "Repeat the same call after the retry delay. If it happens often, spread the load, or ask the provider for a \
         higher limit and set it in limits of this client.",
    ),
    general(
        Reason::ProviderUnreachable,
        "No connection to the provider, or no answer in time.",
        "Check base_url of this client, DNS, the firewall and the system's CA certificates from the daemon's host; repeat \
         the same call after the retry delay.",
    ),
    general(
        Reason::ProviderProtocol,
        "The provider's answer cannot be used: a redirect, not the JSON expected, or too long.",
        "Check base_url and endpoints of this client in cairld.toml and whatever stands between (a proxy, a login page), \
         then try again.",
    ),
    // The daemon's own.
    general(
        Reason::StateUnknown,
        "This state was never issued here, is long gone, or belongs to another caller.",
        "Pass the callback's state unchanged, to the daemon that started the flow, as the caller that started it; else \
         call StartAuthorization again.",
    ),
    general(
        Reason::StateAlreadyUsed,
        "This state was already used.",
        "Call GetSession with the state to see what became of it. A callback is completed once; a page reload must not \
         complete it again.",
    ),
    general(
        Reason::CodeAlreadyUsed,
        "This code was already presented with another state.",
        "Treat the callback as forged: a code belongs to one flow. Call StartAuthorization again for this user.",
    ),
    general(
        Reason::BindingMismatch,
        "The binding is missing or not the one that the flow was started with.",
        "Pass the same binding as to StartAuthorization, made from the same browser session. A callback that arrives in \
         another browser must not be completed.",
    ),
    general(
        Reason::IssuerMismatch,
        "The callback's iss is missing or not the issuer configured for the client (RFC 9207).",
        "Do not complete this callback: it may come from another server. If the provider changed its issuer, correct \
         issuer of this client in cairld.toml.",
    ),
    general(
        Reason::SessionExpired,
        "The session's thirty minutes ran out.",
        "Call StartAuthorization again and send the user to the new URL.",
    ),
    general(
        Reason::SessionCancelled,
        "The session was cancelled.",
        "Call StartAuthorization again if the user still wants to be verified.",
    ),
    general(
        Reason::SessionFinished,
        "The session has already ended.",
        "Nothing is left to do; call GetSession to see how it ended.",
    ),
    general(
        Reason::ExchangeInProgress,
        "The session's exchange is under way: a token request was sent, or its token is held and the claims are missing.",
        "Wait for it: GetSession or WatchSession show the outcome of a request within half a minute. Claims that are \
         missing are fetched by the same callback. To revoke the token without them, call CancelAuthorization, which \
         ends the session too.",
    ),
    general(
        Reason::VerificationFailed,
        "The provider reported that the verification failed.",
        "Offer the user to try again; a new try is a new StartAuthorization.",
    ),
    general(
        Reason::SessionNotFound,
        "No such session, or it belongs to another caller.",
        "Check the id, and that the same caller asks that started it (or set share = true for the client). Sessions are \
         kept for the configured retention.",
    ),
    general(
        Reason::EventNotFound,
        "No such event, or it belongs to another caller.",
        "Check the id; events are kept for the configured time.",
    ),
    general(
        Reason::ProviderSessionUnknown,
        "The provider's session id is not known yet, so it cannot be asked.",
        "Call GetSession without refresh; the id arrives with the callback.",
    ),
    general(
        Reason::TokenNotHeld,
        "No access token is held for the session.",
        "Complete the session first; a token that was revoked or ran out is gone.",
    ),
    general(
        Reason::InvalidGrant,
        "The code's ten minutes, or its nine attempts, are over without a token.",
        "Call StartAuthorization again; mend first what the session's earlier refusals name.",
    ),
    general(
        Reason::OutcomeUnknown,
        "A token request was sent and its outcome is not known.",
        "Call StartAuthorization again; the request is never repeated.",
    ),
    general(
        Reason::Overloaded,
        "The daemon has more waiting than it takes.",
        "Repeat the same call after the retry delay; if it stays, look at the disk's write latency.",
    ),
    general(
        Reason::WebhookSignatureInvalid,
        "The webhook's signature is missing, malformed or does not fit its body.",
        "Pass the body's exact bytes, before any parsing, and the X-CAIRL-Signature header as received; check \
         webhook_secret_files of this client. Answer the sender with 400.",
    ),
    general(
        Reason::ClientUnknown,
        "No client of that name is configured for this caller.",
        "Name a [[client]] of cairld.toml that stands in the caller's clients.",
    ),
    general(
        Reason::RedirectUriUnregistered,
        "The redirect URI is not one of the client's.",
        "Pass one of the client's redirect_uris byte for byte, or add it in cairld.toml and at the provider.",
    ),
    general(
        Reason::InvalidArgument,
        "A field of the request is not as the contract says.",
        "Correct the fields named in the details; nothing was consumed.",
    ),
    general(
        Reason::CursorInvalid,
        "The cursor or page token was not issued for this list.",
        "Begin again without it.",
    ),
    general(
        Reason::ConsumerSuperseded,
        "A newer WatchEvents stream with the same consumer name has begun.",
        "Leave this stream ended. If both were meant to run, give each a consumer name of its own; of one name there is \
         one stream at a time.",
    ),
    general(
        Reason::RequestIdReused,
        "The request id was used before with other arguments.",
        "Use a new request_id for each start; repeat one only with the very same arguments.",
    ),
    general(
        Reason::CallerUnknown,
        "The daemon does not recognise the caller.",
        "Add a [[caller]] with this uid or gid to cairld.toml, or send `authorization: Bearer …` with the token of the \
         caller's token_file.",
    ),
    general(
        Reason::RpcNotGranted,
        "The caller is not granted this call.",
        "Add the call to rpcs of the [[caller]] in cairld.toml (and admin = true for AdminService).",
    ),
    general(
        Reason::StoreUnavailable,
        "The store takes no writes at present.",
        "Repeat the call later. Operator: free disk space or mend the disk, and see the daemon's log and GetStatus.",
    ),
    general(Reason::ShuttingDown, "The daemon is stopping.", "Repeat the same call after the retry delay."),
    general(
        Reason::RecordCorrupt,
        "A stored record cannot be opened: damaged, or sealed under a key that is not in the key ring.",
        "Operator: the log names the record; check keys.files, else restore from a backup.",
    ),
    general(
        Reason::Internal,
        "A bug in the daemon.",
        "Report it with the daemon's version and its log around this time.",
    ),
];
