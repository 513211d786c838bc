//! Watching a session: as it stands, at once, then at each change until it ends.

use std::{sync::Arc, time::Duration};

use futures_util::stream::{self, Stream};
use tokio::{sync::watch, time};

use super::Flows;
use crate::{
    domain::{
        At, Moment, Reason, Refusal, SESSION_LIFE, Session, SessionId, Timestamp, TokenStanding, Viewer,
    },
    store::Lookup,
};

/// What a watcher knows between two looks.
struct Watcher {
    flows: Arc<Flows>,
    viewer: Viewer,
    id: SessionId,
    changes: watch::Receiver<()>,
    /// Where the session stood when it was told last, and since when; none before the first time. The session itself is
    /// not kept: watchers are many, and idle.
    told: Option<(At, Timestamp)>,
}

impl Flows {
    /// The session at once, then whenever it has changed, in order; ends after a terminal status. Changes that follow
    /// quickly may be told as one. An idle watcher costs a timer and an entry in a map.
    ///
    /// # Errors
    /// As for [`Flows::session`]; the stream itself ends with `SHUTTING_DOWN` when the daemon stops.
    pub async fn watch(
        self: &Arc<Self>,
        viewer: Viewer,
        lookup: &Lookup,
    ) -> Result<impl Stream<Item = Result<Session, Refusal>> + Send + use<>, Refusal> {
        let id = self.session(&viewer, lookup).await?.id;
        let changes = self.store.changes(id);
        let watcher = Watcher { flows: Arc::clone(self), viewer, id, changes, told: None };
        Ok(stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            match watcher.next().await? {
                Ok(session) => Some((Ok(session), Some(watcher))),
                Err(refusal) => Some((Err(refusal), None)),
            }
        }))
    }
}

impl Watcher {
    /// The next thing to tell; none after a terminal status.
    async fn next(&mut self) -> Option<Result<Session, Refusal>> {
        if let Some((At::Ended(_), _)) = self.told {
            return None;
        }
        loop {
            // Marked as seen before the look: a change that comes after it is not missed.
            self.changes.mark_unchanged();
            let by_time = match self.flows.session(&self.viewer, &Lookup::Id(self.id)).await {
                Err(refusal) => return Some(Err(refusal)),
                Ok(now) if self.told != Some((now.at, now.updated)) => {
                    self.told = Some((now.at, now.updated));
                    return Some(Ok(now));
                }
                Ok(now) => ends_by_time(&now, self.flows.now()),
            };
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() {
                    return Some(Err(Reason::StoreUnavailable.into()));
                },
                () = sleep(by_time) => {}
                () = self.flows.stopping.cancelled() => return Some(Err(Reason::ShuttingDown.into())),
            }
        }
    }
}

/// When time alone will end the session, from now; none where it cannot.
fn ends_by_time(session: &Session, now: Moment) -> Option<Duration> {
    let (since, life) = match (session.at, &session.token) {
        (At::Open(_), _) => (session.created, SESSION_LIFE),
        (At::Token, TokenStanding::Held { since, life, .. }) => (*since, *life),
        _ => return None,
    };
    Some(life.saturating_sub(since.age(now).unwrap_or(life)))
}

/// Sleeps so long; for ever without a span.
pub(super) async fn sleep(span: Option<Duration>) {
    match span {
        Some(span) => time::sleep(span).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, pin::pin};

    use tokio_stream::StreamExt;

    use super::*;
    use crate::{
        domain::{CallerName, ClientName, Clock, CodeVerifier, RunId, StateSecret, Terminal},
        flows::testing::RuntimeClock,
        store::{EventLimits, KeyRing, MasterKey, NewSession, PendingLimits, RedbStore, Settings, Store},
    };

    #[tokio::test(start_paused = true)]
    async fn a_watcher_hears_of_the_end_by_time_and_of_the_daemons() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("cairld.redb"),
            cache_bytes: 1 << 20,
            retention: Duration::from_secs(3600),
            keys: KeyRing::new(&MasterKey::new([1; 32]), &[]),
        };
        let clock = Arc::new(RuntimeClock::new());
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(settings, RunId::new([1; 16]), clock.now()).unwrap());
        let client = ClientName::parse("shop").unwrap();
        let viewer = Viewer {
            caller: CallerName::parse("checkout").unwrap(),
            clients: Arc::new(BTreeSet::from([client.clone()])),
            shared: Arc::default(),
            sees_unlinked: false,
        };
        let limits =
            EventLimits { retention: Duration::from_secs(3600), bytes: 1 << 20, unread_bytes: 1 << 20 };
        let flows = Arc::new(Flows::new(
            Arc::clone(&store),
            Vec::new(),
            limits,
            Arc::clone(&clock) as Arc<dyn Clock>,
        ));
        let start = |number: u8| NewSession {
            id: SessionId::new(clock.now().wall, [number; 10]),
            client: client.clone(),
            caller: viewer.caller.clone(),
            scopes: Vec::new(),
            redirect_uri: String::new(),
            reference: String::new(),
            test_mode: true,
            secret: StateSecret::new([number; 32]),
            verifier: CodeVerifier::new("v"),
            binding: None,
            request_id: None,
            limits: PendingLimits::default(),
        };
        let first = store.start(clock.now(), start(1)).await.unwrap().session.id;
        let mut watch = pin!(flows.watch(viewer.clone(), &Lookup::Id(first)).await.unwrap());
        assert!(watch.next().await.unwrap().unwrap().ended().is_none(), "as it stands, at once");
        let began = time::Instant::now();
        let ended = watch.next().await.unwrap().unwrap().ended().unwrap();
        assert_eq!(ended.status, Terminal::Expired);
        assert_eq!(began.elapsed().as_secs(), 1800, "to the second, without a sweep");
        assert!(watch.next().await.is_none(), "closed after a terminal status");

        let second = store.start(clock.now(), start(2)).await.unwrap().session.id;
        let mut watch = pin!(flows.watch(viewer.clone(), &Lookup::Id(second)).await.unwrap());
        assert!(watch.next().await.unwrap().is_ok());
        store.cancel(clock.now(), &viewer, second).await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().ended().unwrap().status, Terminal::Cancelled);

        let third = store.start(clock.now(), start(3)).await.unwrap().session.id;
        let mut watch = pin!(flows.watch(viewer, &Lookup::Id(third)).await.unwrap());
        assert!(watch.next().await.unwrap().is_ok());
        flows.stop();
        assert_eq!(watch.next().await.unwrap().unwrap_err().reason, Reason::ShuttingDown);
        assert!(watch.next().await.is_none());
    }
}
