//! Reading answers: at most 64 KiB, as text that cannot carry our own secrets back out.

use std::time::Duration;

use reqwest::{Response, header::RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;

use super::DEFAULT_TOKEN_LIFE;
use crate::domain::{
    AccessToken, ProviderSaid, ProviderStatus, Reason, Timestamp, is_bearer, parse_retry_after, tame,
};

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest access token that is taken for one, bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Body,
}

/// What became of an answer's body.
pub(super) enum Body {
    Whole(Vec<u8>),
    TooLong,
    Lost,
}

impl Answer {
    /// Reads an answer. Its status counts even where its body does not arrive.
    pub(super) async fn read(mut response: Response, now: Timestamp) -> Self {
        let status = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|value| parse_retry_after(value, now));
        let mut bytes = Vec::new();
        let body = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() > MAX_ANSWER => break Body::TooLong,
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break Body::Whole(bytes),
                Err(_) => break Body::Lost,
            }
        };
        Self { status, retry_after, body }
    }

    fn json<T: for<'de> Deserialize<'de>>(&self) -> Option<T> {
        match &self.body {
            Body::Whole(bytes) => serde_json::from_slice(bytes).ok(),
            Body::TooLong | Body::Lost => None,
        }
    }

    /// The error code or text of a refusal, where it is readable; the page's two JSON shapes both call it `error`.
    pub(super) fn error(&self) -> Option<String> {
        self.json::<Value>()?.get("error")?.as_str().filter(|error| !error.is_empty()).map(str::to_owned)
    }

    /// What a caller may know of a refusal; `secrets` of this request are masked.
    pub(super) fn said(&self, request_time: Timestamp, secrets: &[&str]) -> ProviderSaid {
        let description = self.json::<Value>();
        let description = description.as_ref().and_then(|body| body.get("error_description")?.as_str());
        ProviderSaid {
            error: tame(&self.error().unwrap_or_default(), secrets),
            description: tame(description.unwrap_or_default(), secrets),
            http_status: self.status,
            request_time,
            retry_after: self.retry_after,
            ..ProviderSaid::default()
        }
    }

    /// The token of a successful token answer (RFC 6749 §5.1), or why there is none.
    pub(super) fn token(&self) -> Result<(AccessToken, Duration), Reason> {
        if matches!(self.body, Body::Lost) {
            return Err(Reason::OutcomeUnknown);
        }
        let answer: TokenAnswer = self.json().ok_or(Reason::ProviderProtocol)?;
        let is_token = (1..=MAX_TOKEN).contains(&answer.access_token.len())
            && answer.access_token.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if !is_token || !is_bearer(&answer.token_type) {
            return Err(Reason::ProviderProtocol);
        }
        // Something else than a positive number says no more than nothing at all.
        let seconds = answer.expires_in.as_ref().and_then(Value::as_u64).filter(|seconds| *seconds > 0);
        let life = seconds.map_or(DEFAULT_TOKEN_LIFE, Duration::from_secs);
        Ok((AccessToken::new(answer.access_token), life))
    }

    /// The status in a successful session answer; none for one that is not documented.
    pub(super) fn session_status(&self) -> Result<Option<ProviderStatus>, Reason> {
        let answer: SessionAnswer = self.json().ok_or(Reason::ProviderProtocol)?;
        Ok(ProviderStatus::parse(&answer.session.status))
    }

    /// The body of a successful answer.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes),
            Body::TooLong | Body::Lost => None,
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    expires_in: Option<Value>,
}

#[derive(Deserialize)]
struct SessionAnswer {
    session: SessionFields,
}

#[derive(Deserialize)]
struct SessionFields {
    status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: 200, retry_after: None, body: Body::Whole(body.as_bytes().to_vec()) }
    }

    #[test]
    fn tokens_are_read_liberally_where_nothing_depends_on_it() {
        for (body, seconds) in [
            (r#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":900}"#, 900),
            (r#"{"access_token":"a","token_type":"bEaReR","expires_in":900,"more":[1]}"#, 900),
            (r#"{"access_token":"a","token_type":"Bearer"}"#, 600),
            (r#"{"access_token":"a","token_type":"Bearer","expires_in":null}"#, 600),
            (r#"{"access_token":"a","token_type":"Bearer","expires_in":-5}"#, 600),
            (r#"{"access_token":"a","token_type":"Bearer","expires_in":0}"#, 600),
            (r#"{"access_token":"a","token_type":"Bearer","expires_in":"900"}"#, 600),
        ] {
            let (_, life) = answer(body).token().expect(body);
            assert_eq!(life.as_secs(), seconds, "{body}");
        }
    }

    #[test]
    fn what_carries_no_bearer_token_cannot_be_used() {
        for body in [
            "",
            "<html>sign in</html>",
            r#"{"access_token":"a","token_type":"Bea"#,
            r#"{"token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":7,"token_type":"Bearer"}"#,
            r#"{"access_token":"a b","token_type":"Bearer"}"#,
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
            r#"["access_token"]"#,
        ] {
            assert_eq!(answer(body).token().err(), Some(Reason::ProviderProtocol), "{body}");
        }
        let lost = Answer { body: Body::Lost, ..answer("") };
        assert_eq!(lost.token().err(), Some(Reason::OutcomeUnknown), "the body may have held a token");
        let long = Answer { body: Body::TooLong, ..answer("") };
        assert_eq!(long.token().err(), Some(Reason::ProviderProtocol));
    }

    #[test]
    fn a_refusal_cannot_carry_our_secrets_out() {
        let said = answer(r#"{"error":"bad code s3cret","error_description":"code s3cret is spent"}"#)
            .said(Timestamp::default(), &["s3cret"]);
        assert_eq!(
            (said.error.as_str(), said.description.as_str()),
            ("bad code [masked]", "code [masked] is spent")
        );
    }
}
