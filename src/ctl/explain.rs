//! `cairlctl explain`: what an error means and what to do, from the catalogue that the daemon answers from. It asks no
//! daemon.

use serde_json::{Value, json};

use super::{
    args::ExplainError,
    exit::Exit,
    failure::Failure,
    output::{Block, Report},
};
use crate::{
    api::{code, code_name},
    domain::{Becomes, Condition, Entry, Says, Stage, Topic, anchor, catalogue, conditions},
};

/// Shorter words are found in too many names.
const SHORTEST_WORD: usize = 3;

pub(super) fn explain(args: &ExplainError) -> Result<Report, Failure> {
    let asked = args.code.join(" ");
    let found = if asked.trim().is_empty() { all() } else { find(&asked) };
    let here = at_stage(&found, args.stage);
    if here.is_empty() {
        return Err(unknown(&asked, &found, args.stage));
    }
    let text = if asked.trim().is_empty() { list(&here) } else { describe(&here) };
    let explanations: Vec<Value> = here.iter().map(|subject| subject.to_json()).collect();
    Ok(Report::plain(json!({ "explanations": explanations }), text))
}

/// What can be explained.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Subject {
    Entry(&'static Entry),
    Condition(&'static Condition),
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Entry(entry) => entry.reason.as_str(),
            Self::Condition(condition) => condition.name,
        }
    }

    fn says(self) -> Says {
        match self {
            Self::Entry(entry) => entry.says,
            Self::Condition(_) => Says::Nothing,
        }
    }

    fn cause_and_remedy(self) -> (&'static str, &'static str) {
        match self {
            Self::Entry(entry) => (entry.cause, entry.remedy),
            Self::Condition(condition) => (condition.cause, condition.remedy),
        }
    }

    /// Where it arises, in words.
    fn place(self) -> &'static str {
        match self {
            Self::Entry(entry) => entry.stage.map_or("elsewhere at the provider", Stage::as_str),
            Self::Condition(condition) => condition.topic.as_str(),
        }
    }

    fn is_at(self, stage: Stage) -> bool {
        match self {
            Self::Entry(entry) => entry.stage == Some(stage),
            Self::Condition(condition) => {
                stage == Stage::Webhook && condition.topic == Topic::WebhookDelivery
            }
        }
    }

    /// Whether it holds at every stage at the provider that has nothing nearer.
    fn is_general(self) -> bool {
        matches!(self, Self::Entry(Entry { stage: None, .. }))
    }

    /// Whether it has this name, or is what the provider says by this word.
    fn is_called(self, asked: &str) -> bool {
        let name = asked.replace([' ', '-'], "_").to_ascii_uppercase();
        self.name() == name.strip_prefix("REASON_").unwrap_or(&name) || self.is_worded(asked)
    }

    fn is_worded(self, asked: &str) -> bool {
        self.says().word().is_some_and(|word| word.eq_ignore_ascii_case(asked))
    }

    /// Whether these words stand in its name, its topic or what the provider says.
    fn mentions(self, words: &str) -> bool {
        let name = self.name().replace('_', " ");
        let said = self.says().word().unwrap_or_default().replace('_', " ");
        [name.as_str(), self.place(), &said].iter().any(|text| text.to_ascii_lowercase().contains(words))
    }

    fn to_json(self) -> Value {
        let (cause, remedy) = self.cause_and_remedy();
        let see = anchor(self.name());
        match self {
            Self::Entry(entry) => json!({
                "reason": entry.reason.as_str(),
                "stage": entry.stage.map(Stage::as_str),
                "says": entry.says.to_string(),
                "cause": cause,
                "remedy": remedy,
                "status": code_name(code(entry.reason)),
                "retryable": entry.reason.is_retryable(),
                "resumable": entry.is_resumable(),
                "session": entry.becomes.as_str(),
                "see": see,
            }),
            Self::Condition(condition) => json!({
                "condition": condition.name,
                "topic": condition.topic.as_str(),
                "cause": cause,
                "remedy": remedy,
                "see": see,
            }),
        }
    }
}

fn all() -> Vec<Subject> {
    catalogue().map(Subject::Entry).chain(conditions().iter().map(Subject::Condition)).collect()
}

/// What is meant: by name or code, by HTTP status, or by words. The first way that finds something counts.
fn find(asked: &str) -> Vec<Subject> {
    let asked = asked.trim();
    let words = asked.to_ascii_lowercase().replace(['_', '-'], " ");
    let (status, word) = match asked.split_once(' ') {
        Some((number, word)) => (number.parse().ok(), Some(word.trim())),
        None => (asked.parse().ok(), None),
    };
    let subjects = all();
    let first = |is_meant: &dyn Fn(&Subject) -> bool| -> Option<Vec<Subject>> {
        let found: Vec<_> = subjects.iter().copied().filter(is_meant).collect();
        (!found.is_empty()).then_some(found)
    };
    let by_status = |status: u16| match word {
        Some(word) => {
            first(&|subject| subject.is_worded(word) && subject.says().covers_answer(status, Some(word)))
        }
        None => first(&|subject| subject.says().is_status(status)).or_else(|| {
            first(&|subject| {
                let says = subject.says();
                says.covers_answer(status, None) || says.covers_answer(status, Some(asked))
            })
        }),
    };
    first(&|subject| subject.is_called(asked))
        .or_else(|| status.and_then(by_status))
        .or_else(|| first(&|subject| words.len() >= SHORTEST_WORD && subject.mentions(&words)))
        .unwrap_or_default()
}

/// Those that arise at a stage; where it has none of its own, those that hold wherever the provider is asked.
fn at_stage(found: &[Subject], stage: Option<Stage>) -> Vec<Subject> {
    let Some(stage) = stage else { return found.to_vec() };
    let own: Vec<_> = found.iter().copied().filter(|subject| subject.is_at(stage)).collect();
    let asks_the_provider = matches!(stage, Stage::Token | Stage::Userinfo | Stage::Session | Stage::Revoke);
    if own.is_empty() && asks_the_provider {
        return found.iter().copied().filter(|subject| subject.is_general()).collect();
    }
    own
}

fn describe(subjects: &[Subject]) -> Block {
    let mut block = Block::default();
    for subject in subjects {
        let (cause, remedy) = subject.cause_and_remedy();
        block.heading(subject.name());
        match subject {
            Subject::Entry(entry) => {
                block.item("stage", subject.place());
                if entry.says != Says::Nothing {
                    block.item("provider says", entry.says.to_string());
                }
                block.item("cause", cause);
                block.item("remedy", remedy);
                block.item("status", code_name(code(entry.reason)));
                let retry = if entry.reason.is_retryable() {
                    "yes: the same call, after the delay that comes with the error"
                } else {
                    "no"
                };
                block.item("retry", retry);
                let resumable = if entry.is_resumable() {
                    "yes: with the same callback, once the cause is mended"
                } else {
                    "no"
                };
                block.item("resumable", resumable);
                if entry.becomes != Becomes::NoSession {
                    block.item("session", entry.becomes.as_str());
                }
            }
            Subject::Condition(condition) => {
                block.item("about", condition.topic.as_str());
                block.item("cause", cause);
                block.item("remedy", remedy);
                block.item("status", "none: no call can say this");
            }
        }
        block.item("see", anchor(subject.name()));
    }
    block
}

/// One line for each, under where it arises.
fn list(subjects: &[Subject]) -> Block {
    let mut block = Block::default();
    let mut place = "";
    for subject in subjects {
        if subject.place() != place {
            place = subject.place();
            block.heading(place);
        }
        let line = match subject {
            Subject::Entry(entry) => {
                let mut parts = vec![entry.says.to_string(), code_name(code(entry.reason)).to_owned()];
                if entry.becomes != Becomes::NoSession {
                    parts.push(format!("session {}", entry.becomes.as_str()));
                }
                parts.retain(|part| !part.is_empty());
                parts.join("; ")
            }
            Subject::Condition(condition) => condition.cause.to_owned(),
        };
        block.item(subject.name(), line);
    }
    block
}

/// Wrong usage: nothing is called so, or not at this stage.
fn unknown(asked: &str, found: &[Subject], stage: Option<Stage>) -> Failure {
    let remedy = if found.is_empty() {
        let meant = nearest(asked).map(|name| format!("Did you mean {name}? ")).unwrap_or_default();
        format!("{meant}`cairlctl explain` lists everything that can be explained.")
    } else {
        let mut places: Vec<_> = found.iter().map(|subject| subject.place()).collect();
        places.dedup();
        format!("Leave out --stage; it is known at: {}.", places.join(", "))
    };
    let at = stage.map(|stage| format!(" at the stage {}", stage.as_str())).unwrap_or_default();
    Failure::local(Exit::USAGE, "UNKNOWN_CODE", format!("explain: {asked:?} is not known{at}"), remedy)
}

/// The known name or code nearest to what was asked, if one is near enough to have been meant.
fn nearest(asked: &str) -> Option<&'static str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '-'], "_");
    let asked = plain(asked);
    let asked = asked.strip_prefix("reason_").unwrap_or(&asked);
    all()
        .into_iter()
        .flat_map(|subject| [Some(subject.name()), subject.says().word()])
        .flatten()
        .map(|name| (strsim::damerau_levenshtein(asked, &plain(name)), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(2))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and places of what is found.
    fn found(asked: &str, stage: Option<Stage>) -> Vec<(&'static str, &'static str)> {
        at_stage(&find(asked), stage).into_iter().map(|subject| (subject.name(), subject.place())).collect()
    }

    #[test]
    fn a_reason_is_found_however_it_is_written() {
        for asked in
            ["PAYMENT_REQUIRED", "payment_required", "REASON_PAYMENT_REQUIRED", "Payment-Required", "402"]
        {
            assert_eq!(found(asked, None), [("PAYMENT_REQUIRED", "token")], "{asked}");
        }
        for reason in crate::domain::Reason::ALL {
            assert!(found(reason.as_str(), None).iter().any(|(name, _)| *name == reason.as_str()));
        }
        for condition in conditions() {
            assert_eq!(found(condition.name, None).len(), 1);
        }
    }

    #[test]
    fn a_code_is_found_at_every_stage_that_knows_it() {
        assert_eq!(
            found("invalid_request", None),
            [("INVALID_REQUEST", "redirect"), ("INVALID_REQUEST", "token")]
        );
        assert_eq!(found("invalid_request", Some(Stage::Token)), [("INVALID_REQUEST", "token")]);
        assert_eq!(
            found("access_denied", None),
            [("ACCESS_DENIED", "redirect"), ("ENROLLMENT_BLOCKED", "token")]
        );
        assert_eq!(found("403 access_denied", None), [("ENROLLMENT_BLOCKED", "token")]);
        assert_eq!(found("server_error", None), [("PROVIDER_ERROR", "token")]);
        assert_eq!(found("404 access_denied", None), []);
    }

    #[test]
    fn a_status_is_found_exactly_or_by_its_class() {
        let names = |asked: &str, stage| -> Vec<_> {
            found(asked, stage).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("401", None).len(), 5);
        assert_eq!(names("401", Some(Stage::Token)), ["INVALID_CLIENT"]);
        assert_eq!(names("429", Some(Stage::Session)), ["RATE_LIMITED"]);
        assert_eq!(names("503", Some(Stage::Token)), ["PROVIDER_ERROR"]);
        assert_eq!(names("503", Some(Stage::Revoke)), ["PROVIDER_ERROR"], "a general one");
        assert_eq!(names("418", Some(Stage::Token)), ["PROVIDER_REFUSED"; 2], "with a code and without");
        assert_eq!(names("302", Some(Stage::Token)), ["PROVIDER_PROTOCOL"]);
        assert_eq!(names("503", Some(Stage::Redirect)), [""; 0]);
    }

    #[test]
    fn words_find_what_mentions_them() {
        let names =
            |asked: &str| -> Vec<_> { found(asked, None).into_iter().map(|(name, _)| name).collect() };
        let webhook = names("webhook");
        assert!(webhook.contains(&"WEBHOOK_SIGNATURE_INVALID") && webhook.contains(&"WEBHOOK_ENDPOINT_SLOW"));
        let limits = names("rate limit");
        assert_eq!(limits, ["RATE_LIMITED", "RATE_LIMITED", "RATE_LIMITED", "RATE_LIMITED", "WEBHOOK_RATE"]);
        assert_eq!(names("session not found"), ["SESSION_NOT_FOUND"], "a name comes before words");
        assert!(names("not found or expired").contains(&"PROVIDER_SESSION_NOT_FOUND"));
        assert_eq!(found("webhook", Some(Stage::Webhook)).len(), 4);
        assert_eq!(names("e"), [""; 0]);
    }

    #[test]
    fn what_is_near_is_named() {
        for (asked, name) in [
            ("payment_requird", Some("PAYMENT_REQUIRED")),
            ("REASON_INVALID_GRAND", Some("INVALID_GRANT")),
            ("sever_error", Some("server_error")),
            ("webhook endpoint slw", Some("WEBHOOK_ENDPOINT_SLOW")),
            ("colour", None),
        ] {
            assert_eq!(nearest(asked), name, "{asked}");
        }
    }
}
