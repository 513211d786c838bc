//! What the provider says about a user, in both shapes that its userinfo endpoint has had.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::time::Timestamp;

/// A userinfo answer that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserinfoError {
    /// Not a JSON object of the expected shape.
    #[error("not a JSON object with a subject and claims")]
    Shape,
    /// No `sub`, or an empty one.
    #[error("no subject in it")]
    NoSubject,
}

/// The claims of one user, as of one moment. Personal data: nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Userinfo {
    /// The provider's pseudonymous id of the user, stable for each partner.
    pub subject: String,
    /// Each claim's value as JSON text, byte for byte as the provider wrote it: `true`, `false`, `null`, or anything
    /// else. What is missing or `null` is **not** false.
    pub claims: BTreeMap<String, String>,
    /// When the provider evaluated them, where it says so readably.
    pub evaluated_at: Option<Timestamp>,
    /// Requested claims that the provider ignored.
    pub ignored: Vec<String>,
}

impl fmt::Debug for Userinfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Userinfo({} claims)", self.claims.len())
    }
}

/// The `meta` object of the current shape.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    claims_null: Vec<String>,
    claims_ignored: Vec<String>,
}

impl Userinfo {
    /// Reads a userinfo answer: the current shape (`claims` is an object), or the older, flat one.
    ///
    /// # Errors
    /// [`UserinfoError`] says why it cannot be used.
    pub fn parse(body: &[u8]) -> Result<Self, UserinfoError> {
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(body).map_err(|_| UserinfoError::Shape)?;
        let subject = fields
            .remove("sub")
            .and_then(|sub| serde_json::from_str::<String>(sub.get()).ok())
            .filter(|sub| !sub.is_empty())
            .ok_or(UserinfoError::NoSubject)?;
        let evaluated_at = fields.remove("evaluated_at").and_then(|at| parse_time(at.get()));
        let meta: Meta =
            fields.remove("meta").and_then(|meta| serde_json::from_str(meta.get()).ok()).unwrap_or_default();
        let claims = match fields.remove("claims") {
            Some(claims) => serde_json::from_str(claims.get()).map_err(|_| UserinfoError::Shape)?,
            None => fields,
        };
        let mut claims: BTreeMap<String, String> =
            claims.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect();
        for name in meta.claims_null {
            claims.entry(name).or_insert_with(|| "null".to_owned());
        }
        Ok(Self { subject, claims, evaluated_at, ignored: meta.claims_ignored })
    }
}

/// An RFC 3339 timestamp inside a JSON string; none when it is anything else.
fn parse_time(json: &str) -> Option<Timestamp> {
    let text: String = serde_json::from_str(json).ok()?;
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_current_shape() {
        let userinfo = Userinfo::parse(
            br#"{"sub":"pws_v1_a","evaluated_at":"2026-01-02T03:04:05.678Z","new_field":1,
                 "claims":{"age_18_plus":true,"name_match":false,"dob_match":null,"score":1.50,"big":12345678901234567890123},
                 "meta":{"claims_requested":["x"],"claims_resolved":[],"claims_null":["dob_match","address_match"],
                         "claims_ignored":["shoe_size"]}}"#,
        )
        .unwrap();
        assert_eq!(userinfo.subject, "pws_v1_a");
        assert_eq!(userinfo.evaluated_at, Some(Timestamp::from_millis(1_767_323_045_678)));
        assert_eq!(userinfo.ignored, ["shoe_size"]);
        let expected = [
            ("address_match", "null"),
            ("age_18_plus", "true"),
            ("big", "12345678901234567890123"),
            ("dob_match", "null"),
            ("name_match", "false"),
            ("score", "1.50"),
        ];
        assert_eq!(userinfo.claims, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn the_older_flat_shape() {
        let userinfo = Userinfo::parse(br#"{"sub":"user_1","age_18_plus":true,"age_21_plus":null}"#).unwrap();
        assert_eq!(userinfo.claims["age_18_plus"], "true");
        assert_eq!(userinfo.claims["age_21_plus"], "null");
        assert_eq!(userinfo.claims.len(), 2);
        assert_eq!(userinfo.evaluated_at, None);
    }

    #[test]
    fn what_is_no_userinfo_is_refused() {
        for body in [
            "",
            "<html>",
            "[]",
            "true",
            r#"{"sub":"a","claims":[]}"#,
            r#"{"sub":"a","claims":"#,
            "\u{feff}{}",
        ] {
            assert_eq!(Userinfo::parse(body.as_bytes()), Err(UserinfoError::Shape), "{body}");
        }
        for body in ["{}", r#"{"sub":""}"#, r#"{"sub":7}"#, r#"{"claims":{}}"#] {
            assert_eq!(Userinfo::parse(body.as_bytes()), Err(UserinfoError::NoSubject), "{body}");
        }
    }

    #[test]
    fn odd_decorations_do_no_harm() {
        let userinfo =
            Userinfo::parse(br#"{"sub":"a","evaluated_at":"yesterday","meta":7,"claims":{"x":true}}"#)
                .unwrap();
        assert_eq!(userinfo.evaluated_at, None);
        assert_eq!(userinfo.claims["x"], "true");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body: Vec<u8>) {
            let _ = Userinfo::parse(&body);
        }
    }
}
