//! Care of the store, beside all other work: backups, checks and compactions, one at a time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use super::Flows;
use crate::{
    domain::{Reason, Refusal},
    store::{BackupPiece, Checked, CompactError, Compacted, StoreError},
};

/// How long whoever asked may take nothing of what is told: as long as it is read, what is removed from the store keeps
/// its room.
const PATIENCE: Duration = Duration::from_secs(30);
/// Less room than this beside the store, bytes, and nothing is read of it any more, since the file grows meanwhile: a full
/// disk would end the daemon. How often it is looked at leaves room for what a fast disk writes between two looks.
const LEAST_ROOM: u64 = 128 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// When to come back where another one is under way.
const COME_BACK: Duration = Duration::from_secs(10);

/// What became of a compaction; none while it goes on.
type Told = Option<Result<Compacted, Refusal>>;

/// The one place for such work, and the compaction that has it, or had it last.
#[derive(Debug)]
pub(super) struct Caretaking {
    place: Arc<Semaphore>,
    compaction: Mutex<Option<watch::Receiver<Told>>>,
}

impl Default for Caretaking {
    fn default() -> Self {
        Self { place: Arc::new(Semaphore::new(1)), compaction: Mutex::default() }
    }
}

impl Caretaking {
    fn begin(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Semaphore::try_acquire_owned(Arc::clone(&self.place))
            .map_err(|_| Refusal { retry_after: Some(COME_BACK), ..Reason::Overloaded.into() })
    }
}

impl Flows {
    /// Copies everything that is durable now, piece after piece. It ends when the stream is dropped, or nobody takes a piece
    /// for half a minute (`DEADLINE_EXCEEDED`).
    ///
    /// # Errors
    /// `OVERLOADED` while other care of the store is under way, or the store's own; in the stream also `SHUTTING_DOWN`, and
    /// `MAINTENANCE_FAILED` where little room is left beside the store.
    pub fn back_up(
        self: &Arc<Self>,
    ) -> Result<impl Stream<Item = Result<BackupPiece, Refusal>> + Send + use<>, Refusal> {
        let place = self.caretaking.begin()?;
        Ok(self.tell("backup", self.store.backup(self.now())?, place))
    }

    /// Looks at everything that is kept. It ends as a backup does.
    ///
    /// # Errors
    /// Those of a backup.
    pub fn check_store(
        self: &Arc<Self>,
    ) -> Result<impl Stream<Item = Result<Checked, Refusal>> + Send + use<>, Refusal> {
        let place = self.caretaking.begin()?;
        let told = self.tell("check", self.store.check(self.now())?, place);
        Ok(told.inspect(|part| {
            for problem in part.iter().flat_map(|checked| &checked.problems) {
                tracing::error!(%problem, "something stored is not as it should be");
            }
        }))
    }

    /// Gives room that is free in the store back to the file system. It is the daemon's work: whoever asks while it goes on
    /// joins it, and it goes on when everybody who asked has left.
    ///
    /// # Errors
    /// `MAINTENANCE_FAILED`, `OVERLOADED` while other care of the store is under way or too much is written meanwhile,
    /// `SHUTTING_DOWN`, or the store's own.
    pub async fn compact_store(self: &Arc<Self>) -> Result<Compacted, Refusal> {
        let mut told = {
            let mut last = self.caretaking.compaction.lock().unwrap_or_else(PoisonError::into_inner);
            // One that has ended tells nobody any more.
            match last.as_ref().filter(|told| told.has_changed().is_ok()) {
                Some(going_on) => going_on.clone(),
                None => {
                    let (place, (tell, told)) = (self.caretaking.begin()?, watch::channel(None));
                    self.tasks.spawn(compact(Arc::clone(self), place, tell));
                    last.insert(told).clone()
                }
            }
        };
        let told = told.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        // Its task may have ended by a panic, which has shown itself.
        told.unwrap_or_else(|| Err(Reason::Internal.into()))
    }

    /// Has parts read and told for as long as there is room beside the store.
    fn tell<T: Send + 'static>(
        &self,
        what: &'static str,
        parts: BoxStream<'static, Result<T, StoreError>>,
        place: OwnedSemaphorePermit,
    ) -> impl Stream<Item = Result<T, Refusal>> + Send + use<T> {
        let (store, stopping) = (Arc::clone(&self.store), self.stopping.clone());
        let given_up = async move {
            let mut look = time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return Reason::ShuttingDown,
                    _ = look.tick() => {}
                }
                if let Some(free) = store.status().free_bytes.filter(|free| *free < LEAST_ROOM) {
                    tracing::error!(
                        free,
                        "too few bytes are free beside the store to go on reading all of it"
                    );
                    return Reason::MaintenanceFailed;
                }
            }
        };
        tracing::info!("a {what} of the store begins");
        tell(&self.tasks, what, parts, place, given_up)
    }
}

/// How the telling of parts ends.
enum End {
    /// All of them are told.
    Done,
    /// One of them could not be read.
    Failed,
    /// Nobody listens any more.
    Left,
    /// It goes no further, and whoever listens hears why.
    GivenUp(Reason),
}

/// Has parts read in a task of its own, which does not wait for ever for whoever takes them, and tells them; until it is
/// `given_up`.
fn tell<T: Send + 'static, G: Future<Output = Reason> + Send + 'static>(
    tasks: &TaskTracker,
    what: &'static str,
    mut parts: BoxStream<'static, Result<T, StoreError>>,
    place: OwnedSemaphorePermit,
    given_up: G,
) -> impl Stream<Item = Result<T, Refusal>> + Send + use<T, G> {
    let (sender, receiver) = mpsc::channel(1);
    let (ended, why) = oneshot::channel();
    tasks.spawn(async move {
        let telling = async {
            while let Some(part) = parts.next().await {
                let is_read = part.is_ok();
                match time::timeout(PATIENCE, sender.send(part.map_err(Refusal::from))).await {
                    Ok(Ok(())) if is_read => {}
                    Ok(Ok(())) => return End::Failed,
                    Ok(Err(_)) => return End::Left,
                    Err(_) => return End::GivenUp(Reason::DeadlineExceeded),
                }
            }
            End::Done
        };
        let end = tokio::select! {
            biased;
            reason = given_up => {
                // What is just being read holds the store as it was, and its place with it.
                drop(parts.next().await);
                End::GivenUp(reason)
            }
            end = telling => end,
        };
        // All of it is let go before anybody hears of it.
        drop((parts, place));
        match end {
            End::Done => tracing::info!("a {what} of the store is done"),
            End::Failed => tracing::error!("a {what} of the store failed; who asked for it has heard why"),
            End::Left => tracing::warn!("a {what} of the store was left by who asked for it"),
            End::GivenUp(reason) => {
                tracing::warn!(%reason, "a {what} of the store goes no further");
                let _ = ended.send(Err(reason.into()));
            }
        }
    });
    let end = stream::once(why).filter_map(async |end| end.ok());
    ReceiverStream::new(receiver).chain(end)
}

async fn compact(flows: Arc<Flows>, place: OwnedSemaphorePermit, tell: watch::Sender<Told>) {
    let stopping = flows.stopping.clone();
    tracing::info!("a compaction of the store begins");
    let done = flows.store.compact(Box::new(move || stopping.is_cancelled())).await;
    match &done {
        Ok(Compacted { before, after }) => tracing::info!(before, after, "the store is compact, bytes"),
        Err(error) => tracing::error!(%error, "the store was not compacted, and is as it was"),
    }
    drop(place);
    tell.send_replace(Some(done.map_err(refusal)));
}

fn refusal(error: CompactError) -> Refusal {
    match error {
        CompactError::NoRoom { .. } | CompactError::Copy(_) => Reason::MaintenanceFailed.into(),
        CompactError::Outrun => Refusal { retry_after: Some(COME_BACK), ..Reason::Overloaded.into() },
        CompactError::Stopped => Reason::ShuttingDown.into(),
        CompactError::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    fn parts(count: u32) -> BoxStream<'static, Result<u32, StoreError>> {
        stream::iter((0..count).map(Ok)).boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_for_half_a_minute_hears_so_and_holds_nobody_up() {
        let (caretaking, tasks) = (Caretaking::default(), TaskTracker::new());
        let told = tell(&tasks, "check", parts(9), caretaking.begin().unwrap(), future::pending());
        tasks.close();
        assert_eq!(caretaking.begin().unwrap_err().reason, Reason::Overloaded, "one at a time");
        let mut told = std::pin::pin!(told);
        time::sleep(PATIENCE - Duration::from_secs(1)).await;
        assert_eq!(told.next().await.unwrap().unwrap(), 0, "it waits again");
        tasks.wait().await;
        drop(caretaking.begin().unwrap());
        let (mut rest, mut end) = (0, None);
        while let Some(part) = told.next().await {
            match part {
                Ok(_) => rest += 1,
                Err(refusal) => end = Some(refusal.reason),
            }
        }
        assert_eq!((rest, end), (1, Some(Reason::DeadlineExceeded)), "what was under way, and why no more");
    }

    #[tokio::test]
    async fn a_stream_ends_when_it_is_given_up_or_with_who_reads_it() {
        let (caretaking, tasks) = (Caretaking::default(), TaskTracker::new());
        let for_ever = || stream::repeat_with(|| Ok(1)).boxed();
        drop(tell(&tasks, "check", for_ever(), caretaking.begin().unwrap(), future::pending()));
        tasks.close();
        tasks.wait().await;

        let (give_up, given_up) = oneshot::channel();
        let given_up = async { given_up.await.unwrap() };
        let mut told = Box::pin(tell(&tasks, "check", for_ever(), caretaking.begin().unwrap(), given_up));
        told.next().await.unwrap().unwrap();
        give_up.send(Reason::MaintenanceFailed).unwrap();
        let ends: Vec<_> = told.filter_map(async |part| part.err()).collect().await;
        assert_eq!(ends.iter().map(|end| end.reason).collect::<Vec<_>>(), [Reason::MaintenanceFailed]);
        tasks.wait().await;

        let all: Vec<_> =
            tell(&tasks, "check", parts(3), caretaking.begin().unwrap(), future::pending()).collect().await;
        assert!(all.len() == 3 && all.iter().all(Result::is_ok), "{all:?}");
    }
}
