//! The daemon's life: build, then spawn, then drain.

use std::{fs, future::Future, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time,
};
use tokio_stream::{Stream, StreamExt};

use super::{
    assemble,
    clock::SystemClock,
    config::Config,
    housekeeping,
    listener::{Listeners, UnixSocket},
    notify,
    reload::InForce,
    watchdog,
};
use crate::{
    api::{Api, Callers, GrpcServer, Health, assemble as assemble_api},
    domain::{Clock, RunId},
    flows::Flows,
    http::WebhookServer,
    provider::BuildError,
    store::{OpenError, Store},
};

/// How long calls in flight may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long connections may take to close after that.
const CLOSE: Duration = Duration::from_secs(1);

/// Why the daemon does not start, or has to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store does not open.
    #[error("{0}")]
    Store(#[from] OpenError),
    /// The way to the provider cannot be made.
    #[error("{0}")]
    Provider(#[from] ProviderError),
    /// A listener failed.
    #[error("a listener failed: {0}")]
    Listener(#[from] tonic::transport::Error),
    /// The store stopped for good.
    #[error("{0}; the process ends so that it can be started anew")]
    StoreEnded(String),
    /// Something that cannot be, was.
    #[error("internal error: {0}")]
    Internal(String),
}

/// The way to a client's provider cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("client {client:?}: {error}")]
pub struct ProviderError {
    /// Which client's.
    pub client: String,
    /// Why.
    pub error: BuildError,
}

fn internal(error: impl std::fmt::Display) -> RunError {
    RunError::Internal(error.to_string())
}

/// By what the daemon is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// By the configuration that was read last.
    AsConfigured,
    /// By the one before: the last one cannot come into force.
    AsBefore,
}

/// Runs the daemon on bound listeners until `shutdown` resolves, then drains.
///
/// `ready` is called when everything is open and calls are answered, and again after each reload: each configuration that
/// `reloads` brings comes into force whole, or not at all, which the log tells.
///
/// # Errors
/// [`RunError`] says what stands in the way.
pub async fn run(
    config: Config,
    listeners: Listeners,
    mut ready: impl FnMut(Readiness),
    reloads: impl Stream<Item = Config>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let mut built = build(config).await?;
    let mut servers = Servers::spawn(&built, listeners);
    built.health.set(true).await;
    let mut housekeeping = housekeeping::start(&built.flows, Arc::clone(&built.store), built.health.clone());
    let mut watchdog = watchdog::start(Arc::clone(&built.store));
    ready(Readiness::AsConfigured);

    let (mut reloads, mut shutdown) = (pin!(reloads), pin!(shutdown));
    let ended = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            Some(config) = reloads.next() => {
                ready(built.in_force.replace(config).await);
            }
            reason = built.store.ended() => break Err(RunError::StoreEnded(reason)),
            Some(ended) = housekeeping.join_next() => break Err(match ended {
                Ok(()) => internal("a task that keeps the house ended by itself"),
                Err(error) => internal(error),
            }),
            Some(ended) = servers.tasks.join_next() => break Err(ended_by_itself(ended)),
        }
    };

    tracing::info!("stopping: no new calls; those in flight have ten seconds");
    housekeeping.abort_all();
    built.health.set(false).await;
    // From here on nobody is let in; then the connections are told to close.
    built.flows.stop();
    servers.drain(&built).await;
    watchdog.shutdown().await;
    tracing::info!("stopped");
    ended
}

fn ended_by_itself(server: Result<Result<(), tonic::transport::Error>, JoinError>) -> RunError {
    match server {
        Ok(Err(error)) => RunError::Listener(error),
        Ok(Ok(())) => internal("a listener ended by itself"),
        Err(error) => internal(error),
    }
}

/// The rooms, put together.
struct Built {
    store: Arc<dyn Store>,
    flows: Arc<Flows>,
    server: GrpcServer,
    health: Health,
    webhooks: WebhookServer,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    in_force: InForce,
}

async fn build(config: Config) -> Result<Built, RunError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut run_id = [0; 16];
    getrandom::fill(&mut run_id).map_err(internal)?;
    if config.grpc.insecure {
        tracing::warn!("grpc.insecure is set: bearer tokens cross the loopback interface in clear");
    }
    let clients = assemble::clients(&config, &clock)?;
    let callers = Callers::new(assemble::callers(&config));
    let (tls, tls_in_force) = config.tls.as_ref().map(|tls| watch::channel(tls.server())).unzip();
    // Opening a large store after a crash can take a while: not on a thread that serves.
    let (store, keys, now) = (config.store.clone(), config.keys.clone(), clock.now());
    let opening = tokio::task::spawn_blocking(move || {
        assemble::store(store, &keys, RunId::new(run_id), now, notify::opening)
    });
    let store: Arc<dyn Store> = Arc::new(opening.await.map_err(internal)??);
    let flows = Flows::new(Arc::clone(&store), clients, config.store.events, Arc::clone(&clock));
    let flows = Arc::new(flows.with_pending_limits(config.store.pending));
    let api = Api { flows: Arc::clone(&flows), callers: callers.clone(), clock: Arc::clone(&clock) };
    let (server, health) = assemble_api(api).await.map_err(internal)?;
    let webhooks = WebhookServer::new(Arc::clone(&flows));
    let in_force =
        InForce { config, store: Arc::clone(&store), flows: Arc::clone(&flows), callers, tls, clock };
    Ok(Built { store, flows, server, health, webhooks, tls: tls_in_force, in_force })
}

/// What listens.
struct Servers {
    tasks: JoinSet<Result<(), tonic::transport::Error>>,
    stop: watch::Sender<bool>,
    /// The Unix socket's path, where it goes with the daemon.
    socket: Option<PathBuf>,
}

impl Servers {
    fn spawn(built: &Built, listeners: Listeners) -> Self {
        let (stop, stopped) = watch::channel(false);
        let stopping = |mut stopped: watch::Receiver<bool>| async move {
            // An error means that the sender is gone: time to stop as well.
            let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
        };
        let mut tasks = JoinSet::new();
        let mut socket = None;
        let Listeners { unix, tcp, webhooks } = listeners;
        if let Some(UnixSocket { listener, path, is_inherited }) = unix {
            tracing::info!(path = %path.display(), is_inherited, "serving gRPC on a Unix socket");
            tasks.spawn(built.server.clone().serve_unix(listener, stopping(stopped.clone())));
            // Whoever holds an inherited one goes on listening.
            socket = (!is_inherited).then_some(path);
        }
        if let Some(listener) = tcp {
            let address =
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
            let (server, stopping) = (built.server.clone(), stopping(stopped.clone()));
            match &built.tls {
                Some(tls) => {
                    tracing::info!(address, "serving gRPC on TCP with TLS");
                    tasks.spawn(server.serve_tls(listener, tls.clone(), stopping));
                }
                None => {
                    tracing::info!(address, "serving gRPC on TCP");
                    tasks.spawn(server.serve_tcp(listener, stopping));
                }
            }
        }
        if let Some(listener) = webhooks {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "serving webhooks");
                if !address.ip().to_canonical().is_loopback() {
                    tracing::warn!(%address, "webhooks are received without TLS from other hosts: let a proxy in front end TLS");
                }
            }
            let serving = built.webhooks.clone().serve(listener, stopping(stopped));
            tasks.spawn(async move {
                serving.await;
                Ok(())
            });
        }
        Self { tasks, stop, socket }
    }

    /// Accepts nothing more, lets what is in flight end, for so long, and closes.
    async fn drain(mut self, built: &Built) {
        let _ = self.stop.send(true);
        let drain = async {
            built.server.finish().await;
            built.webhooks.finish().await;
            built.flows.finish().await;
        };
        if time::timeout(DRAIN, drain).await.is_err() {
            tracing::warn!(
                "calls were still in flight after ten seconds; what was sent without an answer is indeterminate"
            );
        }
        // The last answers are on their way; streams that stay open, those of health watchers say, are cut.
        let close = async { while self.tasks.join_next().await.is_some() {} };
        let _ = time::timeout(CLOSE, close).await;
        if let Some(path) = self.socket {
            let _ = fs::remove_file(path);
        }
    }
}
