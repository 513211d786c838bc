//! The rules of the token, userinfo and revocation endpoints (RFC 6749 §4.1.3, RFC 7636 §4.6, RFC 7009).

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ApiError;
use super::clock::Moment;
use super::limits::Over;
use super::params::{Params, Repeated};
use super::query::bearer;
use super::world::{Session, Token, World};

/// An authorization code dies this long after its issue.
const CODE_LIFE: Duration = Duration::from_secs(10 * 60);
/// An access token dies this long after its issue. The provider says it in `expires_in`; an hour is the stand-in's.
const TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);

/// A refusal in the form of RFC 6749 §5.2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenError {
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) description: &'static str,
    pub(super) retry_after: Option<u64>,
}

impl TokenError {
    pub(super) fn new(status: u16, error: &'static str, description: &'static str) -> Self {
        Self { status, error, description, retry_after: None }
    }

    /// The provider documents the status alone; the body is the stand-in's.
    fn over(limit: Over) -> Self {
        let retry_after = Some(limit.retry_after);
        Self { status: 429, error: "too_many_requests", description: "Too Many Requests", retry_after }
    }
}

fn required<'p>(params: &'p Params, name: &str, missing: &'static str) -> Result<&'p str, TokenError> {
    params
        .one(name)
        .map_err(|Repeated| TokenError::new(400, "invalid_request", "A parameter occurs more than once"))?
        .ok_or(TokenError::new(400, "invalid_request", missing))
}

impl World {
    /// Exchanges a code for a token: one code, one token.
    pub(super) fn redeem(&mut self, params: &Params, now: Moment) -> Result<Value, TokenError> {
        let bad_grant = |why| TokenError::new(400, "invalid_grant", why);
        let stale = || bad_grant("Authorization code has expired or already been used");

        let grant_type = required(params, "grant_type", "grant_type is missing")?;
        let client_id = required(params, "client_id", "client_id is missing")?;
        if self.clients.contains_key(client_id) {
            self.token_requests.admit(client_id, now).map_err(TokenError::over)?;
        }
        self.authenticate(params, now)?;
        if grant_type != "authorization_code" {
            let why = "grant_type must be authorization_code";
            return Err(TokenError::new(400, "unsupported_grant_type", why));
        }
        let code = required(params, "code", "code is missing")?;
        let redirect_uri = required(params, "redirect_uri", "redirect_uri is missing")?;
        let verifier = required(params, "code_verifier", "code_verifier is missing")?;
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
            let why = "code_verifier is not 43 to 128 unreserved characters (RFC 7636 section 4.1)";
            return Err(TokenError::new(400, "invalid_request", why));
        }

        let id = self.by_code.get(code).ok_or_else(stale)?.clone();
        let signature = self.draw();
        let session = self.sessions.get_mut(&id).ok_or_else(stale)?;
        let grant = session.code.as_mut().ok_or_else(stale)?;
        if session.request.client_id != client_id {
            return Err(bad_grant("Authorization code was issued to another client"));
        }
        if grant.spent {
            // Somebody has the code who should not: what it bought is void (RFC 6749 §4.1.2).
            if let Some(token) = &mut session.token {
                token.revoked = true;
            }
            return Err(stale());
        }
        if now >= grant.issued.plus(CODE_LIFE) {
            return Err(stale());
        }
        if session.request.redirect_uri != redirect_uri {
            let why = "redirect_uri doesn't match the value used in the authorization request";
            return Err(TokenError::new(400, "invalid_redirect_uri", why));
        }
        // What is compared is a hash that the browser has seen: nothing for a clock to find out.
        if BASE64URL_NOPAD.encode(&Sha256::digest(verifier)) != session.request.challenge {
            return Err(bad_grant("code_verifier mismatch"));
        }
        grant.spent = true;
        let value = token_like_a_jwt(&session.request.client_id, now, &signature);
        session.token = Some(Token { value: value.clone(), issued: now, revoked: false });
        self.by_token.insert(value.clone(), id);
        Ok(json!({"access_token": value, "token_type": "Bearer", "expires_in": TOKEN_LIFE.as_secs()}))
    }

    /// The claims, as they stood when the user approved.
    pub(super) fn userinfo(&mut self, authorization: Option<&str>, now: Moment) -> Result<Value, ApiError> {
        let refused = || ApiError::new(401, "Unauthorized");
        let token = authorization.and_then(bearer).ok_or_else(refused)?;
        let session = self.by_token.get(token).and_then(|id| self.sessions.get(id)).ok_or_else(refused)?;
        let alive = |token: &Token| !token.revoked && now < token.issued.plus(TOKEN_LIFE);
        if !session.token.as_ref().is_some_and(alive) {
            return Err(refused());
        }
        self.daily.admit(&session.request.client_id, now).map_err(ApiError::over)?;
        Ok(claims(session))
    }

    /// Revokes a token; nobody learns whether it was one (RFC 7009 §2.2).
    pub(super) fn revoke(&mut self, params: &Params, now: Moment) -> Result<(), TokenError> {
        let token = required(params, "token", "token is missing")?;
        let client_id = required(params, "client_id", "client_id is missing")?;
        self.authenticate(params, now)?;
        // Repeated, the hint is malformed; otherwise it is but a hint, whatever it says.
        params.one("token_type_hint").map_err(|Repeated| {
            TokenError::new(400, "invalid_request", "A parameter occurs more than once")
        })?;
        if let Some(session) = self.by_token.get(token).and_then(|id| self.sessions.get_mut(id))
            && session.request.client_id == client_id
            && let Some(token) = &mut session.token
        {
            token.revoked = true;
        }
        Ok(())
    }

    fn authenticate(&mut self, params: &Params, now: Moment) -> Result<(), TokenError> {
        let client_id = required(params, "client_id", "client_id is missing")?;
        let secret = required(params, "client_secret", "client_secret is missing")?;
        let wrong = || TokenError::new(401, "invalid_client", "Wrong client_id or client_secret");
        let client = self.clients.get(client_id).ok_or_else(wrong)?;
        // Digests have one length, so that neither the content nor the length of the secret shows in the time taken.
        let same = Sha256::digest(secret).ct_eq(&Sha256::digest(&client.client_secret));
        if !bool::from(same) {
            return Err(wrong());
        }
        self.daily.admit(client_id, now).map_err(TokenError::over)
    }
}

fn claims(session: &Session) -> Value {
    let issued = session.code.as_ref().map(|code| code.issued.to_string());
    let named = |null: bool| -> Vec<&String> {
        session.claims.iter().filter(|(_, value)| value.is_null() == null).map(|(name, _)| name).collect()
    };
    json!({
        "sub": subject(&session.request.client_id),
        "evaluated_at": issued,
        "claims": session.claims,
        "meta": {
            "claims_requested": session.request.scopes,
            "claims_resolved": named(false),
            "claims_null": named(true),
            "claims_ignored": [],
        },
    })
}

/// The stand-in has one user, whom each client knows by another pseudonym, across restarts too.
fn subject(client_id: &str) -> String {
    let digest = Sha256::new().chain_update("the user of the sandbox\0").chain_update(client_id).finalize();
    format!("pws_v1_{}", BASE64URL_NOPAD.encode(digest.first_chunk::<16>().unwrap_or(&[0; 16])))
}

/// Three base64url parts that look like a JWT. The last is random and signs nothing: clients must treat the token as
/// opaque, and one that tries to verify it is found out here.
fn token_like_a_jwt(client_id: &str, now: Moment, signature: &[u8]) -> String {
    let payload = json!({
        "iss": "cairl-sandbox",
        "sub": subject(client_id),
        "iat": now.seconds(),
        "exp": now.plus(TOKEN_LIFE).seconds(),
    });
    let parts = [br#"{"alg":"HS256","typ":"JWT"}"#.as_slice(), payload.to_string().as_bytes(), signature]
        .map(|part| BASE64URL_NOPAD.encode(part));
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::super::authorize::tests::client;
    use super::super::world::tests::{after, approved, world};
    use super::*;

    /// RFC 7636 appendix B; its challenge is the one the sessions of these tests begin with.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn request(code: &str, changes: &[(&str, &str)]) -> Params {
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", "cairl_test_shop"),
            ("client_secret", "the shop's secret"),
            ("redirect_uri", "https://shop.example/cb"),
            ("code_verifier", VERIFIER),
        ];
        for (name, value) in changes {
            pairs.retain(|(key, _)| key != name);
            pairs.push((name, value));
        }
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Params::parse(form.as_bytes())
    }

    fn redeem(
        world: &mut World,
        code: &str,
        changes: &[(&str, &str)],
        now: Moment,
    ) -> Result<String, (u16, &'static str)> {
        let answer = world.redeem(&request(code, changes), now).map_err(|e| (e.status, e.error))?;
        Ok(format!("Bearer {}", answer["access_token"].as_str().unwrap()))
    }

    #[test]
    fn each_fault_of_a_token_request_has_its_status_and_code() {
        let mut world = world();
        let (_, code) = approved(&mut world);
        let short = "x".repeat(42);
        let other = "x".repeat(43);
        for (name, value, status, error) in [
            ("grant_type", "", 400, "invalid_request"),
            ("grant_type", "refresh_token", 400, "unsupported_grant_type"),
            ("code", "", 400, "invalid_request"),
            ("code", "unknown", 400, "invalid_grant"),
            ("client_id", "", 400, "invalid_request"),
            ("client_id", "nobody", 401, "invalid_client"),
            ("client_secret", "", 400, "invalid_request"),
            ("client_secret", "wrong", 401, "invalid_client"),
            ("redirect_uri", "", 400, "invalid_request"),
            ("redirect_uri", "https://shop.example/cb/", 400, "invalid_redirect_uri"),
            ("code_verifier", "", 400, "invalid_request"),
            ("code_verifier", &short, 400, "invalid_request"),
            ("code_verifier", &other, 400, "invalid_grant"),
        ] {
            let verdict = redeem(&mut world, &code, &[(name, value)], after(1));
            assert_eq!(verdict, Err((status, error)), "{name}={value}");
        }
        assert!(redeem(&mut world, &code, &[], after(1)).is_ok(), "none of them spent the code");
    }

    #[test]
    fn a_parameter_sent_twice_spoils_the_request() {
        let mut world = world();
        let (_, code) = approved(&mut world);
        for name in ["grant_type", "code", "client_id", "client_secret", "redirect_uri", "code_verifier"] {
            let form = format!(
                "grant_type=authorization_code&code={code}&client_id=cairl_test_shop&client_secret=the+shop's+secret\
                 &redirect_uri=https://shop.example/cb&code_verifier={VERIFIER}&{name}=more"
            );
            let refusal = world.redeem(&Params::parse(form.as_bytes()), after(1)).unwrap_err();
            assert_eq!((refusal.status, refusal.error), (400, "invalid_request"), "{name}");
        }
    }

    #[test]
    fn a_code_lives_ten_minutes() {
        let mut world = world();
        let (_, code) = approved(&mut world);
        assert_eq!(redeem(&mut world, &code, &[], after(600)), Err((400, "invalid_grant")));
        assert!(redeem(&mut world, &code, &[], after(599)).is_ok());
    }

    #[test]
    fn a_code_spent_twice_takes_back_what_it_bought() {
        let mut world = world();
        let (_, code) = approved(&mut world);
        let token = redeem(&mut world, &code, &[], after(1)).unwrap();
        assert!(world.userinfo(Some(&token), after(2)).is_ok());
        assert_eq!(redeem(&mut world, &code, &[], after(3)), Err((400, "invalid_grant")));
        assert_eq!(world.userinfo(Some(&token), after(4)).unwrap_err().status, 401);
    }

    #[test]
    fn a_code_belongs_to_its_client() {
        let mut world = world();
        let mut other = client();
        other.client_id = "cairl_live_other".into();
        world.register(other).unwrap();
        let (_, code) = approved(&mut world);
        let stolen = redeem(&mut world, &code, &[("client_id", "cairl_live_other")], after(1));
        assert_eq!(stolen, Err((400, "invalid_grant")));
        assert!(redeem(&mut world, &code, &[], after(1)).is_ok());
    }

    #[test]
    fn the_thirty_first_token_request_of_a_minute_waits() {
        let mut world = world();
        let (_, code) = approved(&mut world);
        for _ in 0..30 {
            assert_eq!(redeem(&mut world, "unknown", &[], after(1)), Err((400, "invalid_grant")));
        }
        let refusal = world.redeem(&request(&code, &[]), after(31)).unwrap_err();
        assert_eq!((refusal.status, refusal.retry_after), (429, Some(30)));
        assert!(redeem(&mut world, &code, &[], after(61)).is_ok());
    }

    #[test]
    fn the_daily_cap_stops_a_test_key_when_it_is_on() {
        let mut world = World::new([7; 32], Some(2));
        world.register(client()).unwrap();
        let (_, code) = approved(&mut world);
        let token = redeem(&mut world, &code, &[], after(1)).unwrap();
        assert!(world.userinfo(Some(&token), after(1)).is_ok());
        assert_eq!(world.userinfo(Some(&token), after(1)).unwrap_err().status, 429);
        assert_eq!(redeem(&mut world, &code, &[], after(1)), Err((429, "too_many_requests")));
    }

    #[test]
    fn userinfo_tells_null_from_false_and_dies_with_the_token() {
        let mut world = world();
        let (id, code) = approved(&mut world);
        world.sessions.get_mut(&id).unwrap().claims =
            [("a".into(), json!(false)), ("b".into(), Value::Null), ("c".into(), json!({"x": 1}))]
                .into_iter()
                .collect();
        let token = redeem(&mut world, &code, &[], after(1)).unwrap();
        let info = world.userinfo(Some(&token), after(2)).unwrap();
        assert_eq!(info["claims"], json!({"a": false, "b": null, "c": {"x": 1}}));
        assert_eq!(info["meta"]["claims_resolved"], json!(["a", "c"]));
        assert_eq!(info["meta"]["claims_null"], json!(["b"]));
        assert_eq!(info["evaluated_at"], after(0).to_string());
        assert!(world.userinfo(Some(&token), after(3600)).is_ok());
        assert_eq!(world.userinfo(Some(&token), after(3601)).unwrap_err().status, 401);
        assert_eq!(world.userinfo(None, after(1)).unwrap_err().error, "Unauthorized");
    }

    #[test]
    fn revoking_answers_well_whatever_the_token_and_ends_only_ones_own() {
        let mut world = world();
        let mut other = client();
        other.client_id = "cairl_live_other".into();
        world.register(other).unwrap();
        let (_, code) = approved(&mut world);
        let header = redeem(&mut world, &code, &[], after(1)).unwrap();
        let token = bearer(&header).unwrap();
        let mut revoke = |changes: &[(&str, &str)]| {
            world.revoke(&request("unused", changes), after(2)).map_err(|e| (e.status, e.error))
        };
        assert_eq!(revoke(&[]), Err((400, "invalid_request")));
        assert_eq!(revoke(&[("token", token), ("client_secret", "wrong")]), Err((401, "invalid_client")));
        assert_eq!(revoke(&[("token", "whatever")]), Ok(()));
        assert_eq!(revoke(&[("token", token), ("client_id", "cairl_live_other")]), Ok(()));
        assert!(world.userinfo(Some(&header), after(2)).is_ok());
        assert_eq!(world.revoke(&request("unused", &[("token", token)]), after(2)), Ok(()));
        assert_eq!(world.userinfo(Some(&header), after(2)).unwrap_err().status, 401);
    }

    #[test]
    fn subjects_differ_between_clients_and_stay_the_same_for_one() {
        assert_eq!(subject("a"), subject("a"));
        assert_ne!(subject("a"), subject("b"));
        assert!(subject("a").starts_with("pws_v1_"));
    }
}
