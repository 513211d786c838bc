//! What the daemon makes of answers that the provider should never have sent: the caller's status and reason, what becomes
//! of the session, and how many requests it cost.

use std::time::Duration;

use cairld::api::proto::{ExplainSessionRequest, Reason, Session, SessionStatus, TimelineEntry};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Client, Refused, World, refused};

const TOKEN: &str = "/api/oauth/token";
const USERINFO: &str = "/api/oauth/userinfo";
const SESSION: &str = "/api/verify/hvf-session";
/// Where redirects of these tests lead; nobody goes there.
const ELSEWHERE: &str = "/api/oauth/revoke";

/// `{"access_token":"a","token_type":"Bearer"}`, compressed.
const GZIP: &str = "H4sIAAAAAAAC/6tWSkxOTi0uji/Jz07NU7JSSlTSUQKz40sqC1KBAk6piUWpRUq1AJVhcysqAAAA";
/// The same with a hundred KiB of blanks behind it.
const GZIP_BOMB: &str = "H4sIAAAAAAAC/+3IsQmAQBAAwVbkYiswtJHnkYsElddExN4V23AmWvaKOk257+VY51xiiBp9fF2Oc8t3jFlbtr\
                         g7AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
                         AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACAn3gAxwB7piqQAQA=";

/// 2xx and 3xx that nothing can be done with, for an endpoint whose good answer is given.
pub(crate) fn unusable(good: &str) -> Vec<(&'static str, Value)> {
    let (half, padded) = (&good[..good.len() / 2], format!("{good}{}", " ".repeat(65 * 1024)));
    vec![
        ("a page", json!({"body": "<!doctype html><title>Sign in to the network</title>"})),
        ("nothing", json!({"status": 204})),
        ("half", json!({"body": half})),
        ("an array", json!({"body": "[]"})),
        ("65 KiB", json!({"body": padded})),
        ("a redirect", json!({"status": 302, "headers": {"location": ELSEWHERE}})),
        ("a redirect that keeps the method", json!({"status": 307, "headers": {"location": ELSEWHERE}})),
        ("gzip that is none", json!({"headers": {"content-encoding": "gzip"}, "body": "\u{1f}\u{8}\u{1}"})),
    ]
}

/// A world with a daemon, and what is counted in it.
struct Scene {
    world: World,
    client: Client,
    _daemon: crate::support::Daemon,
}

impl Scene {
    async fn new() -> Self {
        Self::of(World::new().await).await
    }

    /// Where a request ends soon.
    async fn impatient() -> Self {
        let world = World::new().await;
        world.impatient();
        Self::of(world).await
    }

    async fn of(world: World) -> Self {
        let daemon = world.daemon();
        Self { client: world.unix().await, world, _daemon: daemon }
    }

    /// The next request to an endpoint is answered so.
    async fn answer(&self, endpoint: &str, fault: &Value) {
        let mut fault = fault.clone();
        fault["endpoint"] = endpoint.into();
        self.world.provider.fault(fault).await;
    }

    /// How many requests the provider has had: for tokens, for claims, for sessions, and where redirects lead.
    async fn requests(&self) -> [usize; 4] {
        let provider = &self.world.provider;
        let mut counts = [0; 4];
        for (count, path) in counts.iter_mut().zip([TOKEN, USERINFO, SESSION, ELSEWHERE]) {
            *count = provider.requests(path).await;
        }
        counts
    }

    /// The requests since those.
    async fn requests_since(&self, before: [usize; 4]) -> [usize; 4] {
        let mut counts = self.requests().await;
        counts.iter_mut().zip(before).for_each(|(count, before)| *count -= before);
        counts
    }

    /// A session whose provider's session is known and asked for nothing else: its first try met an empty wallet.
    async fn known(&mut self) -> (String, String) {
        let (id, callback) = self.world.approved(&mut self.client).await;
        self.answer("token", &json!({"status": 402, "body": {"error": "payment_required"}})).await;
        assert_eq!(refused(self.client.completed(&callback).await).reason, "PAYMENT_REQUIRED");
        (id, callback)
    }
}

/// The pause that a refusal asks for.
fn pause(result: &Result<Session, Status>) -> Duration {
    let info = result.as_ref().expect_err("a refusal").get_details_retry_info();
    info.and_then(|info| info.retry_delay).expect("RetryInfo")
}

fn told(refusal: &Refused) -> (Code, &str, Option<&str>) {
    (refusal.code, &refusal.reason, refusal.metadata.get("resumable").map(String::as_str))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_answer_that_cannot_be_used_leaves_the_outcome_unknown() {
    let mut cases = unusable(r#"{"access_token":"a","token_type":"Bearer","expires_in":900}"#);
    cases.extend([
        ("a number for a token", json!({"body": {"access_token": 7, "token_type": "Bearer"}})),
        ("a number for a type", json!({"body": {"access_token": "a", "token_type": 7}})),
        ("no token", json!({"body": {"token_type": "Bearer", "expires_in": 900}})),
        ("no type", json!({"body": {"access_token": "a", "expires_in": 900}})),
        ("another type", json!({"body": {"access_token": "a", "token_type": "mac"}})),
        ("an error with 200", json!({"body": {"error": "invalid_grant"}})),
        ("gzip", json!({"headers": {"content-encoding": "gzip"}, "body_base64": GZIP})),
        ("a gzip bomb", json!({"headers": {"content-encoding": "gzip"}, "body_base64": GZIP_BOMB})),
    ]);
    let mut scene = Scene::new().await;
    for (what, answer) in cases {
        let before = scene.requests().await;
        let (id, callback) = scene.world.approved(&mut scene.client).await;
        scene.answer("token", &answer).await;
        let refusal = refused(scene.client.completed(&callback).await);
        assert_eq!(told(&refusal), (Code::FailedPrecondition, "PROVIDER_PROTOCOL", None), "{what}");
        assert_eq!(refusal.metadata["stage"], "token", "{what}");
        let session = scene.client.session(&id).await.unwrap();
        assert_eq!(session.status(), SessionStatus::Indeterminate, "{what}");
        assert_eq!(session.failure.unwrap().reason(), Reason::ProviderProtocol, "{what}");
        assert_eq!(refused(scene.client.completed(&callback).await).reason, "STATE_ALREADY_USED", "{what}");
        assert_eq!(scene.requests_since(before).await, [1, 0, 0, 0], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_token_answers_that_hold_a_token_are_taken() {
    let claims = json!({"body": {"sub": "pws_v1_a", "claims": {"age_18_plus": true}}});
    let twice = json!({"content-type": ["text/html", "text/plain"]});
    let mut scene = Scene::new().await;
    for (what, answer, minutes) in [
        ("bEaReR", json!({"body": {"access_token": "a", "token_type": "bEaReR", "expires_in": 900}}), 15),
        ("no expires_in", json!({"body": {"access_token": "a", "token_type": "Bearer"}}), 10),
        (
            "a negative one",
            json!({"body": {"access_token": "a", "token_type": "Bearer", "expires_in": -5}}),
            10,
        ),
        ("in words", json!({"body": {"access_token": "a", "token_type": "Bearer", "expires_in": "900"}}), 10),
        ("two types", json!({"headers": twice, "body": {"access_token": "a", "token_type": "Bearer"}}), 10),
        ("201", json!({"status": 201, "body": {"access_token": "a", "token_type": "Bearer"}}), 10),
    ] {
        let before = scene.requests().await;
        let (_, callback) = scene.world.approved(&mut scene.client).await;
        scene.answer("token", &answer).await;
        scene.answer("userinfo", &claims).await;
        let session = scene.client.completed(&callback).await.unwrap();
        assert_eq!(
            (session.status(), session.subject.as_str()),
            (SessionStatus::Complete, "pws_v1_a"),
            "{what}"
        );
        let life =
            session.token.unwrap().expire_time.unwrap().seconds - session.complete_time.unwrap().seconds;
        assert_eq!((life + 30) / 60, minutes, "{what}: rounded, since the claims came after the token");
        assert_eq!(scene.requests_since(before).await, [1, 1, 0, 0], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_cannot_be_read_leaves_the_session_as_it_was() {
    let mut scene = Scene::new().await;
    for (what, answer) in [
        ("a firewall's page", json!({"status": 403, "body": "<html>blocked</html>"})),
        ("half of a refusal", json!({"status": 400, "body": "{\"error\":\"invalid_gr"})),
        ("a number for a code", json!({"status": 400, "body": {"error": 7}})),
        ("65 KiB", json!({"status": 400, "body": {"error": "invalid_grant", "pad": "x".repeat(65 * 1024)}})),
        ("gzip", json!({"status": 400, "headers": {"content-encoding": "gzip"}, "body_base64": GZIP})),
        ("401 without a word", json!({"status": 401})),
    ] {
        let before = scene.requests().await;
        let (id, callback) = scene.world.approved(&mut scene.client).await;
        scene.answer("token", &answer).await;
        let refusal = refused(scene.client.completed(&callback).await);
        assert_eq!(told(&refusal), (Code::FailedPrecondition, "PROVIDER_REFUSED", Some("true")), "{what}");
        assert_eq!(scene.client.session(&id).await.unwrap().status(), SessionStatus::Pending, "{what}");
        assert_eq!(scene.requests_since(before).await, [1, 0, 0, 0], "{what}");
        let complete = scene.client.completed(&callback).await.unwrap();
        assert_eq!(complete.status(), SessionStatus::Complete, "{what}: the same callback again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_cannot_be_read_stay_to_be_fetched() {
    let mut cases = unusable(r#"{"sub":"pws_v1_a","claims":{"age_18_plus":false}}"#);
    cases.extend([
        ("a number for a subject", json!({"body": {"sub": 7, "claims": {"age_18_plus": false}}})),
        ("no subject", json!({"body": {"claims": {"age_18_plus": false}}})),
        ("a list of claims", json!({"body": {"sub": "pws_v1_a", "claims": ["age_18_plus"]}})),
    ]);
    let cases = cases.into_iter().map(|(what, answer)| (what, answer, "PROVIDER_PROTOCOL"));
    let refusals = [
        ("a firewall's page", json!({"status": 403, "body": "<html>blocked</html>"}), "PROVIDER_REFUSED"),
        ("404", json!({"status": 404, "body": "gone"}), "PROVIDER_REFUSED"),
    ];
    let mut scene = Scene::new().await;
    for (what, answer, reason) in cases.chain(refusals) {
        let before = scene.requests().await;
        let (id, callback) = scene.world.approved(&mut scene.client).await;
        scene.answer("userinfo", &answer).await;
        let refusal = refused(scene.client.completed(&callback).await);
        assert_eq!(told(&refusal), (Code::FailedPrecondition, reason, Some("true")), "{what}");
        assert_eq!(refusal.metadata["stage"], "userinfo", "{what}");
        let session = scene.client.session(&id).await.unwrap();
        assert_eq!(session.status(), SessionStatus::Exchanging, "{what}");
        assert!(session.claims.is_empty() && session.subject.is_empty(), "{what}");
        assert_eq!(scene.requests_since(before).await, [1, 1, 0, 0], "{what}");
        let complete = scene.client.completed(&callback).await.unwrap();
        assert_eq!(complete.status(), SessionStatus::Complete, "{what}: the same callback again");
        assert_eq!(scene.requests_since(before).await, [1, 2, 0, 0], "{what}: without another token");
    }
    // Only a 401 says that the token is of no more use.
    let (id, callback) = scene.world.approved(&mut scene.client).await;
    scene.answer("userinfo", &json!({"status": 401, "body": "<html>"})).await;
    let refusal = refused(scene.client.completed(&callback).await);
    assert_eq!(told(&refusal), (Code::FailedPrecondition, "UNAUTHORIZED", None));
    assert_eq!(scene.client.session(&id).await.unwrap().status(), SessionStatus::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_answer_that_cannot_be_read_moves_nothing() {
    let missing_key = json!({"status": 401, "body": {"success": false, "error": "Missing API key"}});
    let mut cases: Vec<_> = unusable(r#"{"success":true,"session":{"status":"failed"}}"#)
        .into_iter()
        .map(|(what, answer)| (what, answer, "PROVIDER_PROTOCOL", Code::FailedPrecondition))
        .collect();
    cases.extend([
        (
            "a number for a status",
            json!({"body": {"success": true, "session": {"status": 7}}}),
            "PROVIDER_PROTOCOL",
            Code::FailedPrecondition,
        ),
        (
            "no session",
            json!({"body": {"success": true, "status": "failed"}}),
            "PROVIDER_PROTOCOL",
            Code::FailedPrecondition,
        ),
        ("no key", missing_key, "MISSING_API_KEY", Code::FailedPrecondition),
        ("401 without a word", json!({"status": 401}), "UNAUTHORIZED", Code::FailedPrecondition),
        (
            "a firewall's page",
            json!({"status": 403, "body": "<html>"}),
            "PROVIDER_REFUSED",
            Code::FailedPrecondition,
        ),
        (
            "a page for one that is not there",
            json!({"status": 404, "body": "<html>"}),
            "PROVIDER_SESSION_NOT_FOUND",
            Code::NotFound,
        ),
    ]);
    let mut scene = Scene::new().await;
    let (id, callback) = scene.known().await;
    let known = scene.client.session(&id).await.unwrap();
    for (what, answer, reason, code) in cases {
        let before = scene.requests().await;
        scene.answer("session", &answer).await;
        let refusal = refused(scene.client.refreshed(&id).await);
        assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason), "{what}");
        assert_eq!(scene.client.session(&id).await.unwrap(), known, "{what}: as it was");
        assert_eq!(scene.requests_since(before).await, [0, 0, 1, 0], "{what}");
    }
    // A status that is new is no fault; it just says nothing here.
    scene.answer("session", &json!({"body": {"success": true, "session": {"status": "paused"}}})).await;
    assert_eq!(scene.client.refreshed(&id).await.unwrap(), known);
    assert_eq!(scene.client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_cannot_be_read_is_a_minute_and_of_two_one_counts() {
    for (what, retry_after, seconds) in
        [("a negative one", json!("-1"), 50..=60), ("two of them", json!(["7", "9"]), 1..=9)]
    {
        let answer = json!({"status": 429, "headers": {"retry-after": retry_after}, "body": "slow down"});
        for (endpoint, status) in [
            ("token", SessionStatus::Pending),
            ("userinfo", SessionStatus::Exchanging),
            ("session", SessionStatus::Pending),
        ] {
            // A world for each: a client that was told to wait waits.
            let mut scene = Scene::new().await;
            let (id, callback) = scene.known().await;
            let before = scene.requests().await;
            scene.answer(endpoint, &answer).await;
            let (result, requests) = match endpoint {
                "token" => (scene.client.completed(&callback).await, [1, 0, 0, 0]),
                "userinfo" => (scene.client.completed(&callback).await, [1, 1, 0, 0]),
                _ => (scene.client.refreshed(&id).await, [0, 0, 1, 0]),
            };
            let pause = pause(&result);
            assert!(seconds.contains(&pause.as_secs()), "{what} at {endpoint}: {pause:?}");
            let refusal = refused(result);
            let told = (refusal.code, refusal.reason.as_str());
            assert_eq!(told, (Code::ResourceExhausted, "RATE_LIMITED"), "{what} at {endpoint}");
            assert_eq!(scene.client.session(&id).await.unwrap().status(), status, "{what} at {endpoint}");
            assert_eq!(scene.requests_since(before).await, requests, "{what} at {endpoint}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_body_never_ends() {
    let mut scene = Scene::impatient().await;

    // With a token perhaps: nobody will know.
    let before = scene.requests().await;
    let (id, callback) = scene.world.approved(&mut scene.client).await;
    scene.answer("token", &json!({"fault": "hang_body", "body": "{\"access_token\":\"a"})).await;
    let refusal = refused(scene.client.completed(&callback).await);
    assert_eq!(told(&refusal), (Code::FailedPrecondition, "OUTCOME_UNKNOWN", None));
    assert_eq!(scene.client.session(&id).await.unwrap().status(), SessionStatus::Indeterminate);
    assert_eq!(scene.requests_since(before).await, [1, 0, 0, 0]);

    // With a status of 400 and above, that says enough.
    let (id, callback) = scene.world.approved(&mut scene.client).await;
    scene.answer("token", &json!({"fault": "hang_body", "status": 402, "body": "{\"error\":"})).await;
    let refusal = refused(scene.client.completed(&callback).await);
    assert_eq!(told(&refusal), (Code::FailedPrecondition, "PROVIDER_REFUSED", Some("true")));
    assert_eq!(scene.client.session(&id).await.unwrap().status(), SessionStatus::Pending);
    let before = scene.requests().await;
    scene.answer("token", &json!({"fault": "hang_body", "status": 503})).await;
    assert_eq!(scene.client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
    assert_eq!(scene.requests_since(before).await, [2, 1, 0, 0], "a 5xx is tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_is_asked_for_again_where_that_is_safe() {
    let mut scene = Scene::impatient().await;
    let (id, callback) = scene.known().await;
    let before = scene.requests().await;
    scene.answer("session", &json!({"fault": "hang_body"})).await;
    assert_eq!(scene.client.refreshed(&id).await.unwrap().status(), SessionStatus::Verified);
    assert_eq!(scene.requests_since(before).await, [0, 0, 2, 0]);

    scene.answer("userinfo", &json!({"fault": "hang_body"})).await;
    assert_eq!(scene.client.completed(&callback).await.unwrap().status(), SessionStatus::Complete);
    let request = scene.client.request(ExplainSessionRequest { session_id: id });
    let told = scene.client.integration.explain_session(request).await.unwrap().into_inner().timeline;
    let is_between = |entry: &TimelineEntry| {
        (entry.reason(), entry.to()) == (Reason::ProviderUnreachable, SessionStatus::Exchanging)
    };
    assert!(told.iter().any(is_between), "{told:?}");
    assert_eq!(scene.requests_since(before).await, [1, 2, 2, 0]);
}
