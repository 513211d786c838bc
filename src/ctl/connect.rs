//! The way to the daemon.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    args::Args,
    endpoint::{Target, Tls},
    failure::Failure,
    input,
};

/// The daemon, as this caller reaches it.
pub(super) struct Daemon {
    target: Target,
    tls: Option<Tls>,
    token: Option<SecretString>,
    timeout: Duration,
    runtime: Runtime,
}

impl Daemon {
    /// Reads the token and the files of TLS, and connects to nothing yet.
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let token = args.token_file.as_deref().map(input::token).transpose()?;
        let tls = Tls::read(&args.endpoint, &args.tls)?;
        // A thread beside this one: the connection stays alive while this one waits for a slow reader of its output.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
        Ok(Self { target: args.endpoint.clone(), tls, token, timeout: args.timeout, runtime })
    }

    /// Makes one call, all of it within the deadline; `name` is the call's name in the contract.
    pub(super) fn call<M, A>(
        &self,
        name: &str,
        message: M,
        send: impl AsyncFnOnce(Channel, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        self.run(self.in_time(name, async {
            let channel = self.target.connect(self.tls.as_ref()).await?;
            self.send(channel, name, self.timed(message)?, send).await
        }))
    }

    /// Runs what makes several calls over one [`Connection`].
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Connects within the deadline; `name` is the call that it is for.
    pub(super) async fn connect(&self, name: &str) -> Result<Connection<'_>, Failure> {
        let channel = self.in_time(name, self.target.connect(self.tls.as_ref())).await?;
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
