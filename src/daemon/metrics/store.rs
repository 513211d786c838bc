//! The store, and the sessions in it.

use super::{
    book::{Book, Row, entry},
    gauge,
};
use crate::{
    domain::Status,
    store::{StoreMetrics, StoreStatus},
};

pub(super) fn write_sessions(book: &mut Book, store: &StoreStatus, metrics: &StoreMetrics) {
    book.heading("Sessions");
    book.gauges(
        entry(
            "cairld_sessions",
            &["status"],
            "Sessions kept, by status; one that time has ended counts as it stood until the next sweep, within 30 seconds.",
        ),
        Status::ALL.iter().map(|status| {
            let count = store.by_status.get(status).copied().unwrap_or_default();
            Row::of([("status", status.as_str())], gauge(count))
        }),
    );
    book.metric(
        entry(
            "cairld_session_transitions",
            &["from", "to"],
            "How often sessions came from one status to another, counted when that is durable; from `new` when they are started, to \
             `removed` when their retention is over.",
        ),
        metrics.transitions.clone(),
    );
}

pub(super) fn write_store(
    book: &mut Book,
    store: &StoreStatus,
    metrics: &StoreMetrics,
    last_sweep: Option<f64>,
) {
    book.heading("The store");
    book.gauges(
        entry("cairld_store_writable", &[], "1 while the store takes writes, else 0."),
        [Row::only(if store.unwritable.is_none() { 1.0 } else { 0.0 })],
    );
    book.gauges(
        entry(
            "cairld_store_trouble",
            &[],
            "1 while the store's file is not as it should be, else 0: it is gone from its place, another one stands there, or it \
             cannot be read. /readyz?verbose and the log say what it is.",
        ),
        [Row::only(if store.trouble.is_some() { 1.0 } else { 0.0 })],
    );
    book.gauges(
        entry("cairld_store_file", &[], "Size of the store's file.").in_unit("bytes"),
        [Row::only(gauge(store.bytes))],
    );
    book.gauges(
        entry("cairld_store_free", &[], "Room that is left in the file system of the store's file.")
            .in_unit("bytes"),
        store.free_bytes.map(|bytes| Row::only(gauge(bytes))),
    );
    book.rows(
        entry(
            "cairld_store_commit_duration",
            &[],
            "How long a commit took until what it wrote was on the disk. Its _count is the number of commits.",
        )
        .in_unit("seconds"),
        [Row::only(metrics.commits.clone())],
    );
    book.rows(
        entry(
            "cairld_store_batch",
            &[],
            "How many operations one commit made durable. Its _sum is the number of operations.",
        )
        .in_unit("operations"),
        [Row::only(metrics.batches.clone())],
    );
    book.gauges(
        entry("cairld_store_waiting", &[], "Operations that wait to be written.").in_unit("operations"),
        [Row::only(gauge(store.waiting))],
    );
    book.gauges(
        entry(
            "cairld_store_last_sweep_timestamp",
            &[],
            "When the last sweep ended that could read everything.",
        )
        .in_unit("seconds"),
        last_sweep.map(Row::only),
    );
}
