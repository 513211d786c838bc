//! The catalogue is whole, says what it should, and misses nothing of the provider's page.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    row: Vec<Row>,
}

/// A row of the page; `page.toml` says what its fields mean.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    section: String,
    at: String,
    status: Option<u16>,
    error: Option<String>,
    reason: String,
    becomes: Option<String>,
    #[serde(default)]
    resumable: bool,
    /// The black-box tests count them.
    #[serde(rename = "requests")]
    _requests: Option<u32>,
}

fn page() -> Vec<Row> {
    toml::from_str::<Page>(include_str!("page.toml")).unwrap().row
}

impl Row {
    /// Its entry, found by what the provider says; none for a condition.
    fn entry(&self) -> Option<&'static Entry> {
        if self.at.is_empty() {
            return None;
        }
        let stage = Stage::parse(&self.at).unwrap();
        Some(match (self.status, self.error.as_deref()) {
            (Some(status), error) => answered(stage, status, error),
            (None, Some(error)) => redirected(error),
            (None, None) => entry(stage, Reason::parse(&self.reason).unwrap(), None),
        })
    }
}

#[test]
fn the_page_is_here_row_by_row() {
    let mut counts = BTreeMap::new();
    for row in page() {
        *counts.entry(row.section).or_insert(0) += 1;
    }
    let expected = [
        ("authentication", 3),
        ("rate limits", 3),
        ("redirect", 5),
        ("session query", 4),
        ("token", 10),
        ("webhook delivery", 4),
    ];
    assert_eq!(counts, expected.map(|(section, rows)| (section.to_owned(), rows)).into());
}

#[test]
fn every_row_of_the_page_has_an_entry_of_its_own() {
    for row in page() {
        let Some(entry) = row.entry() else {
            let is_known = conditions().iter().any(|condition| condition.name == row.reason);
            assert!(is_known && row.becomes.is_none(), "{row:?}");
            continue;
        };
        assert_eq!(entry.reason.as_str(), row.reason, "{row:?}");
        assert_eq!(entry.becomes.as_str(), row.becomes.as_deref().unwrap(), "{row:?}");
        assert_eq!(entry.is_resumable(), row.resumable, "{row:?}");
        let is_named = match (&row.error, entry.says.word()) {
            (Some(error), Some(word)) => error.starts_with(word),
            (Some(_), None) => false,
            (None, _) => true,
        };
        assert!(is_named, "{row:?} is met by {entry:?}, as anything would be");
    }
}

#[test]
fn whatever_is_quoted_from_the_page_is_in_its_rows() {
    let met: Vec<_> = page().iter().filter_map(Row::entry).collect();
    for entry in catalogue().filter(|entry| entry.says.word().is_some()) {
        assert!(met.contains(&entry), "{entry:?} is on no row");
    }
}

#[test]
fn every_reason_has_an_entry_and_no_entry_stands_twice() {
    for reason in Reason::ALL {
        assert!(catalogue().any(|entry| entry.reason == *reason), "{reason} has no entry");
        for stage in Stage::ALL {
            assert_eq!(entry(*stage, *reason, None).reason, *reason);
        }
    }
    let mut seen: Vec<&Entry> = Vec::new();
    for entry in catalogue() {
        let is_same = |other: &&&Entry| {
            (other.stage, other.says, other.reason) == (entry.stage, entry.says, entry.reason)
        };
        assert_eq!(seen.iter().find(is_same), None, "twice");
        seen.push(entry);
    }
}

#[test]
fn every_answer_has_an_entry() {
    let listed: Vec<&str> = catalogue().filter_map(|entry| entry.says.word()).collect();
    let words = listed.iter().map(|word| Some(*word)).chain([Some("brand_new"), Some(""), None]);
    for word in words {
        for stage in [Stage::Token, Stage::Userinfo, Stage::Session, Stage::Revoke] {
            for status in 200..1000 {
                let entry = answered(stage, status, word);
                assert_ne!(*entry, UNLISTED, "{status} {word:?}");
                assert!(entry.says.covers_answer(status, word), "{status} {word:?}: {entry:?}");
                assert!(entry.stage.is_none_or(|own| own == stage), "{status} {word:?}: {entry:?}");
            }
        }
        assert_eq!(redirected(word.unwrap_or_default()).stage, Some(Stage::Redirect), "{word:?}");
    }
}

#[test]
fn an_entry_is_found_again_by_what_was_said() {
    let said = |http_status, error: &str| ProviderSaid {
        http_status,
        error: error.to_owned(),
        ..ProviderSaid::default()
    };
    let refused = |said| entry(Stage::Token, Reason::ProviderRefused, Some(&said));
    assert!(refused(said(403, "")).is_resumable(), "a firewall's page");
    assert!(!refused(said(403, "brand_new")).is_resumable());
    let request = |stage| entry(stage, Reason::InvalidRequest, None).remedy;
    assert_ne!(request(Stage::Redirect), request(Stage::Token));
    let limited = |stage| entry(stage, Reason::RateLimited, Some(&said(429, "")));
    assert!(limited(Stage::Token).cause.contains("30") && limited(Stage::Session).cause.contains("60"));
    assert_eq!(limited(Stage::Userinfo).stage, None);
    assert_eq!(entry(Stage::Session, Reason::PaymentRequired, None).stage, Some(Stage::Token), "elsewhere");
}

#[test]
fn what_is_resumable_says_how_and_until_when() {
    for entry in catalogue() {
        let says = entry.remedy.contains("resume_until");
        assert_eq!(says, entry.is_resumable(), "{} at {:?}", entry.reason, entry.stage);
        if entry.is_resumable() {
            assert!(entry.remedy.contains("CompleteAuthorization with the same callback again"), "{entry:?}");
        }
        let is_over = matches!(entry.becomes, Becomes::Failed | Becomes::Indeterminate | Becomes::Expired);
        if is_over {
            assert!(
                entry.remedy.contains("call StartAuthorization again")
                    || entry.remedy.starts_with("Call StartAuthorization again"),
                "{entry:?}"
            );
        }
        if entry.reason.is_retryable() {
            assert!(entry.remedy.contains("after the retry delay"), "{entry:?}");
        }
    }
}

#[test]
fn texts_are_sentences_that_fit_in_a_trailer() {
    let texts = catalogue().map(|entry| (entry.cause, entry.remedy));
    let texts = texts.chain(conditions().iter().map(|condition| (condition.cause, condition.remedy)));
    for (cause, remedy) in texts {
        assert!(cause.ends_with('.') && cause.len() <= 200, "{cause}");
        assert!(remedy.ends_with('.') && remedy.len() <= 400, "{} bytes: {remedy}", remedy.len());
        assert!(!cause.contains("  ") && !remedy.contains("  "), "{remedy}");
    }
}

#[test]
fn a_condition_is_named_like_a_reason_and_is_none() {
    let names: BTreeSet<_> = conditions().iter().map(|condition| condition.name).collect();
    assert_eq!(names.len(), conditions().len());
    assert!(names.iter().all(|name| Reason::parse(name).is_none()));
    assert_eq!(anchor("WEBHOOK_RATE"), "docs/errors.md#webhook_rate");
}
