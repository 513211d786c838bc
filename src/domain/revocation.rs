//! A token that is to be revoked at the provider (RFC 7009), and how that ends.

use std::{fmt, time::Duration};

use super::{id::SessionId, name::ClientName, refusal::Refusal, secret::AccessToken, time::Moment};

/// What a session leaves to be done when it gives its token up.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The session whose token it was. A session has one token in its life, so this names the revocation too.
    pub session: SessionId,
    /// The client that the token was issued to.
    pub client: ClientName,
    /// The token.
    pub token: AccessToken,
    /// When it was received.
    pub since: Moment,
    /// How long it lives from then.
    pub life: Duration,
}

impl Revocation {
    /// What is left of the token's life: nothing once it has run out. Where a wrong clock hides its age it counts as
    /// just received, since asking in vain does no harm.
    pub fn left(&self, now: Moment) -> Duration {
        self.since.age(now).map_or(self.life, |age| self.life.saturating_sub(age))
    }
}

/// How a revocation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationEnd {
    /// The provider revoked the token, or never knew it.
    Revoked,
    /// The provider refused for good: the token lives until it runs out.
    Refused {
        /// Its HTTP status.
        http_status: u16,
    },
    /// The token ran out first.
    RanOut,
}

impl RevocationEnd {
    /// What the provider's answer to a revocation request comes to. A 4xx but 429 would be the same the next time.
    ///
    /// # Errors
    /// The refusal, where the provider is to be asked again: 429, 5xx, a redirect, no answer.
    pub fn of(answer: Result<(), Refusal>) -> Result<Self, Refusal> {
        let Err(refusal) = answer else { return Ok(Self::Revoked) };
        match refusal.said.as_ref().map_or(0, |said| said.http_status) {
            http_status @ 400..=499 if http_status != 429 => Ok(Self::Refused { http_status }),
            _ => Err(refusal),
        }
    }
}

impl fmt::Display for RevocationEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => f.write_str("revoked"),
            Self::Refused { http_status } => write!(f, "refused with {http_status}"),
            Self::RanOut => f.write_str("ran out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BootTime, ProviderSaid, Reason, Stage, Timestamp};

    #[test]
    fn what_is_left_shrinks_to_nothing_and_no_clock_shortens_it_unduly() {
        let at = |wall, boot, millis| Moment {
            wall: Timestamp::from_millis(wall),
            boot: BootTime { boot, millis },
        };
        let revocation = Revocation {
            session: SessionId::from_bytes([1; 16]),
            client: ClientName::parse("shop").unwrap(),
            token: AccessToken::new("token"),
            since: at(1_000_000, 1, 0),
            life: Duration::from_secs(600),
        };
        assert_eq!(revocation.left(at(0, 1, 599_999)), Duration::from_millis(1));
        assert_eq!(revocation.left(at(0, 1, 600_000)), Duration::ZERO);
        assert_eq!(revocation.left(at(1_300_000, 2, 0)), Duration::from_secs(300), "across boots");
        assert_eq!(revocation.left(at(0, 2, 0)), Duration::from_secs(600), "of an age that nobody knows");
    }

    #[test]
    fn which_answers_end_a_revocation() {
        let refused = |http_status| {
            let said = ProviderSaid { http_status, ..ProviderSaid::default() };
            Err(Refusal::at(Stage::Revoke, Reason::ProviderRefused).said(said))
        };
        assert_eq!(RevocationEnd::of(Ok(())), Ok(RevocationEnd::Revoked));
        for http_status in [400, 401, 403, 404, 408, 418, 499] {
            let end = RevocationEnd::of(refused(http_status));
            assert_eq!(end, Ok(RevocationEnd::Refused { http_status }));
        }
        for http_status in [0, 302, 429, 500, 503, 599] {
            assert!(RevocationEnd::of(refused(http_status)).is_err(), "{http_status}");
        }
        let unreachable = Err(Refusal::at(Stage::Revoke, Reason::ProviderUnreachable));
        assert!(RevocationEnd::of(unreachable).is_err());
    }
}
