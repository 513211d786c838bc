//! Single flight: calls that want the same work at the same time share one run of it and its outcome.
//!
//! A caller first takes hold of the work's key ([`Flights::board`]): nobody else decides about it meanwhile. He then
//! either joins the flight that is under way, once he has shown that he may, or launches one.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt;
use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

use super::gate::Hindrance;

/// Work in flight, by key.
pub(super) struct Flights<K, T> {
    slots: Slots<K, T>,
    tasks: TaskTracker,
}

type Slots<K, T> = Arc<Mutex<HashMap<K, Arc<Slot<T>>>>>;
type Slot<T> = tokio::sync::Mutex<Option<Flight<T>>>;

/// One run of some work, waited for by any number of callers.
struct Flight<T> {
    /// None until it has landed; then the outcome, which is none itself when the work ended by a panic.
    landed: watch::Receiver<Option<Option<T>>>,
    passengers: Passengers,
}

/// What a flight and those who wait for it know of each other: how many they are, and what holds it up.
#[derive(Clone, Default)]
pub(super) struct Passengers {
    count: watch::Sender<usize>,
    hindrance: watch::Sender<Option<Hindrance>>,
}

/// One of them, for as long as he waits.
struct Passenger(Passengers);

impl Passengers {
    /// Whether anybody waits.
    pub(super) fn are_waiting(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// Resolves when nobody waits.
    pub(super) async fn gone(&self) {
        // The sender is here, so that the channel does not close.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Tells them what holds the flight up, until the answer is dropped.
    pub(super) fn hindered(&self, hindrance: Hindrance) -> Hindered<'_> {
        self.hindrance.send_replace(Some(hindrance));
        Hindered(self)
    }

    fn enter(&self) -> Passenger {
        self.count.send_modify(|count| *count += 1);
        Passenger(self.clone())
    }
}

impl Drop for Passenger {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

/// While it lives, the flight is held up.
pub(super) struct Hindered<'p>(&'p Passengers);

impl Hindered<'_> {
    /// More is known of what holds it up.
    pub(super) fn renew(&self, hindrance: Hindrance) {
        self.0.hindrance.send_replace(Some(hindrance));
    }
}

impl Drop for Hindered<'_> {
    fn drop(&mut self) {
        self.0.hindrance.send_replace(None);
    }
}

impl<T: Clone> Flight<T> {
    fn has_landed(&self) -> bool {
        self.landed.borrow().is_some()
    }

    fn seat(&self) -> Seat<T> {
        let hindrance = self.passengers.hindrance.subscribe();
        Seat { landed: self.landed.clone(), hindrance, _passenger: self.passengers.enter() }
    }
}

/// A caller's place in a flight: the flight knows of him from now on, until he drops it.
pub(super) struct Seat<T> {
    landed: watch::Receiver<Option<Option<T>>>,
    hindrance: watch::Receiver<Option<Hindrance>>,
    _passenger: Passenger,
}

impl<T: Clone> Seat<T> {
    /// Waits for the outcome, none when the work ended by a panic; no longer than `patience` while the flight is held up
    /// before it began.
    ///
    /// # Errors
    /// What held it up.
    pub(super) async fn outcome(&self, patience: Instant) -> Result<Option<T>, Hindrance> {
        let mut landed = self.landed.clone();
        tokio::select! {
            biased;
            outcome = landed.wait_for(Option::is_some) => {
                Ok(outcome.ok().and_then(|outcome| outcome.clone().flatten()))
            }
            hindrance = self.hopeless(patience) => Err(hindrance),
        }
    }

    /// Resolves with what holds the flight up once that is certain to last longer than the caller's patience.
    async fn hopeless(&self, patience: Instant) -> Hindrance {
        let mut hindrance = self.hindrance.clone();
        loop {
            let is_over = Instant::now() >= patience;
            let present = hindrance.borrow_and_update().clone();
            if let Some(lasting) = present.filter(|present| is_over || present.lasts_beyond(patience)) {
                return lasting;
            }
            // The passengers hold the sender, so that the channel does not close; what changed is looked at again.
            if is_over {
                let _ = hindrance.changed().await;
            } else {
                let _ = time::timeout_at(patience, hindrance.changed()).await;
            }
        }
    }
}

/// A hold on a key. Dropping it lets go, and gives the key's room back where nobody needs it any more.
pub(super) struct Boarding<K: Copy + Eq + Hash, T: Clone> {
    // Dropped in this order: the room can be given back only after the hold on it.
    slot: OwnedMutexGuard<Option<Flight<T>>>,
    room: Room<K, T>,
    tasks: TaskTracker,
}

/// Sees to it that a key that nobody holds or waits for takes no room.
struct Room<K: Copy + Eq + Hash, T: Clone> {
    slots: Slots<K, T>,
    key: K,
}

impl<K: Copy + Eq + Hash, T: Clone> Drop for Room<K, T> {
    fn drop(&mut self) {
        let mut slots = lock(&self.slots);
        let is_idle = slots.get(&self.key).is_some_and(|slot| {
            let is_free = Arc::strong_count(slot) == 1;
            is_free && slot.try_lock().is_ok_and(|flight| flight.as_ref().is_none_or(Flight::has_landed))
        });
        if is_idle {
            slots.remove(&self.key);
        }
    }
}

impl<K, T> Flights<K, T>
where
    K: Copy + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Flights whose work runs on the given tasks.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { slots: Slots::default(), tasks }
    }

    /// Takes hold of a key.
    pub(super) async fn board(&self, key: K) -> Boarding<K, T> {
        let room = Room { slots: Arc::clone(&self.slots), key };
        let slot = Arc::clone(lock(&self.slots).entry(key).or_default());
        Boarding { slot: slot.lock_owned().await, room, tasks: self.tasks.clone() }
    }
}

impl<K, T> Boarding<K, T>
where
    K: Copy + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// A seat in the flight that is under way. One that has landed is none: what it did stands in the store.
    pub(super) fn join(&self) -> Option<Seat<T>> {
        self.slot.as_ref().filter(|flight| !flight.has_landed()).map(Flight::seat)
    }

    /// Launches work, which goes on whoever waits for it, and takes the first seat.
    pub(super) fn launch<W>(&mut self, work: impl FnOnce(Passengers) -> W) -> Seat<T>
    where
        W: Future<Output = T> + Send + 'static,
    {
        let (land, landed) = watch::channel(None);
        let flight = Flight { landed, passengers: Passengers::default() };
        // The first seat is taken before the work begins: it may ask at once whether anybody waits.
        let seat = flight.seat();
        let work = AssertUnwindSafe(work(flight.passengers.clone())).catch_unwind();
        let room = Room { slots: Arc::clone(&self.room.slots), key: self.room.key };
        self.tasks.spawn(async move {
            let outcome = work.await.ok();
            // Nobody may wait any more; the outcome stands in the store all the same.
            let _ = land.send(Some(outcome));
            drop(room);
        });
        *self.slot = Some(flight);
        seat
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    async fn landed<T: Clone>(seat: &Seat<T>) -> Option<T> {
        seat.outcome(Instant::now()).await.unwrap_or_else(|_| panic!("nothing holds it up"))
    }

    #[tokio::test]
    async fn callers_share_one_run() {
        let flights = Flights::<u8, u32>::new(TaskTracker::new());
        let (land, landing) = oneshot::channel();
        let mut boarding = flights.board(1).await;
        assert!(boarding.join().is_none());
        let first = boarding.launch(|_| async { landing.await.unwrap() });
        drop(boarding);
        let boarding = flights.board(1).await;
        let second = boarding.join().unwrap();
        drop(boarding);
        assert!(flights.board(2).await.join().is_none(), "another key is another flight");
        land.send(7).unwrap();
        assert_eq!((landed(&first).await, landed(&second).await), (Some(7), Some(7)));
        assert!(flights.board(1).await.join().is_none(), "landed");
    }

    #[tokio::test]
    async fn work_goes_on_without_passengers_and_knows_it() {
        let flights = Flights::<u8, bool>::new(TaskTracker::new());
        let (ask, asked) = oneshot::channel();
        let mut boarding = flights.board(1).await;
        let flight = boarding.launch(|passengers| async move {
            let () = asked.await.unwrap();
            passengers.are_waiting()
        });
        let mut landed = flight.landed.clone();
        drop(flight);
        ask.send(()).unwrap();
        assert_eq!(*landed.wait_for(Option::is_some).await.unwrap(), Some(Some(false)));
        flights.tasks.close();
        flights.tasks.wait().await;
        drop(boarding);
        assert!(lock(&flights.slots).is_empty(), "no room is kept");
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome_and_no_room_is_kept() {
        let flights = Flights::<u8, u32>::new(TaskTracker::new());
        let mut boarding = flights.board(1).await;
        let flight = boarding.launch(|_| async { panic!("as tested") });
        drop(boarding);
        assert_eq!(landed(&flight).await, None);
        drop(flights.board(1).await);
        assert!(lock(&flights.slots).is_empty());
    }
}
