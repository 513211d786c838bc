//! Names and ids that others choose, parsed into what cannot be wrong.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Most characters a client's or caller's name may have.
const MAX_NAME: usize = 64;
/// Most bytes one scope-token may have.
const MAX_SCOPE: usize = 128;

/// Why a text is not the name it should be; its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(&'static str);

/// Declares a cheap-to-clone text with a rule.
macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $rule:ident, $must_be:literal) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text if it keeps the rule.
            ///
            /// # Errors
            /// [`NameError`] says what it must be.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if $rule(text) { Ok(Self(text.into())) } else { Err(NameError($must_be)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// Name of a configured client of the provider (`[[client]] name`).
    ClientName, is_name, "1 to 64 characters out of a-z, 0-9, - and _, beginning with a letter or digit"
}
name! {
    /// Name of a configured caller of the daemon (`[[caller]] name`).
    CallerName, is_name, "1 to 64 characters out of a-z, 0-9, - and _, beginning with a letter or digit"
}
name! {
    /// What a caller calls one of its consumers of events.
    ConsumerName, is_consumer, "1 to 64 characters out of A-Z, a-z, 0-9, dot, - and _"
}
name! {
    /// A scope-token (RFC 6749 §3.3). Any is accepted: new claims appear without notice.
    Scope, is_scope, "a scope-token (RFC 6749 §3.3): 1 to 128 bytes of printable ASCII without space, \" and \\"
}
name! {
    /// The provider's id of its session. It comes through a browser, so only this form is taken.
    ProviderSessionId, is_provider_session, "hvf_ and 1 to 128 characters out of A-Z, a-z, 0-9, _ and -"
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    text.len() <= MAX_NAME
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
}

fn is_consumer(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_scope(text: &str) -> bool {
    (1..=MAX_SCOPE).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

fn is_provider_session(text: &str) -> bool {
    text.strip_prefix("hvf_").is_some_and(|rest| {
        (1..=128).contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["shop", "a", "0-1_x", &"a".repeat(64)] {
            assert!(ClientName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "Shop", "a b", "a/b", "ä", "a\0", &"a".repeat(65)] {
            assert!(CallerName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn consumers_have_names_of_services() {
        assert!(ConsumerName::parse("Billing.v2_eu-1").is_ok());
        for bad in ["", "a b", "a/b", "a\0", "ä", &"a".repeat(65)] {
            assert!(ConsumerName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scopes_are_scope_tokens() {
        for good in ["age_18_plus", "age.over_18.v1.strict", "!", "~", &"x".repeat(128)] {
            assert!(Scope::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"", "a\\", "a\u{7f}", "é", "a\0", "a\n", &"x".repeat(129)] {
            assert!(Scope::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn provider_sessions_have_their_form() {
        assert!(ProviderSessionId::parse("hvf_Ab-1_").is_ok());
        for bad in [
            "",
            "hvf_",
            "hvf_a/b",
            "hvf_a%2f",
            "HVF_a",
            "hvf_..",
            "ses_a",
            &format!("hvf_{}", "a".repeat(129)),
        ] {
            assert!(ProviderSessionId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
