//! All that is measured of the daemon, under the names that monitoring knows it by (`docs/metrics.md`).
//!
//! The rooms count; here the counts get their names. Each look enters the numbers of its moment into a new book, so that what
//! is of a moment goes with what it was about: a client's budget, say, when a reload takes the client away. What was counted
//! stays until the daemon ends.

mod book;
mod calls;
mod clients;
#[cfg(test)]
mod documentation;
mod process;
mod store;

use std::fmt;

use self::{
    book::{Book, Row, entry},
    calls::Calls,
    clients::Clients,
    process::Process,
};
use super::ops::{LastReload, Parts};
use crate::{
    flows::FlowMetrics,
    provider::ProviderMetrics,
    store::{StoreMetrics, StoreStatus},
};

/// The numbers of one moment.
struct Numbers {
    process: Process,
    last_reload: LastReload,
    calls: Calls,
    store: StoreStatus,
    last_sweep: Option<f64>,
    unread_removed: u64,
    store_metrics: StoreMetrics,
    flows: FlowMetrics,
    provider: ProviderMetrics,
    clients: Clients,
}

/// All metrics as OpenMetrics text.
///
/// # Errors
/// When the text cannot be written, which only a broken build can bring about.
pub(super) async fn text(parts: &Parts, last_reload: LastReload) -> Result<String, fmt::Error> {
    let Parts { store, flows, tally, provider, .. } = parts;
    // One that a reload has added is met here first, and nobody can have seen it before.
    for client in flows.clients() {
        flows.metrics().begin(&client.name);
        provider.begin(&client.name);
    }
    let numbers = Numbers {
        process: Process::read(parts),
        last_reload,
        calls: Calls::read(tally),
        store: store.status(),
        last_sweep: flows.last_sweep().map(|(at, _)| seconds(at.wall)),
        unread_removed: flows.unread_events_removed(),
        store_metrics: store.metrics(),
        flows: flows.metrics().clone(),
        provider: provider.clone(),
        clients: Clients::read(flows).await,
    };
    write(numbers).text()
}

/// The book, from its first page to its last.
fn write(numbers: Numbers) -> Book {
    let mut book = Book::default();
    numbers.calls.write(&mut book);
    store::write_sessions(&mut book, &numbers.store, &numbers.store_metrics);
    clients::write_exchanges(&mut book, &numbers.flows, &numbers.provider);
    numbers.clients.write(&mut book, &numbers.store, numbers.unread_removed);
    store::write_store(&mut book, &numbers.store, &numbers.store_metrics, numbers.last_sweep);
    book.heading("The process");
    let LastReload { succeeded, at } = numbers.last_reload;
    book.gauges(
        entry(
            "cairld_config_last_reload_successful",
            &[],
            "1 when the configuration that was read last is in force, else 0.",
        ),
        [Row::only(f64::from(succeeded))],
    );
    book.gauges(
        entry(
            "cairld_config_last_reload_success_timestamp",
            &[],
            "When a configuration came into force last.",
        )
        .in_unit("seconds"),
        [Row::only(seconds(at))],
    );
    numbers.process.write(&mut book);
    book
}

/// Seconds since 1970.
fn seconds(at: crate::domain::Timestamp) -> f64 {
    std::time::Duration::from_millis(at.as_millis()).as_secs_f64()
}

/// A count as a gauge has it; those beyond 2^53 are not exact.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a floating point number")]
const fn gauge(count: u64) -> f64 {
    count as f64
}
