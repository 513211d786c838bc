//! The document: its text as lines, and the list of what is wrong with it.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    Environment,
    problem::{Problem, Problems},
};

/// Where something stands, for people.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) line: Option<usize>,
    pub(super) key: String,
}

/// A value and where it stands.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) at: At,
}

/// What surrounds the values: the file, its lines, and the list of what is wrong with it.
pub(super) struct Document<'t> {
    file: String,
    folder: PathBuf,
    environment: &'t Environment,
    lines: Vec<usize>,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    /// Every key that was asked for, with its section: what the documentation must have.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<(String, &'static str)>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(text: &'t str, path: &Path, environment: &'t Environment) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self {
            file: path.display().to_string(),
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
            environment,
            lines: std::iter::once(0).chain(ends).collect(),
            text,
            problems: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Parses the text. What is no TOML at all is reported alone: the rest would only repeat it.
    pub(super) fn parse(&self) -> Option<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let mut last = None;
        for error in &errors {
            let start = error.span().map(|span| span.start);
            let line = start.map(|start| self.line(start));
            // The first error of a line explains it; more of the same line come from getting lost.
            if line.is_some() && line == last {
                continue;
            }
            last = line;
            let column = start.map_or(String::new(), |start| format!("column {}: ", self.column(start)));
            let message = format!("{column}not TOML: {}", error.message().replace('\n', " "));
            self.problem(&At { line, key: String::new() }, message);
        }
        errors.is_empty().then(|| table.into_inner())
    }

    pub(super) fn environment(&self) -> &'t Environment {
        self.environment
    }

    /// A path as it is meant: relative to the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub(super) fn problem(&self, at: &At, message: impl Into<String>) {
        let At { line, key } = at.clone();
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line,
            key,
            message: message.into(),
        });
    }

    /// All that was found wrong.
    pub(super) fn problems(&self) -> Option<Problems> {
        let problems = self.problems.take();
        (!problems.is_empty()).then(|| Problems::new(problems))
    }

    /// The line that a byte is in, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    fn column(&self, offset: usize) -> usize {
        let start = self.line(offset).checked_sub(1).and_then(|line| self.lines.get(line)).copied();
        let before = self.text.get(start.unwrap_or_default()..offset).unwrap_or_default();
        before.chars().count() + 1
    }
}
