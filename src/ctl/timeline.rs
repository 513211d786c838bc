//! `cairlctl session explain`: a session's history, and what to do next.

use super::{
    args::Explain,
    connect::Daemon,
    failure::Failure,
    output::{Block, Report, time},
    session::{describe, reason, status_word},
};
use crate::api::proto::{
    ExplainSessionRequest, ExplainSessionResponse, TimelineEntry,
    integration_service_client::IntegrationServiceClient,
};

pub(super) fn explain(daemon: &Daemon, args: &Explain) -> Result<Report, Failure> {
    let request = ExplainSessionRequest { session_id: args.session_id.clone() };
    let answer = daemon.call("ExplainSession", request, async |channel, request| {
        IntegrationServiceClient::new(channel).explain_session(request).await
    })?;
    let text = in_words(&answer);
    Ok(Report::new("cairld.v1.ExplainSessionResponse", &answer, text))
}

fn in_words(explained: &ExplainSessionResponse) -> Block {
    let mut block = describe(explained.session.as_ref());
    block.heading("timeline");
    for entry in &explained.timeline {
        let when = entry.time.as_ref().map_or_else(|| "at an unknown time".to_owned(), time);
        block.item(&when, happened(entry));
    }
    block.text("next step", &explained.next_step);
    block
}

/// `refused, exchanging → pending: PAYMENT_REQUIRED, HTTP 402, request 2, payment_required, 3 times`.
fn happened(entry: &TimelineEntry) -> String {
    let mut words = entry.kind.replace('_', " ");
    if entry.from != entry.to {
        words.push_str(&format!(", {} → {}", status_word(entry.from), status_word(entry.to)));
    }
    let mut more = Vec::new();
    if entry.reason != 0 {
        more.push(reason(entry.reason));
    }
    if entry.http_status != 0 {
        more.push(format!("HTTP {}", entry.http_status));
    }
    if entry.attempt != 0 {
        more.push(format!("request {}", entry.attempt));
    }
    if !entry.detail.is_empty() {
        more.push(entry.detail.clone());
    }
    if entry.count > 1 {
        more.push(format!("{} times", entry.count));
    }
    if !more.is_empty() {
        words.push_str(&format!(": {}", more.join(", ")));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::{Reason, Session, SessionStatus};

    #[test]
    fn a_history_reads_line_by_line() {
        let at = |seconds: i64| Some(prost_types::Timestamp { seconds: 1_735_689_600 + seconds, nanos: 0 });
        let (pending, exchanging) = (SessionStatus::Pending.into(), SessionStatus::Exchanging.into());
        let entry = |seconds, kind: &str, from, to| TimelineEntry {
            time: at(seconds),
            kind: kind.to_owned(),
            from,
            to,
            count: 1,
            ..TimelineEntry::default()
        };
        let explained = ExplainSessionResponse {
            session: Some(Session { id: "ses_1".to_owned(), status: pending, ..Session::default() }),
            timeline: vec![
                entry(0, "started", pending, pending),
                TimelineEntry { attempt: 1, ..entry(60, "sent", pending, exchanging) },
                TimelineEntry {
                    attempt: 1,
                    reason: Reason::PaymentRequired.into(),
                    http_status: 402,
                    detail: "payment_required".to_owned(),
                    count: 3,
                    ..entry(61, "refused", exchanging, pending)
                },
                TimelineEntry {
                    detail: "session\u{1b}.x".to_owned(),
                    ..entry(62, "webhook", pending, pending)
                },
            ],
            next_step: "Fund it.".to_owned(),
        };
        let mut sink = Vec::new();
        in_words(&explained).write(&mut sink).unwrap();
        let expected = "\
session                 ses_1
status                  pending: the user has not come back yet
timeline
  2025-01-01T00:00:00Z  started
  2025-01-01T00:01:00Z  sent, pending → exchanging: request 1
  2025-01-01T00:01:01Z  refused, exchanging → pending: PAYMENT_REQUIRED, HTTP 402, request 1, payment_required, 3 times
  2025-01-01T00:01:02Z  webhook: session\\u{1b}.x
next step               Fund it.
";
        assert_eq!(String::from_utf8(sink).unwrap(), expected);
    }
}
