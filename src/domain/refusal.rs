//! A refusal: the one form in which any room says no to a caller.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    catalogue::{Entry, entry},
    reason::{Reason, Stage},
    time::Timestamp,
};

/// What the provider answered when it refused, as far as a caller may know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderSaid {
    /// Its error code or text; empty when it named none. Others' text: cut and masked before it leaves the daemon.
    pub error: String,
    /// Its description; others' text like `error`.
    pub description: String,
    /// Its HTTP status; 0 when it did not answer.
    pub http_status: u16,
    /// Requests sent for this code so far, this one included; 0 where no code was sent.
    pub attempts: u32,
    /// When the request was made: what the provider's support asks for.
    pub request_time: Timestamp,
    /// How long it asks to wait. Not stored: it speaks of the moment.
    pub retry_after: Option<Duration>,
    /// The server error that an earlier attempt got, where a later one was refused otherwise.
    pub first_error: Option<String>,
}

/// Longest piece of others' text that is kept, bytes.
const MAX_TEXT: usize = 512;

/// What JavaScript's `encodeURIComponent` encodes.
const IN_COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Others' text, made safe to keep and to show: secrets masked, as they are and as forms and URLs have them, control
/// characters replaced, cut to 512 bytes.
pub fn tame(text: &str, secrets: &[&str]) -> String {
    let mut text = text.replace(char::is_control, " ");
    let mut masks: Vec<String> = secrets.iter().flat_map(|secret| spellings(secret)).collect();
    // The longest first: where one secret is part of another, the rest of the other must not be left.
    masks.sort_by_key(|mask| std::cmp::Reverse(mask.len()));
    for mask in masks.iter().filter(|mask| !mask.is_empty()) {
        text = text.replace(mask, "[masked]");
    }
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// A secret as it is, and as those encode it who repeat a request: `a/b` is `a%2Fb` or `a%2fb`.
fn spellings(secret: &str) -> Vec<String> {
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let component = utf8_percent_encode(secret, IN_COMPONENT).to_string();
    let lower = [lower_escapes(&form), lower_escapes(&component)];
    [secret.to_owned(), form, component].into_iter().chain(lower).collect()
}

/// The same with the escapes' digits in lower case.
fn lower_escapes(encoded: &str) -> String {
    let mut digits = 0;
    let lowered = encoded.chars().map(|letter| {
        let is_digit = digits > 0;
        digits = if letter == '%' { 2_u8 } else { digits.saturating_sub(1) };
        if is_digit { letter.to_ascii_lowercase() } else { letter }
    });
    lowered.collect()
}

/// One bad field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request message.
    pub field: String,
    /// What is wrong with it and what is right. Never its value.
    pub description: String,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Where it arose.
    pub stage: Stage,
    /// What the provider said, where it was the provider.
    pub said: Option<Box<ProviderSaid>>,
    /// Until when the same callback can still complete, where it can once the cause is mended.
    pub resume_until: Option<Timestamp>,
    /// When a retry has a chance, where the reason is retryable and the time is known.
    pub retry_after: Option<Duration>,
    /// The bad fields, where the request is to blame.
    pub violations: Vec<Violation>,
}

impl Refusal {
    /// A refusal of the daemon's own.
    pub const fn new(reason: Reason) -> Self {
        Self::at(Stage::Daemon, reason)
    }

    /// A refusal at a stage.
    pub const fn at(stage: Stage, reason: Reason) -> Self {
        Self { reason, stage, said: None, resume_until: None, retry_after: None, violations: Vec::new() }
    }

    /// A refusal for one bad field.
    pub fn field(field: &str, description: impl Into<String>) -> Self {
        Self::field_with(Reason::InvalidArgument, field, description)
    }

    /// A refusal for one bad field, with a reason of its own.
    pub fn field_with(reason: Reason, field: &str, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.to_owned(), description: description.into() };
        Self { violations: vec![violation], ..Self::new(reason) }
    }

    /// The same, with what the provider said.
    #[must_use]
    pub fn said(self, said: ProviderSaid) -> Self {
        Self { said: Some(Box::new(said)), ..self }
    }

    /// What the catalogue says about it.
    pub fn entry(&self) -> &'static Entry {
        entry(self.stage, self.reason, self.said.as_deref())
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_text_is_tamed() {
        assert_eq!(tame("bad\ncode s3cret", &["s3cret", ""]), "bad code [masked]");
        assert_eq!(tame("abc and abcdef", &["abc", "abcdef"]), "[masked] and [masked]", "the longest first");
        assert_eq!(tame("code=a%2Fb%2B+&x", &["a/b+ "]), "code=[masked]&x", "as the request's body had it");
        for echo in ["a%2FB%7E+%2B", "a%2fB%7e+%2b", "a%2FB~%20%2B", "a%2fB~%20%2b", "a/B~ +"] {
            assert_eq!(tame(&format!("<{echo}>"), &["a/B~ +"]), "<[masked]>", "however it was repeated");
        }
        assert_eq!(tame(&"é".repeat(400), &[]).len(), 512);
    }
}
