//! `grpc.tls`, and callers that are recognised by certificates.

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A certificate for a name, and its key, both PEM.
pub(super) fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A host with the files of TLS.
fn host() -> Host {
    let host = Host::new();
    let (certificate_pem, key) = certificate("cairld.internal");
    host.file("server.crt", &certificate_pem, 0o644);
    host.secret("server.key", &key);
    host.file("ca.crt", &certificate("ca.internal").0, 0o644);
    host.secret("other.key", &certificate("cairld.internal").1);
    host
}

const TLS: &str = "tcp = \"0.0.0.0:50051\"\n\
                   tls = { cert_file = \"server.crt\", key_file = \"server.key\", client_ca_file = \"ca.crt\" }";

#[test]
fn tls_lets_tcp_listen_anywhere() {
    let host = host();
    let caller = "san = \"Checkout.Internal\"";
    let config = host.good(&with(Lines { grpc: TLS, caller, ..Lines::default() }));
    assert!(config.tls.is_some() && !config.grpc.insecure);
    assert_eq!(config.grpc.tcp, Some("0.0.0.0:50051".parse().unwrap()));
    assert_eq!(
        config.callers[0].san,
        crate::api::San::parse("checkout.internal").ok(),
        "in any case of letters"
    );
    assert_eq!(format!("{:?}", config.tls), "Some(Tls { asks_for_certificates: true, .. })");
    let again = host.good(&with(Lines { grpc: TLS, caller, ..Lines::default() }));
    assert_eq!(config.tls, again.tls);
    let (certificate_pem, key) = certificate("cairld.internal");
    host.file("server.crt", &certificate_pem, 0o644);
    host.secret("server.key", &key);
    assert_ne!(config.tls, host.good(&with(Lines { grpc: TLS, caller, ..Lines::default() })).tls, "renewed");
}

#[test]
fn what_is_wrong_with_tls_is_said() {
    let host = host();
    host.file("empty.crt", "", 0o644);
    host.file("open.key", "", 0o644);
    host.file("loose.key", certificate("x").1, 0o640);
    let tcp = "tcp = \"127.0.0.1:1\"\n";
    for (lines, key, words) in [
        ("tls = { key_file = \"server.key\" }", "grpc.tls.cert_file", "is missing: name the PEM file"),
        (
            "tls = { cert_file = \"server.crt\" }",
            "grpc.tls.key_file",
            "is missing: name a file with key_file",
        ),
        (
            "tls = { cert_file = \"none.crt\", key_file = \"server.key\" }",
            "grpc.tls.cert_file",
            "no such file",
        ),
        (
            "tls = { cert_file = \"empty.crt\", key_file = \"server.key\" }",
            "grpc.tls.cert_file",
            "no certificate",
        ),
        (
            "tls = { cert_file = \"server.crt\", key_file = \"server.crt\" }",
            "grpc.tls.key_file",
            "others can read",
        ),
        (
            "tls = { cert_file = \"server.crt\", key_file = \"loose.key\" }",
            "grpc.tls.key_file",
            "run `chmod 600",
        ),
        ("tls = { cert_file = \"server.crt\", key_file = \"token\" }", "grpc.tls.key_file", "no private key"),
        (
            "tls = { cert_file = \"server.crt\", key_file = \"other.key\" }",
            "grpc.tls.key_file",
            "not the key of",
        ),
        ("tls = { cert_file = \"server.crt\", key = \"CANARY\" }", "grpc.tls.key", "secrets are files"),
        (
            "insecure = true\ntls = { cert_file = \"server.crt\", key_file = \"server.key\" }",
            "grpc.insecure",
            "for TCP without TLS",
        ),
        (
            "tls = { cert_fil = \"server.crt\", key_file = \"server.key\" }",
            "grpc.tls.cert_fil",
            "did you mean",
        ),
    ] {
        let text = with(Lines { grpc: &format!("{tcp}{lines}"), ..Lines::default() });
        let told = host.told(&text);
        assert!(told.iter().any(|line| line.contains(key) && line.contains(words)), "{lines}: {told:?}");
    }
    let unused = host.told(&with(Lines {
        grpc: "tls = { cert_file = \"server.crt\", key_file = \"server.key\" }",
        ..Lines::default()
    }));
    assert!(unused[0].contains("grpc.tls: is for TCP"), "{unused:?}");
}

#[test]
fn names_in_certificates_need_who_issues_them() {
    let host = host();
    let told = host.told(&with(Lines { caller: "san = \"checkout.internal\"", ..Lines::default() }));
    assert!(told[0].contains("grpc: tls is missing: a [[caller]] is recognised by san"), "{told:?}");
    let grpc = "tcp = \"127.0.0.1:1\"\ntls = { cert_file = \"server.crt\", key_file = \"server.key\" }";
    let told = host.told(&with(Lines { grpc, caller: "san = \"checkout.internal\"", ..Lines::default() }));
    assert!(told[0].contains("client_ca_file: is missing: a [[caller]] is recognised by san"), "{told:?}");
    let twin =
        "[[caller]]\nname = \"twin\"\nsan = \"CHECKOUT.internal\"\nclients = [\"shop\"]\nrpcs = [\"*\"]\n";
    let told = host.told(&with(Lines {
        grpc: TLS,
        caller: "san = \"checkout.internal\"",
        end: twin,
        ..Lines::default()
    }));
    assert!(told[0].contains("caller \"checkout\" has the same name; each caller needs its own"), "{told:?}");
}
