//! The daemon's life: build, then spawn, then drain.

use std::{fs, future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time};

use super::{assemble, clock::SystemClock, config::Config, listener::Listeners};
use crate::{
    api::{Api, Callers, Health, assemble as assemble_api},
    domain::{Clock, RunId},
    flows::Flows,
    http::WebhookServer,
    provider::BuildError,
    store::{OpenError, SWEEP_EVERY, Store},
};

/// How long calls in flight may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long connections may take to close after that.
const CLOSE: Duration = Duration::from_secs(1);
/// How often the store is asked whether it takes writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the daemon does not start, or has to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store does not open.
    #[error("{0}")]
    Store(#[from] OpenError),
    /// The way to the provider cannot be made.
    #[error("client {client:?}: {error}")]
    Provider {
        /// Which client's.
        client: String,
        /// Why.
        error: BuildError,
    },
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

/// Runs the daemon on bound listeners until `shutdown` resolves, then drains.
///
/// `ready` is called once, when everything is open and calls are answered.
///
/// # Errors
/// [`RunError`] says what stands in the way.
pub async fn run(
    config: Config,
    listeners: Listeners,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let internal = |error: &dyn std::fmt::Display| RunError::Internal(error.to_string());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut run_id = [0; 16];
    getrandom::fill(&mut run_id).map_err(|error| internal(&error))?;

    let Config { store: store_config, keys, clients, callers, grpc, http: _ } = config;
    let shared = clients.iter().filter(|client| client.share).map(|client| client.name.clone()).collect();
    let clients = clients
        .into_iter()
        .map(|client| {
            let name = client.name.to_string();
            assemble::client(client, &callers, &clock)
                .map_err(|error| RunError::Provider { client: name, error })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let callers = Callers::new(callers.into_iter().map(|caller| assemble::caller(caller, &shared)).collect());
    // Opening a large store after a crash can take a while: not on a thread that serves.
    let now = clock.now();
    let (event_limits, pending) = (store_config.events, store_config.pending);
    let opening =
        tokio::task::spawn_blocking(move || assemble::store(store_config, &keys, RunId::new(run_id), now));
    let store: Arc<dyn Store> = Arc::new(opening.await.map_err(|error| internal(&error))??);
    let flows = Flows::new(Arc::clone(&store), clients, event_limits, Arc::clone(&clock));
    let flows = Arc::new(flows.with_pending_limits(pending));
    let api = Api { flows: Arc::clone(&flows), callers, clock };
    let (server, health) = assemble_api(api).await.map_err(|error| internal(&error))?;

    if grpc.insecure {
        tracing::warn!("grpc.insecure is set: bearer tokens cross the loopback interface in clear");
    }
    let (stop, stopped) = watch::channel(false);
    let stopping = |mut stopped: watch::Receiver<bool>| async move {
        // An error means that the sender is gone: time to stop as well.
        let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
    };
    let mut servers = JoinSet::new();
    let mut socket = None;
    if let Some((listener, path)) = listeners.unix {
        tracing::info!(path = %path.display(), "serving gRPC on a Unix socket");
        servers.spawn(server.clone().serve_unix(listener, stopping(stopped.clone())));
        socket = Some(path);
    }
    if let Some(listener) = listeners.tcp {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "serving gRPC on TCP");
        }
        servers.spawn(server.clone().serve_tcp(listener, stopping(stopped.clone())));
    }
    let webhooks = WebhookServer::new(Arc::clone(&flows));
    if let Some(listener) = listeners.webhooks {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "serving webhooks");
            if !address.ip().to_canonical().is_loopback() {
                tracing::warn!(%address, "webhooks are received without TLS from other hosts: let a proxy in front end TLS");
            }
        }
        let serving = webhooks.clone().serve(listener, stopping(stopped));
        servers.spawn(async move {
            serving.await;
            Ok(())
        });
    }
    let mut housekeeping = JoinSet::new();
    housekeeping.spawn(sweep(Arc::clone(&flows)));
    let revoking = Arc::clone(&flows);
    housekeeping.spawn(async move { revoking.revoke_waiting().await });
    let reconciling = Arc::clone(&flows);
    housekeeping.spawn(async move { reconciling.reconcile().await });
    health.set(true).await;
    housekeeping.spawn(watch_store(Arc::clone(&store), health.clone()));
    ready();

    let ended = tokio::select! {
        () = shutdown => Ok(()),
        reason = store.ended() => Err(RunError::StoreEnded(reason)),
        Some(ended) = housekeeping.join_next() => Err(RunError::Internal(match ended {
            Ok(()) => "a task that keeps the house ended by itself".to_owned(),
            Err(error) => error.to_string(),
        })),
        Some(server) = servers.join_next() => Err(match server {
            Ok(Err(error)) => RunError::Listener(error),
            Ok(Ok(())) => RunError::Internal("a listener ended by itself".to_owned()),
            Err(error) => RunError::Internal(error.to_string()),
        }),
    };

    tracing::info!("stopping: no new calls; those in flight have ten seconds");
    housekeeping.abort_all();
    health.set(false).await;
    // From here on nobody is let in; then the connections are told to close.
    flows.stop();
    let _ = stop.send(true);
    let drain = async {
        server.finish().await;
        webhooks.finish().await;
        flows.finish().await;
    };
    if time::timeout(DRAIN, drain).await.is_err() {
        tracing::warn!(
            "calls were still in flight after ten seconds; what was sent without an answer is indeterminate"
        );
    }
    // The last answers are on their way; streams that stay open, those of health watchers say, are cut.
    let close = async { while servers.join_next().await.is_some() {} };
    let _ = time::timeout(CLOSE, close).await;
    if let Some(path) = socket {
        let _ = fs::remove_file(path);
    }
    tracing::info!("stopped");
    ended
}

/// Writes down what time has ended, and removes what is old, sessions and events.
async fn sweep(flows: Arc<Flows>) {
    let mut ticks = time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match flows.sweep().await {
            Ok(swept) if swept.ended + swept.removed > 0 => {
                tracing::info!(ended = swept.ended, removed = swept.removed, "swept");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the sweep stopped early; it goes on at the next turn"),
        }
        match flows.trim_events().await {
            Ok(trimmed) if trimmed.unread > 0 => tracing::error!(
                removed = trimmed.removed,
                unread = trimmed.unread,
                "events went that a consumer had not acknowledged: store.unread_event_size is reached; see to the \
                 consumer, or delete it"
            ),
            Ok(trimmed) if trimmed.removed > 0 => {
                tracing::info!(removed = trimmed.removed, "old events went")
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "trimming events stopped early; it goes on at the next turn")
            }
        }
    }
}

/// Lets the health follow the store: a daemon whose store takes no writes does not serve.
async fn watch_store(store: Arc<dyn Store>, health: Health) {
    let mut ticks = time::interval(LOOK_EVERY);
    let mut was_writable = true;
    loop {
        ticks.tick().await;
        let is_writable = store.status().unwritable.is_none();
        if is_writable != was_writable {
            health.set(is_writable).await;
            was_writable = is_writable;
        }
    }
}
