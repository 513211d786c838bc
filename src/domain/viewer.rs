//! Who asks, and what he may see.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    name::{CallerName, ClientName},
    session::Session,
};

/// A caller of the daemon as far as the domain needs to know him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// Who it is.
    pub caller: CallerName,
    /// The clients he may use.
    pub clients: Arc<BTreeSet<ClientName>>,
    /// Those of them whose sessions all their callers share (`share = true`).
    pub shared: Arc<BTreeSet<ClientName>>,
    /// Whether he may see events that belong to no session (`events = true`).
    pub sees_unlinked: bool,
}

impl Viewer {
    /// Whether he may see the session: it is of a client he may use, and his own or shared. What he may not see looks
    /// to him as if it were not there.
    pub fn sees(&self, session: &Session) -> bool {
        self.sees_of(&session.client, &session.caller)
    }

    /// Whether he may see what belongs to a session of that client that `owner` started.
    pub fn sees_of(&self, client: &ClientName, owner: &CallerName) -> bool {
        self.clients.contains(client) && (*owner == self.caller || self.shared.contains(client))
    }
}
