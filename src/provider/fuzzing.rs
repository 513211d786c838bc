//! A way in for fuzz/: what an answer's bytes are made of. Compiled for that alone.

use super::answer::{Answer, Body};
use crate::domain::{Timestamp, Userinfo};

/// What this request had that must not come back out, as it is and as it stands in URLs.
const SECRET: &str = "s3cret/of+us~";
const ESCAPED: [&str; 3] = ["s3cret%2Fof%2Bus%7E", "s3cret%2Fof%2Bus~", "s3cret%2fof%2bus~"];

/// Reads a body in every way in which an answer is read.
pub fn answer(status: u16, body: &[u8]) {
    let answer = Answer { status, retry_after: None, body: Body::Whole(body.to_vec()) };
    if let Ok((token, life)) = answer.token() {
        assert!((1..=16 * 1024).contains(&token.expose().len()));
        assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()) && !life.is_zero());
    }
    let said = answer.said(Timestamp::default(), &[SECRET]);
    for text in [&said.error, &said.description] {
        assert!(text.len() <= 512 && !text.contains(char::is_control));
        assert!(!text.contains(SECRET), "a secret comes back out");
        assert!(!ESCAPED.iter().any(|escaped| text.contains(escaped)), "an encoded secret comes back out");
    }
    let _ = answer.session_status();
    if let Some(Ok(userinfo)) = answer.whole().map(Userinfo::parse) {
        assert!(!userinfo.subject.is_empty());
        // A short one may stand in there by chance.
        assert!(userinfo.subject.len() < 20 || !format!("{userinfo:?}").contains(&userinfo.subject));
        for value in userinfo.claims.values() {
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(), "each value is JSON");
        }
    }
}
