//! The process and its runtime, under the names that all programs have for it.

use procfs::process::{LimitValue, Process as Proc};
use prometheus_client::metrics::{counter::ConstCounter, info::Info};
use tokio::runtime::Handle;

use super::{
    book::{Book, Row, entry},
    gauge, seconds,
};
use crate::daemon::ops::Parts;

/// What the operating system and the runtime say of it. What they do not say is left out.
#[derive(Default)]
pub(super) struct Process {
    started: f64,
    cpu_seconds: Option<f64>,
    resident: Option<u64>,
    virtual_memory: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    max_files: Option<u64>,
    runtime: Option<Runtime>,
}

struct Runtime {
    workers: usize,
    tasks: usize,
    queue: usize,
    busy_seconds: f64,
}

impl Runtime {
    fn read() -> Option<Self> {
        let metrics = Handle::try_current().ok()?.metrics();
        let busy =
            (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker).as_secs_f64());
        Some(Self {
            workers: metrics.num_workers(),
            tasks: metrics.num_alive_tasks(),
            queue: metrics.global_queue_depth(),
            busy_seconds: busy.sum(),
        })
    }
}

impl Process {
    pub(super) fn read(parts: &Parts) -> Self {
        let myself = Proc::myself().ok();
        let stat = myself.as_ref().and_then(|process| process.stat().ok());
        let limits = myself.as_ref().and_then(|process| process.limits().ok());
        Self {
            started: seconds(parts.started.wall),
            cpu_seconds: stat
                .as_ref()
                .map(|stat| gauge(stat.utime + stat.stime) / gauge(procfs::ticks_per_second())),
            resident: stat.as_ref().map(|stat| stat.rss * procfs::page_size()),
            virtual_memory: stat.as_ref().map(|stat| stat.vsize),
            threads: stat.as_ref().and_then(|stat| stat.num_threads.try_into().ok()),
            open_files: myself.as_ref().and_then(|process| Some(process.fd_count().ok()? as u64)),
            max_files: limits.and_then(|limits| match limits.max_open_files.soft_limit {
                LimitValue::Value(limit) => Some(limit),
                LimitValue::Unlimited => None,
            }),
            runtime: Runtime::read(),
        }
    }

    pub(super) fn write(self, book: &mut Book) {
        let rows = |count: Option<u64>| count.map(|count| Row::only(gauge(count)));
        book.metric(
            entry("cairld_build", &["version"], "Always 1; the label says which version runs."),
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        book.gauges(
            entry("process_start_time", &[], "When the process started.").in_unit("seconds"),
            [Row::only(self.started)],
        );
        book.rows(
            entry("process_cpu", &[], "Processor time that it has used, in user and system mode.")
                .in_unit("seconds"),
            self.cpu_seconds.map(|seconds| Row::only(ConstCounter::new(seconds))),
        );
        book.gauges(
            entry("process_resident_memory", &[], "Memory that it occupies.").in_unit("bytes"),
            rows(self.resident),
        );
        book.gauges(
            entry("process_virtual_memory", &[], "Memory that it has addresses for.").in_unit("bytes"),
            rows(self.virtual_memory),
        );
        book.gauges(entry("process_threads", &[], "Its threads."), rows(self.threads));
        book.gauges(
            entry("process_open_fds", &[], "File descriptors that it has open."),
            rows(self.open_files),
        );
        book.gauges(entry("process_max_fds", &[], "How many it may have open."), rows(self.max_files));
        let runtime = self.runtime.as_ref();
        book.gauges(
            entry("tokio_workers", &[], "Threads of the runtime that run tasks."),
            rows(runtime.map(|runtime| runtime.workers as u64)),
        );
        book.gauges(
            entry("tokio_alive_tasks", &[], "Tasks of the runtime that have not ended."),
            rows(runtime.map(|runtime| runtime.tasks as u64)),
        );
        book.gauges(
            entry("tokio_global_queue_depth", &[], "Tasks that wait for a thread of the runtime."),
            rows(runtime.map(|runtime| runtime.queue as u64)),
        );
        book.rows(
            entry(
                "tokio_workers_busy",
                &[],
                "Time that the runtime's threads were busy; its rate divided by tokio_workers is the load.",
            )
            .in_unit("seconds"),
            runtime.map(|runtime| Row::only(ConstCounter::new(runtime.busy_seconds))),
        );
    }
}
