//! `cairlctl session watch`, from argument to exit code.

use super::*;

fn watch(fake: &Fake, rest: &[&str]) -> Outcome {
    cairlctl(&[&["--endpoint", fake.endpoint(), "session", "watch"], rest].concat(), b"")
}

#[test]
fn a_session_is_told_to_its_end() {
    let fake = Fake::on_tcp();
    let told = watch(&fake, &["ses_1"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let expected = "\
- ses_1 pending: the user has not come back yet
- ses_1 exchanging: the code or the claims are being fetched
- ses_1 complete
";
    assert_eq!(told.out, expected);

    let told = watch(&fake, &["ses_1", "--json"]);
    let told: Vec<Value> = told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told[2], json!({ "session": { "id": "ses_1", "status": "SESSION_STATUS_COMPLETE" } }));
}

#[test]
fn a_watch_ends_as_other_commands_do() {
    let fake = Fake::on_unix();
    let missing = watch(&fake, &["ses_missing"]);
    assert_eq!((missing.code, missing.out.as_str()), (1, ""));
    assert!(missing.err.starts_with("cairlctl: WatchSession: no such session\n"), "{}", missing.err);
    let stopping = watch(&fake, &["ses_stopping"]);
    assert_eq!((stopping.code, stopping.out.lines().count()), (69, 1), "what was told is written");
    assert!(stopping.err.contains("SHUTTING_DOWN") && stopping.err.contains("Watch again."));
    assert_eq!(watch(&fake, &[]).code, 64, "a session is named");
    assert_eq!(unread(&["--endpoint", fake.endpoint(), "session", "watch", "ses_open"]), 0);
}

#[test]
fn a_watch_that_is_interrupted_has_not_seen_the_end() {
    let fake = Fake::on_unix();
    let arguments = ["--endpoint", fake.endpoint(), "session", "watch", "ses_open"];
    let outcome = cairlctl_until(&mut future::ready(Ended::Interrupted), &arguments, b"");
    assert_eq!((outcome.code, outcome.err.as_str()), (130, ""));
}

/// In gRPC a deadline is that of the whole stream, and a watch lasts.
#[test]
fn a_watch_has_no_deadline_and_other_calls_have_one() {
    let fake = Fake::on_unix();
    assert_eq!(watch(&fake, &["ses_1", "--timeout", "59s"]).code, 0);
    let events = ["events", "watch", "--consumer", "c", "--count", "1", "--ack"];
    assert_eq!(cairlctl(&[&["--endpoint", fake.endpoint()], &events[..]].concat(), b"").code, 0);
    assert_eq!(cairlctl(&["--endpoint", fake.endpoint(), "events", "list", "--type", "none"], b"").code, 0);
    assert_eq!(fake.timed(), [false, false, true, true]);
}
