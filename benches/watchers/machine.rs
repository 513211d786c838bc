//! The machine, and what its processors do meanwhile, as `/proc` tells.

use std::{fs, time::Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Ticks of processor time in a second (`USER_HZ`, the same on every Linux that this runs on).
const TICKS: f64 = 100.0;

/// Processors and kernel in a line.
pub fn describe() -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown model");
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}, Linux {}", model.trim_start_matches(['\t', ' ', ':']), kernel.trim())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// As many open files as the system lets this process have.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Resident memory of a process.
pub fn resident_kib(pid: u32) -> f64 {
    status_kib(pid, "VmRSS:")
}

/// The most that it has been.
#[allow(dead_code, reason = "not every benchmark asks")]
pub fn most_resident_kib(pid: u32) -> f64 {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, what: &str) -> f64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a figure of that name");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Bytes that a process has caused to be written to disks up to now.
#[allow(dead_code, reason = "not every benchmark writes")]
pub fn written_bytes(pid: u32) -> f64 {
    let io = read(&format!("/proc/{pid}/io"));
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("write_bytes");
    line.parse().unwrap()
}

/// Processor time of a process in ticks: user and system.
fn ticks_of(pid: u32) -> f64 {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name in parentheses may hold anything; what follows is counted from the state, the third field.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let field = |number: usize| fields.split_whitespace().nth(number - 3).unwrap().parse::<f64>().unwrap();
    field(14) + field(15)
}

/// Processor time that was spent by everybody, in ticks: all but idle and waiting for disks.
fn ticks_of_all() -> f64 {
    let stat = read("/proc/stat");
    let times = stat.lines().next().unwrap().split_whitespace().skip(1).take(8);
    let times = times.enumerate().filter(|(place, _)| ![3, 4].contains(place));
    times.map(|(_, time)| time.parse::<f64>().unwrap()).sum()
}

/// Processor time that a process has used up to now, milliseconds.
pub fn processor_ms(pid: u32) -> f64 {
    ticks_of(pid) * 1000.0 / TICKS
}

/// Who uses the processors from a moment on.
pub struct Processors {
    /// The processes that are measured, beside this one.
    ours: Vec<u32>,
    began: Instant,
    before: (f64, f64),
}

impl Processors {
    pub fn of(ours: &[u32]) -> Self {
        Self { ours: ours.to_vec(), began: Instant::now(), before: Self::read(ours) }
    }

    /// Ticks of our processes, this one included, and of everybody.
    fn read(ours: &[u32]) -> (f64, f64) {
        (ours.iter().copied().chain([std::process::id()]).map(ticks_of).sum(), ticks_of_all())
    }

    /// Share of the processors that was none of our processes', since the beginning.
    pub fn others_percent(&self) -> f64 {
        let (ours, all) = Self::read(&self.ours);
        let others = (all - self.before.1) - (ours - self.before.0);
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        (100.0 * others / (self.began.elapsed().as_secs_f64() * TICKS * cores)).max(0.0)
    }
}

/// The middle one.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
