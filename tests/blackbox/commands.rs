//! The commands, as a shell sees them: output, errors, exit codes.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::Value;

use crate::support::{CHECKOUT, Daemon, World, cairlctl, cairld, contains, output};

const META: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("meta");

fn run(command: &mut Command) -> (i32, String, String) {
    let (status, stdout, stderr) = output(command);
    (status.status.code().unwrap(), stdout, stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_everything_at_once() {
    let world = World::new().await;
    let (code, stdout, _) = run(cairld().arg("check").arg("--config").arg(world.config()));
    assert_eq!(code, 0);
    assert!(stdout.contains("nothing is wrong"), "{stdout}");

    // What is not there before the daemon's first start may be by then.
    let elsewhere = world.config_text().replace("\"cairld.redb\"", "\"state/cairld.redb\"");
    fs::write(world.config(), elsewhere).unwrap();
    let (code, stdout, stderr) = run(cairld().arg("check").arg("--config").arg(world.config()));
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let folder = world.path("state").display().to_string();
    assert!(
        stdout.contains(&format!("warning: store.path: {folder} is not there; a start needs it")),
        "{stdout}"
    );
    assert!(!stdout.contains("grpc.unix") && stdout.contains("nothing is wrong"), "{stdout}");

    // A host without root certificates.
    fs::write(world.config(), world.config_text()).unwrap();
    for command in ["check", "serve"] {
        let mut without = cairld();
        without.arg(command).arg("--config").arg(world.config());
        without.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", world.path("none"));
        // As it is said, and not as JSON quotes it.
        without.env("CAIRLD_LOG_FORMAT", "text");
        let (code, _, stderr) = run(&mut without);
        assert_eq!(code, 78, "EX_CONFIG: {stderr}");
        assert!(
            stderr.contains("client \"shop\"") && stderr.contains("system's CA certificates"),
            "{stderr}"
        );
    }

    let text = world
        .config_text()
        .replace("insecure = true", "insecur = true")
        .replace("rpcs = [\"GetSession\"]", "rpcs = [\"GetSesion\"]");
    fs::write(world.config(), text).unwrap();
    fs::set_permissions(world.path("client.secret"), fs::Permissions::from_mode(0o644)).unwrap();
    for command in ["check", "serve"] {
        let (code, _, stderr) = run(cairld().arg(command).arg("--config").arg(world.config()));
        assert_eq!(code, 78, "EX_CONFIG: {stderr}");
        for part in ["cairld.toml:5:", "insecure", "GetSession", "chmod 600"] {
            assert!(stderr.contains(part), "{command} does not say {part}: {stderr}");
        }
        assert!(!stderr.contains("cs_0123"), "no secret: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_opens_as_many_files_as_it_may() {
    let world = World::new().await;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 256; exec \"$0\" \"$@\""]).arg(cairld().get_program());
    let daemon = Daemon::start_by(command, &world.config());
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let files: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "the soft limit is the hard one: {files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_start_is_said_with_its_exit_code() {
    let world = World::new().await;
    let daemon = world.daemon();
    let serve = || run(cairld().arg("serve").arg("--config").arg(world.config()));
    let (code, _, stderr) = serve();
    assert_eq!(code, 69, "EX_UNAVAILABLE: {stderr}");
    assert!(stderr.contains("cairld.sock") && stderr.contains("another process listens there"), "{stderr}");

    let elsewhere = world.config_text().replace("cairld.sock", "second.sock");
    fs::write(
        world.config(),
        elsewhere.replace("127.0.0.1:0\"\ninsecure", &format!("{}\"\ninsecure", daemon.tcp())),
    )
    .unwrap();
    let (code, _, stderr) = serve();
    assert_eq!(code, 69, "EX_UNAVAILABLE: {stderr}");
    assert!(stderr.contains(daemon.tcp()), "{stderr}");
    assert!(!world.path("second.sock").exists(), "it goes with the one that could not start");

    fs::write(world.config(), elsewhere).unwrap();
    let (code, _, stderr) = serve();
    assert_eq!(code, 75, "EX_TEMPFAIL: {stderr}");
    assert!(
        stderr.contains("cairld.redb") && stderr.contains("another process has this store open"),
        "{stderr}"
    );
    assert!(!world.path("second.sock").exists() && world.path("cairld.sock").exists());
    daemon.kill();

    world.write_secret("store.key", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    let (code, _, stderr) = serve();
    assert_eq!(code, 78, "EX_CONFIG: {stderr}");
    assert!(stderr.contains("keys.files"), "{stderr}");

    world.write_secret("store.key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    let store = redb::Database::open(world.path("cairld.redb")).unwrap();
    let newer = store.begin_write().unwrap();
    let version: [u8; 4] = newer
        .open_table(META)
        .unwrap()
        .insert(&b"schema_version"[..], &[0, 0, 0, 99][..])
        .unwrap()
        .map(|before| before.value().try_into().unwrap())
        .unwrap();
    newer.commit().unwrap();
    drop(store);
    let (code, _, stderr) = serve();
    let knows = u32::from_be_bytes(version);
    assert_eq!(code, 78, "EX_CONFIG: {stderr}");
    assert!(stderr.contains(&format!("schema version 99, this one knows {knows}")), "{stderr}");

    for (setting, right, wrong) in [
        ("store.path", "cairld.redb", "no/such/folder/cairld.redb"),
        ("store.path", "cairld.redb", "store.key/cairld.redb"),
        ("grpc.unix", "cairld.sock", "no/such/folder/cairld.sock"),
    ] {
        fs::write(world.config(), world.config_text().replace(right, wrong)).unwrap();
        let (code, _, stderr) = serve();
        assert_eq!(code, 78, "EX_CONFIG, not to be started anew: {stderr}");
        assert!(stderr.contains(setting) && stderr.contains(wrong), "{stderr}");
    }

    fs::write(world.config(), world.config_text().replace("cairld.sock", "store.key")).unwrap();
    for command in ["check", "serve"] {
        let (code, _, stderr) = run(cairld().arg(command).arg("--config").arg(world.config()));
        assert_eq!(code, 78, "EX_CONFIG: {stderr}");
        assert!(stderr.contains("grpc.unix") && stderr.contains("no socket; move it away"), "{stderr}");
    }
    assert!(world.path("store.key").exists(), "it is left alone");

    let foreign = world.config_text().replace("ops = \"127.0.0.1:0\"", "ops = \"192.0.2.7:9464\"");
    fs::write(world.config(), foreign).unwrap();
    let (code, _, stderr) = serve();
    assert_eq!(code, 69, "EX_UNAVAILABLE: {stderr}");
    assert!(
        stderr.contains("http.ops = 192.0.2.7:9464") && stderr.contains("no interface of this host"),
        "{stderr}"
    );

    fs::write(world.config(), world.config_text()).unwrap();
    let mut few_files = Command::new("sh");
    few_files.args(["-c", "ulimit -n 16; exec \"$0\" \"$@\""]).arg(cairld().get_program());
    let (code, _, stderr) = run(few_files.arg("serve").arg("--config").arg(world.config()));
    assert_eq!(code, 71, "EX_OSERR: {stderr}");
    assert!(stderr.contains("no more than 16 files") && stderr.contains("LimitNOFILE="), "{stderr}");

    assert_eq!(run(cairld().arg("serve").arg("--nonsense")).0, 64, "EX_USAGE");
    assert_eq!(run(cairld().args(["sandbox", "--listen", "0.0.0.0:0"])).0, 64, "loopback alone");
    assert_eq!(run(cairld().arg("--version")).0, 0);
}

#[test]
fn keygen_makes_a_key_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.key");
    assert_eq!(run(cairld().arg("keygen").arg(&path)).0, 0);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!(key.trim().len(), 44);
    let (code, _, stderr) = run(cairld().arg("keygen").arg(&path));
    assert_eq!(code, 73, "EX_CANTCREAT: never over an old key");
    assert!(stderr.contains("store.key") && stderr.contains("choose another name"), "{stderr}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    assert_eq!(fs::read_to_string(&path).unwrap(), key);
    let (code, stdout, _) = run(cairld().arg("keygen"));
    assert_eq!((code, stdout.trim().len()), (0, 44));
    assert_ne!(stdout, key);
}

#[tokio::test(flavor = "multi_thread")]
async fn cairlctl_does_the_main_job_over_either_socket() {
    let world = World::new().await;
    let daemon = world.daemon();
    world.write_secret("ctl.token", CHECKOUT);
    let socket = format!("unix:{}", world.path("cairld.sock").display());
    let tcp = format!("http://{}", daemon.tcp());
    for (endpoint, token) in [(&socket, false), (&tcp, true)] {
        let ctl = |args: &[&str]| {
            let mut command = cairlctl();
            command.arg("--endpoint").arg(endpoint);
            if token {
                command.arg("--token-file").arg(world.path("ctl.token"));
            }
            run(command.args(args))
        };
        let (code, stdout, stderr) = ctl(&["--json", "start", "--scope", "age_18_plus"]);
        assert_eq!(code, 0, "{stderr}");
        let started: Value = serde_json::from_str(&stdout).unwrap();
        let callback = world.provider.approve(started["authorizationUrl"].as_str().unwrap()).await;
        let (code, stdout, stderr) = ctl(&["complete", &callback]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("age_18_plus") && stdout.contains("true"), "{stdout}");
        let (code, stdout, _) =
            ctl(&["--json", "session", "get", started["session"]["id"].as_str().unwrap()]);
        assert_eq!(code, 0);
        let session: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(session["session"]["status"], "SESSION_STATUS_COMPLETE");
        let (code, _, stderr) = ctl(&["complete", &callback]);
        assert_eq!(code, 1);
        assert!(stderr.contains("STATE_ALREADY_USED") && stderr.contains("GetSession"), "{stderr}");
        assert_eq!(ctl(&["status"]).0, 0);
    }
    daemon.kill();
    let (code, _, stderr) = run(cairlctl().args(["--endpoint", &socket, "status"]));
    assert_eq!(code, 69, "EX_UNAVAILABLE: {stderr}");
}

#[test]
fn cairlctl_explains_errors_where_no_daemon_is() {
    let explain =
        |args: &[&str]| run(cairlctl().args(["--endpoint", "unix:/nonexistent", "explain"]).args(args));
    let (code, stdout, stderr) = explain(&["--stage", "token", "invalid_request"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("INVALID_REQUEST\n") && stdout.contains("client_secret_file"), "{stdout}");
    assert_eq!(explain(&[]).0, 0);
    let (code, stdout, stderr) = explain(&["invalid_grand"]);
    assert_eq!((code, stdout.as_str()), (64, ""), "EX_USAGE");
    assert!(stderr.contains("INVALID_GRANT"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_flow_is_on_disk_or_in_the_log() {
    let world = World::new().await;
    let daemon = crate::support::Daemon::start_with(&world.config(), &[("RUST_LOG", "trace")]);
    let mut client = world.unix().await;
    let started = client.started().await;
    let callback = world.provider.approve(&started.authorization_url).await;
    let complete = client.completed(&callback).await.unwrap();
    let log = daemon.kill();
    assert!(log.contains("serving gRPC"), "{log}");
    let code = crate::support::parameter(&callback, "code");
    let secret_half = &started.state[24..];
    for secret in [&started.state, secret_half, &code, &complete.subject, CHECKOUT, "cs_0123", "whsec_"] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!contains(&world.path("cairld.redb"), secret.as_bytes()), "{secret} is on disk");
    }
    assert!(contains(&world.path("cairld.redb"), b"checkout"), "the search itself works");
}
