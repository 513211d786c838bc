//! Callers over TLS: who is who by certificate or token, and what does not even connect.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::support::{Authority, Client, Daemon, Issued, World, cairlctl, output, refused};

/// A world whose daemon speaks TLS, and who issues its certificates.
struct Secured {
    world: World,
    authority: Authority,
}

const SPIFFE: &str = "spiffe://shop.example/checkout";
const TOKEN: &str = "tok_network_0123456789abcdef0123456789ab";

impl Secured {
    /// Callers: `checkout` by a URI, `billing` by a DNS name; with tokens also `network`.
    async fn new(with_tokens: bool) -> Self {
        let secured = Self { world: World::new().await, authority: Authority::new() };
        let world = &secured.world;
        secured.renew();
        fs::write(world.path("ca.crt"), secured.authority.pem()).unwrap();
        world.write_secret("network.token", TOKEN);
        let text = world.config_text();
        let (before, _) = text.split_once("[[caller]]").unwrap();
        let tls =
            "tls = { cert_file = \"server.crt\", key_file = \"server.key\", client_ca_file = \"ca.crt\" }";
        let caller = |name: &str, way: &str| {
            format!("[[caller]]\nname = \"{name}\"\n{way}\nclients = [\"shop\"]\nrpcs = [\"*\"]\n")
        };
        let mut config = before.replace("insecure = true", tls);
        config += &caller("checkout", &format!("san = \"{SPIFFE}\""));
        config += &caller("billing", "san = \"billing.internal\"");
        if with_tokens {
            config += &caller("network", "token_file = \"network.token\"");
        }
        fs::write(world.config(), config).unwrap();
        secured
    }

    /// Writes another certificate for the server.
    fn renew(&self) -> String {
        self.show(self.authority.server())
    }

    /// Writes a certificate that the server shows when it next reads it.
    fn show(&self, server: Issued) -> String {
        fs::write(self.world.path("server.crt"), &server.certificate).unwrap();
        self.world.write_secret("server.key", &server.key);
        server.certificate
    }

    /// `cairlctl status` there, with those files beside the world's.
    fn status(&self, address: &str, files: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = cairlctl();
        command.args(["--endpoint", &format!("https://{address}"), "status"]);
        for (option, file) in files {
            command.arg(option).arg(self.world.path(file));
        }
        let (ended, _, error) = output(&mut command);
        (ended.status.code(), error)
    }

    async fn connect(
        &self,
        daemon: &Daemon,
        issued: Option<&Issued>,
        token: Option<&str>,
    ) -> Result<Client, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority.pem()));
        if let Some(issued) = issued {
            tls = tls.identity(Identity::from_pem(&issued.certificate, &issued.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", daemon.tcp()))?.tls_config(tls)?;
        Ok(Client::over(endpoint.connect().await?, token))
    }
}

impl Secured {
    async fn connected(&self, daemon: &Daemon, issued: Option<&Issued>, token: Option<&str>) -> Client {
        self.connect(daemon, issued, token).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_says_who_it_is() {
    let secured = Secured::new(true).await;
    let daemon = secured.world.daemon();
    let mut checkout = secured.connected(&daemon, Some(&secured.authority.caller(SPIFFE)), None).await;
    let (id, callback) = secured.world.approved(&mut checkout).await;
    checkout.completed(&callback).await.unwrap();

    let mut billing =
        secured.connected(&daemon, Some(&secured.authority.caller("BILLING.internal")), None).await;
    assert_eq!(refused(billing.session(&id).await).reason, "SESSION_NOT_FOUND", "another caller");
    billing.started().await;
    for stranger in ["other.internal", "x.billing.internal", "*.internal", "spiffe://shop.example/checkout/x"]
    {
        let mut stranger = secured.connected(&daemon, Some(&secured.authority.caller(stranger)), None).await;
        assert_eq!(refused(stranger.session(&id).await).reason, "CALLER_UNKNOWN");
    }

    let mut network = secured.connected(&daemon, None, Some(TOKEN)).await;
    network.started().await;
    assert_eq!(
        refused(secured.connected(&daemon, None, None).await.session(&id).await).reason,
        "CALLER_UNKNOWN"
    );
    let checkout = secured.authority.caller(SPIFFE);
    let mut both = secured.connected(&daemon, Some(&checkout), Some(TOKEN)).await;
    assert_eq!(
        refused(both.session(&id).await).reason,
        "SESSION_NOT_FOUND",
        "a token decides where one is sent"
    );
    let mut wrong = secured.connected(&daemon, Some(&checkout), Some("wrong")).await;
    assert_eq!(refused(wrong.session(&id).await).reason, "CALLER_UNKNOWN", "no certificate makes it good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_systemd_holds_speaks_tls_too() {
    let secured = Secured::new(true).await;
    let world = &secured.world;
    let text = fs::read_to_string(world.config()).unwrap();
    let text = text.replace("unix = \"cairld.sock\"\n", "").replace("tcp = \"127.0.0.1:0\"\n", "");
    fs::write(world.config(), text).unwrap();
    let unix = UnixListener::bind(world.path("cairld.sock")).unwrap();
    let daemon = Daemon::start_on(&world.config(), &unix, &TcpListener::bind("127.0.0.1:0").unwrap());
    let caller = secured.authority.caller(SPIFFE);
    secured.connected(&daemon, Some(&caller), None).await.started().await;
    // Whoever speaks in clear hears no answer to that.
    let plain = Endpoint::from_shared(format!("http://{}", daemon.tcp())).unwrap().connect_lazy();
    Client::over(plain, Some(TOKEN)).status().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_caller_does_not_even_connect() {
    let secured = Secured::new(false).await;
    let daemon = secured.world.daemon();
    let mut checkout = secured.connect(&daemon, Some(&secured.authority.caller(SPIFFE)), None).await.unwrap();
    checkout.started().await;
    // In TLS 1.3 a client hears of it only when it reads: the first call fails instead of the handshake.
    let is_refused = async |client: Result<Client, tonic::transport::Error>| match client {
        Err(_) => true,
        Ok(mut client) => {
            client.session("ses_00000000000000000000000000").await.unwrap_err().code()
                != tonic::Code::Unauthenticated
        }
    };
    assert!(is_refused(secured.connect(&daemon, None, Some(TOKEN)).await).await, "no certificate at all");
    let impostor = Authority::new().caller(SPIFFE);
    assert!(is_refused(secured.connect(&daemon, Some(&impostor), None).await).await, "of another authority");
    let server = secured.authority.server();
    assert!(is_refused(secured.connect(&daemon, Some(&server), None).await).await, "not meant for clients");
    daemon.says("\"peer\":\"127.0.0.1:");
    daemon.says("a TLS handshake failed; `failed` counts all since the start");

    let mut plain = TcpStream::connect(daemon.tcp().parse::<SocketAddr>().unwrap()).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.windows(2).any(|pair| pair == b"h2"), "no HTTP/2 in clear: {answer:?}");
    checkout.started().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_and_open_connections_stay() {
    let secured = Secured::new(false).await;
    let daemon = secured.world.daemon();
    let identity = secured.authority.caller(SPIFFE);
    let mut before = secured.connect(&daemon, Some(&identity), None).await.unwrap();
    let id = before.started().await.session.unwrap().id;

    // All certificates are of another authority from here on, the callers' too.
    let Secured { world, .. } = secured;
    let renewed = Secured { world, authority: Authority::new() };
    renewed.renew();
    fs::write(renewed.world.path("ca.crt"), renewed.authority.pem()).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("grpc.tls: other certificates");

    before.session(&id).await.unwrap();
    let mut after = renewed.connect(&daemon, Some(&renewed.authority.caller(SPIFFE)), None).await.unwrap();
    after.session(&id).await.unwrap();
    let old = renewed.connect(&daemon, Some(&identity), None).await;
    let is_refused = match old {
        Err(_) => true,
        Ok(mut old) => old.session(&id).await.is_err(),
    };
    assert!(is_refused, "of the authority before");
    before.session(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cairlctl_speaks_tls() {
    let secured = Secured::new(false).await;
    let daemon = secured.world.daemon();
    let identity = secured.authority.caller(SPIFFE);
    fs::write(secured.world.path("caller.crt"), &identity.certificate).unwrap();
    secured.world.write_secret("caller.key", &identity.key);
    let mut command = cairlctl();
    command.arg("--endpoint").arg(format!("https://{}", daemon.tcp()));
    for (option, file) in [("--ca", "ca.crt"), ("--cert", "caller.crt"), ("--key", "caller.key")] {
        command.arg(option).arg(secured.world.path(file));
    }
    let (ended, said, error) = output(command.args(["start", "--scope", "age_18_plus"]));
    assert!(ended.status.success() && said.contains("ses_"), "{said}{error}");

    let mut stranger = cairlctl();
    stranger.arg("--endpoint").arg(format!("https://{}", daemon.tcp()));
    let (ended, _, error) = output(stranger.args(["start", "--scope", "age_18_plus"]));
    assert!(!ended.status.success() && error.contains("--ca"), "{error}");
}

/// What is wrong with a certificate is told as that, and not as a daemon that does not run.
#[tokio::test(flavor = "multi_thread")]
async fn cairlctl_says_what_a_handshake_failed_for() {
    let secured = Secured::new(false).await;
    let daemon = secured.world.daemon();
    fs::write(secured.world.path("other.crt"), Authority::new().pem()).unwrap();
    let is_told = |address: &str, ca: &str, cause: &str| {
        let (code, error) = secured.status(address, &[("--ca", ca)]);
        assert_eq!(code, Some(69), "{error}");
        assert!(error.contains("DAEMON_UNREACHABLE") && error.contains(cause), "{error}");
        assert!(error.contains("the authority in --ca issued"), "{error}");
        assert!(!error.contains("Is the daemon running"), "{error}");
    };
    is_told(daemon.tcp(), "other.crt", "invalid peer certificate");
    // It shows health and metrics in clear.
    is_told(&daemon.ops(), "ca.crt", "corrupt message");
    secured.show(secured.authority.server_of(&["cairld.elsewhere"]));
    daemon.signal(Signal::HUP);
    daemon.says("grpc.tls: other certificates");
    is_told(daemon.tcp(), "ca.crt", "not valid for name");
}

#[tokio::test(flavor = "multi_thread")]
async fn cairlctl_looks_at_its_own_files_first() {
    let secured = Secured::new(false).await;
    let world = &secured.world;
    let (one, other) = (secured.authority.caller(SPIFFE), secured.authority.caller(SPIFFE));
    fs::write(world.path("caller.crt"), &one.certificate).unwrap();
    world.write_secret("caller.key", &one.key);
    world.write_secret("other.key", &other.key);
    fs::write(world.path("empty"), "").unwrap();
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(world.path("damaged.crt"), damaged).unwrap();
    for (ca, cert, key, cause) in [
        ("empty", "caller.crt", "caller.key", "empty: no certificate in it"),
        ("other.key", "caller.crt", "caller.key", "other.key: no certificate in it"),
        ("damaged.crt", "caller.crt", "caller.key", "damaged.crt: no certificate in it"),
        ("ca.crt", "caller.key", "caller.key", "caller.key: no certificate in it"),
        ("ca.crt", "caller.crt", "other.key", "KeyMismatch"),
    ] {
        // Nobody is asked.
        let (code, error) = secured.status("127.0.0.1:1", &[("--ca", ca), ("--cert", cert), ("--key", key)]);
        assert_eq!(code, Some(65), "{error}");
        assert!(error.contains("TLS_FILES_INVALID") && error.contains(cause), "{error}");
        assert!(error.contains("hold PEM and belong together") && !error.contains("transport"), "{error}");
    }
}
