//! Secrets as types: none can be printed or serialised, none is compared byte by byte with an early end, all are wiped
//! when dropped.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Declares a secret text: made of a `String`, read by `expose`, shown by nothing.
macro_rules! secret_text {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name(String);

        impl $name {
            /// Takes the text into keeping.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text itself. Never log it.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([secret])"))
            }
        }

        /// In constant time for texts of one length.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
            }
        }
    };
}

secret_text! {
    /// The authorization code of a callback (RFC 6749 §4.1.2). Only its keyed hash is stored.
    AuthorizationCode
}
secret_text! {
    /// A PKCE code verifier (RFC 7636 §4.1).
    CodeVerifier
}
secret_text! {
    /// A bearer access token (RFC 6750), opaque.
    AccessToken
}
secret_text! {
    /// The caller's value that ties a flow to a browser session. Only its keyed hash is stored.
    Binding
}

secret_text! {
    /// The provider's client secret (RFC 6749 §2.3.1).
    ClientSecret
}
secret_text! {
    /// A key of the provider's API; as `client_id` it also stands in authorization URLs.
    ApiKey
}
secret_text! {
    /// The secret that a client's webhooks are signed with.
    WebhookSecret
}

/// The secret half of a `state`: 256 bits from the operating system. Only its keyed hash is stored.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StateSecret([u8; 32]);

impl StateSecret {
    /// Takes random bytes into keeping.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes themselves. Never log them.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StateSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateSecret([secret])")
    }
}

/// HMAC-SHA256 of a secret under the store's index key: what is kept instead of it.
///
/// There is no `==`: [`KeyedHash::matches`] takes the same time wherever two hashes differ.
#[derive(Clone, Copy)]
pub struct KeyedHash([u8; 32]);

impl KeyedHash {
    /// A hash computed elsewhere.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash's bytes: safe to store, useless without the index key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are the same, in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_a_secret() {
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            AuthorizationCode::new("canary"),
            CodeVerifier::new("canary"),
            AccessToken::new("canary"),
            Binding::new("canary"),
            StateSecret::new(*b"canarycanarycanarycanarycanaryca"),
            KeyedHash::new([0x63; 32]),
        );
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!shown.contains("99"), "no bytes either: {shown}");
    }

    #[test]
    fn hashes_match_only_when_equal() {
        let hash = KeyedHash::new([1; 32]);
        let mut other = [1; 32];
        assert!(hash.matches(&KeyedHash::new(other)));
        other[31] = 0;
        assert!(!hash.matches(&KeyedHash::new(other)));
    }
}
