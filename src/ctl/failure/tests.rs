use std::collections::HashMap;

use tonic_types::ErrorDetails;

use super::*;

fn target() -> Target {
    "unix:/run/cairld.sock".parse().unwrap()
}

fn failure(status: &Status) -> Failure {
    Failure::of_status("StartAuthorization", &target(), Duration::from_secs(60), status)
}

fn text(failure: &Failure, json: bool) -> String {
    let mut sink = Vec::new();
    failure.write(json, &mut sink).unwrap();
    String::from_utf8(sink).unwrap()
}

fn overloaded() -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
    let metadata = [("remedy", "Wait."), ("stage", "start")];
    details.set_error_info(
        "OVERLOADED",
        "cairld",
        metadata.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect::<HashMap<_, _>>(),
    );
    details.add_help_link("OVERLOADED", "docs/errors.md#overloaded");
    Status::with_error_details(Code::ResourceExhausted, "too much is pending", details)
}

#[test]
fn a_call_that_was_cut_at_its_deadline_is_told_as_such_whoever_was_faster() {
    let failure = failure(&Status::cancelled("Timeout expired"));
    assert!(text(&failure, false).contains("no answer from unix:/run/cairld.sock within 1m"));
    assert_eq!(failure.exit().code(), 75);
}

#[test]
fn a_refusal_is_one_block() {
    let expected = "\
cairlctl: StartAuthorization: too much is pending
  reason  OVERLOADED (RESOURCE_EXHAUSTED)
  remedy  Wait.
  retry   in 1s 500ms, with the same arguments
  stage   start
  see     docs/errors.md#overloaded
";
    let failure = failure(&overloaded());
    assert_eq!(text(&failure, false), expected);
    assert_eq!(failure.exit().code(), 75);
}

#[test]
fn a_refusal_is_one_object() {
    let written: Value = serde_json::from_str(&text(&failure(&overloaded()), true)).unwrap();
    let expected = json!({ "error": {
        "code": "RESOURCE_EXHAUSTED",
        "reason": "OVERLOADED",
        "message": "StartAuthorization: too much is pending",
        "remedy": "Wait.",
        "exitCode": 75,
        "metadata": { "stage": "start" },
        "retryDelay": "1.5s",
        "help": [{ "description": "OVERLOADED", "url": "docs/errors.md#overloaded" }],
    }});
    assert_eq!(written, expected);
}

#[test]
fn every_bad_field_is_named() {
    let mut details = ErrorDetails::with_bad_request_violation("scopes[0]", "has a space");
    details.add_bad_request_violation("client", "is too long");
    let status = Status::with_error_details(Code::InvalidArgument, "bad request", details);
    let failure = failure(&status);
    let written = text(&failure, false);
    assert!(written.contains("  field   scopes[0]: has a space\n"), "{written}");
    assert!(written.contains("  field   client: is too long\n"), "{written}");
    assert_eq!(failure.0.to_json()["error"]["fieldViolations"][1]["field"], "client");
    assert_eq!(failure.exit().code(), 65);
}

#[test]
fn a_bare_status_is_told_by_its_code() {
    let failure = failure(&Status::unimplemented("no such method"));
    let written = text(&failure, false);
    assert!(written.contains("reason  UNIMPLEMENTED\n"), "{written}");
    assert!(written.contains("another version"), "{written}");
    assert_eq!(failure.exit().code(), 76);
}

#[test]
fn a_refusal_cannot_steer_the_terminal() {
    let status = Status::not_found("\u{1b}[2Jgone\nreason  NONE");
    assert!(
        text(&failure(&status), false)
            .starts_with("cairlctl: StartAuthorization: \\u{1b}[2Jgone\\nreason  NONE\n")
    );
}

#[test]
fn a_broken_connection_is_not_a_refusal() {
    let failure = failure(&Status::from_error(Box::new(io::Error::other("reset by peer"))));
    assert_eq!(failure.exit().code(), 69);
    let written = text(&failure, false);
    assert!(written.contains("connection to unix:/run/cairld.sock broke: reset by peer"), "{written}");
    assert!(written.contains("CONNECTION_LOST"), "{written}");
}

#[test]
fn an_expired_deadline_is_told_as_one() {
    let failure = failure(&Status::from_error(Box::new(TimeoutExpired(()))));
    assert_eq!(failure.exit().code(), 75);
    assert!(text(&failure, false).contains("within 1m"));
    assert_eq!(failure.0.to_json()["error"]["code"], "DEADLINE_EXCEEDED");
}

#[test]
fn what_can_be_repeated_is_told_so() {
    let after = Duration::from_secs(60);
    let broken = Status::from_error(Box::new(io::Error::other("reset by peer")));
    for (call, is_harmless) in [("WatchEvents", true), ("CompactStore", true), ("StartAuthorization", false)]
    {
        let late = text(&Failure::timed_out(call, &target(), after), false);
        let lost = text(&Failure::of_status(call, &target(), after, &broken), false);
        for told in [late, lost] {
            assert_eq!(told.contains("Run the same command again"), is_harmless, "{told}");
            assert_eq!(told.contains("may have taken effect"), !is_harmless, "{told}");
            assert_eq!(told.contains("consumer"), call == "WatchEvents", "{told}");
        }
    }
}

#[test]
fn spans_are_as_proto3_json_has_them() {
    assert_eq!(seconds(Duration::from_secs(30)), "30s");
    assert_eq!(seconds(Duration::from_millis(250)), "0.25s");
    assert_eq!(seconds(Duration::ZERO), "0s");
}
