//! What an answer of the provider means: as the catalogue has it, status first, then the code in the body.

use super::{
    catalogue::{Becomes, answered},
    reason::{Reason, Stage},
};

/// What an unsuccessful answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The reason to give.
    pub reason: Reason,
    /// Whether a session that met it at the token endpoint stays as it was, so that the same callback can be presented
    /// again.
    pub keeps_session: bool,
}

/// What a status of 400 and above means at the token endpoint; `error` is the OAuth error code of the body
/// (RFC 6749 §5.2), where there is a readable one.
pub fn token_verdict(status: u16, error: Option<&str>) -> Verdict {
    let entry = answered(Stage::Token, status, error);
    Verdict { reason: entry.reason, keeps_session: entry.becomes == Becomes::AsItWas }
}

/// What a status of 400 and above means at the other endpoints; `text` is the body's `error`, where there is a readable
/// one. Statuses alone do not tell them apart, so the page's texts count there.
pub fn api_reason(stage: Stage, status: u16, text: Option<&str>) -> Reason {
    answered(stage, status, text).reason
}

/// Whether a `token_type` is Bearer; letters' case does not matter (RFC 6749 §5.1).
pub fn is_bearer(token_type: &str) -> bool {
    token_type.eq_ignore_ascii_case("bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_rows_of_the_page() {
        let rows = [
            (400, "invalid_request", Reason::InvalidRequest, false),
            (400, "invalid_grant", Reason::InvalidGrant, false),
            (400, "unsupported_grant_type", Reason::UnsupportedGrantType, false),
            (400, "invalid_scope", Reason::InvalidScope, false),
            (400, "invalid_redirect_uri", Reason::InvalidRedirectUri, false),
            (401, "invalid_client", Reason::InvalidClient, true),
            (402, "payment_required", Reason::PaymentRequired, true),
            (403, "access_denied", Reason::EnrollmentBlocked, false),
            (403, "client_inactive", Reason::ClientInactive, true),
            (500, "server_error", Reason::ProviderError, true),
        ];
        for (status, error, reason, keeps_session) in rows {
            assert_eq!(
                token_verdict(status, Some(error)),
                Verdict { reason, keeps_session },
                "{status} {error}"
            );
        }
    }

    #[test]
    fn other_token_answers_go_by_status() {
        let keeps = |reason| Verdict { reason, keeps_session: true };
        let ends = |reason| Verdict { reason, keeps_session: false };
        for (status, error, verdict) in [
            (429, Some("invalid_grant"), keeps(Reason::RateLimited)),
            (503, None, keeps(Reason::ProviderError)),
            (502, Some("invalid_grant"), keeps(Reason::ProviderError)),
            (999, None, keeps(Reason::ProviderError)),
            (400, Some("brand_new"), ends(Reason::ProviderRefused)),
            (418, Some("teapot"), ends(Reason::ProviderRefused)),
            (401, Some("invalid_grant"), ends(Reason::ProviderRefused)),
            (400, Some("INVALID_GRANT"), ends(Reason::ProviderRefused)),
            (401, Some("Missing API key"), ends(Reason::ProviderRefused)),
            (400, None, keeps(Reason::ProviderRefused)),
            (401, None, keeps(Reason::ProviderRefused)),
            (402, None, keeps(Reason::ProviderRefused)),
            (403, None, keeps(Reason::ProviderRefused)),
        ] {
            assert_eq!(token_verdict(status, error), verdict, "{status} {error:?}");
        }
    }

    #[test]
    fn the_api_rows_of_the_page() {
        let rows = [
            (401, "Missing API key. Use Authorization: Bearer {key}", Reason::MissingApiKey),
            (401, "Missing API key", Reason::MissingApiKey),
            (401, "MISSING API KEY", Reason::MissingApiKey),
            (401, "Missing API", Reason::Unauthorized),
            (401, "Invalid or inactive API key", Reason::InvalidApiKey),
            (401, "Unauthorized", Reason::Unauthorized),
            (401, "something new", Reason::Unauthorized),
            (401, "", Reason::Unauthorized),
            (403, "Forbidden: this session belongs to a different API key", Reason::ForeignSession),
            (403, "something new", Reason::ProviderRefused),
            (404, "Session not found or expired", Reason::ProviderSessionNotFound),
            (429, "", Reason::RateLimited),
            (500, "", Reason::ProviderError),
            (418, "", Reason::ProviderRefused),
        ];
        assert_eq!(
            api_reason(Stage::Userinfo, 404, None),
            Reason::ProviderRefused,
            "no session is asked about there"
        );
        for stage in [Stage::Userinfo, Stage::Session, Stage::Revoke] {
            assert_eq!(api_reason(stage, 429, None), Reason::RateLimited);
            assert_eq!(api_reason(stage, 503, Some("Unauthorized")), Reason::ProviderError);
            assert_eq!(api_reason(stage, 400, None), Reason::ProviderRefused);
        }
        for (status, text, reason) in rows {
            assert_eq!(api_reason(Stage::Session, status, Some(text)), reason, "{status} {text}");
        }
    }

    #[test]
    fn bearer_in_any_case_of_letters() {
        assert!(is_bearer("Bearer") && is_bearer("bEaReR"));
        assert!(!is_bearer("") && !is_bearer("mac") && !is_bearer("Bearer "));
    }
}
