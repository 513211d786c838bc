//! Sockets that the daemon is started with: it serves them, and they outlive it.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpListener,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
};
use tokio::{task::spawn_blocking, time::Instant};

use crate::support::{CHECKOUT, Client, Daemon, SURELY, World, cairld, cairld_with, output};

/// A configuration that says nothing of where callers reach the daemon.
fn without_addresses(world: &World) -> String {
    world.config_text().replace("unix = \"cairld.sock\"\n", "").replace("tcp = \"127.0.0.1:0\"\n", "")
}

/// Sockets such as systemd holds for a daemon.
fn sockets(world: &World) -> (UnixListener, TcpListener) {
    let unix = UnixListener::bind(world.path("cairld.sock")).unwrap();
    (unix, TcpListener::bind("127.0.0.1:0").unwrap())
}

/// Starts a daemon that is not to come up, on these sockets: its exit code, and what it says.
fn refused_on(world: &World, unix: impl AsFd, tcp: impl AsFd) -> (i32, String) {
    let mut command = cairld_with(unix, tcp);
    command.arg("serve").arg("--config").arg(world.config()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (ended, is_ended) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let output = is_ended.recv_timeout(SURELY).unwrap_or_else(|_| {
        kill_process(pid, Signal::KILL).unwrap();
        panic!("it came up");
    });
    let output = output.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_lost_across_a_restart() {
    let world = World::new().await;
    fs::write(world.config(), without_addresses(&world)).unwrap();
    let (unix, tcp) = sockets(&world);
    let address = tcp.local_addr().unwrap().to_string();

    let daemon = Daemon::start_on(&world.config(), &unix, &tcp);
    assert_eq!(daemon.tcp(), address);
    let id = world.unix().await.started().await.session.unwrap().id;
    Client::tcp(&address, Some(CHECKOUT)).await.session(&id).await.unwrap();
    let (status, log) = spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert!(world.path("cairld.sock").exists(), "it is not the daemon's to remove");

    // No daemon is there, and they connect: the sockets are.
    let (mut over_unix, mut over_tcp) = (world.unix().await, Client::tcp(&address, Some(CHECKOUT)).await);
    let waiting = tokio::spawn({
        let id = id.clone();
        async move { (over_unix.session(&id).await, over_tcp.session(&id).await) }
    });
    let _daemon = Daemon::start_on(&world.config(), &unix, &tcp);
    let (over_unix, over_tcp) = waiting.await.unwrap();
    assert_eq!((over_unix.unwrap().id, over_tcp.unwrap().id), (id.clone(), id));
}

/// What a client that has not heard of the end yet writes: an answer to a ping.
const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0whatever";

/// Reads a frame of HTTP/2: its type, its flags, its payload. None at the end.
fn frame(stream: &mut UnixStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).unwrap();
    Some((head[3], head[4], payload))
}

/// What a client hears and does while the daemon stops.
struct Farewell {
    /// Whether all of it was over before the daemon hangs up by itself.
    in_time: bool,
    answered: io::Result<()>,
    goaways: usize,
    hung_up: usize,
    written: io::Result<()>,
}

/// Stops a daemon on whose connection somebody still writes.
fn farewell(world: &World, unix: &UnixListener, tcp: &TcpListener) -> Farewell {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let daemon = Daemon::start_on(&world.config(), unix, tcp);
    let mut stream = UnixStream::connect(world.path("cairld.sock")).unwrap();
    stream.set_read_timeout(Some(SURELY)).unwrap();
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat()).unwrap();
    frame(&mut stream).unwrap();
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    let (mut goaways, mut answered) = (0, Ok(()));
    while let Some((kind, flags, payload)) = frame(&mut stream) {
        goaways += usize::from(kind == GOAWAY);
        if kind == PING && flags == 0 {
            answered = answered.and(stream.write_all(&[&PONG[..9], &payload].concat()));
        }
    }
    // All is read, and the end with it. A client that is slower has yet to read it, and writes meanwhile: as long as nobody
    // hangs up, it can.
    let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let hung_up = poll(&mut [PollFd::new(&stream, PollFlags::empty())], Some(&pause)).unwrap();
    let written = stream.write_all(PONG);
    let in_time = began.elapsed() < Duration::from_millis(900);
    drop(stream);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{status}\n{log}");
    Farewell { in_time, answered, goaways, hung_up, written }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_still_writes_while_it_stops_may_do_so_until_it_has_heard_all() {
    let world = World::new().await;
    fs::write(world.config(), without_addresses(&world)).unwrap();
    let (unix, tcp) = sockets(&world);
    let seen = spawn_blocking(move || {
        // The daemon gives its peers a second, and a machine may stand still for longer: nothing can be seen then.
        (0..10).map(|_| farewell(&world, &unix, &tcp)).find(|seen| seen.in_time)
    });
    let seen = seen.await.unwrap().expect("none of ten was over in time");
    seen.answered.unwrap();
    assert_eq!(seen.goaways, 2, "a warning, and the end");
    assert_eq!(seen.hung_up, 0, "hung up while its peer may be writing");
    seen.written.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_may_say_the_same_and_nothing_else() {
    let world = World::new().await;
    let (unix, tcp) = sockets(&world);
    let address = tcp.local_addr().unwrap().to_string();
    let same = world.config_text().replace("127.0.0.1:0\"\ninsecure", &format!("{address}\"\ninsecure"));
    fs::write(world.config(), &same).unwrap();
    let daemon = Daemon::start_on(&world.config(), &unix, &tcp);
    daemon.signal(Signal::HUP);
    daemon.says("the configuration was read anew: nothing has changed");

    // Taken out, it is as it was; set to something else, it is not in force.
    fs::write(world.config(), without_addresses(&world)).unwrap();
    daemon.signal(Signal::HUP);
    world.unix().await.started().await;
    daemon.kill();

    fs::write(world.config(), same.replace("cairld.sock", "other.sock")).unwrap();
    let (code, stderr) = refused_on(&world, &unix, &tcp);
    assert_eq!(code, 78, "EX_CONFIG: {stderr}");
    assert!(stderr.contains("grpc.unix") && stderr.contains("ListenStream="), "{stderr}");
    assert!(!world.path("other.sock").exists());

    fs::write(world.config(), same.replace(&address, "127.0.0.1:1")).unwrap();
    let (code, stderr) = refused_on(&world, &unix, &tcp);
    assert_eq!(code, 78, "EX_CONFIG: {stderr}");
    assert!(stderr.contains("grpc.tcp") && stderr.contains(&address), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inherited_tcp_keeps_the_rules_of_tcp() {
    let world = World::new().await;
    fs::write(world.config(), without_addresses(&world).replace("insecure = true\n", "")).unwrap();
    let (unix, tcp) = sockets(&world);
    let (code, stderr) = refused_on(&world, &unix, &tcp);
    assert_eq!(code, 78, "EX_CONFIG: {stderr}");
    assert!(stderr.contains("is TCP without TLS"), "{stderr}");

    fs::write(world.config(), without_addresses(&world)).unwrap();
    let (code, stderr) = refused_on(&world, &unix, TcpListener::bind("0.0.0.0:0").unwrap());
    assert_eq!(code, 78, "EX_CONFIG: {stderr}");
    assert!(stderr.contains("must be a loopback address"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_refused() {
    let world = World::new().await;
    fs::write(world.config(), without_addresses(&world)).unwrap();
    let (unix, tcp) = sockets(&world);
    let second = UnixListener::bind(world.path("second.sock")).unwrap();
    let (accepted, _) = UnixStream::pair().unwrap();
    let file = fs::File::open(world.config()).unwrap();
    let refusals = [
        (refused_on(&world, &unix, &second), "socket 2", "is a second one of its kind"),
        (refused_on(&world, &accepted, &tcp), "socket 1", "it does not listen"),
        (refused_on(&world, &unix, &file), "socket 2", "neither of Unix nor of TCP"),
    ];
    for ((code, stderr), which, why) in refusals {
        assert_eq!(code, 78, "EX_CONFIG: {stderr}");
        assert!(stderr.contains(which) && stderr.contains(why), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_without_addresses_is_right_for_sockets_alone() {
    let world = World::new().await;
    fs::write(world.config(), without_addresses(&world)).unwrap();
    let (checked, stdout, stderr) = output(cairld().arg("check").arg("--config").arg(world.config()));
    assert!(checked.status.success(), "{stderr}");
    assert!(stdout.contains("nothing is wrong, where cairld.socket says"), "{stdout}");
    let (served, _, stderr) = output(cairld().arg("serve").arg("--config").arg(world.config()));
    assert_eq!(served.status.code(), Some(78), "EX_CONFIG: {stderr}");
    assert!(stderr.contains("grpc.unix") && stderr.contains("cairld.socket"), "{stderr}");
}
