//! The line before a rate budget: whoever finds no slot waits here, in memory, and has consumed nothing yet.
//!
//! Callers take turns, so that one with a thousand users does not starve one with three; within a caller the callback
//! that was presented first goes first. One at a time has the turn and asks the store for a slot until it has one. When the
//! line is full, the last of the caller with the most in it gives way, so that a crowd keeps out nobody but itself.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use crate::domain::{CallerName, Timestamp};

/// Most that wait in one line. At 30 requests a minute the last of them would wait for more than half an hour.
const MAX_WAITING: usize = 1024;

/// By what the line orders those who wait.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    /// For whom.
    pub(super) caller: CallerName,
    /// When what waits was first presented.
    pub(super) presented: Timestamp,
}

/// One line.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    nudge: Notify,
}

/// The line is full.
#[derive(Debug)]
pub(super) struct LineIsFull;

#[derive(Debug, Default)]
struct Waiting {
    /// Callers for whom somebody waits, the next one first.
    callers: VecDeque<(CallerName, BTreeMap<Rank, oneshot::Sender<()>>)>,
    count: usize,
    /// Number of the next place: tells apart what was presented in the same millisecond.
    next: u64,
    /// Whether somebody has the turn.
    is_served: bool,
}

type Rank = (Timestamp, u64);

/// A place in a line, and later the turn. Dropping it leaves the line, or hands the turn on.
#[derive(Debug)]
pub(super) struct Place {
    line: Arc<Line>,
    caller: CallerName,
    rank: Rank,
    standing: Standing,
}

/// How a place stands in its line.
#[derive(Debug)]
enum Standing {
    /// The turn comes with a message. When the sender goes without one, the place was given to somebody else.
    Waiting(oneshot::Receiver<()>),
    Served,
    Evicted,
}

impl Line {
    /// Whether nobody waits, not even at the head.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.count == 0 && !waiting.is_served
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.count + usize::from(waiting.is_served)
    }

    /// Joins the line.
    pub(super) fn enter(self: &Arc<Self>, ticket: &Ticket) -> Result<Place, LineIsFull> {
        let mut waiting = self.lock();
        if waiting.count >= MAX_WAITING && !waiting.make_room_for(&ticket.caller) {
            return Err(LineIsFull);
        }
        let rank = (ticket.presented, waiting.next);
        waiting.next += 1;
        let caller = ticket.caller.clone();
        let standing = if waiting.is_served {
            let (give, turn) = oneshot::channel();
            waiting.insert(&caller, rank, give);
            Standing::Waiting(turn)
        } else {
            waiting.is_served = true;
            Standing::Served
        };
        Ok(Place { line: Arc::clone(self), caller, rank, standing })
    }

    /// The budget may have changed: whoever has the turn should look again. Kept for him if he is just looking.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// How many are served before the place of that caller and rank.
    fn ahead(&self, caller: &CallerName, rank: Rank) -> usize {
        let waiting = self.lock();
        let Some(mine) = waiting.callers.iter().position(|(name, _)| name == caller) else { return 0 };
        let Some((_, own)) = waiting.callers.get(mine) else { return 0 };
        if !own.contains_key(&rank) {
            return 0;
        }
        let before = own.range(..rank).count();
        let others = waiting.callers.iter().enumerate().filter(|(index, _)| *index != mine);
        let of_others: usize =
            others.map(|(index, (_, queue))| queue.len().min(before + usize::from(index < mine))).sum();
        usize::from(waiting.is_served) + before + of_others
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn insert(&mut self, caller: &CallerName, rank: Rank, give: oneshot::Sender<()>) {
        self.count += 1;
        match self.callers.iter_mut().find(|(name, _)| name == caller) {
            Some((_, queue)) => drop(queue.insert(rank, give)),
            None => self.callers.push_back((caller.clone(), BTreeMap::from([(rank, give)]))),
        }
    }

    /// Evicts the last of the caller with the most in line, unless that is the newcomer's own.
    fn make_room_for(&mut self, newcomer: &CallerName) -> bool {
        let Some((longest, queue)) = self.callers.iter_mut().max_by_key(|(_, queue)| queue.len()) else {
            return false;
        };
        // Dropping what gives the turn tells the evicted.
        let has_room = longest != newcomer && queue.len() > 1 && queue.pop_last().is_some();
        self.count -= usize::from(has_room);
        has_room
    }

    /// Answers whether it was still waiting.
    fn remove(&mut self, caller: &CallerName, rank: Rank) -> bool {
        let Some(queue) = self.callers.iter_mut().find(|(name, _)| name == caller).map(|(_, queue)| queue)
        else {
            return false;
        };
        let was_there = queue.remove(&rank).is_some();
        self.count -= usize::from(was_there);
        self.callers.retain(|(_, queue)| !queue.is_empty());
        was_there
    }

    /// Gives the turn to the next caller's first, who goes behind the others.
    fn hand_on(&mut self) {
        self.is_served = false;
        let Some((caller, mut queue)) = self.callers.pop_front() else { return };
        if let Some((_, give)) = queue.pop_first() {
            self.count -= 1;
            self.is_served = true;
            // Whoever is just leaving finds out when he drops his place, and hands on.
            let _ = give.send(());
        }
        if !queue.is_empty() {
            self.callers.push_back((caller, queue));
        }
    }
}

impl Place {
    /// Resolves when the turn has come.
    ///
    /// # Errors
    /// [`LineIsFull`] when the place was given to a caller with fewer in line.
    pub(super) async fn turn(&mut self) -> Result<(), LineIsFull> {
        if let Standing::Waiting(turn) = &mut self.standing {
            self.standing = if turn.await.is_ok() { Standing::Served } else { Standing::Evicted };
        }
        if matches!(self.standing, Standing::Evicted) { Err(LineIsFull) } else { Ok(()) }
    }

    /// Resolves when the budget may have changed. For whoever has the turn.
    pub(super) async fn nudged(&self) {
        self.line.nudge.notified().await;
    }

    /// Tells the place in line to those who wait elsewhere for what it brings.
    pub(super) fn position(&self) -> Position {
        Position { line: Arc::clone(&self.line), caller: self.caller.clone(), rank: self.rank }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        let has_turn = match &mut self.standing {
            Standing::Served => true,
            Standing::Evicted => false,
            // Whoever leaves may have been given the turn a moment ago, without noticing.
            Standing::Waiting(turn) => !waiting.remove(&self.caller, self.rank) && turn.try_recv().is_ok(),
        };
        if has_turn {
            waiting.hand_on();
        }
    }
}

/// Where a place is in its line.
#[derive(Clone, Debug)]
pub(super) struct Position {
    line: Arc<Line>,
    caller: CallerName,
    rank: Rank,
}

impl Position {
    /// How many are served before it.
    pub(super) fn ahead(&self) -> usize {
        self.line.ahead(&self.caller, self.rank)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ticket(caller: &str, presented: u64) -> Ticket {
        let caller = CallerName::parse(caller).unwrap();
        Ticket { caller, presented: Timestamp::from_millis(presented) }
    }

    /// Serves the whole line and answers the order in which the places had their turns.
    fn order(line: &Arc<Line>, tickets: &[(&str, u64)]) -> Vec<usize> {
        let head = line.enter(&ticket("head", 0)).unwrap();
        let mut places: Vec<_> = tickets
            .iter()
            .enumerate()
            .map(|(number, (caller, presented))| (number, line.enter(&ticket(caller, *presented)).unwrap()))
            .collect();
        let foretold: Vec<_> = places.iter().map(|(_, place)| place.position().ahead()).collect();
        drop(head);
        let mut order = Vec::new();
        while !places.is_empty() {
            let served = places.iter_mut().position(|(_, place)| place.turn().now_or_never().is_some());
            let (number, place) = places.remove(served.expect("somebody has the turn"));
            assert_eq!(foretold[number], order.len() + 1, "its position said so");
            order.push(number);
            drop(place);
        }
        assert!(line.is_empty());
        order
    }

    #[test]
    fn callers_take_turns_and_within_one_the_first_presented_goes_first() {
        let line = Arc::default();
        let tickets = [("a", 5), ("a", 1), ("a", 3), ("b", 9), ("b", 8), ("c", 7)];
        assert_eq!(order(&line, &tickets), [1, 4, 5, 2, 3, 0]);
        let crowd: Vec<_> = (0..50).map(|number| ("crowd", number)).chain([("lone", 99)]).collect();
        assert_eq!(order(&line, &crowd)[1], 50, "fifty of one caller do not stand before another's one");
    }

    #[test]
    fn who_leaves_holds_up_nobody() {
        let line = Arc::<Line>::default();
        let head = line.enter(&ticket("a", 0)).unwrap();
        let waiting = line.enter(&ticket("a", 1)).unwrap();
        let served = line.enter(&ticket("b", 2)).unwrap();
        let mut last = line.enter(&ticket("c", 3)).unwrap();
        drop(waiting);
        drop(head);
        assert_eq!(line.len(), 2);
        // The turn was given and he leaves before he has noticed.
        assert_eq!(last.position().ahead(), 1);
        drop(served);
        assert!(last.turn().now_or_never().is_some());
        drop(last);
        assert!(line.is_empty());
    }

    #[test]
    fn a_nudge_is_kept_for_who_is_just_looking() {
        let line = Arc::<Line>::default();
        let head = line.enter(&ticket("a", 0)).unwrap();
        assert!(head.nudged().now_or_never().is_none());
        line.nudge();
        assert!(head.nudged().now_or_never().is_some());
        assert!(head.nudged().now_or_never().is_none());
    }

    #[test]
    fn the_line_is_bounded_and_a_crowd_gives_way() {
        let line = Arc::<Line>::default();
        let mut places: Vec<_> =
            (0..=MAX_WAITING as u64).map(|n| line.enter(&ticket("a", n)).unwrap()).collect();
        assert!(line.enter(&ticket("a", 0)).is_err(), "of the crowd's own nobody gives way");
        let other = line.enter(&ticket("b", 0)).unwrap();
        let mut evicted = places.pop().unwrap();
        assert!(evicted.turn().now_or_never().unwrap().is_err(), "the last of the crowd");
        drop(evicted);
        assert_eq!(line.len(), MAX_WAITING + 1, "and whoever has the turn");
        assert_eq!(other.position().ahead(), 2, "who has the turn, and one of the crowd");
        drop(places);
        drop(other);
        assert!(line.is_empty());
    }
}
