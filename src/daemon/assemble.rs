//! From a configuration to the rooms it describes.

use std::{collections::BTreeSet, sync::Arc};

use super::config;
use crate::{
    api::Caller,
    domain::{ClientName, Clock, RunId, Viewer},
    flows::Client,
    provider::{self, BuildError, HttpProvider},
    store::{OpenError, RedbStore, Settings},
};

/// Opens the store for this run.
pub(super) fn store(
    store: config::StoreConfig,
    keys: &config::Keys,
    run: RunId,
) -> Result<RedbStore, OpenError> {
    let config::StoreConfig { path, cache_bytes, retention } = store;
    RedbStore::open(Settings { path, cache_bytes, retention, keys: keys.ring() }, run)
}

/// A client with its way to the provider.
pub(super) fn client(client: config::Client, clock: &Arc<dyn Clock>) -> Result<Client, BuildError> {
    let config::Client { name, endpoints, timeouts, .. } = client;
    let settings = provider::Settings {
        token: endpoints.token,
        userinfo: endpoints.userinfo,
        revoke: endpoints.revoke,
        session: endpoints.session,
        client_id: client.client_id.clone(),
        client_secret: client.client_secret,
        api_key: client.api_key,
        roots: client.ca_pem,
        proxy: client.proxy,
        connect_timeout: timeouts.connect,
        request_timeout: timeouts.request,
    };
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
        webhook_secrets: client.webhook_secrets,
        provider: Arc::new(HttpProvider::new(settings, Arc::clone(clock))?),
    })
}

/// A caller, knowing which of its clients are shared.
pub(super) fn caller(caller: config::Caller, shared: &BTreeSet<ClientName>) -> Caller {
    let shared = caller.clients.intersection(shared).cloned().collect();
    Caller {
        viewer: Viewer { caller: caller.name, clients: Arc::new(caller.clients), shared: Arc::new(shared) },
        uid: caller.uid,
        gid: caller.gid,
        token: caller.token,
        rpcs: caller.rpcs,
        access_token: caller.access_token,
        admin: caller.admin,
    }
}
