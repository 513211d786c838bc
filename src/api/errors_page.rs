//! `docs/errors.md`, rendered from the error catalogue.

use std::fmt::Write;

use super::status::code;
use crate::domain::{Reason, catalogue};

const HEAD: &str = "\
# Errors

Every status but OK carries one of these reasons, in `google.rpc.ErrorInfo` (domain `cairld`) and in the trailer
`cairld-reason`. What to do stands in the metadata field `remedy` and in the trailer `cairld-remedy`.

`UNAVAILABLE` and `RESOURCE_EXHAUSTED` are safe to retry with the same arguments, after the delay in
`google.rpc.RetryInfo`; all others are not. This page is generated from the catalogue in `src/domain/catalogue.rs` by
`CAIRLD_BLESS=1 cargo test --test blackbox errors_page`.
";

/// The page's text.
pub fn render() -> String {
    let mut page = HEAD.to_owned();
    for reason in Reason::ALL {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {reason}\n\ngRPC status: `{}`\n", code_name(*reason));
        for entry in catalogue().iter().filter(|entry| entry.reason == *reason) {
            let place =
                entry.stage.map(|stage| format!("**At the {} stage.** ", stage.as_str())).unwrap_or_default();
            let _ = write!(page, "\n{place}{}\n*What to do:* {}\n", entry.cause, entry.remedy);
        }
    }
    page
}

fn code_name(reason: Reason) -> String {
    let camel = format!("{:?}", code(reason));
    let mut name = String::new();
    for letter in camel.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
