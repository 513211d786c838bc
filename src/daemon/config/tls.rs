//! `grpc.tls`: what the daemon shows callers on the network, and which certificates of theirs it takes.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{
    caller::Caller,
    certificates::{certificates, roots},
    secret_file::{self, SecretKeys},
    section::Section,
};

const KEY: SecretKeys = SecretKeys { inline: "key", file: "key_file", credential: "key_credential" };
/// The one protocol that is spoken behind the handshake (RFC 9113 §3.2).
const ALPN: &[u8] = b"h2";

/// TLS for callers on the network: certificate, key, and whose certificates of callers are believed.
#[derive(Clone)]
pub struct Tls {
    server: Arc<ServerConfig>,
    /// The certificates that are shown, to tell whether a reload brings others.
    chain: Vec<CertificateDer<'static>>,
    roots: Option<Vec<u8>>,
}

impl Tls {
    /// For a listener: TLS 1.2 and 1.3, HTTP/2 alone.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

/// Whether they show the same certificates and believe the same: the key goes with the certificate.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.roots == other.roots
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("asks_for_certificates", &self.roots.is_some()).finish_non_exhaustive()
    }
}

/// How callers over TLS are recognised.
#[derive(Clone, Copy, Debug)]
struct Ways {
    /// Whether one is by a certificate.
    certificate: bool,
    /// Whether one is by a token: then a certificate is asked for, and not insisted on.
    token: bool,
}

/// Reads `grpc.tls`, where it is there; how the callers are recognised decides what is asked of them.
pub(super) fn tls(root: &Section<'_>, section: Option<Section<'_>>, callers: &[Caller]) -> Option<Tls> {
    let ways = Ways {
        certificate: callers.iter().any(|caller| caller.san.is_some()),
        token: callers.iter().any(|caller| caller.token.is_some()),
    };
    if ways.certificate && section.is_none() {
        root.problem(
            "grpc",
            "tls is missing: a [[caller]] is recognised by san, a name in the certificate that it shows; set tls",
        );
    }
    read(section?, ways)
}

fn read(mut section: Section<'_>, ways: Ways) -> Option<Tls> {
    section
        .missing("cert_file", "name the PEM file of the certificate that callers are shown, and its chain");
    let chain =
        certificates(&mut section, "cert_file", "the certificate that callers are shown, and its chain");
    let key = secret_file::required_pem(&mut section, KEY).and_then(|secret| {
        let key = PrivateKeyDer::from_pem_slice(secret.text.as_bytes());
        let told = |_| {
            let message = format!(
                "{}: holds no private key that can be read; it must be PEM (-----BEGIN PRIVATE KEY-----), not encrypted",
                secret.path.display()
            );
            section.document().problem(&secret.at, message);
        };
        key.map_err(told).ok()
    });
    let (given, roots) =
        roots(&mut section, "client_ca_file", "the certificates that issue callers' certificates").unzip();
    if ways.certificate && !section.has("client_ca_file") {
        section.problem(
            "client_ca_file",
            "is missing: a [[caller]] is recognised by san; name the PEM file of the certificates that its certificate \
             is issued by",
        );
    }
    let server = chain.as_ref().zip(key).and_then(|(chain, key)| {
        server(&chain.list, key, roots, ways).map_err(|(key, message)| section.problem(key, message)).ok()
    });
    section.finish();
    Some(Tls { server: Arc::new(server?), chain: chain?.list, roots: given.map(|given| given.pem) })
}

/// The server side of TLS; or which key of the section is wrong, and why.
fn server(
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
    roots: Option<RootCertStore>,
    ways: Ways,
) -> Result<ServerConfig, (&'static str, String)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ("cert_file", format!("TLS is not to be had: {error}")))?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if ways.token { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|error| ("client_ca_file", error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain.to_vec(), key).map_err(|error| {
        let message = if matches!(error, rustls::Error::InconsistentKeys(_)) {
            "is not the key of the certificate in cert_file; name the two that belong together".to_owned()
        } else {
            format!("certificate and key cannot be used: {error}; cert_file must begin with the server's own certificate")
        };
        ("key_file", message)
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
