//! Commands from argument to exit code, against a daemon that is a stand-in on a real socket.

mod care;
mod events;
mod fake;
mod key;
mod output;
mod watch;

use std::future;

use serde_json::{Value, json};
use tempfile::TempDir;

use self::{
    fake::{BODY, Fake},
    output::unread,
};
use super::{
    Streams,
    ending::{Ended, Ending},
    run_with,
};

/// What a command left behind.
struct Outcome {
    code: u8,
    out: String,
    /// The same, whatever it is.
    raw: Vec<u8>,
    err: String,
}

fn cairlctl(arguments: &[&str], stdin: &[u8]) -> Outcome {
    cairlctl_until(&mut future::pending(), arguments, stdin)
}

/// The same while somebody may stop waiting for it.
fn cairlctl_until(ending: Ending<'_>, arguments: &[&str], stdin: &[u8]) -> Outcome {
    cairlctl_on(false, ending, arguments, stdin)
}

/// The same with a terminal, or without.
fn cairlctl_on(on_terminal: bool, ending: Ending<'_>, arguments: &[&str], stdin: &[u8]) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut stdin = stdin;
    let exit = run_with(
        ["cairlctl"].iter().chain(arguments).map(Into::into),
        &mut Streams {
            stdin: &mut stdin,
            stdout: &mut out,
            stderr: &mut err,
            on_terminal,
            is_discarded: false,
            ending,
        },
    );
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { code: exit.code(), out: text(&out), err: text(&err), raw: out }
}

fn token_file(folder: &TempDir, mode: u32) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("token");
    std::fs::write(&path, "t0ken\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn a_flow_runs_over_both_kinds_of_socket() {
    for fake in [Fake::on_unix(), Fake::on_tcp()] {
        let endpoint = fake.endpoint();
        let at = |rest: &[&str], stdin: &[u8]| {
            let arguments = [&["--endpoint", endpoint][..], rest].concat();
            let outcome = cairlctl(&arguments, stdin);
            assert_eq!(outcome.code, 0, "{}", outcome.err);
            assert_eq!(outcome.err, "");
            outcome.out
        };
        let started =
            at(&["start", "--client", "demo", "--scope", "age_18_plus", "--scope", "resident"], b"");
        assert!(started.contains("status             pending"), "{started}");
        assert!(started.contains("authorization url  https://provider.example/verify?state=st"), "{started}");
        let completed = at(&["complete", "-", "--binding", "b"], b"/callback?state=st&code=c\n");
        assert!(completed.contains("  age_18_plus  true\n"), "{completed}");
        let shown = at(&["session", "get", "ses_1"], b"");
        assert!(shown.starts_with("session"), "{shown}");
        at(&["session", "get", "--state", "-"], b"st\n");
        at(&["session", "cancel", "ses_1"], b"");
        let revoked = at(&["session", "revoke", "ses_1"], b"");
        assert!(revoked.contains("token    revoked\n"), "{revoked}");
        let ingested = at(&["webhook", "ingest", "--signature", "sha256=00", "-"], BODY);
        assert!(ingested.contains("duplicate  no"), "{ingested}");
        let told = at(&["status"], b"");
        assert!(told.contains("  version  "), "{told}");
    }
}

#[test]
fn a_unix_socket_is_addressed_as_localhost() {
    let fake = Fake::on_unix();
    assert_eq!(cairlctl(&["--endpoint", fake.endpoint(), "status"], b"").code, 0);
    assert_eq!(fake.authorities(), ["localhost"]);
}

#[test]
fn json_is_the_contracts_own() {
    let fake = Fake::on_unix();
    let outcome = cairlctl(&["--endpoint", fake.endpoint(), "--json", "session", "get", "ses_1"], b"");
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let written: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(written, json!({ "session": { "id": "ses_1", "status": "SESSION_STATUS_PENDING" } }));
}

#[test]
fn the_token_is_sent_and_never_shown() {
    let fake = Fake::on_unix();
    let folder = TempDir::new().unwrap();
    let file = token_file(&folder, 0o600);
    for rest in [["session", "get", "ses_1"], ["session", "get", "ses_missing"]] {
        let outcome =
            cairlctl(&[&["--endpoint", fake.endpoint(), "--token-file", &file][..], &rest].concat(), b"");
        assert!(!format!("{}{}", outcome.out, outcome.err).contains("t0ken"));
    }
    assert_eq!(fake.tokens(), ["Bearer t0ken", "Bearer t0ken"]);

    let file = token_file(&folder, 0o644);
    let refused = cairlctl(&["--endpoint", fake.endpoint(), "--token-file", &file, "status"], b"");
    assert_eq!(refused.code, 77);
    assert!(refused.err.contains("chmod 600"), "{}", refused.err);
    assert_eq!(fake.tokens().len(), 2, "nothing was sent");
}

#[test]
fn a_refusal_says_what_to_do() {
    let fake = Fake::on_unix();
    let arguments = ["--endpoint", fake.endpoint(), "session", "get", "ses_missing"];
    let refused = cairlctl(&arguments, b"");
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    let expected = "\
cairlctl: GetSession: no such session
  reason  SESSION_NOT_FOUND (NOT_FOUND)
  remedy  Check the id.
";
    assert_eq!(refused.err, expected);

    let refused = cairlctl(&[&["--json"][..], &arguments].concat(), b"");
    let written: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(written["error"]["reason"], "SESSION_NOT_FOUND");
    assert_eq!(written["error"]["exitCode"], 1);
}

#[test]
fn an_error_is_explained_without_a_daemon() {
    let nowhere = ["--endpoint", "unix:/nonexistent/cairld.sock", "--token-file", "/nonexistent/token"];
    let explain = |rest: &[&str]| cairlctl(&[&nowhere[..], &["explain"], rest].concat(), b"");
    let one = explain(&["payment_required"]);
    assert_eq!((one.code, one.err.as_str()), (0, ""));
    for part in [
        "PAYMENT_REQUIRED\n",
        "  stage          token\n",
        "  provider says  402 `payment_required`\n",
        "cairl.app/home/billing",
        "  status         FAILED_PRECONDITION\n",
        "  retry          no\n",
        "  resumable      yes: with the same callback, once the cause is mended\n",
        "  session        as it was\n",
        "  see            docs/errors.md#payment_required\n",
    ] {
        assert!(one.out.contains(part), "no {part:?} in:\n{}", one.out);
    }
    let words = explain(&["rate", "limit"]);
    for name in ["RATE_LIMITED\n", "WEBHOOK_RATE\n"] {
        assert!(words.out.contains(name), "{}", words.out);
    }

    let json: Value = serde_json::from_str(&explain(&["--json", "--stage", "token", "503"]).out).unwrap();
    let explained = &json["explanations"][0];
    assert_eq!(explained["reason"], "PROVIDER_ERROR");
    assert_eq!((&explained["retryable"], &explained["resumable"]), (&json!(true), &json!(false)));
    assert_eq!((&explained["status"], &explained["session"]), (&json!("UNAVAILABLE"), &json!("as it was")));

    let all = explain(&[]);
    assert_eq!(all.code, 0);
    for reason in crate::domain::Reason::ALL {
        assert!(all.out.contains(&format!("  {reason}  ")), "{reason} is not listed:\n{}", all.out);
    }

    let unknown = explain(&["payment_requird"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (64, ""));
    assert!(unknown.err.contains("Did you mean PAYMENT_REQUIRED?"), "{}", unknown.err);
    let elsewhere = explain(&["payment_required", "--stage", "redirect"]);
    assert_eq!(elsewhere.code, 64);
    assert!(elsewhere.err.contains("it is known at: token"), "{}", elsewhere.err);
    let no_stage = explain(&["402", "--stage", "tokn"]);
    assert_eq!(no_stage.code, 64);
    assert!(no_stage.err.contains("token"), "{}", no_stage.err);
}

#[test]
fn an_answer_that_does_not_come_is_not_awaited_for_ever() {
    let fake = Fake::on_unix();
    let arguments = ["--endpoint", fake.endpoint(), "--timeout", "50ms", "session", "get", "ses_slow"];
    let outcome = cairlctl(&arguments, b"");
    assert_eq!(outcome.code, 75, "{}", outcome.err);
    assert!(outcome.err.contains("within 50ms"), "{}", outcome.err);
}

#[test]
fn a_daemon_that_is_not_there_is_told_with_its_endpoint() {
    let folder = TempDir::new().unwrap();
    let missing = format!("unix:{}/cairld.sock", folder.path().display());
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for endpoint in [missing, closed] {
        let outcome = cairlctl(&["--endpoint", &endpoint, "status"], b"");
        assert_eq!(outcome.code, 69);
        assert!(outcome.err.contains(&endpoint), "{}", outcome.err);
        assert!(outcome.err.contains("systemctl status cairld"), "{}", outcome.err);
    }
}

#[test]
fn something_else_on_the_port_is_no_daemon() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let outcome = cairlctl(&["--endpoint", &endpoint, "status"], b"");
    other.join().unwrap();
    assert_eq!(outcome.code, 69, "{}", outcome.err);
    assert!(outcome.err.contains("gRPC endpoint"), "{}", outcome.err);
}

#[test]
fn wrong_usage_is_64_and_help_is_not() {
    for arguments in [&[][..], &["nonsense"], &["--endpoint", "tcp:1", "status"], &["start"]] {
        let outcome = cairlctl(arguments, b"");
        assert_eq!((outcome.code, outcome.out.as_str()), (64, ""), "{arguments:?}");
        assert_ne!(outcome.err, "");
    }
    let help = cairlctl(&["--help"], b"");
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("Exit status:"), "{}", help.out);
    assert_eq!(cairlctl(&["--version"], b"").out, format!("cairlctl {}\n", env!("CARGO_PKG_VERSION")));
}
