//! From a configuration to the rooms it describes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    config::{self, Config},
    run::ProviderError,
};
use crate::{
    api::Caller,
    domain::{ApiKey, BudgetKind, BudgetTerms, ClientName, Clock, Moment, RunId, Tracer, Viewer},
    flows::Client,
    provider::{self, BuildError, HttpProvider, ProviderMetrics},
    store::{OpenError, Opening, RedbStore, Settings},
};

/// Time between taking a slot of a rate budget and the request's own timeout, generously.
const SENDING_TAKES: Duration = Duration::from_secs(1);

/// Opens the store for this run, which begins now.
pub(super) fn store(
    store: config::StoreConfig,
    keys: &config::Keys,
    run: RunId,
    now: Moment,
    tell: impl Fn(Opening) + Clone + 'static,
) -> Result<RedbStore, OpenError> {
    let config::StoreConfig { path, cache_bytes, retention, events: _, pending: _ } = store;
    let settings = Settings { path, cache_bytes, retention, keys: keys.ring() };
    RedbStore::open_telling(settings, run, now, tell)
}

/// The clients of a configuration, each with its way to the provider and the callers that may use it.
pub(super) fn clients(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &ProviderMetrics,
    tracer: &Arc<dyn Tracer>,
) -> Result<Vec<Client>, ProviderError> {
    let assembled = config.clients.iter().map(|described| {
        let name = described.name.to_string();
        client(described.clone(), &config.callers, clock, metrics, tracer)
            .map_err(|error| ProviderError { client: name, error })
    });
    assembled.collect()
}

fn client(
    client: config::Client,
    callers: &[config::Caller],
    clock: &Arc<dyn Clock>,
    metrics: &ProviderMetrics,
    tracer: &Arc<dyn Tracer>,
) -> Result<Client, BuildError> {
    let callers = callers.iter().filter(|caller| caller.clients.contains(&client.name));
    let callers = callers.map(|caller| caller.name.clone()).collect();
    let config::Client { name, endpoints, timeouts, limits, .. } = client;
    let budget = |kind, credential: &ApiKey, limit| BudgetTerms {
        kind,
        credential: credential.clone(),
        limit,
        patience: timeouts.request + SENDING_TAKES,
    };
    let token_budget = budget(BudgetKind::Token, &client.client_id, limits.token_per_minute);
    let session_budget = budget(BudgetKind::Session, &client.api_key, limits.session_per_minute);
    let settings = provider::Settings {
        client: name.clone(),
        token: endpoints.token,
        userinfo: endpoints.userinfo,
        revoke: endpoints.revoke,
        session: endpoints.session,
        client_id: client.client_id.clone(),
        client_secret: client.client_secret,
        api_key: client.api_key,
        roots: client.ca_pem,
        proxy: client.proxy,
        pass_trace: client.pass_trace,
        connect_timeout: timeouts.connect,
        request_timeout: timeouts.request,
    };
    let provider = HttpProvider::new(settings, Arc::clone(clock), metrics.clone(), Arc::clone(tracer))?;
    Ok(Client {
        name,
        base_url: client.base_url,
        authorize: endpoints.authorize,
        authorize_params: client.authorize_params,
        client_id: client.client_id,
        redirect_uris: client.redirect_uris,
        require_binding: client.require_binding,
        test_mode: client.test_mode,
        issuer: client.issuer,
        callers,
        webhook_secrets: client.webhook_secrets,
        token_budget,
        session_budget,
        provider: Arc::new(provider),
    })
}

/// The callers of a configuration, each knowing which of its clients are shared.
pub(super) fn callers(config: &Config) -> Vec<Caller> {
    let shared =
        config.clients.iter().filter(|client| client.share).map(|client| client.name.clone()).collect();
    config.callers.iter().map(|described| caller(described.clone(), &shared)).collect()
}

fn caller(caller: config::Caller, shared: &BTreeSet<ClientName>) -> Caller {
    let shared = caller.clients.intersection(shared).cloned().collect();
    Caller {
        viewer: Viewer {
            caller: caller.name,
            clients: Arc::new(caller.clients),
            shared: Arc::new(shared),
            sees_unlinked: caller.events,
        },
        uid: caller.uid,
        gid: caller.gid,
        token: caller.token,
        san: caller.san,
        rpcs: caller.rpcs,
        access_token: caller.access_token,
        admin: caller.admin,
        limits: caller.limits,
    }
}
