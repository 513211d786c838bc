//! The daemon's life: build, then spawn, then drain.

use std::{future::Future, pin::pin, sync::Arc};

use rustls::ServerConfig;
use tokio::{sync::watch, task::JoinError};
use tokio_stream::{Stream, StreamExt};

use super::{
    assemble,
    clock::SystemClock,
    config::Config,
    housekeeping,
    listener::Listeners,
    notify,
    ops::{Ops, Parts},
    reload::InForce,
    servers::{self, Servers},
    watchdog,
};
use crate::{
    api::{Api, Assembled, Callers, GrpcServer, Health, Serves, Tally, assemble as assemble_api},
    domain::{Clock, Moment, RunId, Tracer},
    flows::Flows,
    http::WebhookServer,
    provider::{BuildError, ProviderMetrics},
    store::{Closing, OpenError, Store},
};

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

/// What the daemon is at.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Everything is open and calls are answered; said again after each reload.
    Serving(Readiness),
    /// It ends, by itself or since it was asked to: calls in flight have ten seconds.
    Stopping,
    /// What is left is the store's last commit, and its file, which whoever lets the store go last sees to.
    Closing(Closing),
}

/// Runs the daemon on bound listeners until `shutdown` resolves, then drains. `shutdown` is heard at any time, before the store
/// is open too.
///
/// `tell` hears what it is at. Each configuration that `reloads` brings comes into force whole, or not at all, which the log
/// tells; none is one that cannot be read. `tracer` carries callers' traces on.
///
/// # Errors
/// [`RunError`] says what stands in the way.
pub async fn run(
    config: Config,
    mut listeners: Listeners,
    mut tell: impl FnMut(Stage),
    reloads: impl Stream<Item = Option<Config>>,
    tracer: Arc<dyn Tracer>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let ops = Arc::new(Ops::default());
    let mut watched = servers::watched(listeners.ops.take(), &ops);
    let mut shutdown = pin!(shutdown);
    let mut built = tokio::select! {
        built = build(config, tracer) => built?,
        () = &mut shutdown => {
            // A store that is cut off while it opens is one that was killed: the next start begins anew.
            tracing::info!("stopping: the store was not open yet");
            tell(Stage::Stopping);
            return Ok(());
        }
    };
    let mut servers = Servers::spawn(&built, listeners);
    ops.serving(built.parts());
    built.health.set(Serves::All).await;
    let mut housekeeping = housekeeping::start(&built.flows, Arc::clone(&built.store));
    let mut watchdog = watchdog::start(Arc::clone(&built.store));
    tell(Stage::Serving(Readiness::AsConfigured));

    let mut reloads = pin!(reloads);
    let ended = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            Some(reread) = reloads.next() => {
                let reloaded = async {
                    match reread {
                        Some(config) => built.in_force.replace(config).await,
                        None => Readiness::AsBefore,
                    }
                };
                // It waits for the store, behind all that is written.
                tokio::select! {
                    readiness = reloaded => {
                        ops.reloaded(readiness);
                        tell(Stage::Serving(readiness));
                    }
                    () = &mut shutdown => break Ok(()),
                }
            }
            reason = built.store.ended() => break Err(RunError::StoreEnded(reason)),
            Some(ended) = housekeeping.join_next() => break Err(match ended {
                Ok(()) => internal("a task that keeps the house ended by itself"),
                Err(error) => internal(error),
            }),
            Some(ended) = servers.tasks.join_next() => break Err(ended_by_itself(ended)),
            Some(_) = watched.join_next() => break Err(internal("what shows health and metrics ended by itself")),
        }
    };

    tracing::info!("stopping: no new calls; those in flight have ten seconds");
    tell(Stage::Stopping);
    housekeeping.abort_all();
    built.health.set(Serves::Nobody).await;
    // From here on nobody is let in; then the connections are told to close.
    built.flows.stop();
    servers.drain(&built).await;
    watchdog.shutdown().await;
    tracing::info!("closing the store");
    tell(Stage::Closing(built.closing.clone()));
    if built.store.status().trouble.is_some() {
        // Which was told when it began, with what to do while there is a daemon to ask.
        tracing::error!(
            "the daemon ends while the store's file is not as it should be: what was written goes with a file that has no name \
             any more"
        );
    }
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
pub(super) struct Built {
    store: Arc<dyn Store>,
    closing: Closing,
    pub(super) flows: Arc<Flows>,
    pub(super) server: GrpcServer,
    health: Health,
    tally: Arc<Tally>,
    pub(super) webhooks: WebhookServer,
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    in_force: InForce,
    started: Moment,
}

impl Built {
    /// What is asked how the daemon is.
    fn parts(&self) -> Parts {
        let InForce { clock, provider, .. } = &self.in_force;
        Parts {
            store: Arc::clone(&self.store),
            flows: Arc::clone(&self.flows),
            tally: Arc::clone(&self.tally),
            provider: provider.clone(),
            clock: Arc::clone(clock),
            started: self.started,
        }
    }
}

async fn build(config: Config, tracer: Arc<dyn Tracer>) -> Result<Built, RunError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let started = clock.now();
    let mut run_id = [0; 16];
    getrandom::fill(&mut run_id).map_err(internal)?;
    if config.grpc.insecure {
        tracing::warn!("grpc.insecure is set: bearer tokens cross the loopback interface in clear");
    }
    let provider = ProviderMetrics::default();
    let clients = assemble::clients(&config, &clock, &provider, &tracer)?;
    let callers = Callers::new(assemble::callers(&config));
    let (tls, tls_in_force) = config.tls.as_ref().map(|tls| watch::channel(tls.server())).unzip();
    // Opening a large store after a crash can take a while: not on a thread that serves.
    let (store, keys) = (config.store.clone(), config.keys.clone());
    let opening = tokio::task::spawn_blocking(move || {
        assemble::store(store, &keys, RunId::new(run_id), started, notify::opening)
    });
    let store = opening.await.map_err(internal)??;
    let closing = store.closing();
    let store: Arc<dyn Store> = Arc::new(store);
    let flows = Flows::new(Arc::clone(&store), clients, config.store.events, Arc::clone(&clock));
    let flows = Arc::new(flows.with_pending_limits(config.store.pending));
    let api = Api {
        flows: Arc::clone(&flows),
        callers: callers.clone(),
        clock: Arc::clone(&clock),
        tracer: Arc::clone(&tracer),
    };
    let Assembled { server, health, tally } = assemble_api(api).await.map_err(internal)?;
    let webhooks = WebhookServer::new(Arc::clone(&flows), Arc::clone(&tracer));
    let in_force = InForce {
        config,
        store: Arc::clone(&store),
        flows: Arc::clone(&flows),
        callers,
        tls,
        clock,
        provider,
        tracer,
    };
    Ok(Built { store, closing, flows, server, health, tally, webhooks, tls: tls_in_force, in_force, started })
}
