//! The provider's limits: so many requests a minute, and so many calls a day for a test key.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::clock::Moment;

const MINUTE: Duration = Duration::from_secs(60);
const DAY_SECONDS: u64 = 86_400;

/// Seconds after which the next request would be let through, rounded up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) retry_after: u64,
}

/// At most `max` requests in any window of sixty seconds, for each key. A refused request takes no place.
pub(super) struct Window {
    max: usize,
    admitted: HashMap<String, VecDeque<Moment>>,
}

impl Window {
    pub(super) fn per_minute(max: usize) -> Self {
        Self { max, admitted: HashMap::new() }
    }

    pub(super) fn admit(&mut self, key: &str, now: Moment) -> Result<(), Over> {
        let times = self.admitted.entry(key.to_owned()).or_default();
        while times.front().is_some_and(|first| first.plus(MINUTE) <= now) {
            times.pop_front();
        }
        match times.front() {
            Some(first) if times.len() >= self.max => {
                let wait = first.plus(MINUTE).since(now).as_millis().div_ceil(1000);
                Err(Over { retry_after: u64::try_from(wait).unwrap_or(u64::MAX) })
            }
            Some(_) | None => {
                times.push_back(now);
                Ok(())
            }
        }
    }
}

/// The daily cap of test keys, by UTC days. Live keys have none.
pub(super) struct DailyCap {
    cap: Option<u32>,
    used: HashMap<String, (u64, u32)>,
}

impl DailyCap {
    pub(super) fn new(cap: Option<u32>) -> Self {
        Self { cap, used: HashMap::new() }
    }

    pub(super) fn admit(&mut self, client_id: &str, now: Moment) -> Result<(), Over> {
        let Some(cap) = self.cap.filter(|_| is_test_key(client_id)) else { return Ok(()) };
        let today = now.seconds() / DAY_SECONDS;
        let (day, used) = self.used.entry(client_id.to_owned()).or_insert((today, 0));
        if *day != today {
            (*day, *used) = (today, 0);
        }
        if *used >= cap {
            return Err(Over { retry_after: DAY_SECONDS - now.seconds() % DAY_SECONDS });
        }
        *used += 1;
        Ok(())
    }
}

/// Test keys are told from live ones by their prefix.
pub(super) fn is_test_key(client_id: &str) -> bool {
    client_id.starts_with("cairl_test_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_window_says_when_to_come_back_and_then_lets_in() {
        let mut window = Window::per_minute(2);
        assert_eq!(window.admit("a", Moment::at(0)), Ok(()));
        assert_eq!(window.admit("a", Moment::at(10_500)), Ok(()));
        assert_eq!(window.admit("a", Moment::at(20_001)), Err(Over { retry_after: 40 }));
        assert_eq!(window.admit("b", Moment::at(20_001)), Ok(()), "each key has its own window");
        assert_eq!(window.admit("a", Moment::at(59_999)), Err(Over { retry_after: 1 }));
        assert_eq!(window.admit("a", Moment::at(60_000)), Ok(()));
    }

    #[test]
    fn the_cap_counts_test_keys_by_the_day() {
        let mut daily = DailyCap::new(Some(1));
        assert_eq!(daily.admit("cairl_test_a", Moment::at(0)), Ok(()));
        assert_eq!(daily.admit("cairl_test_a", Moment::at(1000)), Err(Over { retry_after: 86_399 }));
        assert_eq!(daily.admit("cairl_live_a", Moment::at(1000)), Ok(()));
        assert_eq!(daily.admit("cairl_live_a", Moment::at(1000)), Ok(()));
        assert_eq!(daily.admit("cairl_test_a", Moment::at(86_400_000)), Ok(()));
        assert_eq!(DailyCap::new(None).admit("cairl_test_a", Moment::at(0)), Ok(()));
    }

    proptest! {
        #[test]
        fn no_window_of_sixty_seconds_holds_more_than_the_limit(gaps in prop::collection::vec(0u64..9_000, 1..200)) {
            let mut window = Window::per_minute(7);
            let mut now = 0;
            let mut let_in: Vec<u64> = Vec::new();
            for gap in gaps {
                now += gap;
                if window.admit("k", Moment::at(now)).is_ok() {
                    let_in.push(now);
                }
            }
            for (i, last) in let_in.iter().enumerate().skip(7) {
                prop_assert!(last - let_in[i - 7] >= 60_000);
            }
        }
    }
}
