//! `cairld dev`, as a new user meets it.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Client, cairlctl, cairld, output, read_until, send_signal};

/// Leaves nothing running behind a test that fails.
struct KilledWhenDropped(Child);

impl Drop for KilledWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_a_flow_that_works() {
    let mut command = cairld();
    command.arg("dev").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = KilledWhenDropped(command.spawn().unwrap());
    let mut stdout = process.0.stdout.take().unwrap();
    let text = read_until(&mut stdout, "Ctrl-C ends it.");
    let addresses: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(key, value)| (key, value.trim()))
        .collect();
    let url =
        text.lines().find(|line| line.contains("/verify/start?") && !line.contains("curl")).unwrap().trim();

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = http.get(url).send().await.unwrap();
    assert!(page.status().is_success());
    assert!(page.text().await.unwrap().contains("age_18_plus"));
    let decide = http
        .post(format!("{}/sandbox/decide", addresses["sandbox"]))
        .json(&json!({"authorization_url": url, "outcome": "approve"}))
        .send()
        .await
        .unwrap();
    let decided: Value = decide.json().await.unwrap();
    let callback = decided["callback_url"].as_str().unwrap();
    assert!(addresses["webhooks"].ends_with("/webhooks/demo"), "{text}");
    let page = http.get(callback).send().await.unwrap();
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    let page = page.text().await.unwrap();
    assert!(page.contains("CompleteAuthorization") && page.contains("cairlctl"), "{page}");

    let endpoint = format!("unix:{}", addresses["unix"]);
    let (_, stdout, stderr) = output(cairlctl().args(["--endpoint", &endpoint, "complete", callback]));
    assert!(stdout.contains("age_18_plus"), "{stdout}{stderr}");
    let token = std::fs::read_to_string(format!("{}/caller.token", addresses["data"])).unwrap();
    let mut client = Client::tcp(addresses["grpc"], Some(token.trim())).await;
    assert_eq!(client.status().await.unwrap().store.unwrap().sessions, 1);
    // The sandbox told of the decision: each question is a request of its own, so that this does not spin.
    let told = async { while client.status().await.unwrap().store.unwrap().events == 0 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("the sandbox's webhook");

    send_signal(&process.0, rustix::process::Signal::INT);
    assert!(process.0.wait().unwrap().success());
    assert!(!std::path::Path::new(addresses["data"]).exists(), "the temporary folder is gone");
}
