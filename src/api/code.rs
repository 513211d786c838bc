//! How reasons are said in gRPC: the one place that decides it.

use tonic::Code;

use crate::domain::Reason;

/// How a reason is said in gRPC. `UNAUTHENTICATED` and `PERMISSION_DENIED` speak of the caller of the daemon alone.
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::AccessDenied
        | Reason::VerificationFailed
        | Reason::SessionExpired
        | Reason::InvalidRedirectUri
        | Reason::InvalidRequest
        | Reason::InvalidGrant
        | Reason::UnsupportedGrantType
        | Reason::InvalidScope
        | Reason::InvalidClient
        | Reason::PaymentRequired
        | Reason::EnrollmentBlocked
        | Reason::ClientInactive
        | Reason::ProviderRefused
        | Reason::MissingApiKey
        | Reason::InvalidApiKey
        | Reason::Unauthorized
        | Reason::ForeignSession
        | Reason::OutcomeUnknown
        | Reason::ProviderProtocol
        | Reason::BindingMismatch
        | Reason::IssuerMismatch
        | Reason::SessionCancelled
        | Reason::SessionFinished
        | Reason::ExchangeInProgress
        | Reason::ProviderSessionUnknown
        | Reason::TokenNotHeld
        | Reason::MaintenanceFailed => Code::FailedPrecondition,
        Reason::ProviderSessionNotFound
        | Reason::StateUnknown
        | Reason::SessionNotFound
        | Reason::EventNotFound => Code::NotFound,
        Reason::StateAlreadyUsed | Reason::CodeAlreadyUsed | Reason::RequestIdReused => Code::AlreadyExists,
        Reason::ClientUnknown
        | Reason::RedirectUriUnregistered
        | Reason::InvalidArgument
        | Reason::CursorInvalid
        | Reason::WebhookSignatureInvalid => Code::InvalidArgument,
        Reason::ProviderError
        | Reason::ProviderUnreachable
        | Reason::StoreUnavailable
        | Reason::ShuttingDown
        | Reason::CallerChanged => Code::Unavailable,
        Reason::RateLimited | Reason::Overloaded => Code::ResourceExhausted,
        Reason::ConsumerSuperseded => Code::Aborted,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::Unimplemented => Code::Unimplemented,
        Reason::CallerUnknown => Code::Unauthenticated,
        Reason::RpcNotGranted => Code::PermissionDenied,
        Reason::RecordCorrupt => Code::DataLoss,
        Reason::Internal => Code::Internal,
    }
}

/// A status code by its name in the gRPC specification.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callers_own_standing_is_called_unauthenticated_or_denied() {
        for reason in Reason::ALL {
            let of_caller = matches!(code(*reason), Code::Unauthenticated | Code::PermissionDenied);
            assert_eq!(
                of_caller,
                matches!(reason, Reason::CallerUnknown | Reason::RpcNotGranted),
                "{reason}"
            );
        }
    }
}
