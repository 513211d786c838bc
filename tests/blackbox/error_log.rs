//! What an error leaves behind: log lines that say which, where and at which attempt, and counts. Never what the provider
//! wrote, and never a secret.

use cairld::api::proto::{Reason, SessionStatus, StartAuthorizationRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{
    CHECKOUT, Client, Daemon, OTHER, READER, REDIRECT_URI, World, cairlctl, output, parameter, refused,
    signature, start_request,
};

/// In all that the provider says in these tests.
const CANARY: &str = "canary_7c1d";

/// A line of the log.
fn fields(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_logged_with_reason_session_and_attempt_and_without_secrets() {
    let world = World::new().await;
    let daemon = Daemon::start_with(&world.config(), &[("RUST_LOG", "trace")]);
    let mut client = world.unix().await;
    let mut secrets = vec![CANARY.to_owned(), CHECKOUT.to_owned(), "cs_0123".to_owned(), "whsec_".to_owned()];
    // Which reason, in which session, at which attempt.
    let mut expected: Vec<(&str, String, u64)> = Vec::new();

    // Each answer has the canary, and what it can have seen of the request.
    let secret = std::fs::read_to_string(world.path("client.secret")).unwrap();
    let says = |code: &str| {
        let echo = format!("{CANARY} code={code}&client_secret={} {CANARY}", secret.trim());
        json!({"error": format!("{CANARY}_{code}"), "error_description": echo})
    };
    let page = json!(format!("<html>{CANARY}</html>"));
    let mac = json!({"access_token": CANARY, "token_type": "mac"});
    let there = json!({"location": format!("https://{CANARY}.example/")});
    let cookie = json!({"set-cookie": format!("session={CANARY}")});
    for (endpoint, faults, reasons) in [
        ("token", vec![json!({"status": 400})], vec!["PROVIDER_REFUSED"]),
        ("token", vec![json!({"status": 403, "body": page, "headers": cookie})], vec!["PROVIDER_REFUSED"]),
        ("token", vec![json!({"status": 200, "body": mac})], vec!["PROVIDER_PROTOCOL"]),
        ("token", vec![json!({"status": 302, "headers": there})], vec!["PROVIDER_PROTOCOL"]),
        ("token", vec![json!({"fault": "reset_before"})], vec!["OUTCOME_UNKNOWN"]),
        (
            "token",
            vec![json!({"status": 503, "body": page}), json!({"status": 402})],
            vec!["PROVIDER_ERROR", "PROVIDER_REFUSED"],
        ),
        ("userinfo", vec![json!({"status": 403})], vec!["PROVIDER_REFUSED"]),
        (
            "userinfo",
            vec![json!({"fault": "reset_before"}), json!({"status": 401})],
            vec!["PROVIDER_UNREACHABLE", "UNAUTHORIZED"],
        ),
    ] {
        let started = client.started().await;
        let callback = world.provider.approve(&started.authorization_url).await;
        let (id, code) = (started.session.unwrap().id, parameter(&callback, "code"));
        for mut fault in faults {
            fault["endpoint"] = endpoint.into();
            fault["times"] = 1.into();
            if fault["status"].as_u64().is_some_and(|status| status >= 400) && fault.get("body").is_none() {
                fault["body"] = says(&code);
            }
            world.provider.fault(fault).await;
        }
        let refusal = refused(client.completed(&callback).await);
        assert_eq!(refusal.reason, *reasons.last().unwrap());
        for value in refusal.metadata.values() {
            assert!(!value.contains(secret.trim()), "{value}");
            // What was not in the request cannot be known to be its secret.
            assert!(endpoint != "token" || !value.contains(&code), "{value}");
        }
        expected.extend((1..).zip(reasons).map(|(attempt, reason)| (reason, id.clone(), attempt)));
        secrets.extend([code, started.state[24..].to_owned(), started.state]);
    }

    // The session query, at its second attempt too.
    let (id, callback) = world.approved(&mut client).await;
    let unpaid = json!({"error": "payment_required", "error_description": CANARY});
    world.provider.fault(json!({"endpoint": "token", "times": 1, "status": 402, "body": unpaid})).await;
    assert_eq!(refused(client.completed(&callback).await).reason, "PAYMENT_REQUIRED");
    world.provider.fault(json!({"endpoint": "session", "times": 1, "fault": "reset_before"})).await;
    let foreign = json!({"success": false, "error": CANARY});
    world.provider.fault(json!({"endpoint": "session", "times": 1, "status": 403, "body": foreign})).await;
    assert_eq!(refused(client.refreshed(&id).await).reason, "PROVIDER_REFUSED");
    expected.push(("PAYMENT_REQUIRED", id.clone(), 1));
    expected.push(("PROVIDER_UNREACHABLE", id.clone(), 1));
    expected.push(("PROVIDER_REFUSED", id, 2));
    secrets.push(parameter(&callback, "code"));

    // The redirect, without any attempt.
    let started = client.started().await;
    let pairs =
        [("error", CANARY), ("error_description", started.state.as_str()), ("state", started.state.as_str())];
    let callback = url::Url::parse_with_params(REDIRECT_URI, pairs).unwrap();
    let refusal = refused(client.completed(callback.as_str()).await);
    assert_eq!(refusal.metadata["provider_error"], CANARY, "the caller is told");
    assert_eq!(refusal.metadata["provider_description"], "[masked]");
    expected.push(("PROVIDER_REFUSED", started.session.unwrap().id, 0));
    secrets.push(started.state);

    // A webhook belongs to no session.
    assert!(client.ingest(CANARY.as_bytes(), &signature(b"other")).await.is_err());

    let log = daemon.kill();
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
    }
    let lines: Vec<Value> = log.lines().map(fields).collect();
    for (reason, session, attempt) in &expected {
        let is_it = |line: &Value| {
            line["reason"] == *reason && line["session"] == session.as_str() && line["attempt"] == *attempt
        };
        assert!(lines.iter().any(is_it), "no line about {reason}, {session}, attempt {attempt} in:\n{log}");
    }
    let mut count = 0;
    for line in &lines {
        let is_start_up = line["message"].as_str().is_some_and(|text| {
            text.starts_with("grpc.insecure") || text.starts_with("there is no store yet")
        });
        let is_error = line["level"] == "ERROR" || line["level"] == "WARN" || line.get("reason").is_some();
        // How a call ended is told once more, with all that its attempts came to.
        if !is_error || is_start_up || line["message"] == "a call is answered" {
            continue;
        }
        count += 1;
        let reason = line["reason"].as_str().unwrap_or_else(|| panic!("no reason: {line}"));
        assert_ne!(Reason::from_str_name(&format!("REASON_{reason}")), None, "{line}");
        if reason != "WEBHOOK_SIGNATURE_INVALID" {
            assert!(line["session"].as_str().is_some_and(|id| id.starts_with("ses_")), "{line}");
            assert!(line["attempt"].is_u64(), "{line}");
        }
    }
    assert!(count > expected.len(), "{count} lines about errors");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_counted_by_call_and_reason() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    assert_eq!(client.status().await.unwrap().errors, [], "nothing went wrong yet");

    let unknown = "ses_00000000000000000000000000";
    for _ in 0..2 {
        assert_eq!(refused(client.session(unknown).await).reason, "SESSION_NOT_FOUND");
    }
    assert_eq!(refused(client.cancel(unknown).await).reason, "SESSION_NOT_FOUND");
    let long = StartAuthorizationRequest { reference: "r".repeat(200_000), ..start_request() };
    assert_eq!(refused(client.start(long).await).reason, "INVALID_ARGUMENT", "refused by the transport");
    let mut stranger = Client::tcp(daemon.tcp(), Some("wrong")).await;
    assert_eq!(refused(stranger.start(start_request()).await).code, Code::Unauthenticated);
    let mut reader = Client::tcp(daemon.tcp(), Some(READER)).await;
    assert_eq!(refused(reader.start(start_request()).await).code, Code::PermissionDenied);
    let mut other = Client::tcp(daemon.tcp(), Some(OTHER)).await;
    assert_eq!(refused(other.status().await).code, Code::PermissionDenied);
    let (_, callback) = world.approved(&mut client).await;
    assert_eq!(client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
    assert_eq!(refused(client.completed(&callback).await).reason, "STATE_ALREADY_USED");

    let counted = client.status().await.unwrap().errors;
    let counted: Vec<_> =
        counted.iter().map(|error| (error.method.as_str(), error.reason(), error.count)).collect();
    let expected = [
        ("StartAuthorization", Reason::InvalidArgument, 1),
        ("StartAuthorization", Reason::CallerUnknown, 1),
        ("StartAuthorization", Reason::RpcNotGranted, 1),
        ("CompleteAuthorization", Reason::StateAlreadyUsed, 1),
        ("GetSession", Reason::SessionNotFound, 2),
        ("CancelAuthorization", Reason::SessionNotFound, 1),
        ("GetStatus", Reason::RpcNotGranted, 1),
    ];
    let sorted = |mut list: Vec<(&str, Reason, i64)>| {
        list.sort_unstable_by_key(|(method, reason, _)| (method.to_string(), *reason as i32));
        list.into_iter()
            .map(|(method, reason, count)| format!("{method} {reason:?} {count}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(sorted(counted), sorted(expected.to_vec()));

    let endpoint = format!("unix:{}", world.path("cairld.sock").display());
    let (_, stdout, stderr) = output(cairlctl().args(["--endpoint", &endpoint, "status"]));
    assert!(stdout.contains("errors since the start\n"), "{stdout}{stderr}");
    assert!(stdout.contains("2 × SESSION_NOT_FOUND\n"), "{stdout}");
}
