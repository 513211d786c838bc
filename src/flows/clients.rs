//! The configured clients, each with what the daemon keeps of it in memory. A reload replaces them all at once.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Client,
    gate::{Gates, gates},
    reconcile::ReconciliationStatus,
    webhook::Counter,
};
use crate::{
    domain::{ClientName, Clock},
    store::Store,
};

/// A configured client, and what the daemon keeps of it in memory.
pub struct Registered {
    client: Client,
    /// Its rate budgets.
    pub(super) gates: Gates,
    /// What became of its webhooks.
    pub(super) webhooks: Counter,
    /// What came of asking about its sessions.
    pub(super) reconciliation: Arc<Mutex<ReconciliationStatus>>,
}

impl Deref for Registered {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Clients by name.
pub(super) type ByName = BTreeMap<ClientName, Arc<Registered>>;

/// The clients in force. Whoever has one goes on with it; whoever looks again finds what a reload has made of it.
pub(super) struct Clients {
    in_force: watch::Sender<Arc<ByName>>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
}

impl Clients {
    /// The clients of the start.
    pub(super) fn new(
        clients: Vec<Client>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) -> Self {
        let (in_force, _) = watch::channel(Arc::default());
        let all = Self { in_force, store, clock, stopping };
        all.replace(clients);
        all
    }

    /// From here on these are the clients. What is known of those that stay (who waits in line, what was counted) is kept.
    pub(super) fn replace(&self, clients: Vec<Client>) {
        let before = self.all();
        let clients: BTreeMap<_, _> =
            clients.into_iter().map(|client| (client.name.clone(), client)).collect();
        let mut gates = gates(&clients, &before, &self.store, &self.clock, &self.stopping);
        let register = |(name, client): (ClientName, Client)| {
            let known = before.get(&name);
            let registered = Registered {
                gates: gates.remove(&name)?,
                webhooks: Counter::new(&client, known.map(|known| &**known)),
                reconciliation: known.map(|known| Arc::clone(&known.reconciliation)).unwrap_or_default(),
                client,
            };
            Some((name, Arc::new(registered)))
        };
        let clients = clients.into_iter().filter_map(register).collect();
        self.in_force.send_replace(Arc::new(clients));
    }

    /// The client of that name.
    pub(super) fn get(&self, name: &ClientName) -> Option<Arc<Registered>> {
        self.in_force.borrow().get(name).cloned()
    }

    /// All of them, as they are now.
    pub(super) fn all(&self) -> Arc<ByName> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Hears of each reload from now on.
    pub(super) fn reloads(&self) -> watch::Receiver<Arc<ByName>> {
        self.in_force.subscribe()
    }
}
