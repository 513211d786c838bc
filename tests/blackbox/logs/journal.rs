//! The journal, with a socket of the test's own in its place: the daemon runs where another file system is mounted on
//! `/run`. Where that is not permitted, nothing is tested here, which is said; scripts/service.sh needs the same.

use std::{
    collections::HashMap,
    fs,
    io::{PipeReader, Read, pipe},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::{
    fs::fstat,
    process::{Pid, Signal, kill_process},
};

use crate::support::{CHECKOUT, CLIENT_ID, Client, SURELY, World, cairld, output, refused};

/// What becomes the daemon, with a folder for `/run/systemd/journal`.
const INSIDE: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
                      mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";

/// The folder that stands for `/run/systemd/journal`.
const JOURNAL: &str = "journal";
const LEFT_OUT: &str = "this machine permits no mount namespace; the journal is left out";

/// An entry, by its fields; a field may be there more than once.
type Entry = HashMap<String, Vec<String>>;

fn may_mount() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs tmpfs /run"]);
    unshare.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon, whose standard error is a pipe that it is told is the journal's.
fn serve(world: &World, run: &Path) -> (Ended, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let stat = fstat(&writer).unwrap();
    let daemon = cairld();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", INSIDE, "sh"]).arg(run).arg(daemon.get_program());
    command.args(["serve", "--config"]).arg(world.config()).stdin(Stdio::null()).stderr(writer);
    command.env_remove("RUST_LOG").env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
    (Ended(command.spawn().unwrap()), reader)
}

/// Reads an entry as <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/> has it.
fn read(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (std::str::from_utf8(&bytes[..end]).unwrap(), &bytes[end + 1..]);
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => {
                bytes = rest;
                (key, value.to_owned())
            }
            None => {
                let (length, rest) = rest.split_first_chunk::<8>().unwrap();
                let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
                bytes = rest.strip_prefix(b"\n").unwrap();
                (line, String::from_utf8(value.to_vec()).unwrap())
            }
        };
        assert!(
            key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'),
            "{key}"
        );
        entry.entry(key.to_owned()).or_default().push(value);
    }
    entry
}

/// Entries until one says so.
fn until(socket: &UnixDatagram, words: &str) -> Vec<Entry> {
    let (mut entries, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{error}, in vain for {words:?} in {entries:#?}"));
        let entry = read(&buffer[..length]);
        let is_it = entry.get("MESSAGE").is_some_and(|said| said[0].starts_with(words));
        entries.push(entry);
        if is_it {
            return entries;
        }
    }
}

/// A world whose daemon's journal is this socket.
async fn with_journal() -> (World, UnixDatagram) {
    let world = World::new().await;
    let run = world.path(JOURNAL);
    fs::create_dir(&run).unwrap();
    let socket = UnixDatagram::bind(run.join("socket")).unwrap();
    socket.set_read_timeout(Some(SURELY)).unwrap();
    (world, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_the_journal_have_fields() {
    if !may_mount() {
        println!("{LEFT_OUT}");
        return;
    }
    let (world, socket) = with_journal().await;
    let (daemon, mut stderr) = serve(&world, &world.path(JOURNAL));
    let began = until(&socket, "serving gRPC on TCP");
    let said = |words: &str| {
        let is_it = |entry: &&Entry| entry.get("MESSAGE").is_some_and(|said| said[0].starts_with(words));
        began.iter().find(is_it).unwrap_or_else(|| panic!("nothing of {words:?} in {began:#?}"))
    };
    let warning = said("there is no store yet");
    assert_eq!((&warning["PRIORITY"][0][..], &warning["SYSLOG_IDENTIFIER"][0][..]), ("4", "cairld"));
    let address = began.last().unwrap()["CAIRLD_ADDRESS"][0].clone();

    let mut client = Client::tcp(&address, Some(CHECKOUT)).await;
    let (id, callback) = world.approved(&mut client).await;
    world.provider.fault(serde_json::json!({"endpoint": "token", "times": 1, "status": 402})).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "PROVIDER_REFUSED");
    let failed = until(&socket, "a callback did not complete").pop().unwrap();
    assert_eq!(failed["CAIRLD_REASON"], ["PROVIDER_REFUSED"]);
    client.completed(&callback).await.unwrap();
    let entry = until(&socket, "a session is complete").pop().unwrap();
    // From the line, and from the spans around it.
    for (key, value) in
        [("CAIRLD_METHOD", "CompleteAuthorization"), ("CAIRLD_CALLER", "checkout"), ("CAIRLD_CLIENT", "shop")]
    {
        assert!(entry[key].iter().all(|found| found == value), "{entry:?}");
    }
    assert!(entry["CAIRLD_SESSION"].iter().all(|found| *found == id), "{entry:?}");
    assert_eq!(
        (&entry["PRIORITY"][..], &entry["CODE_FILE"][..]),
        (&["6".to_owned()][..], &["src/flows/complete.rs".to_owned()][..])
    );
    let all = format!("{failed:?}{entry:?}{began:?}");
    assert!(![CHECKOUT, CLIENT_ID, "cs_0123", "whsec_"].iter().any(|secret| all.contains(secret)), "{all}");

    drop(daemon);
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "what is in the journal is nowhere else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_in_its_message_what_it_changes_or_what_is_wrong() {
    if !may_mount() {
        println!("{LEFT_OUT}");
        return;
    }
    let (world, socket) = with_journal().await;
    let (daemon, _stderr) = serve(&world, &world.path(JOURNAL));
    until(&socket, "serving webhooks");
    let good = fs::read_to_string(world.config()).unwrap();
    let reloads = [
        (good.replace("[grpc]\n", "[grpc]\ntls = 1\n"), "cannot be reloaded", "grpc.tls: ", "3"),
        (
            good.replace("cairld.redb", "b.redb"),
            "was read anew and is not in force",
            "store.path: cannot be changed",
            "3",
        ),
        (
            good.replace("rpcs = [\"GetSession\"]", "rpcs = [\"GetSession\", \"WatchSession\"]"),
            "was read anew and is in force",
            ": caller reader: rpcs",
            "6",
        ),
    ];
    for (text, words, problem, severity) in reloads {
        fs::write(world.config(), text).unwrap();
        kill_process(Pid::from_child(&daemon.0), Signal::HUP).unwrap();
        // The message is all that `journalctl` shows of it.
        let entry = until(&socket, &format!("the configuration {words}")).pop().unwrap();
        let (message, priority) = (&entry["MESSAGE"][0], &entry["PRIORITY"][0]);
        assert!(message.contains(problem) && priority == severity, "{entry:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_the_log_is_json_and_says_so_once() {
    if !may_mount() {
        println!("{LEFT_OUT}");
        return;
    }
    let world = World::new().await;
    let run = world.path("journal");
    fs::create_dir(&run).unwrap();
    fs::write(world.config(), "nonsense").unwrap();
    let (mut daemon, mut stderr) = serve(&world, &world.path(JOURNAL));
    assert_eq!(daemon.0.wait().unwrap().code(), Some(78));
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let (first, rest) = said.split_once('\n').unwrap();
    let line: serde_json::Value = serde_json::from_str(first).unwrap();
    let message = line["message"].as_str().unwrap();
    assert!(message.starts_with("the journal does not take the log"), "{said}");
    assert_eq!(line["level"], "WARN");
    let last: serde_json::Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert!(last["level"] == "ERROR" && last["message"].as_str().unwrap().contains("not TOML"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_are_an_entry_of_the_journal() {
    if !may_mount() {
        println!("{LEFT_OUT}");
        return;
    }
    let (world, socket) = with_journal().await;
    fs::write(world.config(), "nonsense").unwrap();
    let (mut daemon, mut stderr) = serve(&world, &world.path(JOURNAL));
    assert_eq!(daemon.0.wait().unwrap().code(), Some(78));
    let entry = until(&socket, &world.config().display().to_string()).pop().unwrap();
    assert_eq!((&entry["PRIORITY"][0][..], &entry["SYSLOG_IDENTIFIER"][0][..]), ("3", "cairld"), "{entry:?}");
    assert!(entry["MESSAGE"][0].contains("not TOML"), "{entry:?}");
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "what is in the journal is nowhere else");
}

#[test]
fn a_failure_is_an_error_in_the_journal_line_by_line() {
    let (mut reader, writer) = pipe().unwrap();
    let stat = fstat(&writer).unwrap();
    let mut check = cairld();
    check.args(["check", "--config", "/nowhere/cairld.toml"]).stdin(Stdio::null()).stderr(writer);
    check.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
    assert_eq!(check.status().unwrap().code(), Some(78));
    drop(check);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(!said.is_empty() && said.lines().all(|line| line.starts_with("<3>")), "{said}");

    // Standard error has been sent elsewhere since.
    let mut check = cairld();
    check.args(["check", "--config", "/nowhere/cairld.toml"]);
    let (_, _, said) = output(check.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino)));
    assert!(said.starts_with("cairld: "), "{said}");
}
