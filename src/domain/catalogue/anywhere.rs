//! What the provider can say at every stage that has no nearer entry.

use super::{Becomes, Entry, Http, Says, Word};
use crate::domain::reason::Reason;

const fn anywhere(says: Says, reason: Reason, cause: &'static str, remedy: &'static str) -> Entry {
    Entry { stage: None, says, reason, becomes: Becomes::AsItWas, cause, remedy }
}

pub(super) const ENTRIES: &[Entry] = &[
    anywhere(
        Says::Answer(Http::Is(401), Word::Text("Missing API key")),
        Reason::MissingApiKey,
        "The provider saw no API key, or one in the wrong format.",
        "Check that the file behind api_key_file of this [[client]] (by default client_id_file) holds one line, cairl_live_… \
         or cairl_test_…, and that no proxy drops the Authorization header. Reload cairld (restart it where the key \
         is a credential from systemd), then repeat the call; the session is as it was.",
    ),
    anywhere(
        Says::Answer(Http::Is(401), Word::Text("Invalid or inactive API key")),
        Reason::InvalidApiKey,
        "The provider does not know the API key, or it was revoked.",
        "Compare the file behind api_key_file of this [[client]] (by default client_id_file) with the key in the provider's \
         dashboard; if it was revoked, make a new one there. Reload cairld (restart it where the key is a credential from \
         systemd), then repeat the call; the session is as it was.",
    ),
    anywhere(
        Says::Answer(Http::Is(401), Word::Any(Some("Unauthorized"))),
        Reason::Unauthorized,
        "The provider answered 401 without saying that the key is the cause.",
        "Check in the provider's dashboard that this client's credentials are active, and that no proxy changes the \
         Authorization header. Reload cairld (restart it where systemd hands it the credentials) if one changed, then \
         repeat the call; the session is as it was.",
    ),
    anywhere(
        Says::Answer(Http::Failed, Word::Any(None)),
        Reason::ProviderError,
        "The provider answered with a server error, as often as it was asked.",
        "Repeat the same call after the retry delay. If it stays, the provider is down: tell its support request_time and \
         provider_description.",
    ),
    anywhere(
        Says::Answer(Http::Is(429), Word::Any(None)),
        Reason::RateLimited,
        "The provider takes no more requests of this client for now.",
        "Repeat the same call after the retry delay. If it happens often, find out what else uses this client's \
         credentials, or ask the provider for a higher limit.",
    ),
    anywhere(
        Says::Answer(Http::Refused, Word::Any(None)),
        Reason::ProviderRefused,
        "The provider refused in a way that its documentation does not list.",
        "Look at http_status and provider_error: without a provider_error it may be a firewall or a proxy on the way. If it \
         stays, tell the provider's support request_time and what stands in provider_description.",
    ),
    anywhere(
        Says::Unusable,
        Reason::ProviderProtocol,
        "The provider's answer cannot be used: a redirect, not the JSON expected, or too long.",
        "Check base_url and endpoints of this [[client]] in cairld.toml, and what stands on the way (a proxy, a login page). \
         Reload cairld after a change, then repeat the call; the session is as it was.",
    ),
    anywhere(
        Says::NoAnswer,
        Reason::ProviderUnreachable,
        "No connection to the provider, or no answer in time.",
        "Repeat the same call after the retry delay. If it stays, check from the daemon's host: base_url and proxy of this \
         [[client]] in cairld.toml, DNS, the firewall, the CA certificates. The log of cairld names the cause.",
    ),
];
