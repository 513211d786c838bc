//! The callers in force, and which of them somebody is. A reload replaces them all at once.

use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, header::AUTHORIZATION};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use webpki::EndEntityCert;

use super::caller::{Caller, TokenHash};

/// Where a call comes from, as far as the kernel and TLS vouch for it.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// The Unix socket, with the ids of the process at its other end.
    Unix { uid: u32, gid: u32 },
    /// A network connection, with the certificates that its other end has shown over TLS: first its own, which it holds the
    /// key of, behind it those that say who issued it.
    Network { shown: Option<Arc<Vec<CertificateDer<'static>>>> },
}

/// A caller in force, and what it has at present.
#[derive(Debug)]
pub(super) struct Known {
    /// What is configured of it.
    pub(super) caller: Caller,
    /// Its calls: a permit for each that it may have in flight.
    pub(super) calls: Arc<Semaphore>,
    /// Its streams: a permit for each that it may have open.
    pub(super) streams: Arc<Semaphore>,
    /// Cancelled when a reload has changed it, or sent it away.
    pub(super) changed: CancellationToken,
}

impl Known {
    fn new(caller: Caller) -> Self {
        let permits = |limit: u32| Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(usize::MAX)));
        let (calls, streams) = (permits(caller.limits.concurrent_calls), permits(caller.limits.streams));
        Self { caller, calls, streams, changed: CancellationToken::new() }
    }
}

/// All callers in force.
#[derive(Clone, Debug, Default)]
pub struct Callers(Arc<RwLock<Vec<Arc<Known>>>>);

impl Callers {
    /// The callers of a configuration.
    pub fn new(callers: Vec<Caller>) -> Self {
        let callers = callers.into_iter().map(|caller| Arc::new(Known::new(caller))).collect();
        Self(Arc::new(RwLock::new(callers)))
    }

    /// From here on these are the callers. One that stays as it was keeps what it has; of the others the streams end, so that
    /// nobody goes on with what he may not have any more. So they do where one that some of its peers fit as well comes ahead
    /// of it, and they are that one from here on.
    pub fn replace(&self, callers: Vec<Caller>) {
        let mut in_force = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = |(place, caller): (usize, &Caller)| {
            let before = in_force.iter().position(|known| known.caller == *caller);
            let stays = before.filter(|before| {
                let mut rivals = callers.iter().take(place).filter(|ahead| ahead.shares_with(caller));
                rivals.all(|rival| in_force.iter().take(*before).any(|known| known.caller.is_like(rival)))
            });
            let stays = stays.and_then(|before| in_force.get(before));
            stays.map_or_else(|| Arc::new(Known::new(caller.clone())), Arc::clone)
        };
        let callers: Vec<_> = callers.iter().enumerate().map(known).collect();
        for before in in_force.iter().filter(|before| !callers.iter().any(|after| Arc::ptr_eq(before, after)))
        {
            before.changed.cancel();
        }
        *in_force = callers;
    }

    /// Who it is. A bearer token, where one is sent, decides; else the ids of a Unix peer do, or the names in a certificate,
    /// by the first caller in the configuration that they fit.
    pub(super) fn recognise(&self, peer: &Peer, headers: &HeaderMap) -> Option<Arc<Known>> {
        let callers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let first = |is_meant: &dyn Fn(&Caller) -> bool| {
            callers.iter().find(|known| is_meant(&known.caller)).cloned()
        };
        let mut credentials = headers.get_all(AUTHORIZATION).iter();
        match (credentials.next(), credentials.next(), peer) {
            (Some(header), None, _) => {
                let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| by_token(&callers, token))?
            }
            (None, _, Peer::Unix { uid, gid }) => first(&|caller| caller.is_peer(*uid, *gid)),
            (None, _, Peer::Network { shown }) => {
                let own = EndEntityCert::try_from(shown.as_ref()?.first()?).ok()?;
                first(&|caller| caller.holds(&own))
            }
            (Some(_), Some(_), _) => None,
        }
    }
}

fn by_token(callers: &[Arc<Known>], token: &str) -> Option<Arc<Known>> {
    let presented = TokenHash::of(token.trim());
    // All are compared, so that the time taken says nothing about which one fits.
    callers.iter().fold(None, |found, known| {
        let fits = known.caller.token.as_ref().is_some_and(|token| token.matches(&presented));
        if fits { Some(Arc::clone(known)) } else { found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::caller::{tests::caller, *};

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
        callers().recognise(&peer, &headers).map(|known| known.caller.viewer.caller.to_string())
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
    fn who_is_another_caller_from_here_on_has_no_more_of_the_one_before() {
        let user = Caller { uid: Some(7), ..caller("user") };
        let group = Caller { gid: Some(50), ..caller("group") };
        let elsewhere = Caller { uid: Some(8), gid: Some(51), ..caller("elsewhere") };
        let token = Caller { token: Some(TokenHash::of("t0ken")), ..caller("token") };
        let renamed = Caller { uid: Some(7), ..caller("renamed") };
        let all = [&user, &group, &token];
        let stay = |after: &[&Caller]| {
            let callers = Callers::new(all.into_iter().cloned().collect());
            let before = callers.0.read().unwrap().clone();
            callers.replace(after.iter().map(|caller| (*caller).clone()).collect());
            before.iter().map(|known| !known.changed.is_cancelled()).collect::<Vec<_>>()
        };
        assert_eq!(stay(&all), [true, true, true]);
        assert_eq!(
            stay(&[&elsewhere, &token, &user, &group]),
            [true, true, true],
            "none of them is that one"
        );
        assert_eq!(
            stay(&[&group, &user, &token]),
            [false, true, true],
            "who is in the group is the group now"
        );
        assert_eq!(stay(&[&renamed, &group, &token]), [false, true, true], "who is ahead is like before");
        assert_eq!(stay(&[&group, &token]), [false, true, true]);
    }

    #[test]
    fn a_token_decides_wherever_it_comes_from() {
        for peer in [Peer::Network { shown: None }, Peer::Unix { uid: 7, gid: 50 }] {
            assert_eq!(recognised(peer.clone(), &["Bearer t0ken"]).as_deref(), Some("token"));
            assert_eq!(recognised(peer.clone(), &["bearer t0ken"]).as_deref(), Some("token"));
            for wrong in ["Bearer other", "Basic t0ken", "t0ken", "Bearer", "Bearer ", ""] {
                assert_eq!(recognised(peer.clone(), &[wrong]), None, "{wrong:?}");
            }
            assert_eq!(recognised(peer.clone(), &["Bearer t0ken", "Bearer t0ken"]), None, "sent twice");
        }
        assert_eq!(recognised(Peer::Network { shown: None }, &[]), None);
    }
}
