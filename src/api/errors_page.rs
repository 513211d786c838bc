//! `docs/errors.md`, rendered from the error catalogue.

use std::fmt::{self, Write};

use super::code::{code, code_name};
use crate::domain::{Entry, Reason, Says, Stage, catalogue, conditions};

const HEAD: &str = "\
# Errors

Every status but OK carries one of these reasons, in `google.rpc.ErrorInfo` (domain `cairld`) and in the trailer
`cairld-reason`. What to do stands in the metadata field `remedy` and in the trailer `cairld-remedy`.

- `UNAVAILABLE` and `RESOURCE_EXHAUSTED` are safe to retry with the same arguments, after the delay in
  `google.rpc.RetryInfo`; all others are not.
- *Resumable* (`resumable` in the metadata): mend the cause, then present the same callback again, until `resume_until`.
- A session that is *as it was* goes on; FAILED, EXPIRED and INDETERMINATE are for good, and the user starts anew.

`cairlctl explain CODE` says the same on a terminal, for a reason, a code of the provider or an HTTP status.

This page is generated from the catalogue in `src/domain/catalogue/` by
`CAIRLD_BLESS=1 cargo test --test blackbox errors_page`.
";

const PROVIDER: &str = "
## What the provider says

Where several lines of one stage fit, the first counts; a line without a stage holds where none of the stage itself fits.

| stage | the provider says | reason | gRPC status | session becomes |
| --- | --- | --- | --- | --- |
";

const OUTSIDE: &str = "
## What no call can say

Between the provider and your own endpoint the daemon is not asked, so these have names, and no status.
";

/// The page's text.
pub fn render() -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page);
    page
}

fn write_page(page: &mut String) -> fmt::Result {
    page.push_str(HEAD);
    page.push_str(PROVIDER);
    for entry in catalogue().filter(|entry| entry.says != Says::Nothing) {
        let (says, reason, becomes) = (entry.says, entry.reason, becomes(entry));
        let link = reason.as_str().to_ascii_lowercase();
        let status = code_name(code(reason));
        let stage = entry.stage.map_or("", Stage::as_str);
        writeln!(page, "| {stage} | {says} | [`{reason}`](#{link}) | `{status}` | {becomes} |")?;
    }
    for reason in Reason::ALL {
        write!(page, "\n## {reason}\n\ngRPC status: `{}`\n", code_name(code(*reason)))?;
        for entry in catalogue().filter(|entry| entry.reason == *reason) {
            write!(page, "\n**{}** {}\n*What to do:* {}\n", place(entry), entry.cause, entry.remedy)?;
        }
    }
    page.push_str(OUTSIDE);
    for condition in conditions() {
        let (name, topic) = (condition.name, condition.topic.as_str());
        let (cause, remedy) = (condition.cause, condition.remedy);
        write!(page, "\n### {name}\n\n**About: {topic}.** {cause}\n*What to do:* {remedy}\n")?;
    }
    Ok(())
}

/// Where an entry arises, by what, and what becomes of the session.
fn place(entry: &Entry) -> String {
    let stage = match entry.stage {
        None => "Elsewhere at the provider".to_owned(),
        Some(Stage::Daemon) => "In the daemon".to_owned(),
        Some(stage) => format!("At the {} stage", stage.as_str()),
    };
    let says = if entry.says == Says::Nothing { String::new() } else { format!(", {}", entry.says) };
    format!("{stage}{says}; session: {}.", becomes(entry))
}

fn becomes(entry: &Entry) -> String {
    let resumable = if entry.is_resumable() { ", resumable" } else { "" };
    format!("{}{resumable}", entry.becomes.as_str())
}
