//! Rotating the store's keys: bite after bite, in the background, and told to whoever asks.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, Stream};
use tokio::sync::watch;

use super::Flows;
use crate::{
    domain::{Reason, Refusal},
    store::Rotation,
};

/// How far a rotation is; none before its first bite.
type Told = Option<Result<Rotation, Refusal>>;

/// The rotation that goes on, or went on last.
#[derive(Debug, Default)]
pub(super) struct LastRotation(Mutex<Option<watch::Receiver<Told>>>);

impl Flows {
    /// Seals everything anew under the first key of the ring, beside all other work, and tells how far that is: at each
    /// hundredth, and at the end. It belongs to the daemon: who asks while one goes on joins it, and it goes on when
    /// everybody who asked has left. When the daemon stops, so does it; asked for again, it passes over what is done.
    ///
    /// The stream's error is the store's, or `SHUTTING_DOWN`.
    pub fn rotate_keys(self: &Arc<Self>) -> impl Stream<Item = Result<Rotation, Refusal>> + Send + use<> {
        let told = {
            let mut last = self.rotation.0.lock().unwrap_or_else(PoisonError::into_inner);
            // One that has ended tells nobody any more.
            match last.as_ref().filter(|told| told.has_changed().is_ok()) {
                Some(going_on) => going_on.clone(),
                None => {
                    let (tell, told) = watch::channel(None);
                    self.tasks.spawn(rotate(Arc::clone(self), tell));
                    last.insert(told).clone()
                }
            }
        };
        stream::unfold(Some((told, None)), |listening| async {
            let (mut told, last) = listening?;
            let news = match told.wait_for(|told| is_news(last, told)).await {
                Ok(news) => news.clone(),
                // Its task has ended by a panic, which has shown itself.
                Err(_) => None,
            };
            match news.unwrap_or_else(|| Err(Reason::Internal.into())) {
                Ok(rotation) if rotation.end.is_some() => Some((Ok(rotation), None)),
                Ok(rotation) => {
                    let next = Some((told, Some(hundredths(&rotation))));
                    Some((Ok(rotation), next))
                }
                Err(refusal) => Some((Err(refusal), None)),
            }
        })
    }
}

async fn rotate(flows: Arc<Flows>, tell: watch::Sender<Told>) {
    let mut rotation = Rotation::default();
    loop {
        let bite = tokio::select! {
            biased;
            () = flows.stopping.cancelled() => Err(Reason::ShuttingDown.into()),
            bite = flows.store.rotate(rotation) => bite.map_err(Refusal::from),
        };
        let is_over = bite.as_ref().map_or(true, |rotation| rotation.end.is_some());
        if let Ok(Rotation { sealed, unreadable, end: Some(end), .. }) = &bite {
            let (key, removable, kept) = (end.key, &end.removable, &end.kept);
            tracing::info!(%key, sealed, unreadable, ?removable, ?kept, "the keys are rotated");
        }
        tell.send_replace(Some(bite.clone()));
        match bite {
            Ok(next) if !is_over => rotation = next,
            Ok(_) | Err(_) => return,
        }
        tokio::task::yield_now().await;
    }
}

/// Whether it is worth telling to somebody who knows of so many hundredths.
fn is_news(last: Option<u64>, told: &Told) -> bool {
    match told {
        None => false,
        Some(Ok(rotation)) => rotation.end.is_some() || last != Some(hundredths(rotation)),
        Some(Err(_)) => true,
    }
}

fn hundredths(rotation: &Rotation) -> u64 {
    rotation.checked.saturating_mul(100) / rotation.total.max(1)
}
