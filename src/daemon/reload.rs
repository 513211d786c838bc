//! A reload: a configuration that was read anew comes into force as a whole, or not at all.

mod changes;

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use self::changes::{changes, fixed};
use super::{
    assemble,
    config::Config,
    run::{ProviderError, Readiness},
};
use crate::{
    api::Callers,
    domain::{Clock, Tracer},
    flows::Flows,
    provider::ProviderMetrics,
    store::{KeysError, Store},
};

/// Why a configuration does not come into force.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// What is bound or opened once was changed.
    #[error("{}: cannot be changed while cairld runs; restart it, or take the change back", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// The way to the provider cannot be made.
    #[error("{0}")]
    Provider(#[from] ProviderError),
    /// The store does not go on with these keys.
    #[error("keys: {0}")]
    Keys(#[from] KeysError),
}

/// What is in force, and where it is replaced.
pub(super) struct InForce {
    pub(super) config: Config,
    pub(super) store: Arc<dyn Store>,
    pub(super) flows: Arc<Flows>,
    pub(super) callers: Callers,
    pub(super) tls: Option<watch::Sender<Arc<ServerConfig>>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) provider: ProviderMetrics,
    pub(super) tracer: Arc<dyn Tracer>,
}

impl InForce {
    /// Lets a configuration come into force where nothing stands in the way. The log tells what it changed, or why not.
    pub(super) async fn replace(&mut self, config: Config) -> Readiness {
        match self.try_replace(config).await {
            Ok(changes) if changes.is_empty() => {
                tracing::info!("the configuration was read anew: nothing has changed");
                Readiness::AsConfigured
            }
            Ok(changes) => {
                // In the message itself, which is all that `journalctl` shows without being asked for more.
                tracing::info!("the configuration was read anew and is in force: {}", changes.join("; "));
                Readiness::AsConfigured
            }
            Err(refused) => {
                tracing::error!(
                    "the configuration was read anew and is not in force, all is as before: {refused}"
                );
                Readiness::AsBefore
            }
        }
    }

    /// All that can be refused comes first; what is left cannot fail.
    async fn try_replace(&mut self, config: Config) -> Result<Vec<String>, Refused> {
        let fixed = fixed(&self.config, &config);
        if !fixed.is_empty() {
            return Err(Refused::NeedsRestart(fixed));
        }
        let clients = assemble::clients(&config, &self.clock, &self.provider, &self.tracer)?;
        let callers = assemble::callers(&config);
        if self.config.keys != config.keys {
            self.store.use_keys(config.keys.ring()).await?;
        }
        self.flows.reload(clients);
        self.callers.replace(callers);
        if let (Some(sender), Some(tls)) = (&self.tls, &config.tls) {
            sender.send_replace(tls.server());
        }
        let changes = changes(&self.config, &config);
        self.config = config;
        Ok(changes)
    }
}
