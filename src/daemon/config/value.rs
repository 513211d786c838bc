//! Spans of time, points in time and amounts of memory, as people write them.

use std::time::Duration;

use crate::domain::Timestamp;

/// A span of time within limits; `example` shows the form.
pub(super) fn duration(
    text: &str,
    least: Duration,
    most: Duration,
    example: &str,
) -> Result<Duration, String> {
    humantime::parse_duration(text).ok().filter(|span| (least..=most).contains(span)).ok_or_else(|| {
        format!("must be a span of time from {} to {}, such as \"{example}\"", span(least), span(most))
    })
}

/// The span in its largest whole unit.
fn span(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let whole = units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(unit, letter)| format!("{}{letter}", millis / unit))
}

/// A point in time, as RFC 3339 has it.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    let parsed = text.parse::<jiff::Timestamp>().ok();
    parsed
        .and_then(|instant| u64::try_from(instant.as_millisecond()).ok())
        .map(Timestamp::from_millis)
        .ok_or_else(|| "must be a time with its offset, such as \"2026-12-01T00:00:00Z\"".to_owned())
}

/// An amount of memory from 1 MiB to 64 GiB, bytes.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: Option<u64> = match unit.trim_start() {
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .filter(|bytes| (1 << 20..=64 << 30).contains(bytes))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| "must be an amount of memory from \"1MiB\" to \"64GiB\", such as \"64MiB\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_limits() {
        let parse = |text| duration(text, Duration::from_secs(60), Duration::from_secs(365 * 86_400), "24h");
        assert_eq!(parse("24h").unwrap(), Duration::from_secs(86_400));
        assert_eq!(parse("1h 30m").unwrap(), Duration::from_secs(5400));
        for good in ["1m", "60s", "365d"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "24", "h", "59s", "0s", "366d", "-1h", "99999999999999999999y", "tomorrow"] {
            let message = parse(bad).unwrap_err();
            assert_eq!(message, "must be a span of time from 1m to 365d, such as \"24h\"", "{bad}");
        }
    }

    #[test]
    fn instants_have_an_offset() {
        assert_eq!(instant("2026-12-01T00:00:00Z"), Ok(Timestamp::from_millis(1_796_083_200_000)));
        assert_eq!(instant("2026-12-01T01:00:00+01:00"), instant("2026-12-01T00:00:00Z"));
        for bad in [
            "",
            "2026-12-01",
            "2026-12-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "1960-01-01T00:00:00Z",
            "tomorrow",
        ] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_has_units_and_limits() {
        assert_eq!(memory("64MiB"), Ok(64 << 20));
        assert_eq!(memory("1 GiB"), Ok(1 << 30));
        assert_eq!(memory("1024KiB"), Ok(1 << 20));
        for bad in ["", "64", "64MB", "MiB", "1023KiB", "65GiB", "-1MiB", "1.5GiB", "99999999999999999999GiB"]
        {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
