//! Addresses of the provider: `https`, or plain `http` to this host.

use url::{Host, Url};

/// An absolute address to send secrets to.
pub(super) fn secure(text: &str) -> Result<Url, String> {
    let url = absolute(text).ok_or("must be a whole address, such as \"https://cairl.app\"")?;
    check_scheme(&url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password; keep host and path".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "must not hold a query (?) or fragment (#); fixed parameters of the authorization URL go into \
                    authorize_params"
                .to_owned(),
        );
    }
    Ok(url)
}

/// A whole address, or a path below `base`.
pub(super) fn endpoint(base: &Url, text: &str) -> Result<Url, String> {
    if !text.starts_with('/') {
        return secure(text)
            .map_err(|message| format!("{message}; or a path below base_url, beginning with /"));
    }
    secure(&format!("{}{text}", base.as_str().trim_end_matches('/')))
}

/// Where the provider sends the browser back to. Compared byte for byte, so it is kept as it was written.
pub(super) fn redirect_uri(text: &str) -> Result<String, String> {
    if text.contains('#') {
        return Err("must not hold a fragment (#), as RFC 6749 §3.1.2 says; remove it".to_owned());
    }
    absolute(text).ok_or(
        "must be an absolute URI in ASCII, exactly as registered with the provider, such as \
         \"https://shop.example/callback\"",
    )?;
    Ok(text.to_owned())
}

/// A proxy's address.
pub(super) fn proxy(text: &str) -> Result<Url, String> {
    let url = absolute(text)
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or("must be a proxy's address, such as \"http://proxy.internal:3128\"")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "must not hold a user name or password: secrets don't stand in this file; let the proxy know \
                    this host by its address"
                .to_owned(),
        );
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must be scheme, host and port alone".to_owned());
    }
    Ok(url)
}

/// Parses what is an absolute address as it stands: the parser would silently drop blanks and line ends.
fn absolute(text: &str) -> Option<Url> {
    text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| Url::parse(text).ok()).flatten()
}

fn check_scheme(url: &Url) -> Result<(), String> {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err(
            "must be https: secrets go there, and plain http is for this host alone (127.0.0.0/8, [::1], \
                       localhost)"
                .to_owned(),
        ),
        _ => Err("must begin with https://".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https() {
        for good in [
            "https://cairl.app",
            "https://cairl.app/prefix/",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert!(secure(good).is_ok(), "{good}");
        }
        for (bad, part) in [
            ("", "whole address"),
            ("cairl.app", "whole address"),
            (" https://cairl.app", "whole address"),
            ("https://cai\nrl.app", "whole address"),
            ("ftp://cairl.app", "https://"),
            ("http://cairl.app", "plain http"),
            ("http://localhost.example", "plain http"),
            ("http://10.0.0.1", "plain http"),
            ("http://0.0.0.0", "plain http"),
            ("https://me:canary@cairl.app", "user name"),
            ("https://cairl.app/?a", "query"),
            ("https://cairl.app/#a", "fragment"),
        ] {
            let message = secure(bad).unwrap_err();
            assert!(message.contains(part), "{bad}: {message}");
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn an_endpoint_is_a_path_or_a_whole_address() {
        let base = Url::parse("https://cairl.app/tenant/").unwrap();
        let url = |text| endpoint(&base, text).map(String::from);
        assert_eq!(url("/api/oauth/token").unwrap(), "https://cairl.app/tenant/api/oauth/token");
        assert_eq!(url("//other.example/").unwrap(), "https://cairl.app/tenant//other.example/");
        assert_eq!(url("https://id.example/token").unwrap(), "https://id.example/token");
        for bad in ["", "token", "http://id.example/token", "/token?a=b", "/a b", "/a#b"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_redirect_uri_is_kept_as_it_is() {
        for good in
            ["https://shop.example/callback", "HTTPS://Shop.Example:443/a/../b?x=%2f", "com.example.app:/cb"]
        {
            assert_eq!(redirect_uri(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "/callback", "shop.example", "https://shop.example/#", "https://shop.example/ä", "https://"]
        {
            assert!(redirect_uri(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_is_an_address_without_secrets() {
        assert!(proxy("http://proxy.internal:3128").is_ok());
        for bad in ["proxy:3128", "socks5://proxy:1", "http://me:canary@proxy:1", "http://proxy/a", ""] {
            assert!(proxy(bad).is_err_and(|message| !message.contains("canary")), "{bad}");
        }
    }
}
