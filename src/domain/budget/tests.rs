use proptest::prelude::*;

use super::*;
use crate::domain::{BootTime, Timestamp};

const PATIENCE: Duration = Duration::from_secs(30);

fn at(millis: u64) -> Moment {
    in_boot(1, millis)
}

fn in_boot(boot: u64, millis: u64) -> Moment {
    Moment { wall: Timestamp::from_millis(1_800_000_000_000 + millis), boot: BootTime { boot, millis } }
}

fn terms(limit: u32) -> BudgetTerms {
    let credential = ApiKey::new("cairl_test_1");
    BudgetTerms { kind: BudgetKind::Token, credential, limit, patience: PATIENCE }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_slot_frees_a_minute_after_its_answer() {
    let mut budget = Budget::default();
    let slot = budget.take(at(0), &terms(1)).unwrap();
    assert_eq!(
        budget.take(at(0), &terms(1)).unwrap_err().not_before,
        Duration::ZERO,
        "it may free at any time"
    );
    budget.end(at(5_000), slot, SlotEnd::Answered);
    let spent = budget.take(at(65_000), &terms(1)).unwrap_err();
    assert_eq!(
        (spent.used, spent.not_before),
        (1, Duration::from_millis(1)),
        "the limit's clock is not ours"
    );
    budget.take(at(65_001), &terms(1)).unwrap();
}

#[test]
fn a_slot_without_an_answer_frees_a_minute_after_its_timeout() {
    let mut budget = Budget::default();
    budget.take(at(0), &terms(1)).unwrap();
    assert_eq!(budget.take(at(90_000), &terms(1)).unwrap_err().wait_behind(0), Duration::from_millis(1));
    budget.take(at(90_001), &terms(1)).unwrap();
}

#[test]
fn a_request_that_was_never_made_gives_its_slot_back() {
    let mut budget = Budget::default();
    let slot = budget.take(at(0), &terms(1)).unwrap();
    budget.end(at(1_000), slot, SlotEnd::Unused);
    budget.take(at(1_000), &terms(1)).unwrap();
}

#[test]
fn a_429_closes_for_what_it_says_within_bounds() {
    for (told, closed) in [(0, 1), (7, 7), (3_600, 3_600), (100_000, 3_600)] {
        let mut budget = Budget::default();
        let slot = budget.take(at(0), &terms(30)).unwrap();
        budget.end(at(0), slot, SlotEnd::Limited { retry_after: Some(seconds(told)) });
        let spent = budget.take(at(0), &terms(30)).unwrap_err();
        assert_eq!((spent.closed_for, spent.not_before), (Some(seconds(closed)), seconds(closed)), "{told}");
        assert_eq!(spent.wait_behind(0), seconds(closed));
        budget.take(at(closed * 1000), &terms(30)).unwrap();
    }
}

#[test]
fn a_429_that_does_not_say_closes_for_a_minute_and_doubles() {
    let mut budget = Budget::default();
    let mut now = 0;
    for closed in [60, 120, 240, 480, 900, 900] {
        let slot = budget.take(at(now), &terms(30)).unwrap();
        budget.end(at(now), slot, SlotEnd::Limited { retry_after: None });
        assert_eq!(budget.take(at(now), &terms(30)).unwrap_err().closed_for, Some(seconds(closed)));
        now += closed * 1000;
    }
    let slot = budget.take(at(now), &terms(30)).unwrap();
    budget.end(at(now), slot, SlotEnd::Answered);
    let slot = budget.take(at(now), &terms(30)).unwrap();
    budget.end(at(now), slot, SlotEnd::Limited { retry_after: None });
    assert_eq!(budget.outlook(at(now), 30).closed_for, Some(seconds(60)), "an answer began anew");
}

#[test]
fn requests_refused_together_are_one_strike() {
    let mut budget = Budget::default();
    let slots: Vec<_> = (0..4).map(|_| budget.take(at(0), &terms(30)).unwrap()).collect();
    for (slot, end) in slots.into_iter().zip([
        SlotEnd::Limited { retry_after: None },
        SlotEnd::Limited { retry_after: None },
        SlotEnd::Limited { retry_after: Some(seconds(3)) },
        SlotEnd::Answered,
    ]) {
        budget.end(at(10), slot, end);
    }
    assert_eq!(
        budget.outlook(at(10), 30).closed_for,
        Some(seconds(60)),
        "neither doubled nor opened by the others"
    );
}

#[test]
fn the_outlook_knows_the_place_in_line() {
    let mut budget = Budget::default();
    for second in [0, 10, 20] {
        let slot = budget.take(at(second * 1000), &terms(3)).unwrap();
        budget.end(at(second * 1000), slot, SlotEnd::Answered);
    }
    let outlook = budget.outlook(at(30_000), 3);
    let waits: Vec<_> = (0..4).map(|ahead| outlook.wait_behind(ahead).as_secs()).collect();
    assert_eq!(waits, [30, 40, 50, 90]);
    let lowered = budget.outlook(at(30_000), 1);
    assert_eq!(lowered.wait_behind(0).as_secs(), 50, "the limit was lowered: two are given back first");
}

#[test]
fn a_restart_counts_what_was_under_way_from_then() {
    let mut budget = Budget::default();
    budget.take(at(0), &terms(2)).unwrap();
    let answered = budget.take(at(0), &terms(2)).unwrap();
    budget.end(at(0), answered, SlotEnd::Answered);
    budget.restarted(at(50_000));
    assert_eq!(budget.outlook(at(70_000), 2).used, 1, "in the same boot an answer's minute goes on");
    assert_eq!(budget.outlook(at(110_000), 2).used, 1);
    assert_eq!(budget.outlook(at(110_001), 2).used, 0);
}

#[test]
fn after_a_reboot_no_clock_can_free_a_slot_early_or_hold_it_for_long() {
    for wall in [0, 3_600_000] {
        let mut budget = Budget::default();
        let slot = budget.take(at(1_800_000), &terms(1)).unwrap();
        budget.end(at(1_800_000), slot, SlotEnd::Limited { retry_after: Some(seconds(100)) });
        let restart = Moment { wall: Timestamp::from_millis(1_800_000_000_000 + wall), ..in_boot(2, 5) };
        budget.restarted(restart);
        assert_eq!(budget.outlook(restart, 1).used, 1, "wall clock at {wall}");
        assert!(budget.is_idle(restart.plus(seconds(101))), "wall clock at {wall}");
    }
}

proptest! {
    /// Requests come in bursts, take their time, are counted by the provider at some moment of it, are lost, meet restarts;
    /// each leaves the line as soon as the outlook says.
    #[test]
    fn no_window_at_the_provider_holds_more_than_the_limit(
        limit in 1_u32..8,
        requests in prop::collection::vec((0_u64..20_000, 0_u64..45_000, 0.0..=1.0_f64, 0_u8..40), 1..120),
    ) {
        let terms = terms(limit);
        let mut budget = Budget::default();
        let mut now = 0;
        let mut under_way: Vec<(u64, SlotId)> = Vec::new();
        let mut counted = Vec::new();
        let mut waited = 0;
        for (gap, latency, share, event) in requests {
            now += gap / 8;
            let slot = loop {
                // What is answered by now is told first, in order.
                under_way.sort_unstable_by_key(|(answered, _)| *answered);
                let due = under_way.partition_point(|(answered, _)| *answered <= now);
                for (answered, slot) in under_way.drain(..due) {
                    budget.end(at(answered), slot, SlotEnd::Answered);
                }
                match budget.take(at(now), &terms) {
                    Ok(slot) => break slot,
                    Err(outlook) => {
                        let next_answer = under_way.iter().map(|(answered, _)| answered - now).min();
                        let wait = u64::try_from(outlook.wait_behind(0).as_millis()).unwrap();
                        let wait = next_answer.map_or(wait, |answer| answer.min(wait)).max(1);
                        prop_assert!(wait <= 91_000, "a slot is always to be had in the end");
                        now += wait;
                        waited += 1;
                    }
                }
            };
            let patience = u64::try_from(PATIENCE.as_millis()).unwrap();
            let latency = latency.min(patience);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            counted.push(now + (latency as f64 * share) as u64);
            // Some answers are never told: then the timeout counts.
            if event != 0 {
                under_way.push((now + latency, slot));
            }
            if event == 1 {
                // A crash: nothing that was under way is told, and what was sent has reached the provider by now.
                under_way.clear();
                for time in counted.iter_mut().filter(|time| **time > now) {
                    *time = now;
                }
                budget.restarted(at(now));
            }
        }
        counted.sort_unstable();
        let limit = usize::try_from(limit).unwrap();
        for window in counted.windows(limit + 1) {
            prop_assert!(window[limit] - window[0] >= 60_000, "{window:?} after {waited} waits");
        }
    }
}

#[test]
fn a_restored_budget_is_closed_for_a_minute_or_as_long_as_the_provider_said() {
    let told =
        |span| Budget { closed: Some(Closure { since: at(0), span: seconds(span) }), ..Budget::default() };
    for (mut budget, closed_for) in
        [(Budget::default(), HOLD), (told(30), HOLD), (told(600), seconds(600) - Duration::from_millis(1))]
    {
        budget.restored(at(1));
        let refused = budget.take(at(1), &terms(30)).unwrap_err();
        assert_eq!(refused.closed_for, Some(closed_for));
    }
    let mut budget = Budget::default();
    budget.take(at(0), &terms(1)).unwrap();
    budget.restored(in_boot(2, 5_000));
    budget.take(in_boot(2, 65_000), &terms(1)).unwrap_err();
    budget.take(in_boot(2, 65_001), &terms(1)).unwrap();
}
