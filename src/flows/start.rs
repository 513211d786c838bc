//! Starting an authorization.

use url::Url;

use super::{Client, Flows, ids::random};
use crate::{
    domain::{Binding, CodeVerifier, Refusal, Scope, Session, State, StateSecret, Viewer},
    store::{NewSession, PendingLimits, Started},
};

/// What to start.
#[derive(Debug)]
pub struct Start {
    /// Who starts it.
    pub viewer: Viewer,
    /// Name of the client; empty for the only one.
    pub client: String,
    /// One of the client's redirect URIs; empty for the only one.
    pub redirect_uri: String,
    /// What to ask for.
    pub scopes: Vec<Scope>,
    /// What ties it to a browser session.
    pub binding: Option<Binding>,
    /// The caller's correlation text.
    pub reference: String,
    /// What makes it idempotent.
    pub request_id: Option<String>,
    /// How many sessions this caller may have open; none for what callers may have by default.
    pub pending: Option<u64>,
}

/// What was started.
pub struct StartAnswer {
    /// The session.
    pub session: Session,
    /// The URL to send the browser to and the state in it, while that can be used. The URL carries the state: it is not
    /// logged.
    pub authorization: Option<(String, String)>,
}

impl Flows {
    /// Makes a session with its state and verifier, durable before its URL is returned.
    ///
    /// # Errors
    /// `CLIENT_UNKNOWN`, `REDIRECT_URI_UNREGISTERED`, `INVALID_ARGUMENT`, `REQUEST_ID_REUSED`, `OVERLOADED` where too many
    /// sessions are open, the store's.
    pub async fn start(&self, start: Start) -> Result<StartAnswer, Refusal> {
        let client = self.client(&start.viewer, &start.client)?;
        let redirect_uri = client.redirect_uri(&start.redirect_uri)?;
        if client.require_binding && start.binding.is_none() {
            return Err(Refusal::field(
                "binding",
                "is required by this client: pass a value made from the user's browser session, such as a cookie's hash",
            ));
        }
        let now = self.now();
        let new = NewSession {
            id: self.ids.next(now.wall)?,
            client: client.name.clone(),
            caller: start.viewer.caller,
            scopes: start.scopes,
            redirect_uri,
            reference: start.reference,
            test_mode: client.test_mode,
            secret: StateSecret::new(random()?),
            verifier: CodeVerifier::from_random(random()?),
            binding: start.binding,
            request_id: start.request_id,
            limits: PendingLimits { caller: start.pending.unwrap_or(self.pending.caller), ..self.pending },
        };
        let Started { session, usable } = self.store.start(now, new).await?;
        // Any visitor of a caller's can bring about a start, in any number; what ends a session is told more loudly.
        let (id, caller) = (session.id, &session.caller);
        tracing::debug!(session = %id, client = %client.name, %caller, "an authorization is started");
        let authorization = usable.map(|(state, verifier)| {
            (client.authorization_url(&session, &state, &verifier).into(), state.expose())
        });
        Ok(StartAnswer { session, authorization })
    }
}

impl Client {
    fn redirect_uri(&self, asked: &str) -> Result<String, Refusal> {
        let field = "redirect_uri";
        if asked.is_empty() {
            return match self.redirect_uris.as_slice() {
                [only] => Ok(only.clone()),
                _ => Err(Refusal::field(field, "is needed, since the client has more than one")),
            };
        }
        self.redirect_uris.iter().find(|registered| *registered == asked).cloned().ok_or_else(|| {
            let reason = crate::domain::Reason::RedirectUriUnregistered;
            Refusal::field_with(reason, field, "must equal one of the client's redirect_uris, byte for byte")
        })
    }

    /// The URL that the browser goes to: each documented parameter once, each encoded, so that no text in a scope or
    /// redirect URI can add another.
    fn authorization_url(&self, session: &Session, state: &State, verifier: &CodeVerifier) -> Url {
        let scope = session.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ");
        let mut url = self.authorize.clone();
        url.query_pairs_mut()
            .append_pair("client_id", self.client_id.expose())
            .append_pair("redirect_uri", &session.redirect_uri)
            .append_pair("state", &state.expose())
            .append_pair("scope", &scope)
            .append_pair("code_challenge", verifier.challenge().as_str())
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(&self.authorize_params);
        url
    }
}
