//! systemd's watchdog (`WatchdogSec=`): fed from where the work is done, so that a daemon that is stuck is replaced.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use super::notify::notify;
use crate::store::{Store, StoreError};

/// Feeds the watchdog where systemd has one for this process; else there is nothing to do.
pub(super) fn start(store: Arc<dyn Store>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(interval) = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()) {
        let round = move || {
            let store = Arc::clone(&store);
            async move { store.heartbeat().await }
        };
        tasks.spawn(feed(interval, round, || notify(&[NotifyState::Watchdog])));
    }
    tasks
}

/// Twice in each interval: a round to where the work is done and back, and only then the food. A round that does not come
/// back is waited for, however long: the watchdog then does what it is there for.
async fn feed<Round>(interval: Duration, round: impl Fn() -> Round, food: impl Fn())
where
    Round: Future<Output = Result<(), StoreError>>,
{
    let mut ticks = time::interval(interval / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match round().await {
            Ok(()) => food(),
            // The process is about to end for it, by itself.
            Err(error) => tracing::error!(%error, "the watchdog is not fed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn it_is_fed_twice_an_interval_for_as_long_as_rounds_come_back() {
        let (answers, fed) = (Arc::new(Semaphore::new(4)), Arc::new(AtomicU32::default()));
        let round = {
            let answers = Arc::clone(&answers);
            move || {
                let answers = Arc::clone(&answers);
                async move {
                    answers.acquire().await.expect("open").forget();
                    Ok(())
                }
            }
        };
        let food = {
            let fed = Arc::clone(&fed);
            move || {
                fed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let began = time::Instant::now();
        let feeding = tokio::spawn(feed(INTERVAL, round, food));
        let count = async |seconds| {
            time::sleep_until(began + Duration::from_secs(seconds)).await;
            fed.load(Ordering::Relaxed)
        };
        assert_eq!(count(1).await, 1, "at once");
        assert_eq!(count(31).await, 3, "twice an interval");
        assert_eq!(count(46).await, 4);
        // From here on no round comes back.
        assert_eq!(count(3600).await, 4, "what is stuck is not fed");
        answers.add_permits(1);
        assert_eq!(count(3601).await, 5, "it has come back");
        feeding.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_takes_no_writes_does_not_feed_it() {
        let fed = AtomicU32::default();
        let round = async || Err(StoreError::Unavailable("disk full".into()));
        let food = || {
            fed.fetch_add(1, Ordering::Relaxed);
        };
        let feeding = feed(INTERVAL, round, food);
        assert!(time::timeout(10 * INTERVAL, feeding).await.is_err());
        assert_eq!(fed.load(Ordering::Relaxed), 0);
    }
}
