//! The HTML. Everything that comes from a request is escaped, and nothing needs JavaScript.

use std::fmt::Write;

use super::authorize::Request;
use super::clock::Moment;

/// Both palettes keep text above a contrast of 4.5 to 1 (WCAG 2.1, 1.4.3).
const STYLE: &str = include_str!("page.css");

/// Asks the user, and lets the developer choose what comes of it.
pub(super) fn consent(who: &str, session_id: &str, request: &Request, until: Option<Moment>) -> String {
    let who = escape(who);
    let mut claims = String::new();
    for name in &request.scopes {
        claims.push_str(&claim(name));
    }
    let until = until.map(|until| format!("<br>expires <time>{until}</time>")).unwrap_or_default();
    let body = format!(
        r#"<h1><b>{who}</b> asks to verify you</h1>
<p class="lead">It asks for {count}. Choose what the sandbox says of you; then you go back to <code>{uri}</code>.</p>
<form method="post" action="/verify/session/{id}">
<div class="claims">
{claims}</div>
<div class="actions">
<button class="primary" name="outcome" value="approve">Verify and continue</button>
<button name="outcome" value="decline">Decline</button>
</div>
<div class="others" role="group" aria-labelledby="others">
<p id="others">Or try how the service takes another ending</p>
<div class="actions">
<button class="quiet" name="outcome" value="fail">Fail verification</button>
<button class="quiet" name="outcome" value="leave">Walk away</button>
</div>
</div>
</form>
<p class="small">Session <code>{id}</code>{until}</p>"#,
        count = match request.scopes.len() {
            1 => "one claim".to_owned(),
            several => format!("{several} claims"),
        },
        uri = escape(&request.redirect_uri),
        id = escape(session_id),
    );
    frame("Verify your identity", &body)
}

/// One claim and its three answers.
fn claim(name: &str) -> String {
    let mut answers = String::new();
    for (value, state) in [("true", " checked"), ("false", ""), ("null", "")] {
        let name = escape(name);
        let _ = write!(
            answers,
            r#"<label><input type="radio" name="claim.{name}" value="{value}"{state}><span>{value}</span></label>"#
        );
    }
    let legend = match title(name) {
        Some(title) => format!("{title} <code>{}</code>", escape(name)),
        None => format!("<code class=\"alone\">{}</code>", escape(name)),
    };
    format!("<fieldset><legend>{legend}</legend><div class=\"answers\">{answers}</div></fieldset>\n")
}

/// What the claims of the provider's first catalogue mean. Others go by their name.
fn title(name: &str) -> Option<&'static str> {
    Some(match name {
        "age_18_plus" => "18 or older",
        "age_21_plus" => "21 or older",
        "identity_verified" => "Identity verified",
        "document_active" => "Document in force",
        "unique_per_partner" => "One account only",
        "freshness_current" => "Verified recently",
        "name_match" => "Name matches",
        "dob_match" => "Date of birth matches",
        "address_match" => "Address matches",
        _ => return None,
    })
}

/// Says something to a person and asks nothing.
pub(super) fn notice(title: &str, lines: &[&str]) -> String {
    let mut body = format!("<h1>{}</h1>", escape(title));
    for line in lines {
        let _ = write!(body, "\n<p>{}</p>", escape(line));
    }
    frame(title, &body)
}

fn frame(title: &str, body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} – CAIRL sandbox</title>
<style>{STYLE}</style>
</head>
<body>
<header><p><strong>CAIRL sandbox</strong> <span>stands in for the provider, not the real service</span></p></header>
<main>
{body}
</main>
</body>
</html>
"#,
        title = escape(title),
    )
}

/// Makes text harmless in element content and in quoted attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_request_says_becomes_markup() {
        let evil = "<script>\"'&";
        let request = Request {
            client_id: evil.into(),
            redirect_uri: format!("https://x/{evil}"),
            state: evil.into(),
            scopes: vec![evil.into(), "age_18_plus".into()],
            challenge: String::new(),
        };
        for page in [consent(evil, evil, &request, None), notice(evil, &[evil])] {
            assert!(!page.contains("<script"), "{page}");
            assert!(!page.contains("\"'&"), "{page}");
        }
    }

    #[test]
    fn each_claim_can_be_answered_in_three_ways_and_is_true_unless_changed() {
        let html = claim("age.over_18.v1.strict");
        assert_eq!(html.matches("type=\"radio\" name=\"claim.age.over_18.v1.strict\"").count(), 3);
        assert_eq!(html.matches("value=\"true\" checked").count(), 1);
        assert_eq!(html.matches(" checked").count(), 1);
    }
}
