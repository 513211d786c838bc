//! Who may stay when all places are taken: whoever has a whole request in hand, and of the others those who came last.
//!
//! Anybody can open connections and say nothing, or little and slowly. One that is honest has its request sent within
//! moments, so that it is not the oldest of those that wait.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Connections that are there and not told to go.
    taken: usize,
    next_turn: u64,
    /// Connections without a whole request, by when they began to wait.
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Inside {
    fn wait(&mut self, told_to_go: &CancellationToken) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.waiting.insert(turn, told_to_go.clone());
        turn
    }

    fn send_away_oldest(&mut self) -> bool {
        let Some((_, told_to_go)) = self.waiting.pop_first() else { return false };
        self.taken -= 1;
        told_to_go.cancel();
        true
    }
}

impl Places {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inside: Mutex::default() })
    }

    /// A place for a new connection; where none is free, that of the one that has waited for longest. `None` when all
    /// have a request in hand.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut inside = self.lock();
        if inside.taken >= self.most && !inside.send_away_oldest() {
            return None;
        }
        inside.taken += 1;
        let told_to_go = CancellationToken::new();
        let turn = inside.wait(&told_to_go);
        Some(Place { places: Arc::clone(self), told_to_go, turn: Mutex::new(Some(turn)) })
    }

    /// Sends away all that have no whole request in hand.
    pub(super) fn send_away_waiting(&self) {
        let mut inside = self.lock();
        while inside.send_away_oldest() {}
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    told_to_go: CancellationToken,
    /// Since when it waits; none while a request is in hand. Only its own connection changes it.
    turn: Mutex<Option<u64>>,
}

impl Place {
    /// Resolves when the place is given to somebody else.
    pub(super) async fn told_to_go(&self) {
        self.told_to_go.cancelled().await;
    }

    /// A whole request is in hand: nobody takes the place until the answer is dropped.
    pub(super) fn hold(&self) -> Held<'_> {
        let turn = self.turn().take();
        if let Some(turn) = turn {
            self.places.lock().waiting.remove(&turn);
        }
        Held { place: self }
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turn = self.turn().take();
        let mut inside = self.places.lock();
        if let Some(turn) = turn {
            inside.waiting.remove(&turn);
        }
        // Whoever was told to go is not counted any more.
        if !self.told_to_go.is_cancelled() {
            inside.taken -= 1;
        }
    }
}

/// A request in hand.
#[derive(Debug)]
pub(super) struct Held<'p> {
    place: &'p Place,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.place.told_to_go.is_cancelled() {
            let turn = self.place.places.lock().wait(&self.place.told_to_go);
            *self.place.turn() = Some(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_gone(place: &Place) -> bool {
        place.told_to_go.is_cancelled()
    }

    #[test]
    fn the_one_that_has_waited_for_longest_goes() {
        let places = Places::new(2);
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        assert!(!is_gone(&first) && !is_gone(&second), "there is room");
        let third = places.take().unwrap();
        assert!(is_gone(&first) && !is_gone(&second) && !is_gone(&third));
        drop(first);
        drop(second);
        let fourth = places.take().unwrap();
        assert!(!is_gone(&third) && !is_gone(&fourth), "the one that went is counted once");
        let _fifth = places.take().unwrap();
        assert!(is_gone(&third));
    }

    #[test]
    fn a_request_in_hand_keeps_its_place() {
        let places = Places::new(2);
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        let held = first.hold();
        let third = places.take().unwrap();
        assert!(!is_gone(&first) && is_gone(&second));
        drop(second);
        let also_held = third.hold();
        assert!(places.take().is_none(), "nobody can go");
        drop(held);
        drop(also_held);
        let _fourth = places.take().unwrap();
        assert!(is_gone(&first) && !is_gone(&third), "they wait again since they were answered");
    }

    #[test]
    fn at_the_end_all_that_wait_go() {
        let places = Places::new(3);
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        let held = first.hold();
        places.send_away_waiting();
        assert!(!is_gone(&first) && is_gone(&second));
        drop(held);
        places.send_away_waiting();
        assert!(is_gone(&first));
        drop((first, second));
        assert_eq!(places.lock().taken, 0);
        assert!(places.lock().waiting.is_empty());
    }
}
