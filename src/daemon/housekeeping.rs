//! What goes on beside the calls for as long as the daemon runs.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time};

use crate::{
    flows::Flows,
    store::{Store, Swept},
};

/// How often time is swept up.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often the store is asked how its file is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts all of it. None ends by itself.
pub(super) fn start(flows: &Arc<Flows>, store: Arc<dyn Store>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(sweep(Arc::clone(flows)));
    let revoking = Arc::clone(flows);
    tasks.spawn(async move { revoking.revoke_waiting().await });
    let reconciling = Arc::clone(flows);
    tasks.spawn(async move { reconciling.reconcile().await });
    tasks.spawn(watch_store(store));
    tasks
}

/// Writes down what time has ended, and removes what is old, sessions and events.
async fn sweep(flows: Arc<Flows>) {
    let mut ticks = time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let swept = flows.sweep().await;
        if let Ok(Swept { unreadable: Some(unreadable), .. }) = &swept {
            tracing::error!("the sweep has left out what it cannot read: {unreadable}");
        }
        match swept {
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

/// Tells of trouble with the store's file, once each time that it is another. Who calls is served all the same.
async fn watch_store(store: Arc<dyn Store>) {
    let mut ticks = time::interval(LOOK_EVERY);
    // After a disk that hung, the looks that were missed are of no use to anybody.
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        // It asks the disk, and nobody else is to wait for that.
        let asked = Arc::clone(&store);
        let Ok(trouble) = tokio::task::spawn_blocking(move || asked.status().trouble).await else { continue };
        if trouble != told {
            match &trouble {
                Some(trouble) => tracing::error!("the store is not as it should be: {trouble}"),
                None => tracing::info!("the store is as it should be again"),
            }
            told = trouble;
        }
    }
}
