//! A session and its record, both ways.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use serde_json::value::RawValue;

use super::{
    Damage, fixed, moment, named, optional, read_moment, stored,
    timeline::{read_timeline, timeline_record},
};
use crate::domain::{
    AccessToken, At, CallerName, ClientName, CodeVerifier, Ended, Failure, KeyedHash, OpenStatus,
    ProviderSaid, ProviderSessionId, Reason, RunId, Scope, Session, SessionId, Spent, Stage, Status,
    Terminal, Timestamp, TokenStanding, Userinfo, millis,
};

/// All of a session's record but what is sealed.
pub(super) fn session_record(session: &Session, request: Option<[u8; 32]>) -> stored::SessionRecord {
    use stored::session_record::Token;
    stored::SessionRecord {
        client: session.client.to_string(),
        caller: session.caller.to_string(),
        scopes: session.scopes.iter().map(ToString::to_string).collect(),
        redirect_uri: session.redirect_uri.clone(),
        test_mode: session.test_mode,
        created: Some(moment(session.created)),
        updated_ms: session.updated.as_millis(),
        state: session.state.as_bytes().to_vec(),
        binding: session.binding.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default(),
        provider_session: session.provider_session.as_ref().map(ToString::to_string).unwrap_or_default(),
        spent: session.spent.map(|spent| stored::Spent {
            callback: spent.callback.as_bytes().to_vec(),
            is_error: spent.is_error,
            first_presented: Some(moment(spent.first_presented)),
            sends: spent.sends,
        }),
        failure: session.failure.as_ref().map(failure_record),
        stage: Some(stage_record(session.at)),
        request: request.map(|key| key.to_vec()).unwrap_or_default(),
        sealed: Vec::new(),
        token: match &session.token {
            TokenStanding::None => None,
            TokenStanding::Held { since, life, .. } => Some(Token::TokenHeld(stored::TokenHeld {
                since: Some(moment(*since)),
                life_ms: millis(*life),
            })),
            TokenStanding::Revoked => Some(Token::TokenRevoked(true)),
            TokenStanding::Expired => Some(Token::TokenExpired(true)),
        },
        timeline: timeline_record(&session.timeline),
    }
}

pub(super) fn sealed_session(session: &Session) -> stored::SealedSession {
    let mut sealed = stored::SealedSession { reference: session.reference.clone(), ..Default::default() };
    if let Some(verifier) = &session.verifier {
        verifier.expose().clone_into(&mut sealed.verifier);
    }
    if let TokenStanding::Held { token, .. } = &session.token {
        token.expose().clone_into(&mut sealed.token);
    }
    if let Some(userinfo) = &session.userinfo {
        sealed.subject.clone_from(&userinfo.subject);
        sealed.claims = claims_json(&userinfo.claims);
        sealed.claims_ms = userinfo.evaluated_at.map(Timestamp::as_millis);
        sealed.claims_ignored.clone_from(&userinfo.ignored);
    }
    sealed
}

/// The claims as one JSON object; each value is JSON already.
fn claims_json(claims: &BTreeMap<String, String>) -> String {
    let values: BTreeMap<&str, &RawValue> = claims
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), serde_json::from_str::<&RawValue>(value).ok()?)))
        .collect();
    serde_json::to_string(&values).unwrap_or_default()
}

fn stage_record(at: At) -> stored::Stage {
    use stored::stage;
    let at = match at {
        At::Open(status) => stage::At::Open(stored::Open { status: open_number(status) }),
        At::Sent { before, run, since } => stage::At::Sent(stored::Sent {
            before: open_number(before),
            run: run.as_bytes().to_vec(),
            since: Some(moment(since)),
        }),
        At::Token => stage::At::Token(true),
        At::Ended(ended) => stage::At::Ended(stored::Ended {
            status: match ended.status {
                Terminal::Complete => stored::TerminalStatus::Complete,
                Terminal::Failed => stored::TerminalStatus::Failed,
                Terminal::Expired => stored::TerminalStatus::Expired,
                Terminal::Cancelled => stored::TerminalStatus::Cancelled,
                Terminal::Indeterminate => stored::TerminalStatus::Indeterminate,
            }
            .into(),
            at: Some(moment(ended.at)),
        }),
    };
    stored::Stage { at: Some(at) }
}

fn open_number(status: OpenStatus) -> i32 {
    match status {
        OpenStatus::Pending => stored::OpenStatus::Pending,
        OpenStatus::Authenticated => stored::OpenStatus::Authenticated,
        OpenStatus::Verified => stored::OpenStatus::Verified,
    }
    .into()
}

fn failure_record(failure: &Failure) -> stored::Failure {
    let said = failure.said.clone();
    let answered = said.is_some();
    let said = said.unwrap_or_default();
    stored::Failure {
        reason: failure.reason.as_str().to_owned(),
        stage: failure.stage.as_str().to_owned(),
        said: answered.then(|| stored::Said {
            error: said.error,
            description: said.description,
            http_status: said.http_status.into(),
            attempts: said.attempts,
            request_ms: said.request_time.as_millis(),
            first_error: said.first_error.unwrap_or_default(),
        }),
    }
}

pub(super) fn read_session(
    id: SessionId,
    record: stored::SessionRecord,
    sealed: stored::SealedSession,
) -> Result<Session, Damage> {
    use stored::session_record::Token;
    let at = read_stage(record.stage)?;
    let token = match record.token {
        None => TokenStanding::None,
        Some(Token::TokenHeld(held)) => TokenStanding::Held {
            token: AccessToken::new(sealed.token),
            since: read_moment(held.since)?,
            life: Duration::from_millis(held.life_ms),
        },
        Some(Token::TokenRevoked(_)) => TokenStanding::Revoked,
        Some(Token::TokenExpired(_)) => TokenStanding::Expired,
    };
    let userinfo = match sealed.claims.as_str() {
        "" => None,
        claims => Some(Userinfo {
            subject: sealed.subject,
            claims: read_claims(claims)?,
            evaluated_at: sealed.claims_ms.map(Timestamp::from_millis),
            ignored: sealed.claims_ignored,
        }),
    };
    Ok(Session {
        id,
        client: ClientName::parse(&record.client).map_err(|_| Damage::Form("no client"))?,
        caller: CallerName::parse(&record.caller).map_err(|_| Damage::Form("no caller"))?,
        scopes: record
            .scopes
            .iter()
            .map(|scope| Scope::parse(scope).map_err(|_| Damage::Form("no scope")))
            .collect::<Result<_, _>>()?,
        redirect_uri: record.redirect_uri,
        reference: sealed.reference,
        test_mode: record.test_mode,
        created: read_moment(record.created)?,
        updated: Timestamp::from_millis(record.updated_ms),
        state: KeyedHash::new(fixed(&record.state)?),
        binding: optional(&record.binding)?.map(KeyedHash::new),
        verifier: (!sealed.verifier.is_empty()).then(|| CodeVerifier::new(sealed.verifier)),
        provider_session: named(&record.provider_session, ProviderSessionId::parse)?,
        spent: record.spent.map(read_spent).transpose()?,
        failure: record.failure.map(read_failure).transpose()?,
        at,
        token,
        userinfo,
        timeline: read_timeline(record.timeline)?,
    })
}

fn read_claims(json: &str) -> Result<BTreeMap<String, String>, Damage> {
    let claims: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(json).map_err(|_| Damage::Form("no claims"))?;
    Ok(claims.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect())
}

/// Whose session a record is and how it stands, from what of it is in clear; none where it does not say.
pub(in crate::store) fn gist(record: &[u8]) -> Option<(String, Status)> {
    let stored::SessionGist { caller, stage } = stored::SessionGist::decode(record).ok()?;
    Some((caller, read_stage(stage).ok()?.into()))
}

fn read_stage(stage: Option<stored::Stage>) -> Result<At, Damage> {
    use stored::stage;
    match stage.and_then(|stage| stage.at).ok_or(Damage::Form("no stage"))? {
        stage::At::Open(open) => Ok(At::Open(read_open(open.status)?)),
        stage::At::Sent(sent) => Ok(At::Sent {
            before: read_open(sent.before)?,
            run: RunId::new(fixed(&sent.run)?),
            since: read_moment(sent.since)?,
        }),
        stage::At::Token(_) => Ok(At::Token),
        stage::At::Ended(ended) => Ok(At::Ended(Ended {
            status: match stored::TerminalStatus::try_from(ended.status) {
                Ok(stored::TerminalStatus::Complete) => Terminal::Complete,
                Ok(stored::TerminalStatus::Failed) => Terminal::Failed,
                Ok(stored::TerminalStatus::Expired) => Terminal::Expired,
                Ok(stored::TerminalStatus::Cancelled) => Terminal::Cancelled,
                Ok(stored::TerminalStatus::Indeterminate) => Terminal::Indeterminate,
                Ok(stored::TerminalStatus::Unspecified) | Err(_) => return Err(Damage::Form("no such end")),
            },
            at: read_moment(ended.at)?,
        })),
    }
}

fn read_open(number: i32) -> Result<OpenStatus, Damage> {
    match stored::OpenStatus::try_from(number) {
        Ok(stored::OpenStatus::Pending) => Ok(OpenStatus::Pending),
        Ok(stored::OpenStatus::Authenticated) => Ok(OpenStatus::Authenticated),
        Ok(stored::OpenStatus::Verified) => Ok(OpenStatus::Verified),
        Ok(stored::OpenStatus::Unspecified) | Err(_) => Err(Damage::Form("no such status")),
    }
}

fn read_spent(spent: stored::Spent) -> Result<Spent, Damage> {
    Ok(Spent {
        callback: KeyedHash::new(fixed(&spent.callback)?),
        is_error: spent.is_error,
        first_presented: read_moment(spent.first_presented)?,
        sends: spent.sends,
    })
}

fn read_failure(failure: stored::Failure) -> Result<Failure, Damage> {
    Ok(Failure {
        reason: Reason::parse(&failure.reason).ok_or(Damage::Form("no such reason"))?,
        stage: Stage::parse(&failure.stage).ok_or(Damage::Form("no such stage of a failure"))?,
        said: failure.said.map(|said| ProviderSaid {
            error: said.error,
            description: said.description,
            http_status: u16::try_from(said.http_status).unwrap_or(0),
            attempts: said.attempts,
            request_time: Timestamp::from_millis(said.request_ms),
            retry_after: None,
            first_error: (!said.first_error.is_empty()).then_some(said.first_error),
        }),
    })
}
