//! From the contract's messages to what cannot be wrong. Everything that is wrong with a request is said at once.

use std::collections::BTreeSet;

use super::proto;
use crate::domain::{
    Binding, Callback, CallbackParameters, ConsumerName, MAX_WEBHOOK_BYTES, ProviderSessionId, Reason,
    Refusal, Scope, SessionId, State, Violation, parse_callback_url, parse_parameters,
};
use crate::store::Lookup;

/// Longest client name, characters. Longer ones cannot be configured.
const MAX_NAME: usize = 64;
/// Longest binding and reference, bytes.
const MAX_OPAQUE: usize = 256;
/// Longest redirect URI, bytes.
const MAX_URI: usize = 2048;
/// Most scopes, and most types of events.
const MAX_SCOPES: usize = 64;
/// Longest request id, characters.
const MAX_REQUEST_ID: usize = 128;
/// Longest signature header, bytes; a good one has 71.
const MAX_SIGNATURE: usize = 256;

/// Collects what is wrong with a request.
#[derive(Default)]
pub(super) struct Fields(Vec<Violation>);

impl Fields {
    fn wrong(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// A text of at most so many bytes, without control characters.
    fn text(&mut self, field: &str, text: String, max: usize) -> String {
        if text.len() > max {
            self.wrong(field, format!("is {} bytes long; at most {max} are taken", text.len()));
        } else if text.contains(char::is_control) {
            self.wrong(field, "contains control characters; none are taken");
        }
        text
    }

    pub(super) fn client(&mut self, text: String) -> String {
        self.text("client", text, MAX_NAME)
    }

    pub(super) fn redirect_uri(&mut self, text: String) -> String {
        self.text("redirect_uri", text, MAX_URI)
    }

    pub(super) fn reference(&mut self, text: String) -> String {
        self.text("reference", text, MAX_OPAQUE)
    }

    pub(super) fn binding(&mut self, text: String) -> Option<Binding> {
        let binding = self.text("binding", text, MAX_OPAQUE);
        (!binding.is_empty()).then(|| Binding::new(binding))
    }

    pub(super) fn scopes(&mut self, texts: Vec<String>) -> Vec<Scope> {
        if texts.is_empty() {
            self.wrong("scopes", "is empty; name at least one claim, such as age_18_plus");
        }
        if texts.len() > MAX_SCOPES {
            self.wrong("scopes", format!("has {} entries; at most {MAX_SCOPES} are taken", texts.len()));
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        let mut scopes = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            match Scope::parse(text) {
                Ok(_) if !seen.insert(text) => self.wrong(format!("scopes[{index}]"), "stands twice"),
                Ok(scope) => scopes.push(scope),
                Err(rule) => self.wrong(format!("scopes[{index}]"), format!("must be {rule}")),
            }
        }
        scopes
    }

    pub(super) fn request_id(&mut self, text: String) -> Option<String> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if text.len() > MAX_REQUEST_ID || !text.bytes().all(is_good) {
            self.wrong("request_id", "must be at most 128 characters out of A-Z, a-z, 0-9, -, _, . and :");
        }
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn body(&mut self, body: Vec<u8>) -> Vec<u8> {
        if body.is_empty() {
            self.wrong("body", "is empty; pass the request's body, byte for byte");
        } else if body.len() > MAX_WEBHOOK_BYTES {
            self.wrong(
                "body",
                format!("is {} bytes long; at most {MAX_WEBHOOK_BYTES} are taken", body.len()),
            );
        }
        body
    }

    pub(super) fn signature(&mut self, text: String) -> String {
        self.text("signature", text, MAX_SIGNATURE)
    }

    pub(super) fn page_size(&mut self, size: i32, usual: usize, most: usize) -> usize {
        match usize::try_from(size) {
            Ok(0) => usual,
            Ok(size) if size <= most => size,
            _ => {
                self.wrong("page_size", format!("must be from 0 to {most}; 0 means {usual}"));
                usual
            }
        }
    }

    pub(super) fn event_type(&mut self, field: &str, text: String) -> String {
        self.text(field, text, MAX_OPAQUE)
    }

    pub(super) fn event_types(&mut self, texts: Vec<String>) -> Vec<String> {
        if texts.len() > MAX_SCOPES {
            self.wrong("types", format!("has {} entries; at most {MAX_SCOPES} are taken", texts.len()));
            return Vec::new();
        }
        let mut types = Vec::with_capacity(texts.len());
        for (index, text) in texts.into_iter().enumerate() {
            if text.is_empty() {
                self.wrong(format!("types[{index}]"), "is empty; leave types empty to have all");
            }
            types.push(self.event_type(&format!("types[{index}]"), text));
        }
        types
    }

    pub(super) fn consumer(&mut self, text: &str) -> Option<ConsumerName> {
        let name = ConsumerName::parse(text);
        name.map_err(|rule| self.wrong("consumer", format!("must be {rule}"))).ok()
    }

    /// What was read, unless anything was wrong.
    pub(super) fn checked<T>(self, read: Option<T>) -> Result<T, Refusal> {
        self.check()?;
        // What is missing has said so.
        read.ok_or_else(|| Reason::InvalidArgument.into())
    }

    /// Refuses if anything was wrong.
    pub(super) fn check(self) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Refusal { violations: self.0, ..Refusal::new(Reason::InvalidArgument) })
    }
}

/// The session id of a request that has nothing else.
pub(super) fn session_id(text: &str) -> Result<SessionId, Refusal> {
    SessionId::parse(text).map_err(|rule| Refusal::field("session_id", format!("must be {rule}")))
}

/// The callback of a completion.
pub(super) fn callback(
    callback: Option<proto::complete_authorization_request::Callback>,
) -> Result<Callback, Refusal> {
    use proto::complete_authorization_request::Callback;
    match callback {
        Some(Callback::CallbackUrl(url)) => parse_callback_url(&url),
        Some(Callback::Parameters(parameters)) => {
            let proto::CallbackParameters { state, code, error, error_description, session_id, iss } =
                parameters;
            parse_parameters(&CallbackParameters { state, code, error, error_description, session_id, iss })
        }
        None => Err(Refusal::field("callback_url", "is missing, and parameters too; pass one of the two")),
    }
}

/// How a session is looked up.
pub(super) fn lookup(lookup: Option<proto::get_session_request::Lookup>) -> Result<Lookup, Refusal> {
    use proto::get_session_request::Lookup as By;
    match lookup {
        Some(By::SessionId(text)) => Ok(Lookup::Id(session_id(&text)?)),
        Some(By::State(text)) => {
            State::parse(&text).map(Lookup::State).map_err(|_| Reason::StateUnknown.into())
        }
        Some(By::ProviderSessionId(text)) => ProviderSessionId::parse(&text)
            .map(Lookup::ProviderSession)
            .map_err(|rule| Refusal::field("provider_session_id", format!("must be {rule}"))),
        None => Err(Refusal::field(
            "session_id",
            "is missing; name the session by its id, state or provider's id",
        )),
    }
}

/// How a session to watch is looked up: as one to read.
pub(super) fn watch_lookup(by: Option<proto::watch_session_request::Lookup>) -> Result<Lookup, Refusal> {
    use proto::{get_session_request::Lookup as Read, watch_session_request::Lookup as Watch};
    lookup(by.map(|by| match by {
        Watch::SessionId(id) => Read::SessionId(id),
        Watch::State(state) => Read::State(state),
        Watch::ProviderSessionId(id) => Read::ProviderSessionId(id),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(check: impl FnOnce(&mut Fields)) -> Vec<String> {
        let mut fields = Fields::default();
        check(&mut fields);
        fields
            .check()
            .err()
            .map(|refusal| refusal.violations)
            .unwrap_or_default()
            .into_iter()
            .map(|v| v.field)
            .collect()
    }

    #[test]
    fn limits_are_kept_to_the_byte() {
        assert!(violations(|f| drop(f.binding("b".repeat(256)))).is_empty());
        assert_eq!(violations(|f| drop(f.binding("b".repeat(257)))), ["binding"]);
        assert!(violations(|f| drop(f.reference("é".repeat(128)))).is_empty());
        assert_eq!(violations(|f| drop(f.reference("é".repeat(129)))), ["reference"]);
        assert_eq!(violations(|f| drop(f.reference("a\0b".into()))), ["reference"]);
        assert_eq!(violations(|f| drop(f.client("c".repeat(65)))), ["client"]);
        assert_eq!(violations(|f| drop(f.redirect_uri("u".repeat(2049)))), ["redirect_uri"]);
        assert!(violations(|f| drop(f.request_id("A-z_0.9:".into()))).is_empty());
        assert_eq!(violations(|f| drop(f.request_id("a b".into()))), ["request_id"]);
        assert_eq!(violations(|f| drop(f.request_id("a".repeat(129)))), ["request_id"]);
        assert!(violations(|f| drop(f.body(vec![0; MAX_WEBHOOK_BYTES]))).is_empty());
        assert_eq!(violations(|f| drop(f.body(vec![0; MAX_WEBHOOK_BYTES + 1]))), ["body"]);
        assert_eq!(violations(|f| drop(f.body(vec![]))), ["body"]);
    }

    #[test]
    fn scopes_are_named_by_their_place() {
        let scopes = |texts: &[&str]| {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            violations(|fields| drop(fields.scopes(texts)))
        };
        assert!(scopes(&["a", "b"]).is_empty());
        assert_eq!(scopes(&[]), ["scopes"]);
        assert_eq!(scopes(&["a", "b c", "a"]), ["scopes[1]", "scopes[2]"]);
        assert_eq!(scopes(&["x"; 10_000]), ["scopes"], "ten thousand are one violation");
    }

    #[test]
    fn everything_is_said_at_once() {
        let all = violations(|fields| {
            fields.client("c".repeat(65));
            fields.scopes(vec![]);
            fields.request_id("?".into());
        });
        assert_eq!(all, ["client", "scopes", "request_id"]);
    }
}
