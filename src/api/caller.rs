//! Who calls: recognition of the daemon's callers, and what each may do.

use std::{collections::BTreeSet, fmt, sync::Arc};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

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

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
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
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who it is, and which clients it may use.
    pub viewer: Viewer,
    /// Recognised by this user id on the Unix socket.
    pub uid: Option<u32>,
    /// Recognised by this group id on the Unix socket: the process's own group, not its supplementary ones.
    pub gid: Option<u32>,
    /// Recognised by the bearer token of this hash.
    pub token: Option<TokenHash>,
    /// Which calls it may make.
    pub rpcs: Rpcs,
    /// Whether it may have access tokens handed out.
    pub access_token: bool,
    /// Whether it may call `AdminService`.
    pub admin: bool,
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
    fn is_peer(&self, uid: u32, gid: u32) -> bool {
        (self.uid.is_some() || self.gid.is_some())
            && self.uid.is_none_or(|own| own == uid)
            && self.gid.is_none_or(|own| own == gid)
    }
}

/// Where a call comes from, as far as the kernel vouches for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// The Unix socket, with the ids of the process at its other end.
    Unix { uid: u32, gid: u32 },
    /// A network connection.
    Network,
}

/// All configured callers.
#[derive(Clone, Debug, Default)]
pub struct Callers(Vec<Arc<Caller>>);

impl Callers {
    /// The callers of a configuration.
    pub fn new(callers: Vec<Caller>) -> Self {
        Self(callers.into_iter().map(Arc::new).collect())
    }

    /// Who it is. A bearer token, where one is sent, decides; else the ids of a Unix peer do, by the first caller in the
    /// configuration that they fit.
    pub(super) fn recognise(&self, peer: Peer, headers: &HeaderMap) -> Option<Arc<Caller>> {
        let mut credentials = headers.get_all(AUTHORIZATION).iter();
        match (credentials.next(), credentials.next(), peer) {
            (Some(header), None, _) => {
                let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| self.by_token(token))?
            }
            (None, _, Peer::Unix { uid, gid }) => {
                self.0.iter().find(|caller| caller.is_peer(uid, gid)).cloned()
            }
            (Some(_), Some(_), _) | (None, _, Peer::Network) => None,
        }
    }

    fn by_token(&self, token: &str) -> Option<Arc<Caller>> {
        let presented = TokenHash::of(token.trim());
        // All are compared, so that the time taken says nothing about which one fits.
        self.0.iter().fold(None, |found, caller| {
            let fits = caller.token.as_ref().is_some_and(|token| token.matches(&presented));
            if fits { Some(Arc::clone(caller)) } else { found }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CallerName;

    fn caller(name: &str) -> Caller {
        let viewer = Viewer {
            caller: CallerName::parse(name).unwrap(),
            clients: Arc::default(),
            shared: Arc::default(),
            sees_unlinked: false,
        };
        Caller {
            viewer,
            uid: None,
            gid: None,
            token: None,
            rpcs: Rpcs::All,
            access_token: false,
            admin: false,
        }
    }

    fn callers() -> Callers {
        Callers::new(vec![
            Caller { uid: Some(7), gid: Some(50), ..caller("both") },
            Caller { uid: Some(7), ..caller("user") },
            Caller { gid: Some(50), ..caller("group") },
            Caller { token: Some(TokenHash::of("t0ken")), ..caller("token") },
        ])
    }

    fn recognised(peer: Peer, credentials: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for credential in credentials {
            headers.append(AUTHORIZATION, credential.parse().unwrap());
        }
        callers().recognise(peer, &headers).map(|caller| caller.viewer.caller.to_string())
    }

    #[test]
    fn a_unix_peer_is_the_first_caller_that_its_ids_fit() {
        let unix = |uid, gid| recognised(Peer::Unix { uid, gid }, &[]);
        assert_eq!(unix(7, 50).as_deref(), Some("both"));
        assert_eq!(unix(7, 1).as_deref(), Some("user"));
        assert_eq!(unix(1, 50).as_deref(), Some("group"));
        assert_eq!(unix(1, 1), None);
        assert_eq!(unix(0, 0), None, "root is nobody special");
    }

    #[test]
    fn a_token_decides_wherever_it_comes_from() {
        for peer in [Peer::Network, Peer::Unix { uid: 7, gid: 50 }] {
            assert_eq!(recognised(peer, &["Bearer t0ken"]).as_deref(), Some("token"));
            assert_eq!(recognised(peer, &["bearer t0ken"]).as_deref(), Some("token"));
            for wrong in ["Bearer other", "Basic t0ken", "t0ken", "Bearer", "Bearer ", ""] {
                assert_eq!(recognised(peer, &[wrong]), None, "{wrong:?}");
            }
            assert_eq!(recognised(peer, &["Bearer t0ken", "Bearer t0ken"]), None, "sent twice");
        }
        assert_eq!(recognised(Peer::Network, &[]), None);
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
