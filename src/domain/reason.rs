//! Why something was refused: the reasons of the contract and where they arise.

use std::fmt;

/// Declares the reasons once: the variant, its name on the wire and its meaning.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a call was refused or a session failed; the names are the contract's (`Reason` in the proto).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them, in the contract's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire: `ACCESS_DENIED`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// The user declined at the provider's consent screen.
    AccessDenied = "ACCESS_DENIED",
    /// The user abandoned the verification, or did not pass it.
    VerificationFailed = "VERIFICATION_FAILED",
    /// The thirty minutes of the session ran out, here or at the provider.
    SessionExpired = "SESSION_EXPIRED",
    /// The provider says that the redirect URI is not the registered one, or not the one of the start.
    InvalidRedirectUri = "INVALID_REDIRECT_URI",
    /// The provider says that a parameter is missing or malformed.
    InvalidRequest = "INVALID_REQUEST",
    /// The code has expired, was already used, or does not fit its verifier.
    InvalidGrant = "INVALID_GRANT",
    /// The provider does not accept the grant type.
    UnsupportedGrantType = "UNSUPPORTED_GRANT_TYPE",
    /// A scope is not permitted for this client.
    InvalidScope = "INVALID_SCOPE",
    /// The provider does not accept the client id or the client secret.
    InvalidClient = "INVALID_CLIENT",
    /// The provider account's wallet is too low.
    PaymentRequired = "PAYMENT_REQUIRED",
    /// The provider blocked the user's enrolment (a duplicate face, for example).
    EnrollmentBlocked = "ENROLLMENT_BLOCKED",
    /// The provider account is not activated yet.
    ClientInactive = "CLIENT_INACTIVE",
    /// The provider refused with a code that its documentation does not list, or without a readable one.
    ProviderRefused = "PROVIDER_REFUSED",
    /// The provider answered 5xx, after retries where they are safe.
    ProviderError = "PROVIDER_ERROR",
    /// The provider's rate limit is reached, as it said or as the daemon's own budget says.
    RateLimited = "RATE_LIMITED",
    /// The provider saw no API key, or one in the wrong format.
    MissingApiKey = "MISSING_API_KEY",
    /// The provider does not know the API key, or it was revoked.
    InvalidApiKey = "INVALID_API_KEY",
    /// The provider answered 401 for another cause.
    Unauthorized = "UNAUTHORIZED",
    /// The provider session belongs to another API key.
    ForeignSession = "FOREIGN_SESSION",
    /// The provider does not know the session.
    ProviderSessionNotFound = "PROVIDER_SESSION_NOT_FOUND",
    /// No answer from the provider: connection refused, DNS, TLS, timeout.
    ProviderUnreachable = "PROVIDER_UNREACHABLE",
    /// A token request was sent and its outcome is not known. It is never sent again.
    OutcomeUnknown = "OUTCOME_UNKNOWN",
    /// The provider's answer cannot be used: a redirect, HTML, truncated, too long, no token.
    ProviderProtocol = "PROVIDER_PROTOCOL",
    /// The state was never issued here, is long gone, or is not this caller's.
    StateUnknown = "STATE_UNKNOWN",
    /// The state was already used.
    StateAlreadyUsed = "STATE_ALREADY_USED",
    /// The code was already presented with another state.
    CodeAlreadyUsed = "CODE_ALREADY_USED",
    /// The binding is missing or not the one of the start.
    BindingMismatch = "BINDING_MISMATCH",
    /// The callback's `iss` is missing or not the configured issuer (RFC 9207).
    IssuerMismatch = "ISSUER_MISMATCH",
    /// The session was cancelled.
    SessionCancelled = "SESSION_CANCELLED",
    /// The session has already ended otherwise.
    SessionFinished = "SESSION_FINISHED",
    /// The exchange is under way: a token request was sent, or its token is held and the claims are missing.
    ExchangeInProgress = "EXCHANGE_IN_PROGRESS",
    /// No such session, or not this caller's.
    SessionNotFound = "SESSION_NOT_FOUND",
    /// No such event, or not this caller's.
    EventNotFound = "EVENT_NOT_FOUND",
    /// The provider's session id is not known yet.
    ProviderSessionUnknown = "PROVIDER_SESSION_UNKNOWN",
    /// No access token is held for the session.
    TokenNotHeld = "TOKEN_NOT_HELD",
    /// The daemon's queue is full, or too many sessions are pending.
    Overloaded = "OVERLOADED",
    /// The webhook's signature is missing, malformed or wrong.
    WebhookSignatureInvalid = "WEBHOOK_SIGNATURE_INVALID",
    /// No client of that name is configured for this caller.
    ClientUnknown = "CLIENT_UNKNOWN",
    /// The redirect URI is not one of the client's configured ones.
    RedirectUriUnregistered = "REDIRECT_URI_UNREGISTERED",
    /// A field of the request is not as the contract says; the details name it.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The cursor is not one of this consumer's inbox.
    CursorInvalid = "CURSOR_INVALID",
    /// The request id was used before with other arguments.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// The daemon does not recognise the caller.
    CallerUnknown = "CALLER_UNKNOWN",
    /// The caller's configuration does not grant this call.
    RpcNotGranted = "RPC_NOT_GRANTED",
    /// The store takes no writes at present: disk full, or an I/O error.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// The daemon is stopping.
    ShuttingDown = "SHUTTING_DOWN",
    /// A stored record cannot be opened.
    RecordCorrupt = "RECORD_CORRUPT",
    /// A bug in the daemon.
    Internal = "INTERNAL",
    /// A newer stream of the same consumer has begun, or the consumer was deleted.
    ConsumerSuperseded = "CONSUMER_SUPERSEDED",
    /// No answer within the call's deadline. What was begun goes on.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// What the caller may do was changed while the stream was open.
    CallerChanged = "CALLER_CHANGED",
    /// A backup, check or compaction of the store could not go on, mostly for want of room beside it.
    MaintenanceFailed = "MAINTENANCE_FAILED",
    /// This version does not serve the call, or does not know it.
    Unimplemented = "UNIMPLEMENTED",
}

impl Reason {
    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }

    /// Whether the same call with the same arguments is safe to repeat by itself, after a pause. True for exactly those
    /// that the wire calls `UNAVAILABLE` or `RESOURCE_EXHAUSTED`.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::ProviderError
                | Self::ProviderUnreachable
                | Self::RateLimited
                | Self::Overloaded
                | Self::StoreUnavailable
                | Self::ShuttingDown
                | Self::CallerChanged
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a refusal arises. The remedy of one reason differs between stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// In the provider's redirect back to the partner.
    Redirect,
    /// At the provider's token endpoint.
    Token,
    /// At the provider's userinfo endpoint.
    Userinfo,
    /// At the provider's session query.
    Session,
    /// At the provider's revocation endpoint.
    Revoke,
    /// In a webhook.
    Webhook,
    /// In the daemon itself.
    Daemon,
}

impl Stage {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Redirect,
        Self::Token,
        Self::Userinfo,
        Self::Session,
        Self::Revoke,
        Self::Webhook,
        Self::Daemon,
    ];

    /// The stage's name in error metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Token => "token",
            Self::Userinfo => "userinfo",
            Self::Session => "session",
            Self::Revoke => "revoke",
            Self::Webhook => "webhook",
            Self::Daemon => "daemon",
        }
    }

    /// The stage of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|stage| stage.as_str() == name)
    }
}
