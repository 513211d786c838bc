//! The daemon under clocks that are set, for real.
//!
//! libfaketime stands between the daemon and libc, and tells another wall time whenever a file says so. The daemon reads
//! the wall clock through the standard library, thus through libc, and the boot clock by a system call of its own
//! (`src/daemon/clock.rs`). So the one jumps and the other goes on: just what happens where somebody sets the clock of a
//! machine. The runtime's timers run on the monotonic clock, which setting does not move, so it is left alone here too.
//!
//! `.ci/run` runs these; they need libfaketime (`scripts/tools.sh libfaketime`), and the second a time namespace.

use std::{env, fs, path::PathBuf, process::Command};

use cairld::api::proto::{Session, SessionStatus, TokenStatus};

use crate::support::{CHECKOUT, Client, Daemon, READER, World, refused, start_request};

const HOUR: i64 = 3600;

/// A wall clock that can be set.
struct Wall<'w> {
    world: &'w World,
    library: String,
    offset: PathBuf,
}

impl<'w> Wall<'w> {
    fn new(world: &'w World) -> Self {
        let library = env::var("CAIRLD_LIBFAKETIME").expect("the path of libfaketime in CAIRLD_LIBFAKETIME");
        assert!(fs::exists(&library).unwrap(), "{library}");
        let wall = Self { world, library, offset: world.path("offset") };
        wall.set(0);
        wall
    }

    /// Sets it to so many seconds after the time that it is, for processes that run and for those to come.
    fn set(&self, seconds: i64) {
        let part = self.world.path("offset.part");
        fs::write(&part, format!("{seconds:+}")).unwrap();
        // Renamed, since the daemon reads the file at any moment.
        fs::rename(part, &self.offset).unwrap();
    }

    fn environment(&self) -> [(&str, &str); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            // Times of files are not what is tested.
            ("NO_FAKE_STAT", "1"),
        ]
    }

    fn daemon(&self) -> Daemon {
        Daemon::start_with(&self.world.config(), &self.environment())
    }

    /// The daemon after so many seconds in which the machine slept: its boot clock, and nothing else, is ahead.
    fn daemon_after_sleep(&self, seconds: u32) -> Daemon {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--time", "--boottime", &seconds.to_string()]);
        // The library comes in behind `unshare`, which has no need of it.
        command.arg("env").args(self.environment().map(|(name, value)| format!("{name}={value}")));
        command.arg(env!("CARGO_BIN_EXE_cairld")).env_remove("RUST_LOG");
        Daemon::start_by(command, &self.world.config())
    }
}

/// The caller `checkout` by its token, since a daemon in a namespace sees other user ids.
async fn checkout(world: &World) -> Client {
    Client::unix(&world.path("cairld.sock"), Some(CHECKOUT)).await
}

/// Seconds by which a session's creation lies behind another's, to the nearest quarter of an hour: how fast the test runs
/// does not matter.
fn ahead(session: &Session, of: &Session) -> i64 {
    let seconds = |session: &Session| session.create_time.unwrap().seconds;
    let quarter = HOUR / 4;
    (seconds(session) - seconds(of) + quarter / 2).div_euclid(quarter) * quarter
}

/// The wall time that a log has for its first line with a text, as it is ahead of a session's creation.
fn logged(log: &str, text: &str, of: &Session) -> i64 {
    let line =
        log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in:\n{log}"));
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let time: jiff::Timestamp = event["timestamp"].as_str().unwrap().parse().unwrap();
    let at = prost_types::Timestamp { seconds: time.as_second(), nanos: 0 };
    ahead(&Session { create_time: Some(at), ..Session::default() }, of)
}

/// What a line of the log has that tells of a call which was not granted.
fn not_granted(method: &str) -> String {
    format!("\"service\":\"cairld.v1.IntegrationService\",\"method\":\"{method}\"")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs libfaketime; .ci/run runs it"]
async fn setting_the_clock_while_the_daemon_runs_changes_nothing() {
    let world = World::new().await;
    let wall = Wall::new(&world);
    let daemon = wall.daemon();
    let mut client = checkout(&world).await;
    let (first, callback) = world.approved(&mut client).await;
    let first = client.session(&first).await.unwrap();
    let mut last = first.clone();
    // May only read: each other call of his is a line in the log.
    let mut reader = Client::unix(&world.path("cairld.sock"), Some(READER)).await;
    for offset in [HOUR, -HOUR, 0, 365 * 24 * HOUR] {
        wall.set(offset);
        if offset == HOUR {
            assert_eq!(refused(reader.start(start_request()).await).reason, "RPC_NOT_GRANTED");
        }
        if offset == -HOUR {
            assert_eq!(refused(reader.cancel(&first.id).await).reason, "RPC_NOT_GRANTED");
        }
        let next = client.started().await.session.unwrap();
        assert_eq!(ahead(&next, &first), 0, "the clock stood {offset:+} s");
        assert!(next.id > last.id, "{} follows {}", next.id, last.id);
        assert_eq!(client.session(&first.id).await.unwrap(), first, "neither over nor longer");
        last = next;
    }
    let complete = client.completed(&callback).await.unwrap();
    assert_eq!(complete.status(), SessionStatus::Complete);
    wall.set(-HOUR);
    let token = client.session(&first.id).await.unwrap().token.unwrap();
    assert_eq!((token.status(), token.expire_time), (TokenStatus::Held, complete.token.unwrap().expire_time));
    // The log is written with the wall clock as the process sees it: the jumps did reach it.
    let log = daemon.kill();
    assert_eq!(logged(&log, &not_granted("StartAuthorization"), &first), HOUR);
    assert_eq!(logged(&log, &not_granted("CancelAuthorization"), &first), -HOUR);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs libfaketime; .ci/run runs it"]
async fn setting_the_clock_between_runs_of_one_boot_moves_times_and_no_lives() {
    let world = World::new().await;
    let wall = Wall::new(&world);
    let daemon = wall.daemon();
    let mut client = checkout(&world).await;
    let first = client.started().await;
    let mut waiting = vec![(first.session.clone().unwrap(), first.authorization_url)];
    let first = first.session.unwrap();
    daemon.kill();
    for offset in [HOUR, -HOUR] {
        wall.set(offset);
        let daemon = wall.daemon();
        let mut client = checkout(&world).await;
        for (before, _) in &waiting {
            assert_eq!(client.session(&before.id).await.unwrap(), *before, "the clock stands {offset:+} s");
        }
        let next = client.started().await;
        let session = next.session.unwrap();
        // What a process reads at its start is what the clock says; the order of ids is another matter.
        assert_eq!(ahead(&session, &first), offset);
        assert!(waiting.iter().all(|(before, _)| session.id > before.id), "{} goes back", session.id);
        waiting.push((session, next.authorization_url));
        daemon.kill();
    }
    wall.set(0);
    let _daemon = wall.daemon();
    let mut client = checkout(&world).await;
    for (_, authorization_url) in waiting {
        let callback = world.provider.approve(&authorization_url).await;
        assert_eq!(client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs libfaketime and a time namespace; .ci/run runs it"]
async fn the_boot_clock_ends_a_session_across_runs_whatever_the_wall_clock_says() {
    let world = World::new().await;
    let wall = Wall::new(&world);
    let daemon = wall.daemon();
    let (id, callback) = world.approved(&mut checkout(&world).await).await;
    daemon.kill();
    for (offset, slept, status) in
        [(HOUR, 20 * 60, SessionStatus::Pending), (-HOUR, 40 * 60, SessionStatus::Expired)]
    {
        wall.set(offset);
        let daemon = wall.daemon_after_sleep(slept);
        let mut client = checkout(&world).await;
        let session = client.session(&id).await.unwrap();
        assert_eq!(session.status(), status, "{slept} s have gone by, the clock stands {offset:+} s");
        if status == SessionStatus::Expired {
            assert_eq!(refused(client.completed(&callback).await).reason, "SESSION_EXPIRED");
        }
        daemon.kill();
    }
    assert_eq!(world.provider.token_requests().await, 0);
}
