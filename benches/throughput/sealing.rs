//! What sealing costs: the processor time of sealing what a start seals, as a share of that of the whole call.

use std::{hint::black_box, time::Duration};

use cairld::store::{KeyRing, MasterKey};
use rustix::time::{ClockId, clock_gettime};

use super::{
    IN_FLIGHT, SPAN, TURNS,
    bed::{Bed, Transport, measure},
    machine::{self, median},
};

/// Seals that are timed together.
const SEALS: u32 = 20_000;

/// Bytes that are sealed of a new session: its verifier (43 characters) and its reference, with two bytes before each; and
/// the same with the longest reference.
const SEALED: [(&str, usize); 2] =
    [("as started here", 2 + 43 + 2 + 10), ("with the longest reference", 2 + 43 + 3 + 256)];

/// Bytes of a new session's row that stand in clear, and are bound to what is sealed.
const CLEAR: usize = 250;

/// Processor time that this thread has had.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// Prints the share of each number of calls in flight.
pub fn print() {
    let ring = KeyRing::new(&MasterKey::new([1; 32]), &[]);
    let bed = Bed::new();
    bed.put_store(None);
    let (daemon, _) = bed.daemon();
    daemon.settle();
    println!("{}; an empty store, Unix socket, the medians of {TURNS} turns", machine::describe());
    let seal_us = |bytes: usize| {
        let (key, clear, plain) = ([7; 16], [b'c'; CLEAR], vec![b'v'; bytes]);
        let began = processor_time();
        for _ in 0..SEALS {
            black_box(ring.sealed_length(&key, &clear, black_box(&plain)).expect("randomness"));
        }
        (processor_time() - began).as_secs_f64() * 1e6 / f64::from(SEALS)
    };
    for in_flight in IN_FLIGHT {
        let mut starts = Vec::new();
        let mut seals = SEALED.map(|_| Vec::new());
        for _ in 0..TURNS {
            let at = (daemon.address(Transport::Unix), Transport::Unix);
            starts.push(measure(daemon.pid, &[daemon.pid], at, &bed.starts, (in_flight, SPAN)));
            for ((_, bytes), took) in SEALED.iter().zip(&mut seals) {
                took.push(seal_us(*bytes));
            }
        }
        let start = median(starts.iter().map(|start| start.processor_us));
        let (rate, others) = (
            median(starts.iter().map(|start| start.run.throughput)),
            median(starts.iter().map(|start| start.others_percent)),
        );
        for ((what, bytes), took) in SEALED.iter().zip(&seals) {
            let seal = median(took.iter().copied());
            println!(
                "{in_flight:3} in flight, {rate:.0} starts a second, {start:.1} µs of processor time each; sealing {bytes} \
                 bytes ({what}) {seal:.2} µs: {:.1} %; others had {others:.0} % of the processors",
                100.0 * seal / start
            );
        }
    }
    daemon.kill();
}
