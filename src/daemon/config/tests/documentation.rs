//! `docs/cairld.toml` is the documentation, so it must be true and complete.

use super::*;
use crate::daemon::config::document::Document;

const TEXT: &str = include_str!("../../../../docs/cairld.toml");
/// Keys that have no default; what is commented out is an example.
const WITHOUT_DEFAULT: [&str; 14] = [
    "tcp",
    "tls.cert_file",
    "tls.key_file",
    "tls.client_ca_file",
    "webhooks",
    "ops",
    "api_key_file",
    "issuer",
    "ca_file",
    "proxy",
    "gid",
    "san",
    "token_file",
    "limits.pending_sessions",
];

/// The host that the file is written for, and the file as it reads there.
fn host() -> (Host, String) {
    let host = Host::new();
    host.secret("secrets/store.key", &MasterKeyText::new(7).0);
    host.secret("secrets/shop.client_id", "cairl_live_CANARY\n");
    host.secret("secrets/shop.client_secret", "CANARY-secret\n");
    host.secret("secrets/shop.webhook_secret", "CANARY-webhook\n");
    host.secret("secrets/shop.api_key", "CANARY-api\n");
    host.secret("secrets/checkout.token", TOKEN);
    host.file("ca.pem", tls::certificate("ca.internal").0, 0o644);
    let (certificate, key) = tls::certificate("cairld.internal");
    host.file("tls/server.crt", &certificate, 0o644);
    host.file("tls/callers-ca.crt", &certificate, 0o644);
    host.secret("tls/server.key", &key);
    let folder = format!("{}/", host.folder.path().display());
    (host, TEXT.replace("/etc/cairld/", &folder))
}

/// The key of a line that is commented out.
fn commented(line: &str) -> Option<&str> {
    let line = line.strip_prefix('#').filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))?;
    line.split_once(" = ").map(|(key, _)| key)
}

fn uncomment(text: &str, pick: impl Fn(&str) -> bool) -> String {
    let lines = text.lines().map(|line| match commented(line) {
        Some(key) if pick(key) => line.trim_start_matches('#'),
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The file with all its examples in force; secrets are files in it.
fn examples(text: &str) -> String {
    uncomment(text, |key| !key.ends_with("credential") && !key.ends_with("credentials"))
}

#[test]
fn it_loads() {
    let (host, text) = host();
    host.file("cairld.toml", &text, 0o644);
    let config = load(&host.path("cairld.toml"), &host.environment).unwrap();
    assert_eq!(config.grpc.unix.as_deref(), Some(Path::new("/run/cairld/cairld.sock")));
    assert_eq!(config.store.path, Path::new("/var/lib/cairld/cairld.redb"));
}

#[test]
fn what_is_commented_out_is_the_default() {
    let (host, text) = host();
    let defaults = uncomment(&text, |key| {
        !WITHOUT_DEFAULT.contains(&key) && !key.ends_with("credential") && !key.ends_with("credentials")
    });
    assert_ne!(defaults, text);
    assert_eq!(format!("{:?}", host.good(&text)), format!("{:?}", host.good(&defaults)));
}

#[test]
fn its_examples_are_right() {
    let (host, text) = host();
    let config = host.good(&examples(&text));
    assert!(config.clients[0].ca_pem.is_some() && config.callers[0].token.is_some());
    assert!(config.tls.is_some() && config.callers[0].san.is_some());
}

#[test]
fn it_has_every_key_and_no_other() {
    let (host, text) = host();
    let (text, path) = (examples(&text), host.path("cairld.toml"));
    let document = Document::new(&text, &path, &host.environment);
    assert!(Config::read(&document).is_some());
    let known = document.asked.borrow();
    let known: std::collections::BTreeSet<String> = known
        .iter()
        .map(|(section, key)| if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") })
        .collect();

    let mut documented = std::collections::BTreeSet::new();
    let mut section = String::new();
    for line in TEXT.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_owned();
            documented.insert(section.clone());
        } else if let Some(key) = commented(line)
            .or_else(|| line.split_once(" = ").map(|(key, _)| key).filter(|key| !key.contains(['#', ' '])))
        {
            // `endpoints.token` is the key `endpoints` too.
            for (end, _) in key.match_indices('.').chain([(key.len(), "")]) {
                documented.insert(format!("{section}.{}", &key[..end]));
            }
        }
    }
    assert_eq!(known, documented);
}
