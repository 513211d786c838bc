//! What a reload changes, by the names of the keys: what they hold may be secret.

use std::collections::BTreeMap;

use crate::{
    daemon::config::{Caller, Client, Config, StoreConfig},
    store::{EventLimits, PendingLimits},
};

/// The keys of what differs. Every field has to be named, so that none is forgotten when one is added; one that follows
/// from a key beside it has that key's name.
macro_rules! differing {
    ($type:ident of $before:expr, $after:expr, $($field:ident = $key:literal),+ $(,)?) => {{
        let $type { $($field: _),+ } = $before;
        let mut keys = vec![$(($key, $before.$field != $after.$field)),+];
        keys.retain(|(_, differs)| *differs);
        let mut keys: Vec<&'static str> = keys.into_iter().map(|(key, _)| key).collect();
        keys.dedup();
        keys
    }};
}

/// The keys that differ and that cannot be changed while the daemon runs.
pub(super) fn fixed(before: &Config, after: &Config) -> Vec<&'static str> {
    let differ = [
        ("grpc.unix", before.grpc.unix != after.grpc.unix),
        ("grpc.tcp", before.grpc.tcp != after.grpc.tcp),
        ("grpc.tls", before.tls.is_some() != after.tls.is_some()),
        ("http.ops", before.http.ops != after.http.ops),
        ("http.webhooks", before.http.webhooks != after.http.webhooks),
    ];
    let mut keys: Vec<_> = differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
    keys.extend(store(&before.store, &after.store));
    keys
}

fn store(before: &StoreConfig, after: &StoreConfig) -> Vec<&'static str> {
    let mut keys = differing!(StoreConfig of before, after,
        path = "store.path",
        cache_bytes = "store.cache",
        retention = "store.retention",
        // Told one by one below.
        events = "",
        pending = "",
    );
    keys.retain(|key| !key.is_empty());
    keys.extend(differing!(EventLimits of before.events, after.events,
        retention = "store.event_retention",
        bytes = "store.event_size",
        unread_bytes = "store.unread_event_size",
    ));
    keys.extend(differing!(PendingLimits of before.pending, after.pending,
        all = "store.pending_sessions",
        caller = "store.pending_sessions",
    ));
    keys
}

/// What a reload changes, for the log.
pub(super) fn changes(before: &Config, after: &Config) -> Vec<String> {
    let callers = (callers_of(before), callers_of(after));
    let mut changes = differences("client", &clients_of(before), &clients_of(after), client);
    changes.extend(differences("caller", &callers.0, &callers.1, caller));
    if order(before, &callers.1) != order(after, &callers.0) {
        changes.push("callers: another order".to_owned());
    }
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

fn client(before: &Client, after: &Client) -> Vec<&'static str> {
    differing!(Client of before, after,
        name = "name",
        base_url = "base_url",
        endpoints = "endpoints",
        client_id = "client_id",
        test_mode = "client_id",
        client_secret = "client_secret",
        api_key = "api_key",
        webhook_secrets = "webhook_secrets",
        redirect_uris = "redirect_uris",
        require_binding = "require_binding",
        share = "share",
        issuer = "issuer",
        pass_trace = "pass_trace",
        authorize_params = "authorize_params",
        ca_pem = "ca_file",
        proxy = "proxy",
        timeouts = "timeouts",
        limits = "limits",
    )
}

fn caller(before: &Caller, after: &Caller) -> Vec<&'static str> {
    differing!(Caller of before, after,
        name = "name",
        uid = "uid",
        gid = "gid",
        token = "token",
        san = "san",
        clients = "clients",
        rpcs = "rpcs",
        events = "events",
        access_token = "access_token",
        admin = "admin",
        limits = "limits",
    )
}

/// The callers in their order, which decides who somebody is whom two of them fit; but for those that are not on the other
/// side, which are told as new or gone.
fn order<'c>(config: &'c Config, other: &BTreeMap<&str, &Caller>) -> Vec<&'c str> {
    let names = config.callers.iter().map(|caller| caller.name.as_str());
    names.filter(|name| other.contains_key(name)).collect()
}

fn clients_of(config: &Config) -> BTreeMap<&str, &Client> {
    config.clients.iter().map(|client| (client.name.as_str(), client)).collect()
}

fn callers_of(config: &Config) -> BTreeMap<&str, &Caller> {
    config.callers.iter().map(|caller| (caller.name.as_str(), caller)).collect()
}

fn differences<T>(
    kind: &str,
    before: &BTreeMap<&str, &T>,
    after: &BTreeMap<&str, &T>,
    keys: impl Fn(&T, &T) -> Vec<&'static str>,
) -> Vec<String> {
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name, "gone".to_owned()));
    let other = after.iter().filter_map(|(name, item)| {
        let Some(known) = before.get(name) else { return Some((name, "new".to_owned())) };
        let keys = keys(known, item);
        (!keys.is_empty()).then(|| (name, keys.join(", ")))
    });
    gone.chain(other).map(|(name, what)| format!("{kind} {name}: {what}")).collect()
}
