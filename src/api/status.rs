//! From a refusal to a gRPC status with all its details, and the same in trailers.

use std::{collections::HashMap, time::Duration};

use http::HeaderMap;
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
/// What gRPC's own retries obey (gRFC A6): after so many milliseconds; a negative number means never.
const PUSHBACK_TRAILER: &str = "grpc-retry-pushback-ms";
/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "cairld";
/// Most bytes that the trailers of a status may take: half of what the most careful client takes by default.
const MAX_TRAILERS: usize = 4096;
/// What each trailer counts beside its name and value.
const FIELD_OVERHEAD: usize = 32;
/// Most violations that one status names; a request with more of them is told of the first.
const MAX_VIOLATIONS: usize = 16;
/// What is percent-encoded in trailers beside what is not ASCII.
const IN_TRAILER: &AsciiSet = &CONTROLS.add(b'%');

/// The status of a refusal. Where it would be too long for trailers, others' text and the last of many violations give
/// way: reason, remedy and all that programs act on stay whole.
pub(super) fn status(refusal: &Refusal) -> Status {
    let whole = build(refusal);
    if is_small(&whole) {
        return whole;
    }
    let mut shorter = refusal.clone();
    loop {
        let is_shortest = !shorten(&mut shorter);
        let status = build(&shorter);
        if is_shortest || is_small(&status) {
            return status;
        }
    }
}

fn build(refusal: &Refusal) -> Status {
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
        trailers(refusal, entry.remedy),
    )
}

/// Whether a status fits in the trailers that every client takes, as HTTP/2 counts them (RFC 9113 §6.5.2).
fn is_small(status: &Status) -> bool {
    let mut trailers = HeaderMap::new();
    let is_encoded = status.add_header(&mut trailers).is_ok();
    let size: usize =
        trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
    is_encoded && size <= MAX_TRAILERS
}

/// Makes what is longest in a refusal half as long; answers whether there was anything to shorten.
fn shorten(refusal: &mut Refusal) -> bool {
    let violations = refusal.violations.len().min(MAX_VIOLATIONS);
    if violations > 1 {
        refusal.violations.truncate(violations / 2);
        return true;
    }
    let said = refusal.said.as_deref_mut().into_iter();
    let said = said.flat_map(|said| {
        [Some(&mut said.error), Some(&mut said.description), said.first_error.as_mut()].into_iter().flatten()
    });
    let wrong = refusal.violations.iter_mut().map(|violation| &mut violation.description);
    let Some(longest) = said.chain(wrong).max_by_key(|text| text.len()).filter(|text| !text.is_empty())
    else {
        return false;
    };
    longest.truncate(longest.floor_char_boundary(longest.len() / 2));
    true
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

/// After how many milliseconds a library may repeat the call by itself; none for what is not to be repeated. What the provider
/// brought about has been tried again here already, and the code's attempts are counted: whether to go on is its caller's.
fn pushback(refusal: &Refusal) -> Option<String> {
    let reason = refusal.reason;
    let is_the_providers = matches!(reason, Reason::ProviderError | Reason::ProviderUnreachable);
    let pause = if is_the_providers { "-1".to_owned() } else { retry_delay(refusal).as_millis().to_string() };
    reason.is_retryable().then_some(pause)
}

fn trailers(refusal: &Refusal, remedy: &str) -> MetadataMap {
    let reason = refusal.reason;
    let mut trailers = MetadataMap::new();
    if let Some(pushback) = pushback(refusal).and_then(|pushback| MetadataValue::try_from(pushback).ok()) {
        trailers.insert(PUSHBACK_TRAILER, pushback);
    }
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
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;
    use crate::domain::{ProviderSaid, Stage, Timestamp, Violation, tame};

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

    /// All trailers, decoded: what a caller can read in them.
    fn trailers_of(status: &Status) -> (usize, Vec<(String, Vec<u8>)>) {
        let response = status.clone().into_http::<()>();
        let fields = response.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_TYPE);
        let mut size = 0;
        let decoded = fields.map(|(name, value)| {
            size += name.as_str().len() + value.len() + FIELD_OVERHEAD;
            assert!(value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)), "{name} is not ASCII");
            let bytes = if name == "grpc-status-details-bin" {
                data_encoding::BASE64_NOPAD.decode(value.as_bytes()).unwrap()
            } else {
                percent_encoding::percent_decode(value.as_bytes()).collect()
            };
            (name.to_string(), bytes)
        });
        let decoded = decoded.collect();
        (size, decoded)
    }

    #[test]
    fn every_status_carries_its_details_and_stays_small() {
        let said = ProviderSaid {
            error: "é".repeat(256),
            description: "ü".repeat(256),
            http_status: 500,
            attempts: 9,
            request_time: Timestamp::from_millis(1_767_225_600_000),
            first_error: Some(format!("500 {}", "é".repeat(256))),
            ..ProviderSaid::default()
        };
        for reason in Reason::ALL {
            for stage in Stage::ALL {
                let refusal = Refusal::at(*stage, *reason).said(said.clone());
                let status = status(&refusal);
                let info = status.get_details_error_info().expect("ErrorInfo");
                assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.as_str(), "cairld"));
                assert_eq!(info.metadata["request_time"], "2026-01-01T00:00:00Z");
                assert_eq!(info.metadata["remedy"], refusal.entry().remedy);
                let help = status.get_details_help().unwrap().links.remove(0);
                assert_eq!(help.url, format!("docs/errors.md#{}", reason.as_str().to_lowercase()));
                let (size, trailers) = trailers_of(&status);
                assert!(size <= MAX_TRAILERS, "{reason}: {size} bytes of trailers");
                let remedy = trailers.iter().find(|(name, _)| name == REMEDY_TRAILER).unwrap();
                assert_eq!(remedy.1, refusal.entry().remedy.as_bytes());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the provider answers and whatever a request gets wrong: what comes out is small, ASCII and complete,
        /// and holds none of the request's secrets, as sent or as a form has them.
        #[test]
        fn others_text_comes_out_cut_masked_and_encoded(
            texts in prop::array::uniform3("\\PC{0,400}|[\\x00-\\x1f%é]{0,900}"),
            secrets in prop::array::uniform3("[!-~]{12,80}"),
            places in prop::array::uniform3(any::<prop::sample::Index>()),
            violations in prop::collection::vec(("[a-z_]{1,40}", "\\PC{0,200}"), 0..40),
            (reason, stage) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let known: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let form: String = url::form_urlencoded::byte_serialize(secrets[1].as_bytes()).collect();
            let echoed = [&secrets[0], &form, &secrets[2]];
            let mut tamed = texts.iter().zip(echoed).zip(places).map(|((text, secret), place)| {
                let at = text.floor_char_boundary(place.index(text.len() + 1));
                tame(&format!("{}{secret}{}", &text[..at], &text[at..]), &known)
            });
            let (error, description, first) = (tamed.next().unwrap(), tamed.next().unwrap(), tamed.next());
            for text in [&error, &description] {
                prop_assert!(text.len() <= 512 && !text.contains(char::is_control));
            }
            let said = ProviderSaid { error, description, first_error: first, http_status: 500, ..ProviderSaid::default() };
            let violations = violations.into_iter().map(|(field, description)| Violation { field, description });
            let refusal = Refusal {
                violations: violations.collect(),
                ..Refusal::at(*stage.get(Stage::ALL), *reason.get(Reason::ALL)).said(said)
            };
            let status = status(&refusal);
            let (size, trailers) = trailers_of(&status);
            prop_assert!(size <= MAX_TRAILERS, "{} bytes", size);
            for (name, bytes) in &trailers {
                for secret in secrets.iter().chain([&form]) {
                    let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                    prop_assert!(!is_there, "{} holds {}", name, secret);
                }
            }
            let info = status.get_details_error_info().unwrap();
            prop_assert_eq!(&info.reason, refusal.reason.as_str());
            prop_assert_eq!(&info.metadata["remedy"], refusal.entry().remedy);
            prop_assert_eq!(status.get_details_retry_info().is_some(), refusal.reason.is_retryable());
            let fields = status.get_details_bad_request().map_or(0, |bad| bad.field_violations.len());
            prop_assert_eq!(fields > 0, !refusal.violations.is_empty(), "the first violation always stays");
        }
    }

    #[test]
    fn libraries_repeat_after_the_same_pause_and_never_what_was_repeated_here() {
        for reason in Reason::ALL {
            let refusal = Refusal { retry_after: Some(Duration::from_millis(1500)), ..(*reason).into() };
            let status = status(&refusal);
            let pushback = status.metadata().get(PUSHBACK_TRAILER).map(|value| value.to_str().unwrap());
            let is_the_providers = ["PROVIDER_ERROR", "PROVIDER_UNREACHABLE"].contains(&reason.as_str());
            let expected = if is_the_providers { "-1" } else { "1500" };
            assert_eq!(pushback, reason.is_retryable().then_some(expected), "{reason}");
        }
    }

    #[test]
    fn text_from_inside_stays_inside() {
        use crate::store::StoreError;
        let inside = "/var/lib/cairld: no space left on device";
        for error in [StoreError::Unavailable(inside.into()), StoreError::Corrupt(inside.into())] {
            let status = status(&error.into());
            for (name, bytes) in trailers_of(&status).1 {
                assert!(!String::from_utf8_lossy(&bytes).contains("no space"), "{name}");
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
