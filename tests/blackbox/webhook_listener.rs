//! Webhooks over HTTP: who is let in, what is answered, and what an ill-behaved sender can do.

use serde_json::json;

use crate::support::{
    World,
    http::{Connection, exchange, post, request, signed},
    refused, signature, signature_by,
};

const SHOP: &str = "/webhooks/shop";
const NEW: &str = "whsec_new_0123456789abcdef0123456789";
const ENDED: &str = "whsec_ended_0123456789abcdef01234567";
const BODY: &[u8] = br#"{"id":"e1","type":"vae.resolved"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_durable_before_it_is_acknowledged() {
    let world = World::new().await;
    let daemon = world.daemon();
    let first = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature(BODY))], BODY)).await;
    assert_eq!((first.status, &first.json()["duplicate"]), (200, &json!(false)));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("server"), None, "nobody learns what is behind it");
    daemon.kill();

    let daemon = world.daemon();
    let again = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature(BODY))], BODY)).await;
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &json!(true)));
    assert_eq!(again.json()["event"], first.json()["event"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_in_know_each_other_s_duplicates() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let answer = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature(BODY))], BODY)).await;
    let again = client.ingest(BODY, &signature(BODY)).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(answer.json()["event"], again.event.unwrap().id);

    let body = br#"{"id":"e2","type":"vae.resolved"}"#;
    let ingested = client.ingest(body, &signature(body)).await.unwrap();
    let answer = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature(body))], body)).await;
    assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(true)));
    assert_eq!(answer.json()["event"], ingested.event.unwrap().id);
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_s_own_deliveries_arrive() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let url = format!("http://{}{SHOP}", daemon.webhooks());
    world.provider.deliver_webhooks_to(&url).await;
    let started = client.started().await;
    world.provider.approve(&started.authorization_url).await;
    world.provider.webhooks_are_delivered(1).await;
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_signature_is_answered_alike_and_costs_no_write() {
    let world = World::new().await;
    let daemon = world.daemon();
    let good = signature(BODY);
    let digits = &good["sha256=".len()..];
    let one = |header: String| vec![signed(&header)];
    let mut bad = vec![
        vec![],
        vec![signed(&good), signed(&good)],
        vec![signed(&good), signed("sha256=00")],
        vec!["X-CAIRL-Signature2: sha256=00".to_owned()],
        vec![format!("X-Hub-Signature-256: {good}")],
    ];
    bad.extend(
        [
            String::new(),
            "sha256=".to_owned(),
            digits.to_owned(),
            format!("sha1={digits}"),
            format!("SHA256={digits}"),
            format!("sha256={}", &digits[..62]),
            format!("sha256={}", &digits[..63]),
            format!("{good}0"),
            format!("{good}00"),
            format!("sha256= {digits}"),
            format!("sha256=0x{}", &digits[2..]),
            format!("sha256=zz{}", &digits[2..]),
            format!("{good},{good}"),
            format!("{good}, {good}"),
            format!("\"{good}\""),
            format!("sha256=\u{e9}{}", &digits[2..]),
            signature(b"another body"),
            signature(b""),
        ]
        .map(one),
    );
    let mut bodies = std::collections::BTreeSet::new();
    for headers in &bad {
        let answer = exchange(&daemon.webhooks(), &post(SHOP, headers, BODY)).await;
        assert_eq!(answer.status, 400, "{headers:?}");
        bodies.insert(answer.body);
    }
    assert_eq!(bodies.len(), 1, "nothing tells a forger how near he was: {bodies:?}");
    let mut client = world.unix().await;
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 0);
    for form in [good.clone(), format!("sha256={}", digits.to_uppercase())] {
        let answer = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&form)], BODY)).await;
        assert_eq!(answer.status, 200, "{form}");
    }
    let (_, log) = daemon.terminate();
    assert!(log.contains("a webhook with a bad signature was refused"), "{log}");
    assert!(!log.contains(digits) && !log.contains("vae.resolved"), "neither signature nor body: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_rotate_without_a_gap() {
    let world = World::new().await;
    for (name, secret) in [("new.secret", NEW), ("ended.secret", ENDED)] {
        world.write_secret(name, secret);
    }
    let secrets = r#"["new.secret", { file = "webhook.secret", until = "2100-01-01T00:00:00Z" },
        { file = "ended.secret", until = "2020-01-01T00:00:00Z" }]"#;
    let config = world.config_text().replace(r#"["webhook.secret"]"#, secrets);
    std::fs::write(world.config(), config).unwrap();
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let duplicate = signature_by(NEW, BODY);
    assert!(!client.ingest(BODY, &signature(BODY)).await.unwrap().duplicate);
    for (signature, status) in
        [(duplicate.clone(), 200), (duplicate, 200), (signature_by(ENDED, BODY), 400), (String::new(), 400)]
    {
        let answer = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature)], BODY)).await;
        assert_eq!(answer.status, status, "{signature}");
    }
    assert_eq!(exchange(&daemon.webhooks(), &post(SHOP, &[], BODY)).await.status, 400);
    let shop = &client.status().await.unwrap().clients[0];
    assert_eq!((shop.webhooks_verified.as_slice(), shop.webhooks_refused), (&[2, 1, 0][..], 3));
    assert_eq!(
        client.status().await.unwrap().store.unwrap().events,
        1,
        "the same bytes, whoever signed them"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_post_to_a_client_is_served() {
    let world = World::new().await;
    let daemon = world.daemon();
    let headers = [signed(&signature(BODY)), format!("content-length: {}", BODY.len())];
    for path in [
        "/",
        "/webhooks",
        "/webhooks/",
        "/webhooks/nobody",
        "/webhooks/Shop",
        "/webhooks/shop/",
        "/shop",
        "//webhooks/shop",
        "/webhooks/sho%70",
        "/webhooks/../webhooks/shop",
        "*",
    ] {
        let answer =
            exchange(&daemon.webhooks(), &request(&format!("POST {path} HTTP/1.1"), &headers, BODY)).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post", "PROPFIND"] {
        let line = format!("{method} {SHOP} HTTP/1.1");
        let mut connection = Connection::open(&daemon.webhooks()).await;
        connection.try_to_say(&request(&line, &headers, BODY)).await;
        // The answer to HEAD has no body, whatever its length says: only its head is looked at.
        let answer = if method == "HEAD" { continue } else { connection.answer().await.unwrap() };
        assert_eq!((answer.status, answer.header("allow")), (405, Some("post")), "{method}");
    }
    let mut client = world.unix().await;
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 0);
    let with_query = format!("POST {SHOP}?source=cairl HTTP/1.1");
    assert_eq!(exchange(&daemon.webhooks(), &request(&with_query, &headers, BODY)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_kibibytes_are_taken_and_no_more_is_read() {
    let world = World::new().await;
    let daemon = world.daemon();
    let largest = vec![b' '; 64 * 1024];
    let answer = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature(&largest))], &largest)).await;
    assert_eq!(answer.status, 200);
    let larger = vec![b' '; 64 * 1024 + 1];
    let answer = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature(&larger))], &larger)).await;
    assert_eq!(answer.status, 413);

    let endless = format!("content-length: {}", 1_u64 << 50);
    let announced = request(&format!("POST {SHOP} HTTP/1.1"), &[signed(&signature(b"")), endless], b"");
    let mut connection = Connection::open(&daemon.webhooks()).await;
    connection.say(&announced).await;
    assert_eq!(connection.answer().await.unwrap().status, 413, "answered before anything of it came");
    connection.ends().await;

    let chunked = [signed(&signature(b"")), "transfer-encoding: chunked".to_owned()];
    let mut connection = Connection::open(&daemon.webhooks()).await;
    connection.say(&request(&format!("POST {SHOP} HTTP/1.1"), &chunked, b"")).await;
    let chunk = [b"8000\r\n".as_slice(), &[b' '; 0x8000], b"\r\n"].concat();
    for _ in 0..3 {
        connection.try_to_say(&chunk).await;
    }
    assert_eq!(connection.answer().await.unwrap().status, 413, "without the end of it");
    connection.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn good_webhooks_pass_while_others_flood() {
    let world = World::new().await;
    let daemon = world.daemon();
    let address = daemon.webhooks();
    // More than there are places for: some say nothing, some too little, some announce a body that never comes.
    let mut slow = Vec::new();
    for number in 0..300 {
        let mut connection = Connection::open(&address).await;
        let begun: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /webhooks/shop HTTP/1.1\r\nX-CAIRL-Sig",
            _ => b"POST /webhooks/shop HTTP/1.1\r\nX-CAIRL-Signature: sha256=00\r\nContent-Length: 1000\r\n\r\n{",
        };
        connection.try_to_say(begun).await;
        slow.push(connection);
    }
    let forged = post(SHOP, &[signed(&signature(b"other"))], BODY);
    let (flood, forging) = (address.clone(), forged.clone());
    let flood = tokio::spawn(async move {
        for _ in 0..300 {
            assert_eq!(exchange(&flood, &forging).await.status, 400);
        }
    });
    for number in 0..50 {
        let body = format!(r#"{{"id":"e{number}"}}"#).into_bytes();
        let answer = exchange(&address, &post(SHOP, &[signed(&signature(&body))], &body)).await;
        assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(false)));
    }
    flood.await.unwrap();
    drop(slow);
    let mut client = world.unix().await;
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 50);
    let (_, log) = daemon.terminate();
    let told = log.matches("a webhook with a bad signature was refused").count();
    assert!((1..300).contains(&told), "told, and not once for each: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_is_cut() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut head = Connection::open(&daemon.webhooks()).await;
    head.say(b"POST /webhooks/shop HTTP/1.1\r\nx: ").await;
    let mut body = Connection::open(&daemon.webhooks()).await;
    body.say(&request(
        &format!("POST {SHOP} HTTP/1.1"),
        &[signed(&signature(BODY)), format!("content-length: {}", BODY.len())],
        &BODY[..10],
    ))
    .await;
    head.ends().await;
    assert_eq!(body.answer().await.unwrap().status, 408);
    body.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_closes_what_is_idle_and_takes_no_more() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut idle = Connection::open(&daemon.webhooks()).await;
    idle.say(&post(SHOP, &[signed(&signature(BODY))], BODY)).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let whole = post(SHOP, &[signed(&signature(b"{}"))], b"{}");
    let mut late = Connection::open(&daemon.webhooks()).await;
    late.say(&whole[..20]).await;
    // Connections are accepted in order: where this is answered, the one before is known.
    assert_eq!(exchange(&daemon.webhooks(), &post(SHOP, &[], b"")).await.status, 400);

    daemon.signal(rustix::process::Signal::TERM);
    daemon.says("stopping");
    idle.ends().await;
    late.try_to_say(&whole[20..]).await;
    if let Some(answer) = late.answer().await {
        assert_eq!(answer.status, 503, "closed, or told to come again");
        assert!(answer.header("retry-after").is_some());
    }
    let (status, log) = tokio::task::spawn_blocking(move || daemon.wait()).await.unwrap();
    assert!(status.success() && !log.contains("still in flight"), "{status}\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_ways_in_refuse_alike() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    let refusal = refused(client.ingest(BODY, "sha256=00").await);
    assert_eq!(refusal.reason, "WEBHOOK_SIGNATURE_INVALID");
    assert_eq!(exchange(&daemon.webhooks(), &post(SHOP, &[signed("sha256=00")], BODY)).await.status, 400);
}
