//! The store of a daemon that does not run.

use std::{path::Path, time::Duration};

use cairld::{
    domain::{CallerName, ClientName, CodeVerifier, Moment, RunId, SessionId, StateSecret},
    store::{KeyRing, MasterKey, NewSession, PendingLimits, RedbStore, Settings, Store},
};
use futures_util::future::try_join_all;

/// Adds so many sessions of `checkout` to it, started at that time.
pub async fn fill(path: &Path, now: Moment, count: u64) -> RedbStore {
    let settings = Settings {
        path: path.to_owned(),
        cache_bytes: 8 << 20,
        retention: Duration::from_secs(86_400),
        keys: KeyRing::new(&MasterKey::new([1; 32]), &[]),
    };
    let store = RedbStore::open(settings, RunId::new([7; 16]), now).unwrap();
    let new = |number: u64| NewSession {
        id: SessionId::new(now.wall, [&[0; 2][..], &number.to_be_bytes()].concat().try_into().unwrap()),
        client: ClientName::parse("shop").unwrap(),
        caller: CallerName::parse("checkout").unwrap(),
        scopes: Vec::new(),
        redirect_uri: String::new(),
        reference: String::new(),
        test_mode: true,
        secret: StateSecret::new([0; 32]),
        verifier: CodeVerifier::from_random([0; 32]),
        binding: None,
        request_id: None,
        limits: PendingLimits::default(),
    };
    try_join_all((0..count).map(|number| store.start(now, new(number)))).await.unwrap();
    store
}
