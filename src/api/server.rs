//! All gRPC services behind one door.

use std::{future::Future, io, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    time,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::TaskTracker;
use tonic::transport::{
    Server,
    server::{Router, TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::layer::util::{Identity, Stack};

use super::{
    admin::Admin,
    callers::Callers,
    door::DoorLayer,
    greeting::Greeted,
    integration::Integration,
    parting::Parting,
    proto::{
        FILE_DESCRIPTOR_SET, admin_service_server::AdminServiceServer,
        integration_service_server::IntegrationServiceServer,
    },
    tally::Tally,
    tls,
};
use crate::{
    domain::{Clock, Tracer},
    flows::Flows,
};

/// Longest message that is taken, bytes; the contract says so.
const MAX_MESSAGE: usize = 128 * 1024;
/// Calls of one connection at a time.
const MAX_STREAMS: u32 = 1024;
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Headers of one call, bytes.
const MAX_HEADERS: u32 = 16 * 1024;

/// What the services need.
pub struct Api {
    /// The use cases.
    pub flows: Arc<Flows>,
    /// Who may call.
    pub callers: Callers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Carries callers' traces on.
    pub tracer: Arc<dyn Tracer>,
}

/// Says of each service whether it serves (`grpc.health.v1`).
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Everybody.
    All,
    /// Nobody.
    Nobody,
}

impl Health {
    /// Who is served from here on. No name stands for the daemon as a whole.
    pub async fn set(&self, serves: Serves) {
        let status = match serves {
            Serves::All => ServingStatus::Serving,
            Serves::Nobody => ServingStatus::NotServing,
        };
        for service in ["", "cairld.v1.IntegrationService", "cairld.v1.AdminService"] {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// All services, ready to be served on any number of listeners.
#[derive(Clone)]
pub struct GrpcServer {
    router: Router<Stack<DoorLayer, Identity>>,
    calls: TaskTracker,
    clock: Arc<dyn Clock>,
}

impl GrpcServer {
    /// Serves the Unix socket until `shutdown` resolves and the calls in flight have ended.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve_unix(
        self,
        listener: UnixListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = UnixListenerStream::new(listener).then(pause_after_error).map_ok(connection);
        self.router.serve_with_incoming_shutdown(incoming, shutdown).await
    }

    /// Serves TLS over TCP until `shutdown` resolves and the calls in flight have ended. Each handshake is under the
    /// configuration that is in force when it begins; what is connected stays so.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        config: watch::Receiver<Arc<ServerConfig>>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).then(pause_after_error);
        let incoming = tls::handshakes(incoming, config, self.clock).map_ok(connection);
        self.router.serve_with_incoming_shutdown(incoming, shutdown).await
    }

    /// Serves plain TCP until `shutdown` resolves and the calls in flight have ended.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve_tcp(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let incoming = incoming.then(pause_after_error).map_ok(connection);
        self.router.serve_with_incoming_shutdown(incoming, shutdown).await
    }

    /// Waits until every call is answered. Call it when no new ones come in.
    pub async fn finish(&self) {
        self.calls.close();
        self.calls.wait().await;
    }

    /// How many calls are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }
}

/// A connection with the manners of its beginning and its end.
fn connection<S>(stream: S) -> Parting<Greeted<S>> {
    Parting::new(Greeted::new(stream))
}

/// Accepting fails when file descriptors run out: a pause lets calls in flight end and give theirs back.
async fn pause_after_error<T>(accepted: io::Result<T>) -> io::Result<T> {
    if let Err(error) = &accepted {
        tracing::error!(%error, "a connection could not be accepted; trying again in a second");
        time::sleep(ACCEPT_PAUSE).await;
    }
    accepted
}

/// All services, put together.
pub struct Assembled {
    /// What serves them.
    pub server: GrpcServer,
    /// Says whether they serve.
    pub health: Health,
    /// Counts and times their calls.
    pub tally: Arc<Tally>,
}

/// Puts all services together, with their health, which begins as not serving.
///
/// # Errors
/// When the contract's descriptors cannot be read, which only a broken build can bring about.
pub async fn assemble(api: Api) -> Result<Assembled, tonic_reflection::server::Error> {
    let calls = TaskTracker::new();
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health(reporter);
    health.set(Serves::Nobody).await;
    let Api { flows, callers, clock, tracer } = api;
    let started = clock.now();
    let stopping = flows.stopping().clone();
    let tally = Arc::new(Tally::new());
    let integration = Integration { flows: Arc::clone(&flows), tally: Arc::clone(&tally) };
    let integration = IntegrationServiceServer::new(integration).max_decoding_message_size(MAX_MESSAGE);
    let admin = Admin { flows, clock: Arc::clone(&clock), started, tally: Arc::clone(&tally) };
    let admin = AdminServiceServer::new(admin).max_decoding_message_size(MAX_MESSAGE);
    // The error details are registered too, so that grpcurl shows them decoded.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = Server::builder()
        .layer(DoorLayer::new(callers, calls.clone(), stopping, Arc::clone(&tally), tracer))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(integration)
        .add_service(admin);
    Ok(Assembled { server: GrpcServer { router, calls, clock }, health, tally })
}
