//! A session's timeline and its record, both ways.

use super::{Damage, stored};
use crate::domain::{Happening, Reason, Status, Terminal, Timeline, TimelineEntry, Timestamp};

pub(super) fn timeline_record(timeline: &Timeline) -> Vec<stored::TimelineEntry> {
    timeline.entries().iter().map(entry_record).collect()
}

fn entry_record(entry: &TimelineEntry) -> stored::TimelineEntry {
    stored::TimelineEntry {
        time_ms: entry.time.as_millis(),
        kind: entry.kind.number(),
        from: status_number(entry.from),
        to: status_number(entry.to),
        reason: entry.reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        http_status: entry.http_status.into(),
        attempt: entry.attempt,
        detail: entry.detail.clone(),
        count: entry.count,
    }
}

fn status_number(status: Status) -> i32 {
    match status {
        Status::Pending => stored::Status::Pending,
        Status::Authenticated => stored::Status::Authenticated,
        Status::Verified => stored::Status::Verified,
        Status::Exchanging => stored::Status::Exchanging,
        Status::Ended(Terminal::Complete) => stored::Status::Complete,
        Status::Ended(Terminal::Failed) => stored::Status::Failed,
        Status::Ended(Terminal::Expired) => stored::Status::Expired,
        Status::Ended(Terminal::Cancelled) => stored::Status::Cancelled,
        Status::Ended(Terminal::Indeterminate) => stored::Status::Indeterminate,
    }
    .into()
}

pub(super) fn read_timeline(entries: Vec<stored::TimelineEntry>) -> Result<Timeline, Damage> {
    Ok(Timeline::new(entries.into_iter().map(read_entry).collect::<Result<_, _>>()?))
}

fn read_entry(entry: stored::TimelineEntry) -> Result<TimelineEntry, Damage> {
    let reason = match entry.reason.as_str() {
        "" => None,
        name => Some(Reason::parse(name).ok_or(Damage::Form("no such reason in a timeline"))?),
    };
    Ok(TimelineEntry {
        time: Timestamp::from_millis(entry.time_ms),
        kind: Happening::of_number(entry.kind).ok_or(Damage::Form("no such kind of entry"))?,
        from: read_status(entry.from)?,
        to: read_status(entry.to)?,
        reason,
        http_status: u16::try_from(entry.http_status).unwrap_or(0),
        attempt: entry.attempt,
        detail: entry.detail,
        count: entry.count,
    })
}

fn read_status(number: i32) -> Result<Status, Damage> {
    match stored::Status::try_from(number) {
        Ok(stored::Status::Pending) => Ok(Status::Pending),
        Ok(stored::Status::Authenticated) => Ok(Status::Authenticated),
        Ok(stored::Status::Verified) => Ok(Status::Verified),
        Ok(stored::Status::Exchanging) => Ok(Status::Exchanging),
        Ok(stored::Status::Complete) => Ok(Status::Ended(Terminal::Complete)),
        Ok(stored::Status::Failed) => Ok(Status::Ended(Terminal::Failed)),
        Ok(stored::Status::Expired) => Ok(Status::Ended(Terminal::Expired)),
        Ok(stored::Status::Cancelled) => Ok(Status::Ended(Terminal::Cancelled)),
        Ok(stored::Status::Indeterminate) => Ok(Status::Ended(Terminal::Indeterminate)),
        Ok(stored::Status::Unspecified) | Err(_) => Err(Damage::Form("no such status in a timeline")),
    }
}
