//! The session query: `GET /api/verify/hvf-session/{id}`, in the words of the provider's error page.

use serde_json::{Value, json};

use super::ApiError;
use super::clock::Moment;
use super::limits::is_test_key;
use super::world::{SESSION_LIFE, World};

impl World {
    /// What the owner of the key may know of a session of his.
    pub(super) fn session(
        &mut self,
        authorization: Option<&str>,
        id: &str,
        now: Moment,
    ) -> Result<Value, ApiError> {
        let header = authorization.ok_or(ApiError::new(401, "Missing API key"))?;
        let key =
            bearer(header).ok_or(ApiError::new(401, "Missing API key. Use Authorization: Bearer {key}"))?;
        if !self.clients.contains_key(key) {
            return Err(ApiError::new(401, "Invalid or inactive API key"));
        }
        // The page promises `Retry-After` for revocation alone; here clients must manage without.
        self.session_queries.admit(key, now).map_err(|_| ApiError::new(429, "Too Many Requests"))?;
        self.daily.admit(key, now).map_err(ApiError::over)?;
        let missing = ApiError::new(404, "Session not found or expired");
        let session = self.sessions.get(id).ok_or(missing)?;
        if session.request.client_id != key {
            return Err(ApiError::new(403, "Forbidden: this session belongs to a different API key"));
        }
        let expires = session.created.plus(SESSION_LIFE);
        if now >= expires {
            return Err(ApiError::new(404, "Session not found or expired"));
        }
        Ok(json!({"success": true, "session": {
            "sessionId": id,
            "status": session.status.name(),
            "scopes": session.request.scopes,
            "isTestMode": is_test_key(key),
            "createdAt": session.created.to_string(),
            "expiresAt": expires.to_string(),
        }}))
    }
}

/// The credential of an `Authorization: Bearer …` header; the scheme's case does not matter (RFC 9110 §11.1).
pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

#[cfg(test)]
mod tests {
    use super::super::authorize::tests::client;
    use super::super::world::tests::{after, params, world};

    #[test]
    fn the_session_query_answers_in_the_words_of_the_error_page() {
        let mut world = world();
        let mut other = client();
        other.client_id = "cairl_live_other".into();
        world.register(other).unwrap();
        let id = world.begin(&params("0123456789abcdef"), after(0)).unwrap();
        let mut ask = |header: Option<&str>, id: &str, now| {
            world.session(header, id, now).map_err(|error| (error.status, error.error)).map(|_| ())
        };
        let mine = Some("Bearer cairl_test_shop");
        assert_eq!(ask(None, &id, after(0)), Err((401, "Missing API key")));
        let wrong = Err((401, "Missing API key. Use Authorization: Bearer {key}"));
        assert_eq!(ask(Some("Basic abc"), &id, after(0)), wrong);
        assert_eq!(ask(Some("Bearer "), &id, after(0)), wrong);
        assert_eq!(ask(Some("Bearer nobody"), &id, after(0)), Err((401, "Invalid or inactive API key")));
        let foreign = Err((403, "Forbidden: this session belongs to a different API key"));
        assert_eq!(ask(Some("Bearer cairl_live_other"), &id, after(0)), foreign);
        assert_eq!(ask(mine, "hvf_unknown", after(0)), Err((404, "Session not found or expired")));
        assert_eq!(ask(mine, &id, after(1799)), Ok(()));
        assert_eq!(ask(mine, &id, after(1800)), Err((404, "Session not found or expired")));
    }

    #[test]
    fn the_sixty_first_query_of_a_minute_is_refused() {
        let mut world = world();
        let id = world.begin(&params("0123456789abcdef"), after(0)).unwrap();
        let mut ask =
            |now| world.session(Some("bearer cairl_test_shop"), &id, now).map_err(|e| e.status).map(|_| ());
        for _ in 0..60 {
            assert_eq!(ask(after(0)), Ok(()));
        }
        assert_eq!(ask(after(59)), Err(429));
        assert_eq!(ask(after(60)), Ok(()));
    }
}
