//! Output that goes nowhere: a reader that has gone, a disk that is full.

use std::io::{self, ErrorKind, Read};

use super::{fake::backup, *};

/// Output that takes nothing.
struct Broken(ErrorKind);

impl io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command whose output nobody takes; answers its exit code, and what it says on standard error.
fn untaken(kind: ErrorKind, arguments: &[&str], stdin: &mut dyn Read) -> (u8, String) {
    let mut stderr = Vec::new();
    let exit = run_with(
        ["cairlctl"].iter().chain(arguments).map(Into::into),
        &mut Streams {
            stdin,
            stdout: &mut Broken(kind),
            stderr: &mut stderr,
            on_terminal: false,
            is_discarded: false,
            ending: &mut future::pending(),
        },
    );
    (exit.code(), String::from_utf8(stderr).unwrap())
}

/// Runs a command whose output nobody reads any more; answers its exit code.
pub(super) fn unread(arguments: &[&str]) -> u8 {
    untaken(ErrorKind::BrokenPipe, arguments, &mut io::empty()).0
}

#[test]
fn a_reader_that_has_gone_does_not_stop_the_command() {
    let fake = Fake::on_unix();
    assert_eq!(unread(&["--endpoint", fake.endpoint(), "status"]), 0);
}

/// The remedy of a command whose answer finds no room.
fn remedy(arguments: &[&str], mut stdin: &[u8]) -> String {
    let arguments = [&["--json"], arguments].concat();
    let (code, said) = untaken(ErrorKind::StorageFull, &arguments, &mut stdin);
    assert_eq!(code, 74, "{said}");
    let error = &serde_json::from_str::<Value>(&said).unwrap()["error"];
    assert_eq!(error["reason"], "OUTPUT_FAILED", "{said}");
    error["remedy"].as_str().unwrap().to_owned()
}

#[test]
fn what_only_read_is_run_again_where_its_answer_found_no_room() {
    let fake = Fake::on_unix();
    for command in
        [&["status"][..], &["events", "list"], &["session", "get", "ses_1"], &["explain", "PAYMENT_REQUIRED"]]
    {
        let told = remedy(&[&["--endpoint", fake.endpoint()], command].concat(), b"");
        assert_eq!(told, "Make room where the output goes, and run the command again.", "{command:?}");
    }
}

#[test]
fn what_was_done_stays_done_where_its_answer_found_no_room() {
    let (fake, folder) = (Fake::on_unix(), TempDir::new().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (copy, store) = (path("copy"), path("store.redb"));
    std::fs::write(path("backup"), backup()).unwrap();
    let start = ["start", "--client", "demo", "--scope", "age_18_plus", "--scope", "resident"];
    for (command, stdin, expected) in [
        (&start[..], &b""[..], "same --request-id"),
        (&["complete", "-", "--binding", "b"], b"/callback?state=st&code=c\n", "`cairlctl session get`"),
        (&["session", "cancel", "ses_1"], b"", "`cairlctl session get`"),
        (&["session", "revoke", "ses_1"], b"", "`cairlctl session get`"),
        (&["webhook", "ingest", "--signature", "sha256=00", "-"], BODY, "again changes nothing"),
        (&["events", "ack", "--consumer", "c", "c3"], b"", "place was moved"),
        (&["events", "forget", "--consumer", "c"], b"", "is forgotten"),
        (&["store", "compact"], b"", "`cairlctl status`"),
        (&["backup", &copy], b"", "in its place"),
        (&["restore", &path("backup"), "--to", &store], b"", "start cairld"),
    ] {
        let told = remedy(&[&["--endpoint", fake.endpoint()], command].concat(), stdin);
        assert!(told.contains(expected), "{command:?}: {told}");
        assert!(!told.contains("run the command again"), "{command:?}: {told}");
    }
    for made in [copy, store] {
        assert_eq!(std::fs::read(made).unwrap(), backup());
    }
}
