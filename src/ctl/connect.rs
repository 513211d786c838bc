//! The way to the daemon.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use http::{Uri, uri::Scheme};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{args::Args, diagnose, failure::Failure, input};

/// Where the daemon listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// A socket in the file system.
    Unix(String),
    /// An authority (`127.0.0.1:50051`) on this host.
    Tcp(String),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "must be unix:/path/to/socket or http://127.0.0.1:50051";
        if let Some(rest) = text.strip_prefix("unix:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return if path.starts_with('/') { Ok(Self::Unix(path.to_owned())) } else { Err(FORMS) };
        }
        let uri: Uri = text.parse().map_err(|_| FORMS)?;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Err(
                "TLS is not offered here; use the daemon's Unix socket, or its plain listener on this host",
            );
        }
        let Some(authority) = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP)) else {
            return Err(FORMS);
        };
        let bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if !bare || authority.port().is_none() {
            return Err(FORMS);
        }
        if !is_this_host(authority.host()) {
            return Err("plain HTTP to another host would show codes and tokens to the network; \
                        run cairlctl on the daemon's host");
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
        }
    }
}

impl Target {
    async fn connect(&self) -> Result<Channel, Failure> {
        let invalid = |error| Failure::internal(format!("{self} is not an endpoint: {error}"));
        let endpoint = Endpoint::from_shared(self.to_string()).map_err(invalid)?;
        // A path is no authority, and HTTP/2 wants one.
        let endpoint = match self {
            Self::Unix(_) => endpoint.origin(Uri::from_static("http://localhost")),
            Self::Tcp(_) => endpoint,
        };
        endpoint.connect().await.map_err(|error| diagnose::unreachable(self, &error))
    }
}

/// The daemon, as this caller reaches it.
pub(super) struct Daemon {
    target: Target,
    token: Option<SecretString>,
    timeout: Duration,
    runtime: Runtime,
}

impl Daemon {
    /// Reads the token and connects to nothing yet.
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let token = args.token_file.as_deref().map(input::token).transpose()?;
        // A thread beside this one: the connection stays alive while this one waits for a slow reader of its output.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
        Ok(Self { target: args.endpoint.clone(), token, timeout: args.timeout, runtime })
    }

    /// Makes one call, all of it within the deadline; `name` is the call's name in the contract.
    pub(super) fn call<M, A>(
        &self,
        name: &str,
        message: M,
        send: impl AsyncFnOnce(Channel, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        self.run(self.in_time(name, async {
            let channel = self.target.connect().await?;
            self.send(channel, name, self.timed(message)?, send).await
        }))
    }

    /// Runs what makes several calls over one [`Connection`].
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Connects within the deadline; `name` is the call that it is for.
    pub(super) async fn connect(&self, name: &str) -> Result<Connection<'_>, Failure> {
        let channel = self.in_time(name, self.target.connect()).await?;
        Ok(Connection { daemon: self, channel })
    }

    async fn send<M, A>(
        &self,
        channel: Channel,
        name: &str,
        request: Request<M>,
        send: impl AsyncFnOnce(Channel, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        match send(channel, request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(self.failure(name, &status)),
        }
    }

    async fn in_time<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::timed_out(name, &self.target, self.timeout)),
        }
    }

    /// The daemon ended a stream that should have gone on.
    pub(super) fn ended_early(&self, name: &str) -> Failure {
        Failure::ended_early(name, &self.target)
    }

    fn failure(&self, name: &str, status: &Status) -> Failure {
        Failure::of_status(name, &self.target, self.timeout, status)
    }

    /// A request that says how long its caller waits.
    fn timed<M>(&self, message: M) -> Result<Request<M>, Failure> {
        let mut request = self.request(message)?;
        request.set_timeout(self.timeout);
        Ok(request)
    }

    fn request<M>(&self, message: M) -> Result<Request<M>, Failure> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose_secret())
                .parse()
                .map_err(|_| Failure::internal("the token does not fit in a header"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// A connection for several calls, each within the deadline.
pub(super) struct Connection<'d> {
    daemon: &'d Daemon,
    channel: Channel,
}

impl Connection<'_> {
    /// Makes a call, within the deadline.
    pub(super) async fn call<M, A>(
        &self,
        name: &str,
        message: M,
        send: impl AsyncFnOnce(Channel, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        let sent = self.daemon.send(self.channel.clone(), name, self.daemon.timed(message)?, send);
        self.daemon.in_time(name, sent).await
    }

    /// Opens a stream: it has begun within the deadline, and lasts. In gRPC a deadline is the whole stream's, so that none is
    /// sent.
    pub(super) async fn open<M, A>(
        &self,
        name: &str,
        message: M,
        send: impl AsyncFnOnce(Channel, Request<M>) -> Result<Response<Streaming<A>>, Status>,
    ) -> Result<Streaming<A>, Failure> {
        let sent = self.daemon.send(self.channel.clone(), name, self.daemon.request(message)?, send);
        self.daemon.in_time(name, sent).await
    }

    /// The next message of a stream; none once the daemon has ended it.
    pub(super) async fn next<M>(&self, name: &str, stream: &mut Streaming<M>) -> Result<Option<M>, Failure> {
        stream.message().await.map_err(|status| self.daemon.failure(name, &status))
    }
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
        assert!(target("https://127.0.0.1:50051").is_err_and(|error| error.contains("TLS")));
        for other in ["http://192.0.2.1:50051", "http://cairld.example:50051", "http://0.0.0.0:1"] {
            assert!(target(other).is_err_and(|error| error.contains("another host")), "{other}");
        }
    }
}
