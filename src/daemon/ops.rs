//! How the daemon is, for who watches it: `/livez`, `/readyz`, `/metrics` and the gRPC health service.
//!
//! Each look asks the store itself, so that no answer is older than the question.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time;

use super::{metrics, run::Readiness};
use crate::{
    api::Tally,
    domain::{Clock, Moment, Timestamp},
    flows::Flows,
    http::{Check, Finding, Operations},
    provider::ProviderMetrics,
    store::Store,
};

/// How long the store's writer may take for a sign of life before calls should go elsewhere.
const READY: Duration = Duration::from_secs(2);
/// How long before nothing but a restart helps. The watchdog is as patient.
const LIVE: Duration = Duration::from_secs(30);
/// Less room than this beside the store's file, bytes, is told: a day of a busy service.
const LITTLE_ROOM: u64 = 256 << 20;

/// The rooms that are asked.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) flows: Arc<Flows>,
    pub(super) tally: Arc<Tally>,
    pub(super) provider: ProviderMetrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Moment,
}

/// What came of reading the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastReload {
    /// Whether what was read last is in force.
    pub(super) succeeded: bool,
    /// When a configuration came into force last.
    pub(super) at: Timestamp,
}

/// The daemon as it is seen from outside. There from the first moment on; the rooms come when they are built.
#[derive(Default)]
pub(super) struct Ops {
    parts: OnceLock<Parts>,
    last_reload: Mutex<LastReload>,
}

impl Ops {
    /// The rooms are built, by the configuration that was read last, and serve.
    pub(super) fn serving(&self, parts: Parts) {
        self.reload(Readiness::AsConfigured, &*parts.clock);
        // There is but one start.
        let _ = self.parts.set(parts);
    }

    /// A configuration was read anew, and came into force or not.
    pub(super) fn reloaded(&self, readiness: Readiness) {
        if let Some(parts) = self.parts.get() {
            self.reload(readiness, &*parts.clock);
        }
    }

    fn reload(&self, readiness: Readiness, clock: &dyn Clock) {
        let mut last = self.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        *last = match readiness {
            Readiness::AsConfigured => LastReload { succeeded: true, at: clock.now().wall },
            Readiness::AsBefore => LastReload { succeeded: false, ..*last },
        };
    }

    fn last_reload(&self) -> LastReload {
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(name: &'static str, finding: Finding) -> Check {
    Check { name, finding }
}

/// Whether the store's writer comes round in time.
async fn writer(store: &dyn Store, patience: Duration) -> Finding {
    match time::timeout(patience, store.heartbeat()).await {
        Ok(Ok(())) => Finding::Well,
        Ok(Err(error)) => {
            Finding::Failed(format!("{error}; see to the disk, the daemon ends to be started anew"))
        }
        Err(_) => Finding::Failed(format!(
            "nothing was written for {} seconds; see to the disk (iostat, dmesg)",
            patience.as_secs()
        )),
    }
}

impl Parts {
    fn room(&self) -> Finding {
        let status = self.store.status();
        if let Some(why) = status.unwritable {
            return Finding::Failed(format!(
                "{why}; see to the disk and its free space, the daemon ends to be started anew"
            ));
        }
        if let Some(trouble) = status.trouble {
            return Finding::Failed(trouble);
        }
        match status.free_bytes {
            Some(free) if free < LITTLE_ROOM => Finding::Warning(format!(
                "{} MiB are free beside the store's file; make room before it is full",
                free >> 20
            )),
            Some(_) | None => Finding::Well,
        }
    }

    /// The clients' providers: calls are taken all the same, since another place could do no better.
    fn providers(&self) -> Finding {
        let silent = self.flows.clients().into_iter().filter(|client| {
            let contact = client.provider.contact();
            contact.failed > contact.answered.map(|(at, _)| at)
        });
        let silent: Vec<String> = silent.map(|client| client.name.to_string()).collect();
        if silent.is_empty() {
            return Finding::Well;
        }
        Finding::Warning(format!("no answer to the last request of {}; the log says why", silent.join(", ")))
    }
}

impl Operations for Ops {
    async fn live(&self) -> Vec<Check> {
        let runtime = check("runtime", Finding::Well);
        // Opening a large store may take long, and is no reason to begin anew.
        let Some(parts) = self.parts.get() else { return vec![runtime] };
        vec![runtime, check("writer", writer(&*parts.store, LIVE).await)]
    }

    async fn ready(&self) -> Vec<Check> {
        let Some(parts) = self.parts.get() else {
            return vec![check("start", Finding::Failed("the store is being opened; wait".to_owned()))];
        };
        let stopping = match parts.flows.stopping().is_cancelled() {
            true => Finding::Failed("the daemon is stopping; calls in flight end".to_owned()),
            false => Finding::Well,
        };
        let configuration = match self.last_reload().succeeded {
            true => Finding::Well,
            false => Finding::Warning("what was read last is not in force; the log says why".to_owned()),
        };
        vec![
            check("serving", stopping),
            check("store", parts.room()),
            check("writer", writer(&*parts.store, READY).await),
            check("configuration", configuration),
            check("providers", parts.providers()),
        ]
    }

    async fn metrics(&self) -> Option<String> {
        metrics::text(self.parts.get()?, self.last_reload()).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::RunId,
        store::{KeyRing, MasterKey, RedbStore, disk::Disk},
    };

    fn store(disk: &Disk) -> RedbStore {
        let keys = KeyRing::new(&MasterKey::new([1; 32]), &[]);
        RedbStore::open_on(disk.plug(), keys, Duration::from_secs(60), RunId::new([1; 16]), Moment::default())
            .unwrap()
    }

    #[tokio::test]
    async fn before_the_store_is_open_it_is_alive_and_not_ready() {
        let ops = Ops::default();
        assert_eq!(ops.live().await, [check("runtime", Finding::Well)]);
        assert!(matches!(ops.ready().await[..], [Check { name: "start", finding: Finding::Failed(_) }]));
        assert_eq!(ops.metrics().await, None);
    }

    #[tokio::test]
    async fn a_writer_that_hangs_is_found_out_and_one_that_comes_back_is_well_again() {
        let disk = Disk::default();
        let store = Arc::new(store(&disk));
        assert_eq!(writer(&*store, READY).await, Finding::Well);
        disk.hold();
        let hangs = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.use_keys(KeyRing::new(&MasterKey::new([2; 32]), &[MasterKey::new([1; 32])])).await }
        });
        while !disk.is_waited_for() {
            tokio::task::yield_now().await;
        }
        let finding = writer(&*store, Duration::from_millis(1)).await;
        assert!(
            matches!(&finding, Finding::Failed(why) if why.contains("nothing was written")),
            "{finding:?}"
        );
        disk.release();
        hangs.await.unwrap().unwrap();
        assert_eq!(writer(&*store, READY).await, Finding::Well);
    }

    #[tokio::test]
    async fn a_store_that_has_latched_is_told_with_its_reason() {
        let disk = Disk::default();
        let store = store(&disk);
        disk.fail_after(0);
        store.use_keys(KeyRing::new(&MasterKey::new([2; 32]), &[MasterKey::new([1; 32])])).await.unwrap_err();
        let finding = writer(&store, READY).await;
        assert!(matches!(&finding, Finding::Failed(why) if why.contains("takes no writes")), "{finding:?}");
    }
}
