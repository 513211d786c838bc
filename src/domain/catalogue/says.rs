//! What the provider can say, as far as the daemon tells it apart.

use std::fmt;

use crate::domain::session::ProviderStatus;

/// What the provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nothing: the daemon itself refuses.
    Nothing,
    /// The `error` of a redirect back.
    Redirect(Word),
    /// An HTTP status of 400 or above, with the `error` in its body.
    Answer(Http, Word),
    /// An answer of 200 to 399 that cannot be used.
    Unusable,
    /// Nothing: no connection to it was made.
    NoConnection,
    /// Nothing: no answer came, or none could be kept.
    NoAnswer,
    /// The status of its session, in an answer or a webhook.
    Session(ProviderStatus),
}

/// HTTP statuses of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// This one.
    Is(u16),
    /// Any from 400 to 499 but 429.
    Refused,
    /// Any from 500 on.
    Failed,
}

/// The word in `error`. Where several entries fit, the first one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// This code.
    Code(&'static str),
    /// A text that begins so, whatever the case of its letters: some errors of the provider have no code.
    Text(&'static str),
    /// One that no entry lists.
    Unlisted,
    /// None that can be read.
    Missing,
    /// Whatever it is, or none; the provider's page names this one.
    Any(Option<&'static str>),
}

impl Says {
    /// Whether a redirect with this error is meant.
    pub(super) fn covers_redirect(self, error: &str) -> bool {
        matches!(self, Self::Redirect(word) if word.covers(Some(error)))
    }

    /// Whether an answer of this status, with this error, is meant.
    pub fn covers_answer(self, http_status: u16, error: Option<&str>) -> bool {
        match self {
            Self::Answer(http, word) => http.covers(http_status) && word.covers(error),
            Self::Unusable => (200..400).contains(&http_status),
            Self::Nothing | Self::Redirect(_) | Self::NoConnection | Self::NoAnswer | Self::Session(_) => {
                false
            }
        }
    }

    /// Whether it is this HTTP status, by its number.
    pub fn is_status(self, http_status: u16) -> bool {
        matches!(self, Self::Answer(Http::Is(status), _) if status == http_status)
    }

    /// The code or text that the provider's page has for it, where it is not told by the HTTP status alone.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Redirect(word) | Self::Answer(_, word) => match word {
                Word::Code(word) | Word::Text(word) | Word::Any(Some(word)) => Some(word),
                Word::Unlisted | Word::Missing | Word::Any(None) => None,
            },
            Self::Nothing | Self::Unusable | Self::NoConnection | Self::NoAnswer | Self::Session(_) => None,
        }
    }
}

impl Http {
    fn covers(self, status: u16) -> bool {
        match self {
            Self::Is(one) => status == one,
            Self::Refused => (400..500).contains(&status) && status != 429,
            Self::Failed => status >= 500,
        }
    }
}

impl Word {
    fn covers(self, error: Option<&str>) -> bool {
        match (self, error) {
            (Self::Code(code), Some(error)) => code == error,
            (Self::Text(beginning), Some(error)) => {
                error.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
            }
            (Self::Unlisted, Some(_)) | (Self::Missing, None) | (Self::Any(_), _) => true,
            (Self::Code(_) | Self::Text(_) | Self::Unlisted, None) | (Self::Missing, Some(_)) => false,
        }
    }
}

/// As documentation writes it: `402 payment_required`. Empty where the provider says nothing.
impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Redirect(word) => write!(f, "{word}"),
            Self::Answer(http, Word::Any(None)) => write!(f, "{http}"),
            Self::Answer(http, word) => write!(f, "{http} {word}"),
            Self::Unusable => f.write_str("2xx or 3xx that cannot be used"),
            Self::NoConnection => f.write_str("no connection"),
            Self::NoAnswer => f.write_str("no answer"),
            Self::Session(status) => write!(f, "status `{}`", status.as_str()),
        }
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(status) => write!(f, "{status}"),
            Self::Refused => f.write_str("4xx"),
            Self::Failed => f.write_str("5xx"),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "`{code}`"),
            Self::Text(text) => write!(f, "“{text}…”"),
            Self::Unlisted => f.write_str("with any other code"),
            Self::Missing => f.write_str("without a readable code"),
            Self::Any(Some(code)) => write!(f, "`{code}`, or whatever else"),
            Self::Any(None) => f.write_str("whatever"),
        }
    }
}
