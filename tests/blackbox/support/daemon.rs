//! The daemon as a process.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::{
        fd::AsFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
        mpsc::Receiver,
    },
    thread::JoinHandle,
    time::Duration,
};

use super::SURELY;

pub fn cairld() -> Command {
    program(env!("CARGO_BIN_EXE_cairld"))
}

pub fn cairlctl() -> Command {
    program(env!("CARGO_BIN_EXE_cairlctl"))
}

fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    without_ours(&mut command);
    command
}

/// Variables of whoever runs the tests that would change what a program does.
fn without_ours(command: &mut Command) {
    for name in [
        "RUST_LOG",
        "CAIRLD_ENDPOINT",
        "CAIRLD_TOKEN_FILE",
        "CAIRLD_LOG_FORMAT",
        "JOURNAL_STREAM",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ] {
        command.env_remove(name);
    }
}

/// What a process has said so far.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Log {
    fn add(&self, words: &str) {
        let mut text = self.text.lock().unwrap();
        text.push_str(words);
        text.push('\n');
        self.grown.notify_all();
    }

    /// Waits until so many lines say so; answers the last of them.
    fn lines(&self, words: &str, count: usize) -> String {
        let has = |text: &str| text.lines().filter(|line| line.contains(words)).count() >= count;
        let text = self.text.lock().unwrap();
        let waited = self.grown.wait_timeout_while(text, SURELY, |text| !has(text)).unwrap();
        let line = waited.0.lines().filter(|line| line.contains(words)).nth(count - 1);
        line.unwrap_or_else(|| panic!("nothing of {words:?}, {count} times, in:\n{}", waited.0)).to_owned()
    }
}

/// A command that becomes `cairld` and hands it sockets, as systemd does (`sd_listen_fds(3)`); its arguments follow.
pub fn cairld_with(unix: impl AsFd, tcp: impl AsFd) -> Command {
    // Standard input and output are the one way to hand on what is open without `unsafe`; the shell puts them where they
    // are looked for, and says whom they are for.
    let inherit = "export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
    let mut command = program("/bin/sh");
    command.args(["-c", inherit, "sh", env!("CARGO_BIN_EXE_cairld")]);
    let clone = |socket: &dyn AsFd| Stdio::from(socket.as_fd().try_clone_to_owned().unwrap());
    command.stdin(clone(&unix)).stdout(clone(&tcp));
    command
}

/// `cairld serve`, ready; killed when dropped.
pub struct Daemon {
    process: Child,
    log: Arc<Log>,
    /// What it has told systemd, where somebody listens to that.
    told: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    tcp: String,
}

impl Daemon {
    /// Starts it and waits until it says READY, as systemd would.
    pub fn start(config: &Path) -> Self {
        Self::start_with(config, &[])
    }

    pub fn start_with(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = cairld();
        command.envs(environment.iter().copied());
        Self::start_by(command, config)
    }

    /// The same on sockets that it is started with.
    pub fn start_on(config: &Path, unix: &UnixListener, tcp: &TcpListener) -> Self {
        Self::spawn(cairld_with(unix, tcp), config, false)
    }

    /// The same, listened to by what stands for systemd for as long as it runs ([`Daemon::tells`]).
    pub fn start_told(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = cairld();
        command.stdin(Stdio::null()).envs(environment.iter().copied());
        Self::spawn(command, config, true)
    }

    /// The same by another command, which is given `serve` and the configuration and becomes the daemon.
    pub fn start_by(mut command: Command, config: &Path) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(command, config, false)
    }

    /// The same without waiting until it is ready, listened to as well.
    pub fn starting(mut command: Command, config: &Path) -> Self {
        command.stdin(Stdio::null());
        let (daemon, notify, _) = Self::begin(command, config);
        daemon.is_listened_to(notify);
        daemon
    }

    fn spawn(command: Command, config: &Path, is_listened_to: bool) -> Self {
        let (mut daemon, notify, addresses) = Self::begin(command, config);
        wait_for_ready(&notify, &mut daemon.process, &daemon.log, &daemon.told);
        if is_listened_to {
            daemon.is_listened_to(notify);
        } else {
            // Nobody reads it any more, and a queue that is full would hold the daemon up.
            let _ = std::fs::remove_file(notify.local_addr().unwrap().as_pathname().unwrap());
        }
        daemon.tcp = addresses.recv_timeout(SURELY).expect("an address in the log");
        daemon
    }

    /// Starts it: the process, what it tells systemd, and where it will say that it serves TCP.
    fn begin(mut command: Command, config: &Path) -> (Self, UnixDatagram, Receiver<String>) {
        let (notify, notify_path) = notify_socket(config);
        command.arg("serve").arg("--config").arg(config).env("NOTIFY_SOCKET", &notify_path);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = process.stderr.take().unwrap();
        let log = Arc::new(Log::default());
        let (addresses, tcp) = std::sync::mpsc::channel();
        let for_reader = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"].as_str().is_some_and(|said| said.starts_with("serving gRPC on TCP")) {
                    let _ = addresses.send(event["address"].as_str().unwrap_or_default().to_owned());
                }
                for_reader.add(&line);
            }
        });
        let daemon = Self { process, log, told: Arc::default(), reader: Some(reader), tcp: String::new() };
        (daemon, notify, tcp)
    }

    fn is_listened_to(&self, notify: UnixDatagram) {
        let told = Arc::downgrade(&self.told);
        std::thread::spawn(move || listen(&notify, &told));
    }

    /// Where it serves TCP.
    pub fn tcp(&self) -> &str {
        &self.tcp
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until its log says so.
    pub fn says(&self, words: &str) {
        self.line(words);
    }

    /// Waits until its log says so; answers the line.
    fn line(&self, words: &str) -> String {
        self.log.lines(words, 1)
    }

    /// Waits until systemd was told so as many times as that.
    pub fn tells(&self, words: &str, count: usize) {
        self.told.lines(words, count);
    }

    /// All that systemd has been told so far.
    pub fn told(&self) -> String {
        self.told.text.lock().unwrap().clone()
    }

    /// Where it receives webhooks.
    pub fn webhooks(&self) -> String {
        self.address("\"serving webhooks\"")
    }

    /// Where it is watched.
    pub fn ops(&self) -> String {
        self.address("\"showing health and metrics\"")
    }

    fn address(&self, message: &str) -> String {
        let line: serde_json::Value = serde_json::from_str(&self.line(message)).unwrap();
        line["address"].as_str().unwrap().to_owned()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) -> String {
        self.process.kill().unwrap();
        self.end().1
    }

    /// Asks it to stop; answers how it ended and its log.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        self.end()
    }

    /// Waits until it has ended, which it was asked to; answers how, and its log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        self.end()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        send_signal(&self.process, signal);
    }

    fn end(&mut self) -> (ExitStatus, String) {
        let status = self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status, self.log.text.lock().unwrap().clone())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn send_signal(process: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn notify_socket(config: &Path) -> (UnixDatagram, PathBuf) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = config.with_file_name(format!("notify-{number}.sock"));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    (socket, path)
}

/// Notes what the daemon tells, for as long as anybody may ask.
fn listen(notify: &UnixDatagram, told: &Weak<Log>) {
    let mut buffer = [0; 4096];
    while let Some(told) = told.upgrade() {
        if let Ok(length) = notify.recv(&mut buffer) {
            String::from_utf8_lossy(&buffer[..length]).lines().for_each(|line| told.add(line));
        }
    }
}

fn wait_for_ready(notify: &UnixDatagram, process: &mut Child, log: &Log, told: &Log) {
    let mut buffer = [0; 4096];
    for _ in 0..SURELY.as_millis() / 200 {
        // The socket's own time-out only serves to notice that the process has ended instead.
        if let Ok(length) = notify.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..length]);
            message.lines().for_each(|line| told.add(line));
            if message.lines().any(|line| line == "READY=1") {
                return;
            }
        }
        if let Some(status) = process.try_wait().unwrap() {
            panic!("the daemon ended with {status}:\n{}", log.text.lock().unwrap());
        }
    }
    panic!("the daemon did not become ready:\n{}", log.text.lock().unwrap());
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> (Output, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// Reads a process's output up to and including the line that begins so; answers all that was read.
pub fn read_until(stdout: &mut impl Read, beginning: &str) -> String {
    let mut text = String::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        text.push_str(&line);
        text.push('\n');
        if line.starts_with(beginning) {
            return text;
        }
    }
    panic!("no line that begins with {beginning:?} in:\n{text}");
}
