//! The bare competitor: Redis that syncs each write, as a process of its own.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{load::Address, support::SURELY};

/// A running server; killed when dropped.
pub struct Redis {
    process: Child,
    socket: PathBuf,
    pub unix: Address,
    pub tcp: Address,
}

impl Redis {
    /// Its version as it says itself; none where it is not installed.
    pub fn version() -> Option<String> {
        let output = Command::new("redis-server").arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
    }

    /// Starts it, empty, with all it writes in a folder.
    pub fn start(folder: &Path) -> Self {
        let folder = folder.join("redis");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let socket = folder.join("redis.sock");
        // It takes no 0 for "any port".
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--unixsocket"]).arg(&socket);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir"]).arg(&folder);
        // Rewriting the log in the background would be measured by chance.
        command.args(["--auto-aof-rewrite-percentage", "0"]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let redis = Self {
            process,
            unix: Address::Unix(socket.clone()),
            tcp: Address::Tcp(format!("127.0.0.1:{port}")),
            socket,
        };
        let tries = SURELY.as_millis() / 10;
        let is_there = |_: &u128| {
            std::thread::sleep(Duration::from_millis(10));
            redis.command(b"PING\r\n").is_ok()
        };
        (0..tries).find(is_there).expect("redis-server did not answer");
        redis
    }

    /// Forgets everything.
    pub fn flush(&self) {
        self.command(b"FLUSHALL SYNC\r\n").unwrap();
    }

    fn command(&self, command: &[u8]) -> std::io::Result<()> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(command)?;
        stream.read(&mut [0; 64]).map(drop)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
