//! Bodies and framings of all kinds, over both ways in: what is signed is kept verbatim, and nothing else is.

use serde_json::json;

use crate::support::{
    World,
    http::{Connection, exchange, post, request, signed},
    refused, signature, signature_by,
};

const SHOP: &str = "/webhooks/shop";
const OTHER_SECRET: &str = "whsec_another_0123456789abcdef012345";

/// A body, and what is known of it: its type, and whether it is a JSON object.
fn bodies() -> Vec<(&'static str, Vec<u8>, &'static str, bool)> {
    let array = format!("[{}0]", "0,".repeat(32_766));
    vec![
        ("empty", Vec::new(), "", false),
        ("no JSON", b"not json".to_vec(), "", false),
        ("a byte order mark", b"\xef\xbb\xbf{\"type\":\"vae.x\"}".to_vec(), "", false),
        ("invalid UTF-8", b"{\"type\":\"vae.\xff\"}".to_vec(), "", false),
        ("a lone surrogate", br#"{"type":"\ud800"}"#.to_vec(), "", false),
        ("10,000 deep", [b"[".repeat(10_000), b"]".repeat(10_000)].concat(), "", false),
        (
            "10,000 deep in an object",
            [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat(),
            "",
            false,
        ),
        ("32,767 elements", array.clone().into_bytes(), "", false),
        (
            "32,000 elements in an object",
            format!(r#"{{"type":"vae.x","a":{}}}"#, &array.replacen("0,", "", 600)).into_bytes(),
            "vae.x",
            true,
        ),
        ("a key twice", br#"{"type":"vae.x","type":"vae.y"}"#.to_vec(), "vae.y", true),
        ("no id", br#"{"type":"vae.x"}"#.to_vec(), "vae.x", true),
        ("no type", br#"{"id":"e1"}"#.to_vec(), "", true),
        ("neither", b"{}".to_vec(), "", true),
        ("two documents", b"{}{}".to_vec(), "", false),
        ("zeros", vec![0; 1000], "", false),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_kept_verbatim_readable_or_not() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut client = world.unix().await;
    for (what, body, kind, parsed) in bodies() {
        let answer = exchange(&daemon.webhooks(), &post(SHOP, &[signed(&signature(&body))], &body)).await;
        assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(false)), "{what}");
        if body.is_empty() {
            // A message cannot tell an empty body from one that was forgotten.
            assert_eq!(refused(client.ingest(&body, &signature(&body)).await).fields, ["body"]);
            continue;
        }
        // The other way in answers with the event that is kept.
        let kept = client.ingest(&body, &signature(&body)).await.unwrap();
        assert!(kept.duplicate, "{what}");
        let event = kept.event.unwrap();
        assert_eq!(answer.json()["event"], event.id, "{what}");
        assert_eq!((event.r#type.as_str(), event.parsed), (kind, parsed), "{what}");
        assert!(event.body == body, "{what}: byte for byte");
    }
    let count = i64::try_from(bodies().len()).unwrap();
    assert_eq!(client.status().await.unwrap().store.unwrap().events, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_good_for_its_own_bytes_and_its_own_client() {
    let world = World::new().await;
    world.write_secret("other.secret", OTHER_SECRET);
    let shop = world.config_text();
    let section = &shop[shop.find("[[client]]").unwrap()..shop.find("[[caller]]").unwrap()];
    let other = section.replace("\"shop\"", "\"other\"").replace("webhook.secret", "other.secret");
    let config = shop.replacen("[[caller]]", &format!("{other}[[caller]]"), 1);
    let config = config.replace(r#"clients = ["shop"]"#, r#"clients = ["shop", "other"]"#);
    std::fs::write(world.config(), config).unwrap();
    let daemon = world.daemon();
    let address = daemon.webhooks();
    let mut client = world.unix().await;

    let (first, second) = (&br#"{"id":"e1"}"#[..], &br#"{"id":"e2"}"#[..]);
    let of_other = signature_by(OTHER_SECRET, first);
    for (path, body, signature) in [
        (SHOP, first, of_other.clone()),
        ("/webhooks/other", first, signature(first)),
        (SHOP, second, signature(first)),
        (SHOP, first, signature(second)),
        (SHOP, &first[1..], signature(first)),
    ] {
        assert_eq!(exchange(&address, &post(path, &[signed(&signature)], body)).await.status, 400);
    }
    assert_eq!(refused(client.ingest(first, &of_other).await).reason, "WEBHOOK_SIGNATURE_INVALID");
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 0);

    // The same bytes are another event of another client; a replay is none.
    for (path, signature, duplicate) in [
        (SHOP, signature(first), false),
        ("/webhooks/other", of_other.clone(), false),
        (SHOP, signature(first), true),
        ("/webhooks/other", of_other, true),
    ] {
        let answer = exchange(&address, &post(path, &[signed(&signature)], first)).await;
        assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(duplicate)), "{path}");
    }
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_framing_of_http_brings_the_same_bytes() {
    let world = World::new().await;
    let daemon = world.daemon();
    let address = daemon.webhooks();
    let mut client = world.unix().await;
    let line = format!("POST {SHOP} HTTP/1.1");
    let body = br#"{"id":"e1"}"#;
    let good = signed(&signature(body));
    let length = format!("content-length: {}", body.len());
    let chunks = b"3\r\n{\"i\r\n8;x=y\r\nd\":\"e1\"}\r\n0\r\ntrailer: x\r\n\r\n";
    let requests = [
        post(SHOP, std::slice::from_ref(&good), body),
        request(&line, &[good.clone(), "transfer-encoding: chunked".to_owned()], chunks),
        request(&format!("POST {SHOP} HTTP/1.0"), &[good.clone(), length.clone()], body),
        request(&line, &[good.replace("X-CAIRL", "x-cairl"), length.clone()], body),
        request(&format!("POST http://cairld{SHOP} HTTP/1.1"), &[good.clone(), length.clone()], body),
        request(&line, &[good.clone(), length.clone(), "content-type: text/html".to_owned()], body),
    ];
    for (number, bytes) in requests.iter().enumerate() {
        let answer = exchange(&address, bytes).await;
        assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(number > 0)), "{number}");
    }

    // What claims to be compressed is verified and kept as it came.
    let zipped = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    let encoded = [signed(&signature(zipped)), "content-encoding: gzip".to_owned()];
    assert_eq!(exchange(&address, &post(SHOP, &encoded, zipped)).await.status, 200);
    let kept = client.ingest(zipped, &signature(zipped)).await.unwrap();
    assert!(kept.duplicate && kept.event.unwrap().body == zipped);
    let of_decoded = [signed(&signature(b"{}")), "content-encoding: gzip".to_owned()];
    assert_eq!(exchange(&address, &post(SHOP, &of_decoded, zipped)).await.status, 400);

    for broken in [
        request(&line, &[good.clone(), "transfer-encoding: chunked".to_owned()], b"zz\r\n"),
        request(&line, &[good.clone(), "transfer-encoding: gzip".to_owned()], body),
        request(&line, &[good.clone(), length.clone(), "content-length: 3".to_owned()], body),
        request(&line, &[good.clone(), "content-length: -1".to_owned()], body),
        b"no HTTP at all\r\n\r\n".to_vec(),
    ] {
        assert_eq!(exchange(&address, &broken).await.status, 400, "{}", String::from_utf8_lossy(&broken));
    }
    assert_eq!(client.status().await.unwrap().store.unwrap().events, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_only_where_its_head_is_good() {
    let world = World::new().await;
    let daemon = world.daemon();
    let body = br#"{"id":"e1"}"#;
    let line = format!("POST {SHOP} HTTP/1.1");
    let expect = ["expect: 100-continue".to_owned(), format!("content-length: {}", body.len())];
    let mut connection = Connection::open(&daemon.webhooks()).await;
    connection.say(&request(&line, &[&expect[..], &[signed(&signature(body))]].concat(), b"")).await;
    assert_eq!(connection.answer().await.unwrap().status, 100);
    connection.say(body).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);

    let mut connection = Connection::open(&daemon.webhooks()).await;
    connection.say(&request(&line, &expect, b"")).await;
    assert_eq!(connection.answer().await.unwrap().status, 400, "not asked for");
    let mut connection = Connection::open(&daemon.webhooks()).await;
    let huge =
        ["expect: 100-continue".to_owned(), "content-length: 65537".to_owned(), signed(&signature(body))];
    connection.say(&request(&line, &huge, b"")).await;
    assert_eq!(connection.answer().await.unwrap().status, 413, "not asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_brings_many() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut connection = Connection::open(&daemon.webhooks()).await;
    let bodies: Vec<_> = (0..5).map(|number| format!(r#"{{"id":"e{number}"}}"#).into_bytes()).collect();
    let all: Vec<_> = bodies.iter().flat_map(|body| post(SHOP, &[signed(&signature(body))], body)).collect();
    connection.say(&all).await;
    for _ in &bodies {
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(false)));
    }
}
