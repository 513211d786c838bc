//! The calls, by name.

use prometheus_client::metrics::histogram::Histogram;

use super::book::{Book, Row, entry};
use crate::{api::Tally, domain::Reason};

/// What was counted of them.
#[derive(Default)]
pub(super) struct Calls {
    durations: Vec<(String, Histogram)>,
    streams: Vec<(String, i64)>,
    errors: Vec<(String, Reason, u64)>,
}

/// What calls of other services are called: health and reflection.
const OTHER: &str = "other";

fn named(call: &str) -> String {
    if call.is_empty() { OTHER } else { call }.to_owned()
}

impl Calls {
    pub(super) fn read(tally: &Tally) -> Self {
        Self {
            durations: tally.durations().map(|(call, durations)| (named(call), durations)).collect(),
            streams: tally.open_streams().map(|(call, open)| (named(call), open)).collect(),
            errors: tally.watched().map(|(call, reason, count)| (named(call), reason, count)).collect(),
        }
    }

    pub(super) fn write(self, book: &mut Book) {
        book.heading("Calls");
        book.rows(
            entry(
                "cairld_call_duration",
                &["method"],
                "How long calls took until they were answered, well or with an error; a completion's time has the provider's in it. \
                 Its _count is the number of calls. `other` is health and reflection.",
            )
            .in_unit("seconds"),
            self.durations.into_iter().map(|(call, durations)| Row::of([("method", &call)], durations)),
        );
        book.counters(
            entry(
                "cairld_call_errors",
                &["method", "reason"],
                "Calls and streams that ended with an error, by its reason (docs/errors.md). Those without a count are left out, but for `INTERNAL`, \
                 `STORE_UNAVAILABLE`, `RECORD_CORRUPT` and `OVERLOADED`.",
            ),
            self.errors.into_iter().map(|(call, reason, count)| {
                Row::of([("method", &call), ("reason", reason.as_str())], count)
            }),
        );
        book.gauges(
            entry("cairld_streams_open", &["method"], "Streams that are open."),
            self.streams.into_iter().map(|(call, open)| {
                Row::of([("method", &call)], super::gauge(u64::try_from(open).unwrap_or_default()))
            }),
        );
    }
}
