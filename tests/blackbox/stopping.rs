//! The end when something does not: calls without an answer, a disk that hangs, a store that is not open yet. And the signal
//! that does not wait for them.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    process::Stdio,
    sync::mpsc,
};

use cairld::api::proto::SessionStatus;
use rustix::{
    fs::OFlags,
    process::{Pid, Signal, kill_process},
};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::support::{Client, Daemon, Disk, SURELY, World, cairld, refused, start_request};

/// What the disk says when somebody waits for it.
const HANGS: &str = "the disk hangs";

/// A completion that the provider does not answer, for longer than a daemon that stops waits: its session, and its callback.
async fn hanging(world: &World, client: &mut Client) -> (String, String) {
    let (id, callback) = world.approved(client).await;
    world.provider.fault(json!({"endpoint": "token", "times": 1, "fault": "hang"})).await;
    let (mut waiting, in_flight) = (client.clone(), callback.clone());
    tokio::spawn(async move { waiting.completed(&in_flight).await });
    world.provider.token_request_arrives().await;
    (id, callback)
}

/// It is not known how it ended, and it is not tried again.
async fn is_indeterminate(world: &World, id: &str, callback: &str) {
    let _daemon = world.daemon();
    let mut client = world.unix().await;
    assert_eq!(client.session(id).await.unwrap().status(), SessionStatus::Indeterminate);
    assert_eq!(refused(client.completed(callback).await).reason, "STATE_ALREADY_USED");
    assert_eq!(world.provider.token_requests().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_not_waited_for_beyond_ten_seconds() {
    let world = World::new().await;
    let daemon = world.daemon();
    let (id, callback) = hanging(&world, &mut world.unix().await).await;
    let (status, log) = spawn_blocking(move || daemon.terminate()).await.unwrap();
    assert!(status.success(), "{status}\n{log}");
    let line = log.lines().find(|line| line.contains("still in flight after ten seconds")).expect(&log);
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["calls"], &line["webhooks"], &line["at_provider"]), (&1.into(), &0.into(), &1.into()));
    assert!(log.lines().last().unwrap().contains("\"stopped\""), "{log}");
    assert!(!world.path("cairld.sock").exists(), "the socket is removed");
    is_indeterminate(&world, &id, &callback).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let world = World::new().await;
    let daemon = world.daemon();
    let (id, callback) = hanging(&world, &mut world.unix().await).await;
    daemon.signal(Signal::TERM);
    daemon.says("stopping: no new calls");
    daemon.signal(Signal::INT);
    let (status, log) = spawn_blocking(move || daemon.wait()).await.unwrap();
    assert_eq!(status.code(), Some(130), "{log}");
    assert!(log.contains("a second signal: ending at once") && !log.contains("\"stopped\""), "{log}");
    is_indeterminate(&world, &id, &callback).await;
}

/// A daemon, with so many threads for the network where it is not to choose, that stops while its disk hangs in a commit that
/// nobody waits for.
async fn stopping_on_a_hung_disk(world: &World, disk: &Disk, threads: Option<&str>) -> (Daemon, String) {
    let mut command = disk.cairld();
    command.envs(threads.map(|threads| ("TOKIO_WORKER_THREADS", threads)));
    let daemon = Daemon::start_by(command, &world.config());
    let mut client = world.unix().await;
    let kept = client.started().await.session.unwrap().id;
    disk.hang();
    let mut leaving = client.clone();
    let call = tokio::spawn(async move { leaving.started().await });
    daemon.says(HANGS);
    call.abort();
    daemon.signal(Signal::TERM);
    daemon.says("closing the store");
    (daemon, kept)
}

/// However many threads there are, one of which may be the one that closes the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_does_not_hold_up_the_end() {
    tokio::join!(a_disk_that_hangs(None), a_disk_that_hangs(Some("4")));
}

async fn a_disk_that_hangs(threads: Option<&str>) {
    let world = World::new().await;
    let disk = Disk::new(&world);
    let (daemon, kept) = stopping_on_a_hung_disk(&world, &disk, threads).await;
    let (status, log) = spawn_blocking(move || daemon.wait()).await.unwrap();
    assert_eq!(status.code(), Some(74), "EX_IOERR: {log}");
    let line = log.lines().last().unwrap();
    assert!(
        line.contains("ending without what is left") && line.contains("the store's last commit"),
        "{log}"
    );

    disk.mend();
    let _daemon = world.daemon();
    assert_eq!(world.unix().await.session(&kept).await.unwrap().status(), SessionStatus::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_is_heard_while_the_disk_hangs() {
    // On a machine that stands still for ten seconds the daemon has given up before the signal comes: nothing can be seen then.
    for _ in 0..10 {
        let world = World::new().await;
        let disk = Disk::new(&world);
        let (daemon, _) = stopping_on_a_hung_disk(&world, &disk, None).await;
        daemon.signal(Signal::TERM);
        let (status, log) = spawn_blocking(move || daemon.wait()).await.unwrap();
        if !log.contains("ending without what is left") {
            assert_eq!(status.code(), Some(130), "{log}");
            return;
        }
    }
    panic!("the signal never came in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_is_heard_while_nobody_reads_the_log() {
    let world = World::new().await;
    let (reader, writer) = std::io::pipe().unwrap();
    // A file of its own on the same pipe, so that it is for the test alone that a full one is an error.
    let filling = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let mut filling = fs::OpenOptions::new().write(true).custom_flags(nonblocking).open(filling).unwrap();
    let mut command = cairld();
    command.arg("serve").arg("--config").arg(world.config()).stdin(Stdio::null()).stderr(writer);
    let mut process = command.spawn().unwrap();
    let pid = Pid::from_child(&process);
    let mut log = BufReader::new(&reader).lines().map_while(Result::ok);
    log.find(|line| line.contains("\"serving webhooks\"")).expect("it serves");
    // To the last byte, which whole pages leave room for.
    for size in [4096, 1] {
        let full = loop {
            if let Err(error) = filling.write_all(&vec![b'\n'; size]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }
    // Two that are not taken for one where they come together.
    kill_process(pid, Signal::TERM).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let (ended, has_ended) = mpsc::channel();
    std::thread::spawn(move || ended.send(process.wait().unwrap()));
    let status = has_ended.recv_timeout(SURELY).unwrap_or_else(|_| {
        kill_process(pid, Signal::KILL).unwrap();
        panic!("it waits for who reads its log");
    });
    assert_eq!(status.code(), Some(130), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_being_opened_does_not_hold_up_the_end() {
    let world = World::new().await;
    let disk = Disk::new(&world);
    let mut kept = Vec::new();
    // One that is being made, and one that is there.
    for _ in 0..2 {
        disk.hang();
        let daemon = Daemon::starting(disk.cairld(), &world.config());
        daemon.says(HANGS);
        daemon.signal(Signal::TERM);
        daemon.tells("STOPPING=1", 1);
        let (status, log) = spawn_blocking(move || daemon.wait()).await.unwrap();
        assert!(status.success(), "{status}\n{log}");
        assert!(log.contains("stopping: the store was not open yet") && log.contains("\"stopped\""), "{log}");
        assert!(!world.path("cairld.sock").exists(), "the socket is removed");

        disk.mend();
        let daemon = world.daemon();
        let mut client = world.unix().await;
        kept.push(client.started().await.session.unwrap().id);
        for id in &kept {
            assert_eq!(client.session(id).await.unwrap().status(), SessionStatus::Pending);
        }
        daemon.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_since_the_disk_fails_says_so() {
    let world = World::new().await;
    let disk = Disk::new(&world);
    let daemon = Daemon::starting(disk.cairld(), &world.config());
    daemon.tells("READY=1", 1);
    disk.fail();
    world.unix().await.start(start_request()).await.unwrap_err();
    daemon.tells("STOPPING=1", 1);
    daemon.tells("STATUS=closing the store", 1);
    let (status, log) = spawn_blocking(move || daemon.wait()).await.unwrap();
    assert_eq!(status.code(), Some(74), "EX_IOERR: {log}");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "ERROR", "{log}");
    assert!(last["message"].as_str().unwrap().contains("a write failed"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_waits_for_the_disk_does_not_hold_up_the_end() {
    let world = World::new().await;
    let disk = Disk::new(&world);
    let daemon = Daemon::start_by(disk.cairld(), &world.config());
    world.write_secret("new.key", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    let text = world.config_text().replace("[\"store.key\"]", "[\"new.key\", \"store.key\"]");
    fs::write(world.config(), text).unwrap();
    disk.hang();
    daemon.signal(Signal::HUP);
    daemon.says(HANGS);
    daemon.signal(Signal::TERM);
    daemon.says("stopping: no new calls");
    daemon.signal(Signal::TERM);
    let (status, log) = spawn_blocking(move || daemon.wait()).await.unwrap();
    assert_eq!(status.code(), Some(130), "{log}");

    disk.mend();
    let _daemon = world.daemon();
    world.unix().await.started().await;
}
