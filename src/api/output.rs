//! From the domain to the contract's messages.

use prost_types::Timestamp as ProtoTimestamp;

use super::proto;
use crate::domain::{Failure, Reason, Session, Status, Terminal, Timestamp, TokenStanding, entry};

/// A timestamp of the contract.
pub(super) fn timestamp(time: Timestamp) -> ProtoTimestamp {
    let millis = time.as_millis();
    ProtoTimestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    }
}

/// A timestamp in words: RFC 3339, UTC.
pub(super) fn rfc3339(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A session of the contract, as it stands now.
pub(super) fn session(session: Session, now: Timestamp) -> proto::Session {
    let failure = session.failure.as_ref().map(|failure| self::failure(&session, failure, now));
    let (expires, ended) = (session.expires(), session.ended());
    let mut message = proto::Session {
        id: session.id.to_string(),
        client: session.client.to_string(),
        status: session_status(session.status()).into(),
        scopes: session.scopes.iter().map(ToString::to_string).collect(),
        redirect_uri: session.redirect_uri,
        reference: session.reference,
        provider_session_id: session.provider_session.map(|id| id.to_string()).unwrap_or_default(),
        test_mode: session.test_mode,
        create_time: Some(timestamp(session.created.wall)),
        update_time: Some(timestamp(session.updated)),
        expire_time: Some(timestamp(expires)),
        complete_time: ended.map(|ended| timestamp(ended.at.wall)),
        failure,
        token: Some(token(&session.token)),
        ..proto::Session::default()
    };
    if let Some(userinfo) = session.userinfo {
        message.subject = userinfo.subject;
        message.claims = userinfo.claims.into_iter().map(|(name, json)| (name, claim(json))).collect();
        message.claims_time = userinfo.evaluated_at.map(timestamp);
        message.claims_ignored = userinfo.ignored;
    }
    message
}

/// A status of the contract.
pub(super) fn session_status(status: Status) -> proto::SessionStatus {
    match status {
        Status::Pending => proto::SessionStatus::Pending,
        Status::Authenticated => proto::SessionStatus::Authenticated,
        Status::Verified => proto::SessionStatus::Verified,
        Status::Exchanging => proto::SessionStatus::Exchanging,
        Status::Ended(Terminal::Complete) => proto::SessionStatus::Complete,
        Status::Ended(Terminal::Failed) => proto::SessionStatus::Failed,
        Status::Ended(Terminal::Expired) => proto::SessionStatus::Expired,
        Status::Ended(Terminal::Cancelled) => proto::SessionStatus::Cancelled,
        Status::Ended(Terminal::Indeterminate) => proto::SessionStatus::Indeterminate,
    }
}

fn failure(session: &Session, failure: &Failure, now: Timestamp) -> proto::Failure {
    let entry = entry(failure.stage, failure.reason, failure.said.as_ref());
    let resume_until = session.can_resume(now);
    proto::Failure {
        reason: reason(failure.reason).into(),
        description: entry.cause.to_owned(),
        remedy: entry.remedy.to_owned(),
        provider_error: failure.said.as_ref().map(|said| said.error.clone()).unwrap_or_default(),
        resumable: resume_until.is_some(),
        resume_until: resume_until.map(timestamp),
    }
}

fn token(standing: &TokenStanding) -> proto::Token {
    let (status, expire_time) = match standing {
        TokenStanding::None => (proto::TokenStatus::None, None),
        TokenStanding::Held { since, life, .. } => {
            (proto::TokenStatus::Held, Some(timestamp(since.wall.plus(*life))))
        }
        TokenStanding::Revoked => (proto::TokenStatus::Revoked, None),
        TokenStanding::Expired => (proto::TokenStatus::Expired, None),
    };
    proto::Token { status: status.into(), expire_time }
}

fn claim(json: String) -> proto::ClaimValue {
    use proto::claim_value::Kind;
    let kind = match json.as_str() {
        "true" => Kind::BoolValue(true),
        "false" => Kind::BoolValue(false),
        "null" => Kind::NullValue(0),
        _ => Kind::JsonValue(json),
    };
    proto::ClaimValue { kind: Some(kind) }
}

/// A reason of the contract.
pub(super) fn reason(reason: Reason) -> proto::Reason {
    proto::Reason::from_str_name(&format!("REASON_{reason}")).unwrap_or(proto::Reason::Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_and_the_domain_know_the_same_reasons() {
        for known in Reason::ALL {
            assert_ne!(reason(*known), proto::Reason::Unspecified, "{known} is not in the contract");
        }
        let of_contract = (1..).map_while(|number| proto::Reason::try_from(number).ok());
        for theirs in of_contract {
            let name = theirs.as_str_name().strip_prefix("REASON_").unwrap();
            assert!(Reason::parse(name).is_some(), "{name} is not in the domain");
        }
    }

    #[test]
    fn null_is_never_false() {
        use proto::claim_value::Kind;
        assert_eq!(claim("null".into()).kind, Some(Kind::NullValue(0)));
        assert_eq!(claim("false".into()).kind, Some(Kind::BoolValue(false)));
        assert_eq!(claim("\"false\"".into()).kind, Some(Kind::JsonValue("\"false\"".into())));
    }
}
