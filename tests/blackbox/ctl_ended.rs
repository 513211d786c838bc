//! `cairlctl`, ended in the midst of something by whoever started it: nothing stays behind.

use std::{
    fs, io,
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use cairld::domain::Moment;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};

use crate::support::{World, cairlctl, fill, output, send_signal};

/// `cairlctl`, to which signals are what they are by default but for one, whatever they are to who runs the tests.
fn signalled(ignored: Option<&str>) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP");
    command.args(ignored.map(|signal| format!("--ignore-signal={signal}")));
    command.arg(cairlctl().get_program()).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A restore of what has no end, begun.
fn endless(from: &str, ignored: Option<&str>, folder: &Path) -> Child {
    let mut command = signalled(ignored);
    command.args(["restore", from, "--to"]).arg(folder.join("store.redb")).stdin(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // It listens to signals before it makes the file.
    until(&mut process, |_| names(folder).iter().any(|name| name.starts_with(".cairlctl-")));
    process
}

/// Waits until it is so, while the process runs.
fn until(process: &mut Child, is_so: impl Fn(&Child) -> bool) {
    while !is_so(process) {
        assert_eq!(process.try_wait().unwrap(), None, "it should run");
        thread::yield_now();
    }
}

/// A line of /proc/PID/status, whose value is a set of signals.
fn signals(process: &Child, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let bits = status.lines().find_map(|told| told.strip_prefix(line)).unwrap();
    u64::from_str_radix(bits.trim(), 16).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_restore_leaves_nothing_behind() {
    // There is always more of the one, and nobody writes into the other.
    for from in ["/dev/zero", "/dev/stdin"] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let folder = tempfile::tempdir().unwrap();
            let mut process = endless(from, None, folder.path());
            // To wait for it would close it.
            let _silent = process.stdin.take();
            send_signal(&process, signal);
            assert_eq!(process.wait().unwrap().code(), Some(130), "{from} {signal:?}");
            assert_eq!(names(folder.path()), [""; 0], "{from} {signal:?}");
        }
    }
}

#[test]
fn a_restore_from_a_pipe_that_nobody_opens_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut command = signalled(None);
    let mut process =
        command.arg("restore").arg(&pipe).arg("--to").arg(folder.path().join("s")).spawn().unwrap();
    // Until then it is the signal that ends it.
    until(&mut process, |process| signals(process, "SigCgt:") >> (Signal::TERM.as_raw() - 1) & 1 == 1);
    send_signal(&process, Signal::TERM);
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert_eq!(names(folder.path()), ["pipe"]);
}

/// Its one thread sits in a write that nobody takes, and hears of no signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_nobody_takes_can_be_ended() {
    let world = World::unlimited().await;
    // Far more than a pipe holds.
    drop(fill(&world.path("cairld.redb"), Moment::default(), 2000).await);
    let _daemon = world.daemon();
    let (taker, output) = io::pipe().unwrap();
    let mut command = signalled(None);
    command.arg("--endpoint").arg(format!("unix:{}", world.path("cairld.sock").display()));
    command.args(["backup", "-"]).stdout(output.try_clone().unwrap());
    let mut process = command.spawn().unwrap();
    let has_room = || {
        let mut watched = [PollFd::new(&output, PollFlags::OUT)];
        poll(&mut watched, Some(&Timespec::default())).unwrap() == 1
    };
    until(&mut process, |_| !has_room());
    send_signal(&process, Signal::TERM);
    assert_eq!(process.wait().unwrap().code(), Some(130));
    drop(taker);
}

#[test]
fn a_backup_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        // A daemon that never says anything.
        let socket = folder.path().join("cairld.sock");
        let silent = UnixListener::bind(&socket).unwrap();
        let mut command = signalled(None);
        command.arg("--endpoint").arg(format!("unix:{}", socket.display()));
        let mut process = command.arg("backup").arg(folder.path().join("backup")).spawn().unwrap();
        let _connection = silent.accept().unwrap();
        assert_eq!(names(folder.path()).len(), 2, "{:?}", names(folder.path()));
        send_signal(&process, signal);
        assert_eq!(process.wait().unwrap().code(), Some(130), "{signal:?}");
        assert_eq!(names(folder.path()), ["cairld.sock"], "{signal:?}");
    }
}

#[test]
fn a_backup_is_not_lost_in_output_that_is_closed() {
    let program = cairlctl().get_program().to_owned();
    for redirected in ["exec \"$0\" backup - >&-", "exec \"$0\" backup - >/dev/null"] {
        let (ended, _, error) = output(Command::new("/bin/sh").arg("-c").arg(redirected).arg(&program));
        assert_eq!(ended.status.code(), Some(74), "{redirected}: {error}");
        assert!(error.contains("OUTPUT_FAILED") && error.contains("Name a file"), "{error}");
    }
}

#[test]
fn what_is_to_be_ignored_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = endless("/dev/zero", Some("HUP"), folder.path());
    assert_eq!(signals(&process, "SigIgn:") & 1, 1, "nohup(1) stays in force");
    send_signal(&process, Signal::TERM);
    assert_eq!(process.wait().unwrap().code(), Some(130));
}
