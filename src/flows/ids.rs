//! Fresh ids and randomness.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::{Reason, Refusal, SessionId, Timestamp};

/// Makes session ids whose times never go back, not behind the store's newest and not when the clock is set back: the
/// store's order of keys is the order of expiry.
#[derive(Debug)]
pub(super) struct IdSource(AtomicU64);

impl IdSource {
    pub(super) fn after(newest: Timestamp) -> Self {
        Self(AtomicU64::new(newest.as_millis()))
    }

    /// While the clock stands behind the newest id, each id takes the next millisecond, so that their order stays that of
    /// their making.
    pub(super) fn next(&self, now: Timestamp) -> Result<SessionId, Refusal> {
        let now = now.as_millis();
        let after = |before: u64| if now >= before { now } else { before.saturating_add(1) };
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(after(before)));
        let time = after(before.unwrap_or_else(|before| before));
        Ok(SessionId::new(Timestamp::from_millis(time), random()?))
    }
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let reason = Reason::Internal;
        tracing::error!(%reason, %error, "the operating system gives no randomness");
        Refusal::new(reason)
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_go_back() {
        let source = IdSource::after(Timestamp::from_millis(1000));
        let times: Vec<_> = [500, 1500, 1400, 2000]
            .map(|now| source.next(Timestamp::from_millis(now)).unwrap().time().as_millis())
            .into();
        assert_eq!(times, [1001, 1500, 1501, 2000]);
    }
}
