//! When to ask the provider again: after answers of 5xx and connections that were never made, and after nothing else.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::flight::Passengers;
use crate::domain::Reason;

/// Pause before the second attempt; the third waits twice as long. The provider's page suggests just this.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Attempts of one call beside the first.
const RETRIES: usize = 2;

/// The retries that one call has for one request.
pub(super) struct Retries {
    pauses: ExponentialBackoff,
    passengers: Passengers,
    stopping: CancellationToken,
    attempt: u32,
}

impl Retries {
    /// Retries for as long as somebody waits and the daemon does not stop.
    pub(super) fn new(passengers: &Passengers, stopping: &CancellationToken) -> Self {
        Self { pauses: pauses(), passengers: passengers.clone(), stopping: stopping.clone(), attempt: 1 }
    }

    /// Which attempt of the call it is, counted from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// After an attempt that ended so: pauses, and answers whether to make another.
    pub(super) async fn again(&mut self, reason: Reason) -> bool {
        let Some(pause) = self.pauses.next().filter(|_| may_repeat(reason)) else { return false };
        let paused = self.stopping.run_until_cancelled(time::sleep(pause)).await;
        self.attempt += 1;
        paused.is_some() && self.passengers.are_waiting()
    }
}

/// The pauses between the attempts of one call, each with up to its own length of jitter on top, so that many callers
/// that met one outage do not come back together.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_factor(2.0)
        .with_max_times(RETRIES)
        .with_jitter()
        .build()
}

/// Pauses of what is tried until it succeeds: each twice as long as the one before, up to the longest, and with up to its own
/// length of jitter on top.
pub(super) fn doubling(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Whether a request that ended so may be sent again. A 4xx never, a lost answer never.
fn may_repeat(reason: Reason) -> bool {
    matches!(reason, Reason::ProviderError | Reason::ProviderUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pauses_of_a_second_and_of_two_each_with_jitter() {
        for _ in 0..100 {
            let pauses: Vec<_> = pauses().collect();
            assert_eq!(pauses.len(), 2);
            for (pause, least) in pauses.into_iter().zip([1, 2]) {
                let least = Duration::from_secs(least);
                assert!((least..=least * 2).contains(&pause), "{pause:?}");
            }
        }
    }
}
