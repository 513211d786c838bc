//! Counts and times the calls, and counts those that were answered with an error by reason, since the start of the process.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::HeaderMap;
use prometheus_client::metrics::{gauge::Gauge, histogram::Histogram};
use prost::Message;
use prost_types::FileDescriptorSet;

use super::{proto::FILE_DESCRIPTOR_SET, status::REASON_TRAILER};
use crate::domain::Reason;

/// How long a call takes, seconds: from a read's time to the longest that a caller waits in line.
const DURATIONS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The reasons that say that something is wrong on this side.
const WATCHED: [Reason; 4] =
    [Reason::Internal, Reason::StoreUnavailable, Reason::RecordCorrupt, Reason::Overloaded];

/// The counts. All of them are there from the start, so that counting takes no lock and no caller can make them more.
#[derive(Debug)]
pub struct Tally {
    /// The contract's calls by name, and an empty one for what is no call of the contract.
    calls: Vec<String>,
    /// The services that they are of.
    services: Vec<String>,
    /// Those of them that are answered with a stream.
    streams: BTreeSet<String>,
    /// One for each call and reason, call by call.
    counts: Vec<AtomicU64>,
    /// How long each call took, seconds.
    durations: Vec<Histogram>,
    /// How many streams of each call are open.
    open: Vec<Gauge>,
}

/// A stream that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One of the calls that are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call(usize);

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        // That the descriptors can be read is seen to where the services are put together.
        let contract = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let services = contract.file.iter().flat_map(|file| {
            file.service.iter().flat_map(move |service| {
                let full = format!("{}.{}", file.package(), service.name());
                service.method.iter().map(move |_| full.clone())
            })
        });
        let services = services.chain([String::new()]).collect();
        let methods =
            || contract.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        let calls: Vec<String> =
            methods().map(|method| method.name().to_owned()).chain([String::new()]).collect();
        let streams =
            methods().filter(|method| method.server_streaming()).map(|method| method.name().to_owned());
        let streams = streams.collect();
        let counts = (0..calls.len() * Reason::ALL.len()).map(|_| AtomicU64::new(0)).collect();
        let durations = calls.iter().map(|_| Histogram::new(DURATIONS)).collect();
        let open = calls.iter().map(|_| Gauge::default()).collect();
        Self { calls, services, streams, counts, durations, open }
    }

    /// The call of that name; what is no call of the contract counts as one.
    pub(super) fn call(&self, name: &str) -> Call {
        let known = self.calls.iter().position(|known| known == name);
        Call(known.unwrap_or(self.calls.len().saturating_sub(1)))
    }

    /// Service and method of a call; none for what is no call of the contract.
    pub(super) fn name(&self, call: Call) -> Option<(&str, &str)> {
        let (service, method) = (self.services.get(call.0)?, self.calls.get(call.0)?);
        (!method.is_empty()).then_some((service, method))
    }

    /// Whether a call of the contract is answered with a stream.
    pub(super) fn is_stream(&self, method: &str) -> bool {
        self.streams.contains(method)
    }

    /// Counts an answer, if it is an error that carries a reason.
    pub(super) fn note(&self, call: Call, answer: &HeaderMap) {
        let reason = answer.get(REASON_TRAILER).and_then(|value| value.to_str().ok());
        if let Some(reason) = reason.and_then(Reason::parse) {
            self.add(call, reason);
        }
    }

    /// Counts one error of a call.
    pub(super) fn add(&self, call: Call, reason: Reason) {
        let column = Reason::ALL.iter().position(|known| *known == reason).unwrap_or_default();
        if let Some(count) = self.counts.get(call.0 * Reason::ALL.len() + column) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call was answered, after so long.
    pub(super) fn took(&self, call: Call, took: Duration) {
        if let Some(durations) = self.durations.get(call.0) {
            durations.observe(took.as_secs_f64());
        }
    }

    /// A stream was opened; it counts as open for as long as what is answered is kept.
    pub(super) fn opened(&self, call: Call) -> OpenStream {
        let open = self.open.get(call.0).cloned().unwrap_or_default();
        open.inc();
        OpenStream(open)
    }

    /// How long calls took that are answered once, seconds, by call. Calls of other services (health, reflection) have an
    /// empty name.
    pub fn durations(&self) -> impl Iterator<Item = (&str, Histogram)> {
        let all = self.calls.iter().zip(&self.durations);
        all.filter(|(call, _)| !self.is_stream(call)).map(|(call, took)| (call.as_str(), took.clone()))
    }

    /// How many streams are open, by call, where it is answered with one; those of other services have an empty name.
    pub fn open_streams(&self) -> impl Iterator<Item = (&str, i64)> {
        let all = self.calls.iter().zip(&self.open);
        let streams = all.filter(|(call, _)| call.is_empty() || self.is_stream(call));
        streams.map(|(call, open)| (call.as_str(), open.get()))
    }

    /// All that is counted, and of what is watched for its growth (the alerts of docs/metrics.md) also that nothing was: a
    /// count that comes with the first one hides that it grew.
    pub fn watched(&self) -> impl Iterator<Item = (&str, Reason, u64)> {
        self.all().filter(|(_, reason, count)| *count > 0 || WATCHED.contains(reason))
    }

    /// What was counted: call, reason and number, by call in the contract's order. Calls of other services (health,
    /// reflection) have an empty name.
    pub fn counted(&self) -> Vec<(&str, Reason, u64)> {
        self.all().filter(|(_, _, count)| *count > 0).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&str, Reason, u64)> {
        let rows = self.calls.iter().zip(self.counts.chunks(Reason::ALL.len()));
        rows.flat_map(|(call, counts)| {
            Reason::ALL
                .iter()
                .zip(counts)
                .map(|(reason, count)| (call.as_str(), *reason, count.load(Ordering::Relaxed)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_call_and_reason() {
        let tally = Tally::new();
        assert_eq!(tally.counted(), []);
        let name = |method| tally.name(tally.call(method));
        assert_eq!(name("GetSession"), Some(("cairld.v1.IntegrationService", "GetSession")));
        assert_eq!(name("GetStatus"), Some(("cairld.v1.AdminService", "GetStatus")));
        assert_eq!(name("Check"), None);
        let mut answer = HeaderMap::new();
        tally.note(tally.call("GetSession"), &answer);
        answer.insert(REASON_TRAILER, "SESSION_NOT_FOUND".parse().unwrap());
        tally.note(tally.call("GetSession"), &answer);
        tally.note(tally.call("GetSession"), &answer);
        answer.insert(REASON_TRAILER, "no reason of ours".parse().unwrap());
        tally.note(tally.call("GetSession"), &answer);
        tally.add(tally.call("CheckProvider"), Reason::Internal);
        tally.add(tally.call("StartAuthorization"), Reason::AccessDenied);
        tally.add(tally.call("whatever a caller writes"), Reason::CallerUnknown);
        let expected = [
            ("StartAuthorization", Reason::AccessDenied, 1),
            ("GetSession", Reason::SessionNotFound, 2),
            ("CheckProvider", Reason::Internal, 1),
            ("", Reason::CallerUnknown, 1),
        ];
        assert_eq!(tally.counted(), expected);
    }

    #[test]
    fn every_reason_has_a_count_of_its_own() {
        let tally = Tally::new();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            (0..=index).for_each(|_| tally.add(tally.call("GetStatus"), *reason));
        }
        let expected: Vec<_> =
            (1..).zip(Reason::ALL).map(|(count, reason)| ("GetStatus", *reason, count)).collect();
        assert_eq!(tally.counted(), expected);
    }
}
