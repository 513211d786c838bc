//! Webhooks: verified over the exact bytes before anything is read from them.

use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::{name::ProviderSessionId, secret::WebhookSecret, session::ProviderStatus, time::Timestamp};

/// Longest accepted webhook body, bytes.
pub const MAX_WEBHOOK_BYTES: usize = 64 * 1024;
/// Longest event type and inner id that is kept, bytes; what is longer counts as absent, the body keeps it.
const MAX_WORD: usize = 256;

/// How the types of events begin whose `status` is that of a verification. Others, billing events say, may have a status
/// too, and mean something else by it.
const SPEAKS_OF_VERIFICATION: [&str; 4] = ["vae", "verification", "session", "hvf"];

/// Checks a signature header (`sha256=` and 64 hexadecimal digits: HMAC-SHA256 of the raw body) against the secrets in
/// force, in constant time. Answers which of them fits.
pub fn verify_signature<'s>(
    body: &[u8],
    header: &str,
    secrets: impl IntoIterator<Item = &'s [u8]>,
) -> Option<usize> {
    let digits = header.strip_prefix("sha256=").filter(|digits| digits.len() == 64)?;
    let signature = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    secrets.into_iter().position(|secret| {
        Hmac::<Sha256>::new_from_slice(secret)
            .is_ok_and(|mac| mac.chain_update(body).verify_slice(&signature).is_ok())
    })
}

/// A secret that a client's webhooks may be signed with, and until when.
#[derive(Clone, Debug, PartialEq)]
pub struct SigningSecret {
    /// The secret.
    pub secret: WebhookSecret,
    /// From when on it does not count any more, by the wall clock; none for ever.
    pub until: Option<Timestamp>,
}

impl SigningSecret {
    /// Whether it counts.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Which of a client's secrets signed a body, of those in force; see [`verify_signature`].
    pub fn signer(secrets: &[Self], body: &[u8], header: &str, now: Timestamp) -> Option<usize> {
        secrets.iter().position(|signing| {
            let secret = signing.is_in_force(now).then_some(signing.secret.expose().as_bytes());
            verify_signature(body, header, secret).is_some()
        })
    }
}

/// What could be read from a verified body. The envelope's field names are undocumented, so several are looked for; what
/// is absent or of another type is simply not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Whether the body is a JSON object at all.
    pub parsed: bool,
    /// The event's type; empty when none is named.
    pub kind: String,
    /// The provider's own id of the event.
    pub inner_id: Option<String>,
    /// The provider's session that it is about.
    pub provider_session: Option<ProviderSessionId>,
    /// What it says of that session.
    pub status: Option<ProviderStatus>,
}

impl Envelope {
    /// Reads a body. Never fails: what knocked is kept, readable or not.
    pub fn read(body: &[u8]) -> Self {
        let Ok(Value::Object(top)) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let find = |names: &[&str]| {
            let data = top.get("data").and_then(Value::as_object);
            [Some(&top), data].into_iter().flatten().find_map(|level| first_word(level, names))
        };
        let kind = find(&["type", "event", "event_type", "eventType"]).unwrap_or_default().to_owned();
        let status = if SPEAKS_OF_VERIFICATION.iter().any(|beginning| kind.starts_with(beginning)) {
            let word = find(&["status"]).and_then(ProviderStatus::parse);
            word.or_else(|| (kind == "vae.resolved").then_some(ProviderStatus::Verified))
        } else {
            None
        };
        Self {
            parsed: true,
            inner_id: find(&["id", "event_id", "eventId"]).map(str::to_owned),
            provider_session: find(&["session_id", "sessionId"])
                .and_then(|id| ProviderSessionId::parse(id).ok()),
            status,
            kind,
        }
    }
}

fn first_word<'v>(level: &'v Map<String, Value>, names: &[&str]) -> Option<&'v str> {
    names
        .iter()
        .filter_map(|name| level.get(*name)?.as_str())
        .find(|word| (1..=MAX_WORD).contains(&word.len()) && !word.contains(char::is_control))
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"what do ya want for nothing?";
    /// RFC 4231 test case 2.
    const SIGNATURE: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn a_good_signature_names_its_secret() {
        let header = format!("sha256={SIGNATURE}");
        let secrets: [&[u8]; 3] = [b"old", b"Jefe", b"new"];
        assert_eq!(verify_signature(BODY, &header, secrets), Some(1));
        assert_eq!(verify_signature(BODY, &format!("sha256={}", SIGNATURE.to_uppercase()), secrets), Some(1));
        assert_eq!(verify_signature(BODY, &header, [&b"other"[..]]), None);
        assert_eq!(verify_signature(b"another body", &header, secrets), None);
        assert_eq!(verify_signature(BODY, &header, []), None);
    }

    #[test]
    fn a_secret_counts_until_its_end() {
        let signing = |secret: &str, until: Option<u64>| SigningSecret {
            secret: WebhookSecret::new(secret),
            until: until.map(Timestamp::from_millis),
        };
        let header = format!("sha256={SIGNATURE}");
        let signer = |secrets: &[SigningSecret], now| {
            SigningSecret::signer(secrets, BODY, &header, Timestamp::from_millis(now))
        };
        let old = [signing("new", None), signing("Jefe", Some(1000))];
        assert_eq!(signer(&old, 999), Some(1));
        assert_eq!(signer(&old, 1000), None, "to the millisecond");
        let both = [signing("Jefe", Some(1000)), signing("Jefe", None)];
        assert_eq!((signer(&both, 999), signer(&both, 1000)), (Some(0), Some(1)));
        assert_eq!(signer(&[], 0), None);
        assert!(!format!("{both:?}").contains("Jefe"));
    }

    #[test]
    fn malformed_signatures_are_refused() {
        let secrets: [&[u8]; 1] = [b"Jefe"];
        for header in [
            String::new(),
            "sha256=".to_owned(),
            SIGNATURE.to_owned(),
            format!("SHA256={SIGNATURE}"),
            format!("sha1={SIGNATURE}"),
            format!("sha256={}", &SIGNATURE[..62]),
            format!("sha256={SIGNATURE}00"),
            format!("sha256= {SIGNATURE}"),
            format!("sha256={SIGNATURE} "),
            format!("sha256={SIGNATURE},sha256={SIGNATURE}"),
            format!("sha256=zz{}", &SIGNATURE[2..]),
        ] {
            assert_eq!(verify_signature(BODY, &header, secrets), None, "{header:?}");
        }
    }

    #[test]
    fn envelopes_of_several_shapes() {
        let flat =
            Envelope::read(br#"{"event":"vae.y","eventId":"e1","sessionId":"hvf_1","status":"failed"}"#);
        let nested =
            Envelope::read(br#"{"type":"vae.y","data":{"id":"e1","session_id":"hvf_1","status":"failed"}}"#);
        assert_eq!(flat, nested);
        assert_eq!(flat.kind, "vae.y");
        assert_eq!(flat.inner_id.as_deref(), Some("e1"));
        assert_eq!(flat.provider_session.unwrap().as_str(), "hvf_1");
        assert_eq!(flat.status, Some(ProviderStatus::Failed));
        assert_eq!(Envelope::read(br#"{"type":"vae.resolved"}"#).status, Some(ProviderStatus::Verified));
        let billing = br#"{"type":"invoice.payment","session_id":"hvf_1","status":"failed"}"#;
        assert_eq!(Envelope::read(billing).status, None, "another thing's status");
    }

    #[test]
    fn what_is_unreadable_is_simply_not_known() {
        for body in
            [&b""[..], b"[]", b"null", b"\xef\xbb\xbf{}", b"{\"type\":\"\xff\"}", &b"[".repeat(60_000)]
        {
            assert_eq!(Envelope::read(body), Envelope::default());
        }
        let odd =
            Envelope::read(br#"{"type":7,"id":["a"],"session_id":"nope","status":"dancing","data":[]}"#);
        assert_eq!(odd, Envelope { parsed: true, ..Envelope::default() });
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body: Vec<u8>, header in "\\PC{0,80}") {
            Envelope::read(&body);
            prop_assert_eq!(verify_signature(&body, &header, [&b"k"[..]]), None);
        }
    }
}
