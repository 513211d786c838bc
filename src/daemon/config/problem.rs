//! What is wrong with a configuration, said in one list.

use std::fmt;

/// One thing that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file, as it was named.
    pub file: String,
    /// The line, counted from 1; none where the file as a whole is meant.
    pub line: Option<usize>,
    /// The key, readable: `grpc.tcp`, `client "shop": base_url`. Empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong and what is right. Never holds a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration, by line; what belongs to no line comes last. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Self(problems)
    }

    /// One thing that is wrong with the file as a whole.
    pub(super) fn of_file(file: String, message: String) -> Self {
        Self(vec![Problem { file, line: None, key: String::new(), message }])
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "the list is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One problem a line, without a line's end after the last.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Text from the configuration as a message may show it: quoted, on one line, not endless.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().nth(LONGEST).is_none() {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start:?}…")
}

/// The known word nearest to what was written, if one is near enough to have been meant.
pub(super) fn nearest<'w>(written: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&written, &word.to_lowercase()), word))
        .min()
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(2))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: Option<usize>, key: &str) -> Problem {
        Problem { file: "cairld.toml".to_owned(), line, key: key.to_owned(), message: "no".to_owned() }
    }

    #[test]
    fn problems_come_by_line() {
        let problems =
            Problems::new(vec![problem(None, "keys"), problem(Some(12), "b"), problem(Some(2), "a")]);
        let told = "cairld.toml:2: a: no\ncairld.toml:12: b: no\ncairld.toml: keys: no";
        assert_eq!(problems.to_string(), told);
        assert_eq!(problem(Some(3), "").to_string(), "cairld.toml:3: no");
    }

    #[test]
    fn what_is_shown_stays_on_one_line() {
        assert_eq!(shown("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 83);
    }

    #[test]
    fn the_nearest_word_is_one_that_was_meant() {
        let known = ["base_url", "name", "share"];
        assert_eq!(nearest("base_uri", known), Some("base_url"));
        assert_eq!(nearest("Name", known), Some("name"));
        assert_eq!(nearest("shraes", known), Some("share"));
        assert_eq!(nearest("colour", known), None);
    }
}
