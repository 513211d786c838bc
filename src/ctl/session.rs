//! `cairlctl session`, and a session in words.

use std::{collections::BTreeMap, io::Read};

use super::{
    args::{self, Cancel, Get, Revoke},
    connect::Daemon,
    failure::Failure,
    input,
    output::{Block, Report, time},
};
use crate::api::proto::{
    CancelAuthorizationRequest, ClaimValue, Failure as SessionFailure, GetSessionRequest, Reason,
    RevokeTokenRequest, Session, SessionStatus, Token, TokenStatus, claim_value::Kind,
    get_session_request::Lookup, integration_service_client::IntegrationServiceClient,
};

/// What to do where a session was changed and nobody can be told.
pub(super) const READ_IT: &str = "The call itself succeeded: make room where the output goes, and read the session with \
                                  `cairlctl session get` instead of repeating the command.";

pub(super) fn get(daemon: &Daemon, args: &Get, stdin: &mut dyn Read) -> Result<Report, Failure> {
    let lookup = lookup(&args.lookup, stdin, Lookup::SessionId, Lookup::State, Lookup::ProviderSessionId)?;
    let request = GetSessionRequest { lookup, refresh: args.refresh };
    let answer = daemon.call("GetSession", request, async |channel, request| {
        IntegrationServiceClient::new(channel).get_session(request).await
    })?;
    let text = describe(answer.session.as_ref());
    Ok(Report::new("cairld.v1.GetSessionResponse", &answer, text))
}

/// How a session is named, in the words of a request: each has a type of its own for it.
pub(super) fn lookup<L>(
    args: &args::Lookup,
    stdin: &mut dyn Read,
    by_id: impl FnOnce(String) -> L,
    by_state: impl FnOnce(String) -> L,
    by_provider: impl FnOnce(String) -> L,
) -> Result<Option<L>, Failure> {
    let state = args.state.as_deref().map(|state| input::argument(state, stdin)).transpose()?;
    let id = args.session_id.clone().map(by_id);
    Ok(id.or_else(|| state.map(by_state)).or_else(|| args.provider_session.clone().map(by_provider)))
}

pub(super) fn cancel(daemon: &Daemon, args: &Cancel) -> Result<Report, Failure> {
    let request = CancelAuthorizationRequest { session_id: args.session_id.clone() };
    let answer = daemon.call("CancelAuthorization", request, async |channel, request| {
        IntegrationServiceClient::new(channel).cancel_authorization(request).await
    })?;
    let text = describe(answer.session.as_ref());
    Ok(Report::new("cairld.v1.CancelAuthorizationResponse", &answer, text).if_lost(READ_IT))
}

pub(super) fn revoke(daemon: &Daemon, args: &Revoke) -> Result<Report, Failure> {
    let request = RevokeTokenRequest { session_id: args.session_id.clone() };
    let answer = daemon.call("RevokeToken", request, async |channel, request| {
        IntegrationServiceClient::new(channel).revoke_token(request).await
    })?;
    let text = describe(answer.session.as_ref());
    Ok(Report::new("cairld.v1.RevokeTokenResponse", &answer, text).if_lost(READ_IT))
}

/// All of a session that is set, in words.
pub(super) fn describe(session: Option<&Session>) -> Block {
    let mut block = Block::default();
    let Some(session) = session else {
        block.row("session", "none in the answer");
        return block;
    };
    block.row("session", &session.id);
    block.row("status", status(session.status));
    block.text("client", &session.client);
    block.text("mode", if session.test_mode { "test: claims are the provider's mock data" } else { "" });
    block.text("scopes", &session.scopes.join(" "));
    block.text("redirect uri", &session.redirect_uri);
    block.text("reference", &session.reference);
    block.text("provider session", &session.provider_session_id);
    block.time("created", session.create_time.as_ref());
    block.time("updated", session.update_time.as_ref());
    block.time("expires", session.expire_time.as_ref());
    block.time("ended", session.complete_time.as_ref());
    block.text("subject", &session.subject);
    if let Some(token) = &session.token {
        block.row("token", token_standing(token));
    }
    block.time("claims as of", session.claims_time.as_ref());
    block.text("claims ignored", &session.claims_ignored.join(" "));
    if !session.claims.is_empty() {
        block.heading("claims");
        for (name, value) in session.claims.iter().collect::<BTreeMap<_, _>>() {
            block.item(name, claim(value));
        }
    }
    if let Some(failure) = &session.failure {
        block.append(describe_failure(failure));
    }
    block
}

fn describe_failure(failure: &SessionFailure) -> Block {
    let mut block = Block::default();
    block.heading("failure");
    block.item("reason", reason(failure.reason));
    for (key, value) in [
        ("what", &failure.description),
        ("remedy", &failure.remedy),
        ("provider said", &failure.provider_error),
    ] {
        if !value.is_empty() {
            block.item(key, value);
        }
    }
    if failure.resumable {
        let until =
            failure.resume_until.as_ref().map_or_else(String::new, |at| format!(", until {}", time(at)));
        block.item("resumable", format!("yes, with the same callback{until}"));
    }
    block
}

/// What a claim says. Null is no `false`, and must not read like one.
fn claim(value: &ClaimValue) -> String {
    match &value.kind {
        Some(Kind::BoolValue(value)) => value.to_string(),
        Some(Kind::NullValue(_)) => "unknown (null)".to_owned(),
        Some(Kind::JsonValue(json)) => json.clone(),
        None => "unreadable".to_owned(),
    }
}

pub(super) fn status(number: i32) -> String {
    let words = match SessionStatus::try_from(number) {
        Ok(SessionStatus::Pending) => "pending: the user has not come back yet",
        Ok(SessionStatus::Authenticated) => "authenticated: the user has signed in at the provider",
        Ok(SessionStatus::Verified) => "verified: the provider has verified the user",
        Ok(SessionStatus::Exchanging) => "exchanging: the code or the claims are being fetched",
        Ok(SessionStatus::Complete) => "complete",
        Ok(SessionStatus::Failed) => "failed",
        Ok(SessionStatus::Expired) => "expired: its thirty minutes ran out",
        Ok(SessionStatus::Cancelled) => "cancelled",
        Ok(SessionStatus::Indeterminate) => {
            "indeterminate: the exchange's answer was lost; start a new authorization"
        }
        Ok(SessionStatus::Unspecified) | Err(_) => return format!("unknown to this cairlctl ({number})"),
    };
    words.to_owned()
}

/// A status in one word.
pub(super) fn status_word(number: i32) -> String {
    let words = status(number);
    words.split(':').next().unwrap_or_default().to_owned()
}

pub(super) fn reason(number: i32) -> String {
    match Reason::try_from(number) {
        Ok(reason) => reason.as_str_name().trim_start_matches("REASON_").to_owned(),
        Err(_) => format!("unknown to this cairlctl ({number})"),
    }
}

fn token_standing(token: &Token) -> String {
    let standing = match TokenStatus::try_from(token.status) {
        Ok(TokenStatus::None) => "none",
        Ok(TokenStatus::Held) => "held",
        Ok(TokenStatus::Revoked) => "revoked",
        Ok(TokenStatus::Expired) => "expired",
        Ok(TokenStatus::Unspecified) | Err(_) => {
            return format!("unknown to this cairlctl ({})", token.status);
        }
    };
    match &token.expire_time {
        Some(at) => format!("{standing}, expires {}", time(at)),
        None => standing.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(session: Option<&Session>) -> String {
        let mut sink = Vec::new();
        describe(session).write(&mut sink).unwrap();
        String::from_utf8(sink).unwrap()
    }

    fn moment(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn a_complete_session_shows_its_claims() {
        let claim = |kind| ClaimValue { kind };
        let session = Session {
            id: "ses_1".to_owned(),
            client: "demo".to_owned(),
            status: SessionStatus::Complete.into(),
            scopes: vec!["age_18_plus".to_owned(), "resident".to_owned()],
            reference: "order\u{1b}[7m 17".to_owned(),
            create_time: moment(1_735_689_600),
            token: Some(Token { status: TokenStatus::Held.into(), expire_time: moment(1_735_693_200) }),
            claims: [
                ("resident".to_owned(), claim(Some(Kind::NullValue(0)))),
                ("age_18_plus".to_owned(), claim(Some(Kind::BoolValue(true)))),
                ("sanctioned".to_owned(), claim(Some(Kind::BoolValue(false)))),
                ("country".to_owned(), claim(Some(Kind::JsonValue("\"CH\"".to_owned())))),
                ("odd".to_owned(), claim(None)),
            ]
            .into(),
            ..Session::default()
        };
        let expected = "\
session        ses_1
status         complete
client         demo
scopes         age_18_plus resident
reference      order\\u{1b}[7m 17
created        2025-01-01T00:00:00Z
token          held, expires 2025-01-01T01:00:00Z
claims
  age_18_plus  true
  country      \"CH\"
  odd          unreadable
  resident     unknown (null)
  sanctioned   false
";
        assert_eq!(written(Some(&session)), expected);
    }

    #[test]
    fn a_failed_session_says_why() {
        let failure = SessionFailure {
            reason: Reason::PaymentRequired.into(),
            description: "the wallet is too low".to_owned(),
            remedy: "Top up.".to_owned(),
            provider_error: "payment_required".to_owned(),
            resumable: true,
            resume_until: moment(1_735_689_600),
        };
        let session = Session {
            id: "ses_1".to_owned(),
            status: SessionStatus::Pending.into(),
            failure: Some(failure),
            ..Session::default()
        };
        let expected = "\
failure
  reason         PAYMENT_REQUIRED
  what           the wallet is too low
  remedy         Top up.
  provider said  payment_required
  resumable      yes, with the same callback, until 2025-01-01T00:00:00Z
";
        assert!(written(Some(&session)).ends_with(expected), "{}", written(Some(&session)));
    }

    #[test]
    fn a_newer_daemon_is_not_misread() {
        assert_eq!(status(77), "unknown to this cairlctl (77)");
        assert_eq!(reason(7777), "unknown to this cairlctl (7777)");
        assert_eq!(token_standing(&Token { status: 9, expire_time: None }), "unknown to this cairlctl (9)");
        assert_eq!(written(None), "session  none in the answer\n");
    }
}
