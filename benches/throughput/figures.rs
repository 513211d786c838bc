//! What was measured.

use std::time::{Duration, Instant};

use super::{
    bed::{Measured, Transport},
    machine::{self, median},
    prefill::Bites,
    redis::Redis,
};

/// One size of the store, one transport, one number in flight.
#[derive(Debug)]
pub struct Row {
    pub size: u64,
    pub transport: Transport,
    pub in_flight: usize,
    pub start: Vec<Measured>,
    pub get: Vec<Measured>,
    pub echo_start: Vec<Measured>,
    pub echo_get: Vec<Measured>,
    pub set: Vec<Measured>,
}

/// A daemon's memory and file with so many sessions.
#[derive(Debug)]
pub struct Memory {
    pub sessions: u64,
    /// Processor time from its start until it had looked through its sessions.
    pub looked_through: Duration,
    pub before_kib: f64,
    pub most_kib: f64,
    pub file_bytes: u64,
}

/// All of it.
#[derive(Debug)]
pub struct Figures {
    pub machine: String,
    pub turns: usize,
    /// Redis's version; none where it is not installed.
    pub redis: Option<String>,
    pub rows: Vec<Row>,
    /// Median of `fdatasync` of 4 KiB in each turn.
    pub fdatasync_ms: Vec<f64>,
    /// Resident memory of a daemon without sessions that nobody has called.
    pub idle_kib: Vec<f64>,
    pub memory: Vec<Memory>,
    /// By number of sessions, the times to be ready after `kill -9`.
    pub ready: Vec<(u64, Vec<f64>)>,
    pub bites: Option<Bites>,
    /// Starts, one at a time, while a daemon sweeps.
    pub while_sweeping: Measured,
    pub took: Duration,
    began: Instant,
}

impl Figures {
    pub fn begin(turns: usize) -> Self {
        Self {
            machine: machine::describe(),
            turns,
            redis: Redis::version(),
            rows: Vec::new(),
            fdatasync_ms: Vec::new(),
            idle_kib: Vec::new(),
            memory: Vec::new(),
            ready: Vec::new(),
            bites: None,
            while_sweeping: Measured::default(),
            took: Duration::ZERO,
            began: Instant::now(),
        }
    }

    pub fn end(&mut self) {
        self.took = self.began.elapsed();
    }

    /// The row for these; a new one where there is none yet.
    pub fn row(&mut self, size: u64, transport: Transport, in_flight: usize) -> &mut Row {
        let is_it = |row: &Row| (row.size, row.transport, row.in_flight) == (size, transport, in_flight);
        if let Some(place) = self.rows.iter().position(is_it) {
            return &mut self.rows[place];
        }
        let none = Vec::new;
        self.rows.push(Row {
            size,
            transport,
            in_flight,
            start: none(),
            get: none(),
            echo_start: none(),
            echo_get: none(),
            set: none(),
        });
        self.rows.last_mut().expect("just added")
    }

    pub fn find(&self, size: u64, transport: Transport, in_flight: usize) -> Option<&Row> {
        self.rows.iter().find(|row| (row.size, row.transport, row.in_flight) == (size, transport, in_flight))
    }

    /// How many sessions the runs at that size have started.
    pub fn started(&self, size: u64) -> u64 {
        let rows = self.rows.iter().filter(|row| row.size == size);
        rows.flat_map(|row| &row.start).map(|measured| measured.run.operations).sum()
    }

    pub fn ready(&mut self, size: u64, took: Duration) {
        let millis = took.as_secs_f64() * 1000.0;
        match self.ready.iter_mut().find(|(of, _)| *of == size) {
            Some((_, all)) => all.push(millis),
            None => self.ready.push((size, vec![millis])),
        }
    }

    /// Share of the processors that others had, over all runs: the median and the most.
    pub fn others_percent(&self) -> (f64, f64) {
        let all = || self.rows.iter().flat_map(Row::all).map(|measured| measured.others_percent);
        (median(all()), all().fold(0.0, f64::max))
    }
}

impl Row {
    fn all(&self) -> impl Iterator<Item = &Measured> {
        [&self.start, &self.get, &self.echo_start, &self.echo_get, &self.set].into_iter().flatten()
    }

    /// Median over the turns; none where nothing was measured.
    pub fn of(turns: &[Measured], figure: impl Fn(&Measured) -> f64) -> Option<f64> {
        (!turns.is_empty()).then(|| median(turns.iter().map(figure)))
    }

    /// Operations a second.
    pub fn throughput(turns: &[Measured]) -> Option<f64> {
        Self::of(turns, |measured| measured.run.throughput)
    }

    /// What one throughput is of another: the median of the turns' own ratios, since what is compared ran side by side.
    pub fn ratio(of: &[Measured], to: &[Measured]) -> Option<f64> {
        let ratios = of.iter().zip(to).map(|(of, to)| of.run.throughput / to.run.throughput);
        (!of.is_empty() && !to.is_empty()).then(|| median(ratios))
    }

    pub fn others_percent(&self) -> f64 {
        median(self.all().map(|measured| measured.others_percent))
    }
}
