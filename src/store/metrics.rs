//! What the store counts and times of its own work, since the start of the process.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};

use crate::domain::Status;

/// How long a commit takes, seconds: from a fast disk's to one that is stuck.
const COMMITS: [f64; 12] = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 1.0, 5.0];
/// How many operations share one.
const BATCHES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// A session came to stand otherwise than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    /// None for a new session.
    pub(super) from: Option<Status>,
    /// None for one that was removed.
    pub(super) to: Option<Status>,
}

/// The counts. Clones are hands on the same ones.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    /// How long commits took, seconds, until what they wrote was on the disk.
    pub commits: Histogram,
    /// How many operations each of them made durable.
    pub batches: Histogram,
    /// How often sessions came `from` one status `to` another, counted when that is durable.
    pub transitions: Family<[(&'static str, &'static str); 2], Counter>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            commits: Histogram::new(COMMITS),
            batches: Histogram::new(BATCHES),
            transitions: Family::default(),
        }
    }
}

impl StoreMetrics {
    /// A batch is durable.
    pub(super) fn committed(&self, took: Duration, operations: usize, transitions: &[Transition]) {
        self.commits.observe(took.as_secs_f64());
        self.batches.observe(u32::try_from(operations).map_or(f64::MAX, f64::from));
        for Transition { from, to } in transitions {
            let (from, to) = (from.map_or("new", Status::as_str), to.map_or("removed", Status::as_str));
            self.transitions.get_or_create(&[("from", from), ("to", to)]).inc();
        }
    }
}
