//! What the provider's redirect back can say. Each ends the session: the user starts anew.

use super::{Becomes, Entry, Says, Word};
use crate::domain::reason::{Reason, Stage};

const fn ends(
    word: Word,
    reason: Reason,
    becomes: Becomes,
    cause: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { stage: Some(Stage::Redirect), says: Says::Redirect(word), reason, becomes, cause, remedy }
}

pub(super) const ENTRIES: &[Entry] = &[
    ends(
        Word::Code("access_denied"),
        Reason::AccessDenied,
        Becomes::Failed,
        "The user declined at the provider's consent screen.",
        "Nothing is broken. Offer the user another try: call StartAuthorization again and send the browser to the new \
         authorization_url.",
    ),
    ends(
        Word::Code("verification_failed"),
        Reason::VerificationFailed,
        Becomes::Failed,
        "The user abandoned the verification or did not pass it.",
        "Nothing is broken. Offer the user another try: call StartAuthorization again and send the browser to the new \
         authorization_url.",
    ),
    ends(
        Word::Code("session_expired"),
        Reason::SessionExpired,
        Becomes::Expired,
        "The provider ended the session: the user took longer than its thirty minutes.",
        "Call StartAuthorization again and send the browser to the new authorization_url. If it happens often, call it \
         when the user clicks, not when the page is made.",
    ),
    ends(
        Word::Code("invalid_redirect_uri"),
        Reason::InvalidRedirectUri,
        Becomes::Failed,
        "The provider does not have this redirect URI registered for the client id.",
        "Make the URL registered with the provider and redirect_uris of this [[client]] in cairld.toml the same, byte for \
         byte: scheme, host, path, trailing slash. Reload cairld if cairld.toml changed, then \
         call StartAuthorization again.",
    ),
    ends(
        Word::Code("invalid_request"),
        Reason::InvalidRequest,
        Becomes::Failed,
        "The provider found a parameter of the authorization URL missing or malformed.",
        "Check your code that redirects: the browser must get authorization_url as StartAuthorization returned it, with \
         nothing added, dropped or encoded again. If it does, check authorize_params of this [[client]] in cairld.toml and \
         reload cairld. Then call StartAuthorization again.",
    ),
    ends(
        Word::Unlisted,
        Reason::ProviderRefused,
        Becomes::Failed,
        "The provider's redirect carried an error that its documentation does not list.",
        "Call StartAuthorization again. If it comes back, ask the provider's support what provider_error means, with \
         request_time and provider_description; all three stand in this error's metadata.",
    ),
];
