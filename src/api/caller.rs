//! A caller: how it is recognised, and what it may do.

use std::{collections::BTreeSet, fmt};

use rustls::pki_types::DnsName;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use webpki::EndEntityCert;

use crate::domain::Viewer;

/// SHA-256 of a bearer token: what is kept of it. A token has 32 random characters at least, so its hash cannot be
/// searched for.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether both are hashes of one token, in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A name that a certificate gives its holder (RFC 5280 §4.2.1.6, subject alternative names): a DNS name, or a URI such as
/// a SPIFFE id. Compared as a whole; `*` stands for nothing but itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct San(String);

impl San {
    /// Reads a name of a configuration. DNS names are the same in any case of letters.
    ///
    /// # Errors
    /// Says what it must be.
    pub fn parse(text: &str) -> Result<Self, String> {
        const MUST_BE: &str = "a DNS name or a URI out of a certificate's subject alternative names, such as \
                               \"checkout.internal\" or \"spiffe://shop.example/checkout\"";
        if text.contains("://") {
            let is_plain = text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic());
            return if is_plain { Ok(Self(text.to_owned())) } else { Err(MUST_BE.to_owned()) };
        }
        let name = DnsName::try_from(text).map_err(|_| MUST_BE.to_owned())?;
        Ok(Self(name.as_ref().to_ascii_lowercase()))
    }

    /// Whether a certificate that was verified gives its holder this name.
    fn is_in(&self, certificate: &EndEntityCert<'_>) -> bool {
        if self.0.contains("://") {
            certificate.valid_uri_names().any(|name| name == self.0)
        } else {
            certificate.valid_dns_names().any(|name| name.eq_ignore_ascii_case(&self.0))
        }
    }
}

/// How much a caller may have at a time. What is beyond is refused with `OVERLOADED`, so that one caller's crowd keeps out
/// nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// Calls that are not answered yet, without streams; 1024 by default.
    pub concurrent_calls: u32,
    /// Open streams; 4096 by default.
    pub streams: u32,
    /// Sessions that are neither completed nor ended; by default a tenth of what all callers may have together.
    pub pending_sessions: Option<u32>,
}

impl Default for CallerLimits {
    fn default() -> Self {
        Self { concurrent_calls: 1024, streams: 4096, pending_sessions: None }
    }
}

/// Which calls a caller may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rpcs {
    /// All but those that have a switch of their own.
    All,
    /// Those of these names.
    Named(BTreeSet<String>),
}

impl Rpcs {
    fn contains(&self, method: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(method),
        }
    }
}

/// A configured caller (`[[caller]]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Who it is, and which clients it may use.
    pub viewer: Viewer,
    /// Recognised by this user id on the Unix socket.
    pub uid: Option<u32>,
    /// Recognised by this group id on the Unix socket: the process's own group, not its supplementary ones.
    pub gid: Option<u32>,
    /// Recognised by the bearer token of this hash.
    pub token: Option<TokenHash>,
    /// Recognised by this name in its certificate.
    pub san: Option<San>,
    /// Which calls it may make.
    pub rpcs: Rpcs,
    /// Whether it may have access tokens handed out.
    pub access_token: bool,
    /// Whether it may call `AdminService`.
    pub admin: bool,
    /// How much it may have at a time.
    pub limits: CallerLimits,
}

impl Caller {
    /// Whether it may make a call of the contract.
    pub fn may(&self, service: &str, method: &str) -> bool {
        let has_switch = match (service, method) {
            ("cairld.v1.AdminService", _) => self.admin,
            (_, "GetAccessToken") => self.access_token,
            _ => true,
        };
        has_switch && self.rpcs.contains(method)
    }

    /// Whether a peer on a Unix socket is this caller: all ids that are configured fit, and at least one is.
    pub(super) fn is_peer(&self, uid: u32, gid: u32) -> bool {
        (self.uid.is_some() || self.gid.is_some())
            && self.uid.is_none_or(|own| own == uid)
            && self.gid.is_none_or(|own| own == gid)
    }

    /// Whether one without a token may fit both, so that their order decides who he is.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        let has_ids = |caller: &Self| caller.uid.is_some() || caller.gid.is_some();
        let fits = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        let by_ids =
            has_ids(self) && has_ids(other) && fits(self.uid, other.uid) && fits(self.gid, other.gid);
        // A certificate may have any number of names.
        by_ids || (self.san.is_some() && other.san.is_some())
    }

    /// Whether both are recognised by the same ids and name.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.uid, self.gid, &self.san) == (other.uid, other.gid, &other.san)
    }

    /// Whether the holder of a certificate that was verified is this caller.
    pub(super) fn holds(&self, certificate: &EndEntityCert<'_>) -> bool {
        self.san.as_ref().is_some_and(|san| san.is_in(certificate))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::CallerName;

    /// A caller that nothing recognises yet, and that may have all that has no switch of its own.
    pub(in crate::api) fn caller(name: &str) -> Caller {
        let viewer = Viewer {
            caller: CallerName::parse(name).unwrap(),
            clients: Default::default(),
            shared: Default::default(),
            sees_unlinked: false,
        };
        Caller {
            viewer,
            uid: None,
            gid: None,
            token: None,
            san: None,
            rpcs: Rpcs::All,
            access_token: false,
            admin: false,
            limits: CallerLimits::default(),
        }
    }

    #[test]
    fn switches_stand_above_names() {
        let plain = caller("plain");
        assert!(plain.may("cairld.v1.IntegrationService", "GetSession"));
        assert!(!plain.may("cairld.v1.IntegrationService", "GetAccessToken"));
        assert!(!plain.may("cairld.v1.AdminService", "GetStatus"));
        let few = Caller { rpcs: Rpcs::Named(["GetSession".to_owned()].into()), admin: true, ..plain };
        assert!(few.may("cairld.v1.IntegrationService", "GetSession"));
        assert!(!few.may("cairld.v1.IntegrationService", "StartAuthorization"));
        assert!(!few.may("cairld.v1.AdminService", "GetStatus"), "both are needed");
    }
}
