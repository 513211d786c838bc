//! Faults, the journal, and what the control API refuses.

use super::*;

#[tokio::test]
async fn scripted_answers_come_in_order_and_then_the_ordinary_ones() {
    let sandbox = sandbox().await;
    let (code, _) = sandbox.approve().await;
    let body = json!({"error": "server_error"});
    sandbox.fault(json!({"endpoint": "token", "times": 2, "status": 503, "headers": {"Retry-After": "7"}, "body": body})).await;
    sandbox.fault(json!({"endpoint": "token", "body": "<html>", "delay_ms": 1, "headers": {"content-type": "text/html"}})).await;
    sandbox.fault(json!({"endpoint": "token", "delay_ms": 1})).await;
    for _ in 0..2 {
        let answer = sandbox.redeem(&code).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"7".parse().unwrap())
        );
        assert_eq!(answer.json::<Value>().await.unwrap(), body);
    }
    let answer = sandbox.redeem(&code).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"text/html".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), "<html>");
    assert_eq!(sandbox.redeem(&code).await.unwrap().status(), 200);

    sandbox.fault(json!({"endpoint": "userinfo", "status": 500})).await;
    assert_eq!(sandbox.control("/sandbox/faults", json!([])).await.0, 204);
    let (status, _) = sandbox.ask("/api/oauth/userinfo", "Bearer x").await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_reset_before_leaves_the_code_unspent_and_a_reset_after_does_not() {
    let sandbox = sandbox().await;
    let (code, _) = sandbox.approve().await;
    sandbox.fault(json!({"endpoint": "token", "fault": "reset_before"})).await;
    let error = sandbox.redeem(&code).await.unwrap_err();
    assert!(error.is_request() && !error.is_connect() && error.status().is_none(), "{error:?}");
    assert_eq!(sandbox.redeem(&code).await.unwrap().status(), 200);

    let (code, _) = sandbox.approve().await;
    sandbox.fault(json!({"endpoint": "token", "fault": "reset_after"})).await;
    sandbox.redeem(&code).await.unwrap_err();
    assert_eq!(sandbox.redeem(&code).await.unwrap().status(), 400, "spent by the request that got no answer");
    let statuses: Vec<Value> = sandbox.journal().await.iter().map(|entry| entry["status"].clone()).collect();
    assert_eq!(statuses, [json!(null), json!(200), json!(null), json!(400)]);
}

#[tokio::test]
async fn a_reset_sends_not_one_byte() {
    let sandbox = sandbox().await;
    sandbox.fault(json!({"endpoint": "userinfo", "fault": "reset_before"})).await;
    let mut stream = TcpStream::connect(sandbox.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /api/oauth/userinfo HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).await.unwrap_err();
    assert_eq!((error.kind(), received.len()), (io::ErrorKind::ConnectionReset, 0));
}

#[tokio::test]
async fn a_hanging_answer_comes_not_at_all_or_not_to_an_end() {
    let sandbox = sandbox().await;
    let patience = std::time::Duration::from_millis(50);
    sandbox.fault(json!({"endpoint": "session", "fault": "hang"})).await;
    let url = sandbox.url("/api/verify/hvf-session/hvf_x");
    let hanging = tokio::spawn(sandbox.http.get(&url).send());
    // It is in the journal once it has met the fault.
    while sandbox.journal().await.is_empty() {}
    assert!(!hanging.is_finished());
    hanging.abort();

    sandbox.fault(json!({"endpoint": "session", "fault": "hang_body", "status": 201, "body": "{\"a"})).await;
    let mut answer = sandbox.get(&url).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "{\"a");
    assert!(tokio::time::timeout(patience, answer.chunk()).await.is_err());
}

#[tokio::test]
async fn the_journal_has_every_request_in_order_without_secrets() {
    let sandbox = sandbox().await;
    let (code, id) = sandbox.approve().await;
    sandbox.get(&sandbox.authorization_url(&[])).await;
    let token = sandbox.token(&code).await;
    sandbox.redeem(&code).await.unwrap();
    sandbox.ask(&format!("/api/verify/hvf-session/{id}"), ME).await;
    assert_eq!(sandbox.get(&sandbox.url("/api/oauth/token")).await.status(), 405);
    let journal = sandbox.journal().await;
    let seen: Vec<_> =
        journal.iter().map(|e| (e["method"].as_str().unwrap(), e["path"].as_str().unwrap())).collect();
    let session = format!("/api/verify/hvf-session/{id}");
    assert_eq!(
        seen,
        [
            ("GET", "/verify/start"),
            ("POST", "/api/oauth/token"),
            ("POST", "/api/oauth/token"),
            ("GET", session.as_str()),
            ("GET", "/api/oauth/token"),
        ]
    );
    assert_eq!(journal[1]["form"]["code_digest"], journal[2]["form"]["code_digest"]);
    assert_eq!(journal[1]["form"]["client_id"], "cairl_test_shop");
    assert_eq!(journal[4]["status"], 405);
    let text = serde_json::to_string(&journal).unwrap();
    for secret in [code.as_str(), &token, VERIFIER, "the shop", STATE] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let cleared = sandbox.http.delete(sandbox.url("/sandbox/journal")).send().await.unwrap();
    assert_eq!(cleared.status(), 204);
    assert_eq!(sandbox.journal().await, Vec::<Value>::new());
}

#[tokio::test]
async fn the_control_api_says_what_is_wrong_and_where() {
    let sandbox = sandbox().await;
    let url = sandbox.authorization_url(&[]);
    let other = sandbox.authorization_url(&[("redirect_uri", "https://shop.example/")]);
    let root = url.replace("/verify/start", "/");
    for (path, body, words) in [
        ("clients", json!({"client_id": "a"}), "client_secret"),
        (
            "clients",
            json!({"client_id": "a", "client_secret": "b", "redirect_uris": []}),
            "redirect_uris is empty",
        ),
        (
            "clients",
            json!({"client_id": "a", "client_secret": "b", "redirect_uri": "c"}),
            "unknown field `redirect_uri`",
        ),
        ("decide", json!({"authorization_url": "x", "outcome": "approve"}), "authorization_url is not"),
        ("decide", json!({"authorization_url": root, "outcome": "approve"}), "/verify/start"),
        ("decide", json!({"authorization_url": other, "outcome": "approve"}), "invalid_redirect_uri"),
        (
            "decide",
            json!({"authorization_url": url, "outcome": "accept"}),
            "unknown variant `accept`, expected one of",
        ),
        ("decide", json!({"authorization_url": url, "outcome": "fail", "claims": {}}), "claims"),
        ("faults", json!([{"endpoint": "token", "status": 500}, {"endpoint": "token"}]), "[1]."),
        ("faults", json!([{"endpoint": "tokens", "status": 500}]), "unknown variant `tokens`"),
        ("faults", json!([{"endpoint": "token", "status": "500"}]), "[0].status"),
        ("webhooks", json!({"client_id": "a", "body": ""}), "client_id is not registered"),
        ("webhooks", json!({"client_id": "cairl_test_shop", "body": ""}), "webhook_url"),
        ("webhooks", json!({"client_id": "cairl_test_shop", "body": "", "times": 0}), "times"),
        ("clock", json!({"advance_s": -1}), "advance_s"),
        ("clock", json!({"advance_s": u64::MAX}), "advance_s"),
    ] {
        let (status, answer) = sandbox.control(&format!("/sandbox/{path}"), body.clone()).await;
        let error = answer["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(words), "{path} {body}: {status} {error}");
    }
}
