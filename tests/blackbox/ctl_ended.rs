//! `cairlctl`, ended in the midst of something by whoever started it: nothing stays behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;

use crate::support::{cairlctl, output, send_signal};

/// `cairlctl`, to which signals are what they are by default but for one, whatever they are to who runs the tests.
fn signalled(ignored: Option<&str>) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP");
    command.args(ignored.map(|signal| format!("--ignore-signal={signal}")));
    command.arg(cairlctl().get_program()).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A restore of what has no end, begun.
fn endless(ignored: Option<&str>, folder: &Path) -> Child {
    let mut command = signalled(ignored);
    command.args(["restore", "/dev/zero", "--to"]).arg(folder.join("store.redb"));
    let mut process = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("copied and looked at"), "{line}");
    process
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_restore_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let mut process = endless(None, folder.path());
        assert!(names(folder.path())[0].starts_with(".cairlctl-"), "{:?}", names(folder.path()));
        send_signal(&process, signal);
        assert_eq!(process.wait().unwrap().code(), Some(130), "{signal:?}");
        assert_eq!(names(folder.path()), [""; 0], "{signal:?}");
    }
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
    let mut process = endless(Some("HUP"), folder.path());
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let bits = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_eq!(bits & 1, 1, "nohup(1) stays in force: {status}");
    send_signal(&process, Signal::TERM);
    assert_eq!(process.wait().unwrap().code(), Some(130));
}
