//! Reading the provider's redirect, in whatever form the partner's framework hands it on.

use url::form_urlencoded;

use super::{
    id::State,
    name::ProviderSessionId,
    reason::Reason,
    refusal::{Refusal, tame},
    secret::AuthorizationCode,
};

/// Longest accepted callback URL, bytes.
const MAX_URL: usize = 8192;
/// Longest accepted `state`, bytes. One that was issued here has 64.
const MAX_STATE: usize = 512;
/// Longest accepted `code`, bytes.
const MAX_CODE: usize = 2048;
/// Longest accepted `error`, bytes.
const MAX_ERROR: usize = 128;

/// A callback that can be acted on.
#[derive(Debug)]
pub struct Callback {
    /// The state it carries, by its form one of ours.
    pub state: State,
    /// What it presents.
    pub presented: Presented,
    /// The provider's session id, if there was one of the right form: a hint, since it came through a browser.
    pub provider_session: Option<ProviderSessionId>,
    /// The issuer (RFC 9207), if there was one.
    pub issuer: Option<String>,
}

/// What a callback presents: a code or an error, never both.
#[derive(Clone, Debug)]
pub enum Presented {
    /// An authorization code (RFC 6749 §4.1.2).
    Code(AuthorizationCode),
    /// The provider's error (RFC 6749 §4.1.2.1).
    Error {
        /// Its code.
        error: String,
        /// Its words; empty when there were none.
        description: String,
    },
}

/// A callback's documented parameters, as text. An empty one counts as left out (RFC 6749 §3.1).
#[derive(Default)]
pub struct CallbackParameters {
    /// `state`
    pub state: String,
    /// `code`
    pub code: String,
    /// `error`
    pub error: String,
    /// `error_description`
    pub error_description: String,
    /// `session_id`
    pub session_id: String,
    /// `iss`
    pub iss: String,
}

/// Reads a whole callback URL, a path with a query, or a bare query string.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field and what is wrong; `STATE_UNKNOWN` for a state of another form than ours.
pub fn parse_callback_url(text: &str) -> Result<Callback, Refusal> {
    let parameters = split_callback_url(text).map_err(|wrong| Refusal::field("callback_url", wrong))?;
    check("callback_url", &parameters)
}

/// Reads parameters that the partner's framework has already parsed.
///
/// # Errors
/// As for [`parse_callback_url`].
pub fn parse_parameters(parameters: &CallbackParameters) -> Result<Callback, Refusal> {
    check("parameters", parameters)
}

fn split_callback_url(text: &str) -> Result<CallbackParameters, String> {
    if text.len() > MAX_URL {
        return Err(format!("is {} bytes long; at most {MAX_URL} are taken", text.len()));
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("contains control characters; pass the URL as the browser requested it".to_owned());
    }
    let before_fragment = text.split('#').next().unwrap_or_default();
    // In a bare query `?` and `://` may stand unencoded inside a value (RFC 3986 §3.4): only before the first `=` do they
    // say that this is a URL or a path.
    let (beginning, _) = before_fragment.split_once('=').unwrap_or((before_fragment, ""));
    let query = if beginning.contains('?') {
        before_fragment.split_once('?').map(|(_, query)| query).unwrap_or_default()
    } else if beginning.contains("://") || beginning.starts_with('/') {
        ""
    } else {
        before_fragment
    };
    if !is_percent_encoded(query) {
        return Err("has a broken percent-encoding, as a truncated URL has; pass the whole URL".to_owned());
    }
    let mut parameters = CallbackParameters::default();
    let mut seen = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let field = match name.as_ref() {
            "state" => &mut parameters.state,
            "code" => &mut parameters.code,
            "error" => &mut parameters.error,
            "error_description" => &mut parameters.error_description,
            "session_id" => &mut parameters.session_id,
            "iss" => &mut parameters.iss,
            _ => continue,
        };
        if seen.contains(&name) {
            return Err(format!("has the parameter {name} more than once; it must stand once"));
        }
        *field = value.into_owned();
        seen.push(name);
    }
    Ok(parameters)
}

/// Whether every `%` is followed by two hexadecimal digits.
fn is_percent_encoded(query: &str) -> bool {
    query.split('%').skip(1).all(|part| {
        let mut bytes = part.bytes();
        let mut is_hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
        is_hex() && is_hex()
    })
}

fn check(field: &str, parameters: &CallbackParameters) -> Result<Callback, Refusal> {
    let wrong = |name: &str, what: &str| {
        let path = if field == "parameters" { format!("parameters.{name}") } else { field.to_owned() };
        Refusal::field(&path, format!("{name} {what}"))
    };
    let CallbackParameters { state, code, error, error_description, session_id, iss } = parameters;
    if state.is_empty() {
        return Err(wrong("state", "is missing; pass the callback with its state"));
    }
    if state.len() > MAX_STATE {
        return Err(wrong("state", "is longer than 512 bytes; a state issued here has 64 characters"));
    }
    let presented = match (code.is_empty(), error.is_empty()) {
        (false, false) => return Err(wrong("code", "stands beside error; a callback has one of the two")),
        (true, true) => {
            return Err(wrong("code", "is missing, and error too; a callback has one of the two"));
        }
        (false, true) => {
            if code.len() > MAX_CODE || !is_visible(code) {
                return Err(wrong(
                    "code",
                    "must be 1 to 2048 bytes of printable ASCII (RFC 6749 appendix A.11)",
                ));
            }
            Presented::Code(AuthorizationCode::new(code.as_str()))
        }
        (true, false) => {
            if error.len() > MAX_ERROR || !is_visible(error) {
                return Err(wrong(
                    "error",
                    "must be 1 to 128 bytes of printable ASCII (RFC 6749 appendix A.7)",
                ));
            }
            // Decoration: whatever it is, it must not keep the error from being recorded. Neither may repeat the state.
            Presented::Error { error: tame(error, &[state]), description: tame(error_description, &[state]) }
        }
    };
    let state = State::parse(state).map_err(|_| Refusal::new(Reason::StateUnknown))?;
    Ok(Callback {
        state,
        presented,
        provider_session: ProviderSessionId::parse(session_id).ok(),
        issuer: (!iss.is_empty()).then(|| iss.clone()),
    })
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{SessionId, StateSecret, Timestamp};

    fn state() -> String {
        State {
            session: SessionId::new(Timestamp::from_millis(5), [1; 10]),
            secret: StateSecret::new([2; 32]),
        }
        .expose()
    }

    fn wrong(url: &str) -> (Reason, String) {
        let refusal = parse_callback_url(url).expect_err(url);
        let said = refusal.violations.first().map(|v| v.description.clone()).unwrap_or_default();
        (refusal.reason, said)
    }

    #[test]
    fn all_three_forms_mean_the_same() {
        let query = format!("code=a%2Bb+c&state={}&session_id=hvf_1&iss=https%3A%2F%2Fcairl.app", state());
        for url in [
            format!("https://shop.example/callback?{query}"),
            format!("https://shop.example/callback?tag=x&tag=y&{query}#fragment"),
            format!("/callback?{query}"),
            query.clone(),
        ] {
            let callback = parse_callback_url(&url).unwrap();
            assert_eq!(callback.state.expose(), state());
            assert!(matches!(&callback.presented, Presented::Code(code) if code.expose() == "a+b c"));
            assert_eq!(callback.provider_session.unwrap().as_str(), "hvf_1");
            assert_eq!(callback.issuer.as_deref(), Some("https://cairl.app"));
        }
    }

    #[test]
    fn an_error_callback_is_read() {
        let url = format!("/cb?error=access_denied&error_description=no%20thanks&state={}", state());
        let callback = parse_callback_url(&url).unwrap();
        assert!(matches!(callback.presented, Presented::Error { error, description }
            if error == "access_denied" && description == "no thanks"));
    }

    #[test]
    fn a_bare_query_may_hold_what_looks_like_a_url() {
        let callback =
            parse_callback_url(&format!("code=a?b&state={}&iss=https://cairl.app", state())).unwrap();
        assert!(matches!(&callback.presented, Presented::Code(code) if code.expose() == "a?b"));
        assert_eq!(callback.issuer.as_deref(), Some("https://cairl.app"));
    }

    #[test]
    fn decoration_does_not_keep_an_error_from_being_read() {
        let long = "x".repeat(3000);
        for (description, kept) in [("no%0Athanks", "no thanks".to_owned()), (long.as_str(), "x".repeat(512))]
        {
            let url = format!("/cb?error=access_denied&error_description={description}&state={}", state());
            let callback = parse_callback_url(&url).unwrap();
            assert!(
                matches!(callback.presented, Presented::Error { description, .. } if description == kept)
            );
        }
    }

    #[test]
    fn an_error_does_not_carry_the_state_on() {
        let state = state();
        let url = format!("/cb?error=bad%20{state}&error_description={state}%20is%20bad&state={state}");
        let callback = parse_callback_url(&url).unwrap();
        assert!(matches!(callback.presented, Presented::Error { error, description }
            if error == "bad [masked]" && description == "[masked] is bad"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let state = state();
        for (url, part) in [
            (format!("/cb?code=a&code=b&state={state}"), "code more than once"),
            (format!("/cb?code=a&state={state}&state={state}"), "state more than once"),
            (format!("/cb?code=a&error=b&state={state}"), "beside error"),
            (format!("/cb?state={state}"), "is missing, and error too"),
            (format!("/cb?code=&state={state}"), "is missing, and error too"),
            ("/cb?code=a".to_owned(), "state is missing"),
            ("https://shop.example/callback".to_owned(), "state is missing"),
            (String::new(), "state is missing"),
            (format!("/cb?state={state}&code=a%2"), "truncated"),
            (format!("/cb?state={state}&code=a%"), "truncated"),
            (format!("/cb?state={state}&code=a%zz"), "truncated"),
            (format!("/cb?state={state}&code=a%00"), "printable ASCII"),
            (format!("/cb?state={state}&code=a\0"), "control characters"),
            (format!("/cb?state={state}&code={}", "a".repeat(2049)), "2048"),
            (format!("/cb?state={state}&code={}", "a".repeat(9000)), "8192"),
            (format!("/cb?state={}&code=a", "a".repeat(513)), "512"),
            (format!("/cb?state={state}&error={}", "a".repeat(129)), "128"),
        ] {
            let (reason, said) = wrong(&url);
            assert_eq!(reason, Reason::InvalidArgument, "{url}");
            assert!(said.contains(part), "{url}: {said}");
        }
        assert_eq!(wrong("/cb?code=a&state=abc").0, Reason::StateUnknown);
        assert_eq!(wrong(&format!("/cb?code=a&state={}", &state[..60])).0, Reason::StateUnknown);
    }

    #[test]
    fn a_hint_of_another_form_is_ignored() {
        for hint in ["ses_1", "hvf_", "hvf_a%2Fb", "hvf_../x"] {
            let callback =
                parse_callback_url(&format!("/cb?code=a&state={}&session_id={hint}", state())).unwrap();
            assert_eq!(callback.provider_session, None, "{hint}");
        }
    }

    #[test]
    fn parameters_name_their_field() {
        let refusal =
            parse_parameters(&CallbackParameters { state: state(), ..Default::default() }).unwrap_err();
        assert_eq!(refusal.violations[0].field, "parameters.code");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = parse_callback_url(&text);
        }

        #[test]
        fn any_code_comes_through(code in "[ -~]{1,60}") {
            let query: String = form_urlencoded::Serializer::new(String::new())
                .append_pair("state", &state())
                .append_pair("code", &code)
                .finish();
            let callback = parse_callback_url(&query).unwrap();
            prop_assert!(matches!(&callback.presented, Presented::Code(read) if read.expose() == code));
        }
    }
}
