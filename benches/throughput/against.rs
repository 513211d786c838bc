//! One change, before and after: another build of the daemon beside this one, each on its own copy of one store, in turns.

use std::{fs, path::Path, process::Command};

use super::{
    IN_FLIGHT, SPAN,
    bed::{Bed, Transport, measure},
    figures::Row,
    machine::{self, median},
    prefill::{self, Made},
    support::cairld,
};

const TURNS: usize = 5;

/// Measures both and prints medians: before, after, and after's share of before.
pub fn compare(before: &Path, sessions: u64) {
    let beds = [Bed::new(), Bed::new()];
    let filled = beds[0].path("filled.redb");
    let key = beds[0].key();
    let ids = beds[0].block_on(prefill::fill(&filled, &key, sessions, Made::Now));
    let daemons: Vec<_> = beds
        .iter()
        .zip([Command::new(before), cairld()])
        .map(|(bed, program)| {
            bed.put_store(Some(&filled));
            let (daemon, took) = bed.daemon_of(program);
            daemon.settle();
            (bed, daemon, took)
        })
        .collect();
    fs::remove_file(&filled).unwrap();
    println!("{}; {sessions} live sessions, Unix socket, {TURNS} turns", machine::describe());
    let pids: Vec<_> = daemons.iter().map(|(_, daemon, _)| daemon.pid).collect();
    for in_flight in IN_FLIGHT {
        for (what, work) in [("start", &beds[0].starts), ("get", &beds[0].reads(&ids))] {
            let mut sides = [Vec::new(), Vec::new()];
            for _ in 0..TURNS {
                for ((_, daemon, _), side) in daemons.iter().zip(&mut sides) {
                    let at = (daemon.address(Transport::Unix), Transport::Unix);
                    side.push(measure(daemon.pid, &pids, at, work, (in_flight, SPAN)));
                }
            }
            let of = |figure: fn(&super::bed::Measured) -> f64| {
                let [before, after] = sides.each_ref().map(|side| Row::of(side, figure).unwrap_or_default());
                format!("{before:.2} → {after:.2} ({:.2})", after / before)
            };
            let others = median(sides.iter().flatten().map(|measured| measured.others_percent));
            println!(
                "{what:5} {in_flight:3} in flight: {} /s, p50 {} ms, p99 {} ms, processor {} µs, written {} KiB; others had {others:.0} %",
                of(|m| m.run.throughput),
                of(|m| m.run.p50_ms),
                of(|m| m.run.p99_ms),
                of(|m| m.processor_us),
                of(|m| m.written / 1024.0),
            );
        }
    }
    for ((_, daemon, took), which) in daemons.into_iter().zip(["before", "after"]) {
        let resident = machine::most_resident_kib(daemon.pid) / 1024.0;
        println!("{which}: ready in {:.0} ms, {resident:.1} MiB at most", took.as_secs_f64() * 1000.0);
        daemon.kill();
    }
}
