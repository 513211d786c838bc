//! From a refusal to a gRPC status with all its details, and the same in trailers.

use std::{collections::HashMap, time::Duration};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt};

use super::{code::code, output::rfc3339};
use crate::domain::{Reason, Refusal};

/// Trailer with the reason.
pub(super) const REASON_TRAILER: &str = "cairld-reason";
const RETRYABLE_TRAILER: &str = "cairld-retryable";
const REMEDY_TRAILER: &str = "cairld-remedy";
/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "cairld";
/// Most violations that one status names; a request with more of them is told of the first.
const MAX_VIOLATIONS: usize = 16;
/// What is percent-encoded in trailers beside what is not ASCII.
const IN_TRAILER: &AsciiSet = &CONTROLS.add(b'%');

/// The status of a refusal.
pub(super) fn status(refusal: &Refusal) -> Status {
    let entry = refusal.entry();
    let reason = refusal.reason;
    let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, metadata(refusal));
    if reason.is_retryable() {
        details.set_retry_info(Some(retry_delay(refusal)));
    }
    for violation in refusal.violations.iter().take(MAX_VIOLATIONS) {
        details.add_bad_request_violation(&violation.field, &violation.description);
    }
    details.add_help_link(format!("What {reason} means and what to do"), entry.anchor());
    Status::with_error_details_and_metadata(
        code(reason),
        message(refusal),
        details,
        trailers(reason, entry.remedy),
    )
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        status(&refusal)
    }
}

/// The cause, and what is wrong with the first bad field.
fn message(refusal: &Refusal) -> String {
    let cause = refusal.entry().cause;
    match refusal.violations.first() {
        Some(violation) if violation.field.is_empty() => format!("{cause} {}.", violation.description),
        Some(violation) => format!("{cause} {}: {}.", violation.field, violation.description),
        None => cause.to_owned(),
    }
}

fn metadata(refusal: &Refusal) -> HashMap<String, String> {
    let mut metadata = HashMap::from([
        ("stage".to_owned(), refusal.stage.as_str().to_owned()),
        ("remedy".to_owned(), refusal.entry().remedy.to_owned()),
    ]);
    let mut add = |key: &str, value: String| {
        if !value.is_empty() {
            metadata.insert(key.to_owned(), value);
        }
    };
    if let Some(until) = refusal.resume_until.filter(|_| !refusal.reason.is_retryable()) {
        add("resumable", "true".to_owned());
        add("resume_until", rfc3339(until));
    }
    if let Some(said) = &refusal.said {
        add("provider_error", said.error.clone());
        add("provider_description", said.description.clone());
        add("http_status", if said.http_status == 0 { String::new() } else { said.http_status.to_string() });
        add("attempts", if said.attempts == 0 { String::new() } else { said.attempts.to_string() });
        add("request_time", rfc3339(said.request_time));
        add("first_error", said.first_error.clone().unwrap_or_default());
    }
    metadata
}

/// How long to wait before the same call again: what the provider asked for, or what suits the reason.
fn retry_delay(refusal: &Refusal) -> Duration {
    let asked = refusal.retry_after.or_else(|| refusal.said.as_ref()?.retry_after);
    let usual = if refusal.reason == Reason::RateLimited { 60 } else { 1 };
    asked.unwrap_or(Duration::from_secs(usual))
}

fn trailers(reason: Reason, remedy: &str) -> MetadataMap {
    let mut trailers = MetadataMap::new();
    let remedy = utf8_percent_encode(remedy, IN_TRAILER).to_string();
    let retryable = if reason.is_retryable() { "true" } else { "false" };
    for (key, value) in
        [(REASON_TRAILER, reason.as_str()), (RETRYABLE_TRAILER, retryable), (REMEDY_TRAILER, remedy.as_str())]
    {
        if let Ok(value) = MetadataValue::try_from(value) {
            trailers.insert(key, value);
        }
    }
    trailers
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::domain::{ProviderSaid, Stage, Timestamp};

    #[test]
    fn retry_info_stands_exactly_where_retrying_is_safe() {
        for reason in Reason::ALL {
            let status = status(&Refusal::new(*reason));
            let is_retryable = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
            assert_eq!(reason.is_retryable(), is_retryable, "{reason}");
            assert_eq!(status.get_details_retry_info().is_some(), is_retryable, "{reason}");
            assert_eq!(
                status.metadata().get(RETRYABLE_TRAILER).unwrap(),
                if is_retryable { "true" } else { "false" }
            );
        }
    }

    #[test]
    fn every_status_carries_its_details_and_stays_small() {
        let said = ProviderSaid {
            error: "é".repeat(256),
            description: "ü".repeat(256),
            http_status: 500,
            attempts: 9,
            request_time: Timestamp::from_millis(1_767_225_600_000),
            ..ProviderSaid::default()
        };
        for reason in Reason::ALL {
            for stage in Stage::ALL {
                let refusal = Refusal::at(*stage, *reason).said(said.clone());
                let status = status(&refusal);
                let info = status.get_details_error_info().expect("ErrorInfo");
                assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.as_str(), "cairld"));
                assert_eq!(info.metadata["request_time"], "2026-01-01T00:00:00Z");
                assert!(status.get_details_help().is_some());
                let response = status.into_http::<()>();
                let bytes: usize =
                    response.headers().iter().map(|(key, value)| key.as_str().len() + value.len()).sum();
                assert!(bytes < 4096, "{reason}: {bytes} bytes of trailers");
            }
        }
    }

    #[test]
    fn resumable_refusals_say_until_when() {
        let until = Some(Timestamp::from_millis(1_767_225_600_000));
        let refusal = Refusal { resume_until: until, ..Refusal::at(Stage::Token, Reason::PaymentRequired) };
        let info = status(&refusal).get_details_error_info().unwrap();
        assert_eq!(info.metadata["resumable"], "true");
        assert_eq!(info.metadata["resume_until"], "2026-01-01T00:00:00Z");
    }
}
