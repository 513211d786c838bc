//! A session's history, for people.

use super::{
    output::{reason, rfc3339, session, session_status, timestamp},
    proto,
};
use crate::domain::{Happening, NextStep, Session, Status, TimelineEntry, Timestamp};

/// A session with its history and what to do next.
pub(super) fn explanation(explained: Session, now: Timestamp) -> proto::ExplainSessionResponse {
    let start =
        TimelineEntry::new(explained.created.wall, Happening::Started, Status::Pending, Status::Pending);
    let timeline = std::iter::once(&start).chain(explained.timeline.entries()).map(entry).collect();
    let NextStep { words, until } = explained.next_step(now);
    let next_step = match until {
        Some(until) => format!("{words} (Possible until {}.)", rfc3339(until)),
        None => words,
    };
    proto::ExplainSessionResponse { timeline, next_step, session: Some(session(explained, now)) }
}

fn entry(entry: &TimelineEntry) -> proto::TimelineEntry {
    proto::TimelineEntry {
        time: Some(timestamp(entry.time)),
        kind: entry.kind.as_str().to_owned(),
        from: session_status(entry.from).into(),
        to: session_status(entry.to).into(),
        reason: entry.reason.map_or(proto::Reason::Unspecified, reason).into(),
        http_status: entry.http_status.into(),
        attempt: i32::try_from(entry.attempt).unwrap_or(i32::MAX),
        detail: entry.detail.clone(),
        count: i32::try_from(entry.count).unwrap_or(i32::MAX),
    }
}
