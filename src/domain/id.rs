//! The daemon's own ids, and the `state` that carries one.

use std::fmt;

use data_encoding::{BASE32_DNSSEC, BASE64URL_NOPAD};

use super::{secret::StateSecret, time::Timestamp};

/// A text is not an id of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdError(&'static str);

/// Declares an id of 48 bits of milliseconds and 80 random bits: ids sort by time, as bytes and as text (the order of
/// UUIDv7).
macro_rules! time_ordered_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// An id of the given time and randomness.
            pub fn new(time: Timestamp, random: [u8; 10]) -> Self {
                Self(time_ordered(time, random))
            }

            /// An id as it was stored.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), BASE32_DNSSEC.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

time_ordered_id! {
    /// A session's id, `ses_…`; its bytes are the session's key in the store.
    SessionId, "ses"
}
time_ordered_id! {
    /// Id of a kept event, `evt_…`; ids sort by the time of receipt.
    EventId, "evt"
}

impl SessionId {
    /// The id's time.
    pub fn time(&self) -> Timestamp {
        let mut millis = [0; 8];
        for (to, from) in millis.iter_mut().skip(2).zip(self.0) {
            *to = from;
        }
        Timestamp::from_millis(u64::from_be_bytes(millis))
    }

    /// Parses `ses_…`.
    ///
    /// # Errors
    /// [`IdError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("ses_")
            .and_then(decode_id)
            .map(Self)
            .ok_or(IdError("a session id: ses_ and 26 characters, as StartAuthorization returned it"))
    }
}

/// One run of the daemon, from start to end. A token request that an ended run sent has an unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId([u8; 16]);

impl RunId {
    /// A run's id, random.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// What the browser carries to the provider and back: the first part finds the session, the second is the secret
/// (RFC 6749 §10.12).
#[derive(Clone, Debug)]
pub struct State {
    /// Which session it belongs to. Known to the browser, grants nothing.
    pub session: SessionId,
    /// The secret half.
    pub secret: StateSecret,
}

impl State {
    /// The 64 characters that stand in the URL: base64url of both halves. A secret: never log them.
    pub fn expose(&self) -> String {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(self.session.as_bytes());
        bytes.extend_from_slice(self.secret.expose());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Reads a state back.
    ///
    /// # Errors
    /// [`IdError`] for what was never issued here, by its form alone.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        const MALFORMED: IdError = IdError("the 64 characters of a state that StartAuthorization returned");
        let mut bytes = [0; 48];
        let length = BASE64URL_NOPAD.decode_len(text.len()).map_err(|_| MALFORMED)?;
        if length != bytes.len() {
            return Err(MALFORMED);
        }
        BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).map_err(|_| MALFORMED)?;
        let (id, secret) = bytes.split_first_chunk::<16>().ok_or(MALFORMED)?;
        let secret = <[u8; 32]>::try_from(secret).map_err(|_| MALFORMED)?;
        Ok(Self { session: SessionId(*id), secret: StateSecret::new(secret) })
    }
}

fn time_ordered(time: Timestamp, random: [u8; 10]) -> [u8; 16] {
    let mut id = [0; 16];
    let millis = time.as_millis().to_be_bytes();
    for (to, from) in id.iter_mut().zip(millis.into_iter().skip(2).chain(random)) {
        *to = from;
    }
    id
}

fn decode_id(text: &str) -> Option<[u8; 16]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    BASE32_DNSSEC.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_survive_text_and_sort_by_time(a in 0u64..1 << 48, b in 0u64..1 << 48, random: [u8; 10]) {
            let (first, second) =
                (SessionId::new(Timestamp::from_millis(a), random), SessionId::new(Timestamp::from_millis(b), random));
            prop_assert_eq!(SessionId::parse(&first.to_string()), Ok(first));
            prop_assert_eq!(first.time().as_millis(), a);
            prop_assert_eq!(a.cmp(&b), first.cmp(&second));
            prop_assert_eq!(a.cmp(&b), first.to_string().cmp(&second.to_string()));
        }

        #[test]
        fn states_survive_text(id: [u8; 16], secret: [u8; 32]) {
            let state = State { session: SessionId(id), secret: StateSecret::new(secret) };
            let text = state.expose();
            prop_assert_eq!(text.len(), 64);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            let read = State::parse(&text).unwrap();
            prop_assert_eq!(read.session, state.session);
            prop_assert_eq!(read.secret.expose(), &secret);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,80}") {
            let _ = (State::parse(&text), SessionId::parse(&text));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        let good = SessionId::new(Timestamp::from_millis(1), [7; 10]).to_string();
        for bad in
            ["", "ses_", &good[4..], &good[..good.len() - 1], &format!("{good}0"), &good.to_uppercase()]
        {
            assert!(SessionId::parse(bad).is_err(), "{bad:?}");
        }
        let state = State { session: SessionId([1; 16]), secret: StateSecret::new([2; 32]) }.expose();
        for bad in
            ["", "a", &state[..63], &format!("{state}A"), &format!("{state}="), &state.replace('A', "+")]
        {
            assert!(State::parse(bad).is_err(), "{bad:?}");
        }
    }
}
