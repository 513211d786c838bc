//! Where the daemon listens, and how to get there.

use std::{fmt, net::IpAddr, path::Path, str::FromStr};

use http::{Uri, uri::Scheme};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{
    args::TlsFiles,
    diagnose,
    exit::Exit,
    failure::{Failure, sources},
    input,
};

/// Where the daemon listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// A socket in the file system.
    Unix(String),
    /// An authority (`127.0.0.1:50051`) on this host, in clear.
    Tcp(String),
    /// An authority anywhere, over TLS.
    Tls(String),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str =
            "must be unix:/path/to/socket, http://127.0.0.1:50051 or https://cairld.example:50051";
        if let Some(rest) = text.strip_prefix("unix:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return if path.starts_with('/') { Ok(Self::Unix(path.to_owned())) } else { Err(FORMS) };
        }
        let uri: Uri = text.parse().map_err(|_| FORMS)?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let Some(authority) = uri.authority().filter(|_| is_tls || uri.scheme() == Some(&Scheme::HTTP))
        else {
            return Err(FORMS);
        };
        let bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if !bare || authority.port().is_none() {
            return Err(FORMS);
        }
        if is_tls {
            return Ok(Self::Tls(authority.to_string()));
        }
        if !is_this_host(authority.host()) {
            return Err("plain HTTP to another host would show codes and tokens to the network; \
                        use https, or run cairlctl on the daemon's host");
        }
        Ok(Self::Tcp(authority.to_string()))
    }
}

fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Tls(authority) => write!(f, "https://{authority}"),
        }
    }
}

impl Target {
    /// Connects; `tls` is what a connection over TLS needs.
    pub(super) async fn connect(&self, tls: Option<&Tls>) -> Result<Channel, Failure> {
        let invalid = |error| Failure::internal(format!("{self} is not an endpoint: {error}"));
        let endpoint = Endpoint::from_shared(self.to_string()).map_err(invalid)?;
        let endpoint = match (self, tls) {
            // A path is no authority, and HTTP/2 wants one.
            (Self::Unix(_), _) => endpoint.origin(Uri::from_static("http://localhost")),
            (Self::Tls(_), Some(tls)) => endpoint.tls_config(tls.config()).map_err(|error| {
                // Above it tonic says that it was TLS, and nothing else.
                let cause = sources(&error).last().map(ToString::to_string).unwrap_or_default();
                invalid_files(format!("TLS cannot be set up: {cause}"))
            })?,
            (Self::Tcp(_) | Self::Tls(_), _) => endpoint,
        };
        endpoint.connect().await.map_err(|error| diagnose::unreachable(self, &error))
    }
}

/// What a connection over TLS needs.
pub(super) struct Tls {
    /// Who issues the daemon's certificate, PEM.
    authority: String,
    /// This caller's certificate and key, PEM.
    identity: Option<(String, SecretString)>,
}

impl Tls {
    /// Reads the files, where the endpoint needs them.
    pub(super) fn read(target: &Target, files: &TlsFiles) -> Result<Option<Self>, Failure> {
        let TlsFiles { ca, cert, key } = files;
        if !matches!(target, Target::Tls(_)) {
            return Ok(None);
        }
        let Some(ca) = ca else {
            return Err(Failure::local(
                Exit::USAGE,
                "CA_MISSING",
                format!("{target}: which authority issues the daemon's certificate?"),
                "Name the PEM file of its certificate with --ca.",
            ));
        };
        let both = cert.as_ref().zip(key.as_ref());
        let identity =
            both.map(|(cert, key)| Ok::<_, Failure>((certificates(cert)?, input::private_pem(key)?)));
        let identity = identity.transpose()?;
        Ok(Some(Self { authority: certificates(ca)?, identity }))
    }

    fn config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority));
        match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key.expose_secret())),
            None => config,
        }
    }
}

/// PEM with a certificate in it at least. Without one nobody is believed, which would look like the daemon's fault.
fn certificates(path: &Path) -> Result<String, Failure> {
    let pem = input::pem(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(found.unwrap_or_default());
    if usable == 0 {
        return Err(invalid_files(format!("{}: no certificate in it", path.display())));
    }
    Ok(pem)
}

fn invalid_files(message: String) -> Failure {
    let remedy = "Check that --ca, --cert and --key hold PEM and belong together: --ca and --cert certificates, --key the key \
                  of the one in --cert.";
    Failure::local(Exit::DATA, "TLS_FILES_INVALID", message, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, &'static str> {
        text.parse()
    }

    #[test]
    fn endpoints_are_read() {
        let unix = Target::Unix("/run/cairld/cairld.sock".to_owned());
        assert_eq!(target("unix:/run/cairld/cairld.sock"), Ok(unix.clone()));
        assert_eq!(target("unix:///run/cairld/cairld.sock"), Ok(unix));
        for authority in ["127.0.0.1:50051", "127.8.8.8:1", "[::1]:50051", "localhost:50051"] {
            assert_eq!(target(&format!("http://{authority}")), Ok(Target::Tcp(authority.to_owned())));
        }
        assert_eq!(target("http://127.0.0.1:50051/"), Ok(Target::Tcp("127.0.0.1:50051".to_owned())));
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for text in ["unix:/run/cairld/cairld.sock", "http://[::1]:50051"] {
            assert_eq!(target(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_endpoints_are_refused() {
        let wrong = [
            "",
            "unix:",
            "unix:relative.sock",
            "unix://host/path",
            "/run/cairld/cairld.sock",
            "127.0.0.1:50051",
            "ftp://127.0.0.1:50051",
            "http://127.0.0.1",
            "http://127.0.0.1:50051/path",
            "http://127.0.0.1:50051/?query",
            "http://user@127.0.0.1:50051",
        ];
        for text in wrong {
            assert!(target(text).is_err_and(|error| error.starts_with("must be")), "{text:?}");
        }
        for text in ["https://cairld.example:50051", "https://127.0.0.1:50051"] {
            assert_eq!(target(text).unwrap().to_string(), text, "anywhere");
        }
        for other in ["http://192.0.2.1:50051", "http://cairld.example:50051", "http://0.0.0.0:1"] {
            assert!(target(other).is_err_and(|error| error.contains("another host")), "{other}");
        }
    }
}
