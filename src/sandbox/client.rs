//! What the sandbox knows of a client of the provider.

use std::fmt;

use serde::Deserialize;
use url::Url;

/// A client registered with the stand-in, as with the provider: key, secret, redirect URIs, webhook endpoint.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The API key, which is the OAuth client id too. A `cairl_test_` prefix makes it a test key.
    pub client_id: String,
    /// What the token and revocation endpoints ask for.
    pub client_secret: String,
    /// Compared byte for byte with what a request brings.
    pub redirect_uris: Vec<String>,
    /// Where webhooks go; none are sent without.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// Signs webhooks; goes with `webhook_url`.
    #[serde(default)]
    pub webhook_secret: Option<String>,
    /// Shown on the consent page instead of the masked client id.
    #[serde(default)]
    pub name: Option<String>,
}

/// Shows no secret.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .field("redirect_uris", &self.redirect_uris)
            .field("webhook_url", &self.webhook_url)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Says what is wrong with a registration, naming the field.
    pub(super) fn check(&self) -> Result<(), String> {
        for (field, text) in [("client_id", &self.client_id), ("client_secret", &self.client_secret)] {
            if text.is_empty() {
                return Err(format!(
                    "{field} is empty; give the value that the service under test will send"
                ));
            }
        }
        if self.redirect_uris.is_empty() {
            return Err("redirect_uris is empty; give at least one absolute URI".to_owned());
        }
        for uri in &self.redirect_uris {
            // It ends up in a Location header, and RFC 6749 §3.1.2 allows no fragment.
            let legal = uri.bytes().all(|b| b.is_ascii_graphic()) && !uri.contains('#');
            if !legal || Url::parse(uri).is_err() {
                return Err(format!(
                    "redirect_uris: {uri:?} will not do; give an absolute URI in ASCII without a fragment"
                ));
            }
        }
        match (&self.webhook_url, &self.webhook_secret) {
            (None, None) => Ok(()),
            (Some(url), Some(secret)) => {
                if !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                    return Err("webhook_url is not an http:// or https:// URL".to_owned());
                }
                if secret.is_empty() { Err("webhook_secret is empty".to_owned()) } else { Ok(()) }
            }
            (Some(_), None) => {
                Err("webhook_secret is missing; webhooks are signed, so webhook_url needs it".to_owned())
            }
            (None, Some(_)) => {
                Err("webhook_url is missing; webhook_secret is of no use without it".to_owned())
            }
        }
    }

    /// The name for people: the given one, or as much of the id as tells clients apart.
    pub(super) fn display_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let id: Vec<char> = self.client_id.chars().collect();
        let prefix: String = ["cairl_test_", "cairl_live_"]
            .into_iter()
            .find(|p| self.client_id.starts_with(p))
            .unwrap_or("")
            .into();
        let tail: String = id.iter().skip(id.len().saturating_sub(4).max(prefix.len())).collect();
        format!("{prefix}…{tail}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::authorize::tests::client;

    #[test]
    fn a_registration_that_cannot_work_is_refused_by_the_name_of_the_field() {
        assert_eq!(client().check(), Ok(()));
        for uri in
            ["", "/cb", "https://shop.example/cb#x", "https://shop.example/c b", "https://shöp.example/"]
        {
            let mut wrong = client();
            wrong.redirect_uris = vec![uri.into()];
            assert!(wrong.check().unwrap_err().starts_with("redirect_uris: "), "{uri}");
        }
        let mut wrong = client();
        wrong.webhook_url = Some("https://shop.example/hook".into());
        assert!(wrong.check().unwrap_err().starts_with("webhook_secret is missing"));
        wrong.webhook_secret = Some("w".into());
        assert_eq!(wrong.check(), Ok(()));
        wrong.webhook_url = Some("shop.example".into());
        assert!(wrong.check().unwrap_err().starts_with("webhook_url"));
        wrong.client_secret.clear();
        assert!(wrong.check().unwrap_err().starts_with("client_secret"));
    }

    #[test]
    fn neither_the_page_nor_a_log_shows_a_whole_key_or_a_secret() {
        let mut client = client();
        client.name = None;
        assert_eq!(client.display_name(), "cairl_test_…shop");
        client.client_id = "ab".into();
        assert_eq!(client.display_name(), "…ab");
        client.client_id = "cairl_test_x".into();
        assert_eq!(client.display_name(), "cairl_test_…x");
        assert!(!format!("{client:?}").contains("secret of"));
        assert!(!format!("{client:?}").contains("the shop's secret"));
    }
}
