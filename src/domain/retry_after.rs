//! `Retry-After`, in both of its forms.

use std::time::{Duration, UNIX_EPOCH};

use super::time::Timestamp;

/// Shortest pause that is believed.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest pause that is believed.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Reads the header's value, seconds or an HTTP date (RFC 9110 §10.2.3), clamped to between a second and an hour. None
/// for anything else.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let pause = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        date.saturating_sub(Duration::from_millis(now.as_millis()))
    };
    Some(pause.clamp(SHORTEST, LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read_and_clamped() {
        // 2026-01-01T00:00:00Z
        let now = Timestamp::from_millis(1_767_225_600_000);
        for (value, seconds) in [
            ("30", Some(30)),
            (" 30 ", Some(30)),
            ("0", Some(1)),
            ("86400", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Thu, 01 Jan 2026 00:00:20 GMT", Some(20)),
            ("Thu, 01 Jan 2026 09:00:00 GMT", Some(3600)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(1)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(parse_retry_after(value, now).map(|pause| pause.as_secs()), seconds, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(value in "\\PC{0,40}", now: u64) {
            if let Some(pause) = parse_retry_after(&value, Timestamp::from_millis(now)) {
                prop_assert!((SHORTEST..=LONGEST).contains(&pause));
            }
        }
    }
}
