//! What an answer of the provider means, by its error page: status first, then the code in the body.

use super::reason::{Reason, Stage};

/// What an unsuccessful answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The reason to give.
    pub reason: Reason,
    /// Whether a session that met it at the token endpoint stays as it was, so that the same callback can be presented
    /// again.
    pub keeps_session: bool,
}

impl Verdict {
    const fn keeps(reason: Reason) -> Self {
        Self { reason, keeps_session: true }
    }

    const fn ends(reason: Reason) -> Self {
        Self { reason, keeps_session: false }
    }
}

/// What a status of 400 and above means at the token endpoint; `error` is the OAuth error code of the body
/// (RFC 6749 §5.2), where there is a readable one.
pub fn token_verdict(status: u16, error: Option<&str>) -> Verdict {
    match (status, error) {
        (429, _) => Verdict::keeps(Reason::RateLimited),
        (500.., _) => Verdict::keeps(Reason::ProviderError),
        (400, Some("invalid_request")) => Verdict::ends(Reason::InvalidRequest),
        (400, Some("invalid_grant")) => Verdict::ends(Reason::InvalidGrant),
        (400, Some("unsupported_grant_type")) => Verdict::ends(Reason::UnsupportedGrantType),
        (400, Some("invalid_scope")) => Verdict::ends(Reason::InvalidScope),
        (400, Some("invalid_redirect_uri")) => Verdict::ends(Reason::InvalidRedirectUri),
        (401, Some("invalid_client")) => Verdict::keeps(Reason::InvalidClient),
        (402, Some("payment_required")) => Verdict::keeps(Reason::PaymentRequired),
        (403, Some("access_denied")) => Verdict::ends(Reason::EnrollmentBlocked),
        (403, Some("client_inactive")) => Verdict::keeps(Reason::ClientInactive),
        (_, Some(_)) => Verdict::ends(Reason::ProviderRefused),
        (_, None) => Verdict::keeps(Reason::ProviderRefused),
    }
}

/// What a status of 400 and above means at the other endpoints; `text` is the body's `error`, where there
/// is a readable one. The only place that looks at the page's texts: the status alone does not tell them apart.
pub fn api_reason(stage: Stage, status: u16, text: Option<&str>) -> Reason {
    let is_session = stage == Stage::Session;
    let text = text.unwrap_or_default().to_ascii_lowercase();
    match status {
        401 if text.starts_with("missing api key") => Reason::MissingApiKey,
        401 if text.starts_with("invalid or inactive api key") => Reason::InvalidApiKey,
        401 => Reason::Unauthorized,
        403 if is_session && text.starts_with("forbidden: this session belongs to a different api key") => {
            Reason::ForeignSession
        }
        404 if is_session => Reason::ProviderSessionNotFound,
        429 => Reason::RateLimited,
        500.. => Reason::ProviderError,
        _ => Reason::ProviderRefused,
    }
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
        assert_eq!(token_verdict(429, Some("invalid_grant")), Verdict::keeps(Reason::RateLimited));
        assert_eq!(token_verdict(503, None), Verdict::keeps(Reason::ProviderError));
        assert_eq!(token_verdict(502, Some("invalid_grant")), Verdict::keeps(Reason::ProviderError));
        assert_eq!(token_verdict(400, Some("brand_new")), Verdict::ends(Reason::ProviderRefused));
        assert_eq!(token_verdict(418, Some("teapot")), Verdict::ends(Reason::ProviderRefused));
        assert_eq!(token_verdict(403, None), Verdict::keeps(Reason::ProviderRefused), "a firewall's page");
        assert_eq!(token_verdict(401, None), Verdict::keeps(Reason::ProviderRefused));
        assert_eq!(token_verdict(402, None), Verdict::keeps(Reason::ProviderRefused));
    }

    #[test]
    fn the_api_rows_of_the_page() {
        let rows = [
            (401, "Missing API key. Use Authorization: Bearer {key}", Reason::MissingApiKey),
            (401, "Missing API key", Reason::MissingApiKey),
            (401, "Invalid or inactive API key", Reason::InvalidApiKey),
            (401, "Unauthorized", Reason::Unauthorized),
            (401, "something new", Reason::Unauthorized),
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
