//! What is measured: a daemon on a store of a given size, the echo and Redis beside it.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use cairld::api::proto::{GetSessionRequest, StartAuthorizationRequest, get_session_request::Lookup};
use prost::Message;
use tokio::runtime::Runtime;

use super::{
    load::{Address, Run, Span, Work, run},
    machine::{self, Processors},
    support::{CHECKOUT, Daemon, World, cairld, start_request},
};

/// Bytes of a value in Redis: about what the daemon keeps of a session.
pub const VALUE: usize = 256;

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Unix,
    Tcp,
}

/// A folder with a configuration, and the runtime that its sandbox lives in.
pub struct Bed {
    runtime: Runtime,
    world: World,
    pub starts: Work,
    set: Work,
}

impl Bed {
    pub fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let world = runtime.block_on(World::new());
        let start = StartAuthorizationRequest { reference: "order-4711".into(), ..start_request() };
        let starts = Work::Grpc {
            path: "/cairld.v1.IntegrationService/StartAuthorization",
            token: None,
            messages: Arc::new(vec![start.encode_to_vec()]),
        };
        Self { runtime, world, starts, set: Work::Redis { value: Arc::new(vec![b'v'; VALUE]) } }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("cairld.redb")
    }

    pub fn key(&self) -> PathBuf {
        self.path("store.key")
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A daemon that is ready, and the time that took.
    pub fn daemon(&self) -> (Running, Duration) {
        self.daemon_of(cairld())
    }

    /// The same of another build.
    pub fn daemon_of(&self, program: Command) -> (Running, Duration) {
        self.lift_cap(&program);
        let began = Instant::now();
        let daemon = Daemon::start_by(program, &self.world.config());
        let took = began.elapsed();
        let unix = self.path("cairld.sock");
        let pid = self.runtime.block_on(async {
            // The kernel says who is at the other end.
            let stream = tokio::net::UnixStream::connect(&unix).await.unwrap();
            stream.peer_cred().unwrap().pid().unwrap().cast_unsigned()
        });
        let tcp = Address::Tcp(daemon.tcp().to_owned());
        (Running { daemon, pid, unix: Address::Unix(unix), tcp }, took)
    }

    /// Lets as many sessions be open as stores are filled with. Builds from before there was a cap take no such setting.
    fn lift_cap(&self, program: &Command) {
        let (config, text) = (self.world.config(), self.world.config_text());
        fs::write(&config, text.replace("[store]\n", "[store]\npending_sessions = 1_000_000_000\n")).unwrap();
        let mut check = Command::new(program.get_program());
        if !check.arg("check").arg("--config").arg(&config).output().unwrap().status.success() {
            fs::write(&config, text).unwrap();
        }
    }

    /// Puts another store where the daemon has its own; none for a new one.
    pub fn put_store(&self, from: Option<&Path>) {
        let _ = fs::remove_file(self.store());
        if let Some(from) = from {
            // Page by page: the kernel keeps what is written in larger pieces in larger pieces too, and would then count a
            // whole piece as written where the daemon writes a page of it.
            let mut to = fs::File::create(self.store()).unwrap();
            let mut from = fs::File::open(from).unwrap();
            let mut page = [0; 4096];
            loop {
                match from.read(&mut page).unwrap() {
                    0 => break,
                    length => to.write_all(&page[..length]).unwrap(),
                }
            }
            to.sync_all().unwrap();
        }
    }

    pub fn reads(&self, ids: &[cairld::domain::SessionId]) -> Work {
        let message = |id: &cairld::domain::SessionId| {
            let lookup = Some(Lookup::SessionId(id.to_string()));
            GetSessionRequest { lookup, refresh: false }.encode_to_vec()
        };
        Work::Grpc {
            path: "/cairld.v1.IntegrationService/GetSession",
            token: None,
            messages: Arc::new(ids.iter().map(message).collect()),
        }
    }

    pub fn set(&self) -> &Work {
        &self.set
    }
}

/// A daemon that is ready.
pub struct Running {
    daemon: Daemon,
    pub pid: u32,
    unix: Address,
    tcp: Address,
}

impl Running {
    pub fn address(&self, transport: Transport) -> &Address {
        match transport {
            Transport::Unix => &self.unix,
            Transport::Tcp => &self.tcp,
        }
    }

    /// Waits until it has nothing to do: after a start it looks through its sessions once. Answers how much processor time
    /// it has taken until then.
    pub fn settle(&self) -> Duration {
        let mut before = machine::processor_ms(self.pid);
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = machine::processor_ms(self.pid);
            if now - before < 20.0 {
                return Duration::from_secs_f64(now / 1000.0);
            }
            before = now;
        }
    }

    /// `kill -9` while so many calls are in flight.
    pub fn kill_under(self, work: &Work, in_flight: usize) {
        let (address, work) = (self.unix.clone(), work.clone());
        let span = Span { warm_up: Duration::ZERO, measured: Duration::from_secs(3600) };
        let load = std::thread::spawn(move || run(&address, &work, in_flight, span).is_err());
        std::thread::sleep(Duration::from_millis(700));
        self.daemon.kill();
        assert!(load.join().unwrap(), "the load ends with the daemon");
    }

    pub fn kill(self) {
        self.daemon.kill();
    }
}

/// A run, and who else had the processors meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub run: Run,
    pub others_percent: f64,
    /// Bytes that the server caused to be written for each operation.
    pub written: f64,
    /// Processor time of the server for each operation, microseconds.
    pub processor_us: f64,
}

/// Puts a server under load and looks at the machine meanwhile.
pub fn measure(
    server: u32,
    all: &[u32],
    (address, transport): (&Address, Transport),
    work: &Work,
    (in_flight, span): (usize, Span),
) -> Measured {
    let work = match (work, transport) {
        // On the Unix socket the daemon knows who calls; over TCP its callers carry a token, and so does the echo's.
        (Work::Grpc { path, messages, .. }, Transport::Tcp) => {
            &Work::Grpc { path, token: Some(CHECKOUT), messages: Arc::clone(messages) }
        }
        (Work::Grpc { .. } | Work::Redis { .. }, _) => work,
    };
    let (processors, written) = (Processors::of(all), machine::written_bytes(server));
    let used = machine::processor_ms(server);
    let run = run(address, work, in_flight, span).unwrap_or_else(|error| panic!("{address:?}: {error}"));
    let operations = run.operations as f64;
    Measured {
        others_percent: processors.others_percent(),
        written: (machine::written_bytes(server) - written) / operations,
        processor_us: (machine::processor_ms(server) - used) * 1000.0 / operations,
        run,
    }
}

/// The median of `fdatasync` of 4 KiB in the store's folder, milliseconds.
pub fn fdatasync_ms(folder: &Path) -> f64 {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(folder.join("fdatasync")).unwrap();
    file.write_all_at(&[1; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let one = |place: u64| {
        let began = Instant::now();
        file.write_all_at(&[2; 4096], place % 256 * 4096).unwrap();
        file.sync_data().unwrap();
        began.elapsed().as_secs_f64() * 1000.0
    };
    machine::median((0..300).map(one))
}
