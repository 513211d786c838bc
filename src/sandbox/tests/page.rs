//! The page about the sandbox says what is so.

use super::*;

const PAGE: &str = include_str!("../../../docs/sandbox.md");

#[tokio::test]
async fn every_example_is_answered() {
    let sandbox = sandbox().await;
    // An endpoint that takes connections and answers none: what is sent there is not the point.
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/webhooks/shop", endpoint.local_addr().unwrap());
    let mut calls = Vec::new();
    for block in PAGE.split("```http\n").skip(1) {
        let (example, _) = block.split_once("```").unwrap();
        let (call, body) = example.split_once('\n').unwrap();
        let (method, path) = call.split_once(' ').unwrap();
        let body = body
            .replace("AUTHORIZATION_URL", &sandbox.authorization_url(&[]))
            .replace("http://127.0.0.1:8980/webhooks/shop", &endpoint);
        let request = sandbox.http.request(method.parse().unwrap(), sandbox.url(path)).body(body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{call}: {}", answer.text().await.unwrap());
        calls.push(call);
    }
    for call in ["clients", "decide", "webhooks", "faults", "clock"] {
        assert!(calls.contains(&format!("POST /sandbox/{call}").as_str()), "{call} has no example");
    }
}
