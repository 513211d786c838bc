//! The authorization request: what `/verify/start` demands of its parameters.

use std::collections::HashMap;

use url::form_urlencoded;

use super::Client;
use super::params::{Params, Repeated};

/// The provider's minimum for `state`.
const MIN_STATE: usize = 16;

/// A request that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) state: String,
    /// Each once, in the order asked.
    pub(super) scopes: Vec<String>,
    pub(super) challenge: String,
}

impl Request {
    pub(super) fn succeed(&self, code: &str, session_id: &str) -> String {
        let pairs = [("code", code), ("state", &self.state), ("session_id", session_id)];
        with_query(&self.redirect_uri, &pairs)
    }

    pub(super) fn fail(&self, error: &str) -> String {
        with_query(&self.redirect_uri, &[("error", error), ("state", &self.state)])
    }
}

/// Why no session begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing says that the redirect URI belongs to the client, so the user stays here (RFC 6749 §3.1.2.4).
    Page(String),
    /// The fault is told to the client, at this URL.
    Redirect { to: String, why: &'static str },
}

/// Checks the parameters: first what decides whom may be told, then the rest.
pub(super) fn check(params: &Params, clients: &HashMap<String, Client>) -> Result<Request, Refusal> {
    let page = |text: &str| Refusal::Page(text.to_owned());
    let client_id = params
        .one("client_id")
        .map_err(|Repeated| page("invalid_request: client_id occurs more than once"))?
        .ok_or_else(|| page("invalid_request: client_id is missing"))?;
    let client =
        clients.get(client_id).ok_or_else(|| page("invalid_client: no such client_id is known here"))?;
    let redirect_uri = params
        .one("redirect_uri")
        .map_err(|Repeated| page("invalid_request: redirect_uri occurs more than once"))?
        .ok_or_else(|| page("invalid_request: redirect_uri is missing"))?;
    if !client.redirect_uris.iter().any(|registered| registered == redirect_uri) {
        let text = format!(
            "invalid_redirect_uri: {redirect_uri} is not registered for this client. It must equal a registered \
             one byte for byte: scheme, port, path and trailing slash included"
        );
        return Err(Refusal::Page(text));
    }
    rest(params, client_id, redirect_uri).map_err(|why| {
        let mut pairs = vec![("error", "invalid_request")];
        pairs.extend(params.one("state").ok().flatten().map(|state| ("state", state)));
        Refusal::Redirect { to: with_query(redirect_uri, &pairs), why }
    })
}

fn rest(params: &Params, client_id: &str, redirect_uri: &str) -> Result<Request, &'static str> {
    let one = |name| params.one(name).map_err(|Repeated| "a parameter occurs more than once");
    let state = one("state")?.ok_or("state is missing")?;
    if state.chars().count() < MIN_STATE {
        return Err("state is shorter than 16 characters");
    }
    let scopes =
        scopes(one("scope")?.ok_or("scope is missing")?).ok_or("scope breaks RFC 6749 section 3.3")?;
    let challenge = one("code_challenge")?.ok_or("code_challenge is missing")?;
    // Left out, the method would be `plain` (RFC 7636 §4.3), which the provider does not know.
    if one("code_challenge_method")? != Some("S256") {
        return Err("code_challenge_method is not S256");
    }
    if challenge.len() != 43
        || !challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err("code_challenge is not the base64url of a SHA-256");
    }
    Ok(Request {
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        state: state.to_owned(),
        scopes,
        challenge: challenge.to_owned(),
    })
}

/// Scope tokens separated by single spaces, each of `%x21 / %x23-5B / %x5D-7E` (RFC 6749 §3.3).
fn scopes(text: &str) -> Option<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for token in text.split(' ') {
        let legal = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if token.is_empty() || !token.bytes().all(legal) {
            return None;
        }
        if !all.iter().any(|known| known == token) {
            all.push(token.to_owned());
        }
    }
    Some(all)
}

/// Adds parameters without touching a byte of the URI: a query it already has is kept (RFC 6749 §3.1.2).
fn with_query(uri: &str, pairs: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let joint = match uri.find('?') {
        None => "?",
        Some(_) if uri.ends_with(['?', '&']) => "",
        Some(_) => "&",
    };
    format!("{uri}{joint}{query}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    pub(in super::super) fn client() -> Client {
        Client {
            client_id: "cairl_test_shop".into(),
            client_secret: "the shop's secret".into(),
            redirect_uris: vec!["https://shop.example/cb".into(), "https://shop.example/cb?a=b".into()],
            webhook_url: None,
            webhook_secret: None,
            name: Some("Shop".into()),
        }
    }

    fn verdict(changes: &[(&str, Option<&str>)]) -> Result<Request, Refusal> {
        let mut pairs = vec![
            ("client_id", "cairl_test_shop"),
            ("redirect_uri", "https://shop.example/cb"),
            ("state", "0123456789abcdef"),
            ("scope", "age_18_plus name_match"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in changes {
            pairs.retain(|(key, _)| key != name);
            pairs.extend(value.map(|value| (*name, value)));
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        check(&Params::parse(query.as_bytes()), &HashMap::from([("cairl_test_shop".to_owned(), client())]))
    }

    #[test]
    fn a_whole_request_passes_with_its_scopes_in_order() {
        let request = verdict(&[("scope", Some("b age.over_18.v1.strict b a"))]).unwrap();
        assert_eq!(request.scopes, ["b", "age.over_18.v1.strict", "a"]);
    }

    #[test]
    fn nobody_is_sent_to_a_uri_that_is_not_registered() {
        for wrong in [
            ("client_id", Some("someone_else")),
            ("client_id", None),
            ("redirect_uri", None),
            ("redirect_uri", Some("https://shop.example/cb/")),
            ("redirect_uri", Some("https://SHOP.example/cb")),
            ("redirect_uri", Some("https://shop.example/cb?")),
        ] {
            assert!(matches!(verdict(&[wrong]), Err(Refusal::Page(_))), "{wrong:?}");
        }
    }

    #[test]
    fn every_other_fault_goes_back_to_the_client_with_the_state() {
        for wrong in [
            ("scope", None),
            ("scope", Some("a  b")),
            ("scope", Some("a\"b")),
            ("scope", Some("a\\b")),
            ("scope", Some("é")),
            ("code_challenge", None),
            ("code_challenge", Some("short")),
            ("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM")),
            ("code_challenge_method", None),
            ("code_challenge_method", Some("plain")),
        ] {
            let Err(Refusal::Redirect { to, .. }) = verdict(&[wrong]) else { panic!("{wrong:?} passed") };
            assert_eq!(to, "https://shop.example/cb?error=invalid_request&state=0123456789abcdef");
        }
    }

    #[test]
    fn a_state_of_fifteen_characters_is_refused_and_one_of_sixteen_is_not() {
        let Err(Refusal::Redirect { to, .. }) = verdict(&[("state", Some("0123456789abcde"))]) else {
            panic!()
        };
        assert!(to.ends_with("error=invalid_request&state=0123456789abcde"));
        assert!(verdict(&[("state", Some("0123456789abcdeé"))]).is_ok());
        let Err(Refusal::Redirect { to, .. }) = verdict(&[("state", None)]) else { panic!() };
        assert!(to.ends_with("cb?error=invalid_request"));
    }

    #[test]
    fn a_query_of_the_redirect_uri_is_kept_and_values_are_encoded() {
        let request = verdict(&[
            ("redirect_uri", Some("https://shop.example/cb?a=b")),
            ("state", Some("0123456789&x=é #")),
        ]);
        assert_eq!(
            request.unwrap().succeed("c", "hvf_1"),
            "https://shop.example/cb?a=b&code=c&state=0123456789%26x%3D%C3%A9+%23&session_id=hvf_1"
        );
    }
}
