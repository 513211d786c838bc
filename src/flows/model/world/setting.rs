//! Who and what there is in every history: callers, clients, their limits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use url::Url;

use super::super::{
    provider::Asked,
    reference::Reference,
    step::{CALLER_NAMES, CLIENT_NAMES},
};
use crate::{
    domain::{ApiKey, BudgetKind, BudgetTerms, CallerName, ClientName, SigningSecret, Viewer, WebhookSecret},
    flows::Client,
    provider::Provider,
};
pub(super) const RETENTION: Duration = Duration::from_secs(3600);
/// Requests in a minute, few so that they are spent.
pub(super) const TOKEN_LIMIT: usize = 4;
pub(super) const SESSION_LIMIT: usize = 3;
pub(super) const SECRET: &str = "whsec_of_the_model";

pub(super) fn caller(index: usize) -> CallerName {
    CallerName::parse(CALLER_NAMES[index]).unwrap()
}

pub(super) fn client(index: usize) -> ClientName {
    ClientName::parse(CLIENT_NAMES[index]).unwrap()
}

/// A caller: both clients are his, and the second one's sessions are everybody's.
pub(super) fn viewer(index: usize) -> Viewer {
    Viewer {
        caller: caller(index),
        clients: Arc::new(BTreeSet::from([client(0), client(1)])),
        shared: Arc::new(BTreeSet::from([client(1)])),
        sees_unlinked: false,
    }
}

/// Who may see everything.
pub(super) fn auditor() -> Viewer {
    let all = Arc::new(BTreeSet::from([client(0), client(1)]));
    let caller = CallerName::parse("auditor").unwrap();
    Viewer { caller, clients: Arc::clone(&all), shared: all, sees_unlinked: true }
}

/// The key of a client; both clients share the one that session queries are counted by.
pub(super) fn terms(index: usize, kind: BudgetKind) -> (BudgetTerms, usize) {
    let (credential, limit) = match kind {
        BudgetKind::Token => (CLIENT_NAMES[index], TOKEN_LIMIT),
        BudgetKind::Session => ("shared key", SESSION_LIMIT),
    };
    let (credential, patience) = (ApiKey::new(credential), Duration::from_secs(30));
    (BudgetTerms { kind, credential, limit: u32::try_from(limit).unwrap(), patience }, limit)
}

pub(super) fn budget(index: usize, asked: &Asked) -> Option<(String, usize)> {
    let kind = match asked {
        Asked::Exchange { .. } => BudgetKind::Token,
        Asked::Session { .. } => BudgetKind::Session,
        Asked::Userinfo { .. } | Asked::Revoke { .. } => return None,
    };
    let (terms, limit) = terms(index, kind);
    Some((Reference::budget_of(kind, terms.credential.expose()), limit))
}

pub(super) fn configured(index: usize, provider: Arc<dyn Provider>) -> Client {
    let base = Url::parse("https://provider.example").unwrap();
    Client {
        name: client(index),
        base_url: base.clone(),
        authorize: base,
        authorize_params: BTreeMap::new(),
        client_id: ApiKey::new("key"),
        redirect_uris: vec!["https://shop.example/cb".to_owned()],
        require_binding: false,
        test_mode: true,
        issuer: None,
        callers: [caller(0), caller(1)].into(),
        webhook_secrets: vec![SigningSecret { secret: WebhookSecret::new(SECRET), until: None }],
        token_budget: terms(index, BudgetKind::Token).0,
        session_budget: terms(index, BudgetKind::Session).0,
        provider,
    }
}

pub(super) fn signed(body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(body);
    format!("sha256={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()))
}
