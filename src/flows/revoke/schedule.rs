//! Which revocation is next, and when. Decides alone: the worker performs it, and time is an argument.
//!
//! Each client has a lane of its own, so that what one provider does concerns its own tokens only. A failure speaks of
//! the provider more than of the token: it closes the whole lane for a while, and opens it for one request at first.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use backon::ExponentialBackoff;

use super::super::retry::doubling;
use crate::domain::{ClientName, Moment, Revocation, RevocationEnd, SessionId};

/// Requests to one client's provider at a time, while it answers.
const AT_ONCE: usize = 4;
/// Pause after a first failure; each further one doubles it, and jitter adds up to as much again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause without its jitter. What the provider asks for may be longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// A reading of the boot clock, which all times here are.
type Reading = Duration;

fn reading(now: Moment) -> Reading {
    Duration::from_millis(now.boot.millis)
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask the provider to revoke the token.
    Ask(Arc<Revocation>),
    /// Note that the token has run out.
    RunOut(SessionId),
}

/// The queue as the worker sees it.
pub(super) struct Schedule {
    lanes: BTreeMap<ClientName, Lane>,
    /// All that is in the queue, whether it waits or is under way.
    known: HashMap<SessionId, Known>,
    /// What waits, by when its token runs out.
    by_end: BTreeSet<(Reading, SessionId)>,
}

struct Known {
    revocation: Arc<Revocation>,
    /// When the token runs out.
    end: Reading,
    failures: u32,
}

/// The way to one client's provider.
#[derive(Default)]
struct Lane {
    /// What waits: those that have failed the least first, so that a token that the provider fails on stands in nobody's
    /// way; among them the soonest to run out.
    waiting: BTreeSet<(u32, Reading, SessionId)>,
    under_way: usize,
    closed_until: Reading,
    /// The pauses to come; none while the provider answers.
    pauses: Option<ExponentialBackoff>,
}

impl Schedule {
    /// An empty one, with a lane for each client.
    pub(super) fn new(clients: impl Iterator<Item = ClientName>) -> Self {
        let lanes = clients.map(|client| (client, Lane::default())).collect();
        Self { lanes, known: HashMap::new(), by_end: BTreeSet::new() }
    }

    /// From here on these are the clients. What waits for one that is new gets its lane; what waits for one that has gone
    /// waits to run out.
    pub(super) fn serve(&mut self, clients: BTreeSet<ClientName>) {
        self.lanes.retain(|client, _| clients.contains(client));
        for client in
            clients.into_iter().filter(|client| !self.lanes.contains_key(client)).collect::<Vec<_>>()
        {
            let waiting = self.by_end.iter().filter_map(|(end, id)| {
                let known = self.known.get(id).filter(|known| known.revocation.client == client)?;
                Some((known.failures, *end, *id))
            });
            let lane = Lane { waiting: waiting.collect(), ..Lane::default() };
            self.lanes.insert(client, lane);
        }
    }

    /// Takes in a row of the queue; one that is known already is left as it is. Without a lane it waits to run out.
    pub(super) fn add(&mut self, revocation: Revocation, now: Moment) {
        let id = revocation.session;
        if let Entry::Vacant(place) = self.known.entry(id) {
            let end = reading(now).saturating_add(revocation.left(now));
            place.insert(Known { revocation: Arc::new(revocation), end, failures: 0 });
            self.line_up(id);
        }
    }

    /// What to do now; none when everything has to wait for something.
    pub(super) fn next(&mut self, now: Moment) -> Option<Step> {
        let now = reading(now);
        if let Some((_, id)) = self.by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.step_out(id);
            return Some(Step::RunOut(id));
        }
        let lane = self.lanes.values_mut().find(|lane| lane.has_place() && lane.closed_until <= now)?;
        let (.., id) = lane.waiting.first().copied()?;
        lane.under_way += 1;
        self.step_out(id);
        self.known.get(&id).map(|known| Step::Ask(Arc::clone(&known.revocation)))
    }

    /// How long until time alone brings something to do; none while it does not.
    pub(super) fn next_after(&self, now: Moment) -> Option<Duration> {
        let openings = self.lanes.values().filter(|lane| lane.has_place()).map(|lane| lane.closed_until);
        let next = openings.chain(self.by_end.first().map(|(end, _)| *end)).min()?;
        Some(next.saturating_sub(reading(now)))
    }

    /// A revocation has ended and left the queue.
    pub(super) fn ended(&mut self, id: SessionId, how: RevocationEnd) {
        let Some(known) = self.known.remove(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&known.revocation.client) else { return };
        match how {
            RevocationEnd::Revoked | RevocationEnd::Refused { .. } => {
                lane.under_way = lane.under_way.saturating_sub(1);
                lane.pauses = None;
            }
            // It waited: no request of its was under way.
            RevocationEnd::RanOut => {}
        }
    }

    /// A request has failed, with the pause that the provider asked for, if it did. Answers how long its lane is closed.
    pub(super) fn failed(&mut self, id: SessionId, asked: Option<Duration>, now: Moment) -> Duration {
        let Some(known) = self.known.get_mut(&id) else { return Duration::ZERO };
        known.failures = known.failures.saturating_add(1);
        let pause = self.lanes.get_mut(&known.revocation.client).map(|lane| lane.fail(asked, reading(now)));
        self.line_up(id);
        pause.unwrap_or_default()
    }

    fn line_up(&mut self, id: SessionId) {
        let Some(known) = self.known.get(&id) else { return };
        self.by_end.insert((known.end, id));
        if let Some(lane) = self.lanes.get_mut(&known.revocation.client) {
            lane.waiting.insert((known.failures, known.end, id));
        }
    }

    fn step_out(&mut self, id: SessionId) {
        let Some(known) = self.known.get(&id) else { return };
        self.by_end.remove(&(known.end, id));
        if let Some(lane) = self.lanes.get_mut(&known.revocation.client) {
            lane.waiting.remove(&(known.failures, known.end, id));
        }
    }
}

impl Lane {
    /// Whether something waits that may go as soon as the lane is open.
    fn has_place(&self) -> bool {
        let places = if self.pauses.is_some() { 1 } else { AT_ONCE };
        !self.waiting.is_empty() && self.under_way < places
    }

    /// Closes the lane for a pause. Requests that were under way together fail together: those that come after the first
    /// find it closed, and can only make the pause as long as they were asked to.
    fn fail(&mut self, asked: Option<Duration>, now: Reading) -> Duration {
        self.under_way = self.under_way.saturating_sub(1);
        let own = if self.closed_until > now {
            None
        } else {
            self.pauses.get_or_insert_with(|| doubling(FIRST_PAUSE, LONGEST_PAUSE)).next()
        };
        let pause = own.unwrap_or_default().max(asked.unwrap_or_default());
        self.closed_until = self.closed_until.max(now.saturating_add(pause));
        self.closed_until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccessToken, BootTime, Timestamp};

    const LIFE: u64 = 3_600;
    const MILLI: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Moment {
        Moment {
            wall: Timestamp::from_millis(1_800_000_000_000 + millis),
            boot: BootTime { boot: 1, millis },
        }
    }

    fn after(span: Duration) -> Moment {
        at(u64::try_from(span.as_millis()).unwrap())
    }

    fn id(number: u8) -> SessionId {
        SessionId::from_bytes([number; 16])
    }

    fn client(name: &str) -> ClientName {
        ClientName::parse(name).unwrap()
    }

    /// A token of that life in seconds, received at 0.
    fn token(number: u8, of: &str, life: u64) -> Revocation {
        Revocation {
            session: id(number),
            client: client(of),
            token: AccessToken::new("token"),
            since: at(0),
            life: Duration::from_secs(life),
        }
    }

    fn schedule(tokens: impl IntoIterator<Item = Revocation>) -> Schedule {
        let mut schedule = Schedule::new([client("shop"), client("club")].into_iter());
        tokens.into_iter().for_each(|token| schedule.add(token, at(0)));
        schedule
    }

    /// All that can be done now: which tokens are asked for, in order.
    fn asked(schedule: &mut Schedule, now: Moment) -> Vec<u8> {
        let steps = std::iter::from_fn(|| schedule.next(now));
        steps
            .map(|step| match step {
                Step::Ask(revocation) => revocation.session.as_bytes()[0],
                Step::RunOut(id) => panic!("{id} ran out"),
            })
            .collect()
    }

    #[test]
    fn the_soonest_to_run_out_goes_first_and_a_few_go_at_once() {
        let lives = [(1, 500), (2, 300), (3, 600), (4, 100), (5, 400), (6, 200)];
        let mut schedule = schedule(lives.map(|(number, life)| token(number, "shop", life)));
        assert_eq!(asked(&mut schedule, at(0)), [4, 6, 2, 5]);
        schedule.ended(id(6), RevocationEnd::Revoked);
        assert_eq!(asked(&mut schedule, at(0)), [1], "a place for each that has ended");
        schedule.ended(id(4), RevocationEnd::Refused { http_status: 400 });
        assert_eq!(asked(&mut schedule, at(0)), [3]);
        for number in [1, 2, 3, 5] {
            schedule.ended(id(number), RevocationEnd::Revoked);
        }
        assert_eq!((asked(&mut schedule, at(0)), schedule.next_after(at(0))), (vec![], None));
    }

    #[test]
    fn what_is_known_is_not_taken_in_again() {
        let mut schedule = schedule([token(1, "shop", LIFE), token(1, "shop", LIFE)]);
        assert_eq!(asked(&mut schedule, at(0)), [1]);
        schedule.add(token(1, "shop", LIFE), at(0));
        assert!(asked(&mut schedule, at(0)).is_empty(), "nor while it is under way");
        schedule.ended(id(1), RevocationEnd::Revoked);
        assert!(schedule.known.is_empty() && schedule.by_end.is_empty());
    }

    #[test]
    fn a_provider_that_fails_or_hangs_holds_up_its_own_client_only() {
        let mut schedule = schedule((1..=8).map(|number| token(number, "shop", LIFE)));
        assert_eq!(asked(&mut schedule, at(0)), [1, 2, 3, 4], "and none of them is answered");
        schedule.add(token(9, "club", LIFE), at(0));
        assert_eq!(asked(&mut schedule, at(0)), [9]);
        schedule.failed(id(1), None, at(1));
        schedule.add(token(10, "club", LIFE), at(1));
        assert_eq!(asked(&mut schedule, at(1)), [10]);
    }

    #[test]
    fn a_failure_closes_the_lane_and_pauses_double_until_an_answer() {
        let mut schedule = schedule([token(1, "shop", 100 * LIFE)]);
        let mut now = Duration::ZERO;
        for least in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300] {
            assert_eq!(asked(&mut schedule, after(now)), [1]);
            let pause = schedule.failed(id(1), None, after(now));
            let least = Duration::from_secs(least);
            assert!((least..=least * 2).contains(&pause), "{pause:?}");
            assert_eq!(schedule.next_after(after(now)), Some(pause));
            assert!(asked(&mut schedule, after(now + pause - MILLI)).is_empty());
            now += pause + MILLI;
        }
        assert_eq!(asked(&mut schedule, after(now)), [1]);
        schedule.ended(id(1), RevocationEnd::Revoked);
        schedule.add(token(2, "shop", 100 * LIFE), after(now));
        assert_eq!(asked(&mut schedule, after(now)), [2]);
        let pause = schedule.failed(id(2), None, after(now));
        assert!(pause <= 2 * FIRST_PAUSE, "an answer ends the run of failures: {pause:?}");
    }

    #[test]
    fn after_a_failure_one_request_finds_out_whether_the_rest_may_go() {
        let mut schedule = schedule((1..=6).map(|number| token(number, "shop", LIFE)));
        assert_eq!(asked(&mut schedule, at(0)), [1, 2, 3, 4]);
        let pause = schedule.failed(id(1), None, at(0));
        for number in 2..=4 {
            let together = schedule.failed(id(number), None, at(0));
            assert_eq!(together, pause, "what fails together counts as one failure");
        }
        // Those that have failed stand behind those that have not.
        assert_eq!(asked(&mut schedule, after(pause + MILLI)), [5]);
        schedule.ended(id(5), RevocationEnd::Revoked);
        assert_eq!(asked(&mut schedule, after(pause + MILLI)), [6, 1, 2, 3]);
    }

    #[test]
    fn the_pause_that_the_provider_asks_for_is_kept() {
        let mut schedule = schedule((1..=3).map(|number| token(number, "shop", 100 * LIFE)));
        assert_eq!(asked(&mut schedule, at(0)), [1, 2, 3]);
        let hour = Duration::from_secs(3600);
        assert_eq!(schedule.failed(id(1), Some(hour), at(0)), hour);
        assert_eq!(schedule.failed(id(2), Some(FIRST_PAUSE), at(0)), hour, "the longest one counts");
        schedule.ended(id(3), RevocationEnd::Revoked);
        assert!(asked(&mut schedule, after(hour - MILLI)).is_empty(), "in any case");
        assert_eq!(asked(&mut schedule, after(hour)), [1, 2]);
    }

    #[test]
    fn a_token_that_runs_out_leaves_to_the_millisecond_open_lane_or_not() {
        let mut schedule = schedule([token(1, "shop", 10), token(2, "shop", 20), token(3, "gone", 30)]);
        assert_eq!(asked(&mut schedule, at(0)), [1, 2], "whose client is gone is not asked for");
        schedule.failed(id(1), Some(Duration::from_secs(3600)), at(0));
        schedule.failed(id(2), Some(Duration::from_secs(3600)), at(0));
        for (number, end) in [(1, 10_000), (2, 20_000), (3, 30_000)] {
            assert_eq!(schedule.next_after(at(end - 10)), Some(Duration::from_millis(10)));
            assert!(schedule.next(at(end - 1)).is_none());
            assert!(matches!(schedule.next(at(end)), Some(Step::RunOut(ended)) if ended == id(number)));
            assert!(schedule.next(at(end)).is_none(), "once");
            schedule.ended(id(number), RevocationEnd::RanOut);
        }
        assert!(schedule.known.is_empty() && schedule.next_after(at(30_000)).is_none());
    }

    #[test]
    fn a_request_under_way_is_not_cut_off_by_the_tokens_end() {
        let mut schedule = schedule([token(1, "shop", 10), token(2, "shop", 10)]);
        assert_eq!(asked(&mut schedule, at(9_999)), [1, 2]);
        assert!(asked(&mut schedule, at(10_001)).is_empty());
        schedule.ended(id(1), RevocationEnd::Revoked);
        schedule.failed(id(2), None, at(10_001));
        assert!(matches!(schedule.next(at(10_001)), Some(Step::RunOut(ended)) if ended == id(2)));
    }
}
