//! A reload: a configuration that was read anew comes into force as a whole, or not at all.

use std::{collections::BTreeMap, sync::Arc};

use rustls::ServerConfig;
use tokio::sync::watch;

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
                tracing::info!(changes = %changes.join("; "), "the configuration was read anew and is in force");
                Readiness::AsConfigured
            }
            Err(refused) => {
                // In the message itself, which is all that `journalctl` shows without being asked for more.
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

/// The keys that differ and that cannot be changed while the daemon runs.
fn fixed(before: &Config, after: &Config) -> Vec<&'static str> {
    let differ = [
        ("grpc.unix", before.grpc.unix != after.grpc.unix),
        ("grpc.tcp", before.grpc.tcp != after.grpc.tcp),
        ("grpc.tls", before.tls.is_some() != after.tls.is_some()),
        ("http.ops", before.http.ops != after.http.ops),
        ("http.webhooks", before.http.webhooks != after.http.webhooks),
        ("store", before.store != after.store),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// What a reload changes, for the log.
fn changes(before: &Config, after: &Config) -> Vec<String> {
    let clients = |config: &Config| named(&config.clients, |client| client.name.to_string());
    let callers = |config: &Config| named(&config.callers, |caller| caller.name.to_string());
    let mut changes = differences("client", &clients(before), &clients(after));
    changes.extend(differences("caller", &callers(before), &callers(after)));
    if before.keys != after.keys {
        changes.push(
            if before.keys.first == after.keys.first { "keys: others open" } else { "keys: another seals" }
                .to_owned(),
        );
    }
    if before.tls != after.tls {
        changes.push("grpc.tls: other certificates".to_owned());
    }
    changes
}

fn named<T: Clone>(items: &[T], name: impl Fn(&T) -> String) -> BTreeMap<String, T> {
    items.iter().map(|item| (name(item), item.clone())).collect()
}

fn differences<T: PartialEq>(
    kind: &str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> Vec<String> {
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name, "gone"));
    let other = after.iter().filter_map(|(name, item)| match before.get(name) {
        None => Some((name, "new")),
        Some(known) if known != item => Some((name, "changed")),
        Some(_) => None,
    });
    gone.chain(other).map(|(name, what)| format!("{kind} {name}: {what}")).collect()
}
