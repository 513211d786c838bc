//! Reading so that all that is wrong is found at once, each with its line.
//!
//! A [`Section`] hands out values by key and type. What is missing or of a wrong type becomes a problem and reading goes
//! on; the keys that nobody asked for are reported at the end.

use std::{collections::BTreeSet, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    document::{At, Document, Found},
    problem::{nearest, shown},
};
use crate::domain::ClientName;

/// One table of the document; one that is not there reads as empty.
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    table: Option<&'d DeTable<'d>>,
    /// Its name without what tells items of a list apart: `client.endpoints`.
    kind: String,
    /// What stands before its keys: `client "shop": endpoints.`.
    prefix: String,
    line: Option<usize>,
    /// Whether something else stands in its place: then no key is missing.
    broken: bool,
    asked: BTreeSet<&'static str>,
    refused: BTreeSet<&'static str>,
}

impl<'d> Section<'d> {
    /// The whole document.
    pub(super) fn root(document: &'d Document<'d>, table: &'d DeTable<'d>) -> Self {
        Self::new(document, Some(table), String::new(), String::new(), None)
    }

    fn new(
        document: &'d Document<'d>,
        table: Option<&'d DeTable<'d>>,
        kind: String,
        prefix: String,
        line: Option<usize>,
    ) -> Self {
        let (asked, refused) = (BTreeSet::new(), BTreeSet::new());
        Self { document, table, kind, prefix, line, broken: false, asked, refused }
    }

    pub(super) fn document(&self) -> &'d Document<'d> {
        self.document
    }

    /// Where a key of this section stands, or would stand.
    pub(super) fn at(&self, key: &str) -> At {
        let found = self.table.and_then(|table| table.get_key_value(key));
        self.place(key, found.map(|(key, _)| key.span()))
    }

    fn place(&self, key: &str, span: Option<Range<usize>>) -> At {
        let line = span.map(|span| self.document.line(span.start)).or(self.line);
        At { line, key: format!("{}{key}", self.prefix) }
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Reports something about a key.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.document.problem(&self.at(key), message);
    }

    /// Reports a key that is not there.
    pub(super) fn missing(&self, key: &str, remedy: &str) {
        if !self.has(key) && !self.broken {
            self.problem(key, format!("is missing: {remedy}"));
        }
    }

    /// Reports an array that is not there, or has nothing in it.
    pub(super) fn missing_or_empty(&self, key: &str, remedy: &str) {
        self.missing(key, remedy);
        let value = self.table.and_then(|table| table.get(key));
        if value.and_then(|value| value.get_ref().as_array()).is_some_and(|items| items.is_empty()) {
            self.problem(key, format!("is empty: {remedy}"));
        }
    }

    /// Reports a key that is known, yet not to be used.
    pub(super) fn refuse(&mut self, key: &'static str, message: &str) {
        self.refused.insert(key);
        if self.has(key) {
            self.problem(key, message);
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.insert(key);
        self.table?.get(key)
    }

    /// Reports a value of a wrong type. The value is not shown: it may be a secret in a wrong place.
    fn mismatch(&self, at: &At, wanted: &str, value: &DeValue<'_>) {
        let kind = value.type_str();
        let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.document.problem(at, format!("must be {wanted}, not {article} {kind}"));
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str) -> Option<Found<&'d str>> {
        let value = self.value(key)?;
        let at = self.at(key);
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.mismatch(&at, "a string in quotes", value.get_ref());
        }
        Some(Found { value: text?, at })
    }

    /// A string that means something; `parse` says what it must be.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.string(key)?;
        parse(found.value).map_err(|message| self.document.problem(&found.at, message)).ok()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?.get_ref();
        if value.as_bool().is_none() {
            self.mismatch(&self.at(key), "true or false", value);
        }
        value.as_bool()
    }

    /// A whole number within a range.
    pub(super) fn integer(&mut self, key: &'static str, least: u32, most: u32) -> Option<u32> {
        let value = self.value(key)?.get_ref();
        let Some(digits) = value.as_integer() else {
            self.mismatch(&self.at(key), &format!("a whole number from {least} to {most}"), value);
            return None;
        };
        let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        let fits = number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            self.problem(key, format!("must be a whole number from {least} to {most}"));
        }
        fits
    }

    /// An array of strings, each with its own line; none if the key is not there.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<Found<&'d str>>> {
        let value = self.value(key)?.get_ref();
        let Some(items) = value.as_array() else {
            self.mismatch(&self.at(key), "an array of strings, [\"…\"]", value);
            return None;
        };
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = self.place(&format!("{key}[{index}]"), Some(item.span()));
            match item.get_ref().as_str() {
                Some(value) => found.push(Found { value, at }),
                None => self.mismatch(&at, "a string in quotes", item.get_ref()),
            }
        }
        Some(found)
    }

    /// An array whose items are strings, or tables that say more; none if the key is not there.
    pub(super) fn strings_or_tables(&mut self, key: &'static str) -> Vec<Item<'d>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.mismatch(&self.at(key), "an array of strings, [\"…\"]", value.get_ref());
            return Vec::new();
        };
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = self.place(&format!("{key}[{index}]"), Some(item.span()));
            if let Some(value) = item.get_ref().as_str() {
                found.push(Item::Text(Found { value, at }));
            } else if let Some(table) = item.get_ref().as_table() {
                let prefix = format!("{}.", at.key);
                let section = Section::new(self.document, Some(table), self.kind_of(key), prefix, at.line);
                found.push(Item::Table(section));
            } else {
                self.mismatch(&at, "a string in quotes, or a table", item.get_ref());
            }
        }
        found
    }

    /// A table of strings whose keys are free.
    pub(super) fn map(&mut self, key: &'static str) -> Vec<(&'d str, Found<&'d str>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.mismatch(&self.at(key), "a table, { name = \"value\" }", value.get_ref());
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, item) in table {
            let at = self.place(&format!("{key}.{}", plain(name.get_ref())), Some(name.span()));
            match item.get_ref().as_str() {
                Some(value) => found.push((name.get_ref().as_ref(), Found { value, at })),
                None => self.mismatch(&at, "a string in quotes", item.get_ref()),
            }
        }
        found
    }

    /// A table within this one.
    pub(super) fn table(&mut self, key: &'static str) -> Section<'d> {
        let kind = self.kind_of(key);
        let prefix = format!("{}{key}.", self.prefix);
        let Some(value) = self.value(key) else {
            // Where the section as a whole is not there, its parent's line is the nearest.
            return Section::new(self.document, None, kind, prefix, self.line);
        };
        let table = value.get_ref().as_table();
        let at = self.at(key);
        if table.is_none() {
            let wanted = if self.prefix.is_empty() {
                format!("a section, [{key}]")
            } else {
                "a table, { key = value }".to_owned()
            };
            self.mismatch(&at, &wanted, value.get_ref());
        }
        let section = Section::new(self.document, table, kind, prefix, at.line);
        Section { broken: table.is_none(), ..section }
    }

    /// The items of a list of sections, `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'d>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let wanted = format!("a list of sections, each under [[{key}]] in double brackets");
        let Some(items) = value.get_ref().as_array() else {
            self.mismatch(&self.at(key), &wanted, value.get_ref());
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = self.place(&format!("{key}[{index}]"), Some(item.span()));
            let Some(table) = item.get_ref().as_table() else {
                self.mismatch(&at, &wanted, item.get_ref());
                continue;
            };
            let name = table.get("name").and_then(|name| name.get_ref().as_str());
            let prefix = match name.and_then(|name| ClientName::parse(name).ok()) {
                Some(name) => format!("{key} \"{name}\": "),
                None => format!("{key}[{index}]."),
            };
            sections.push(Section::new(self.document, Some(table), self.kind_of(key), prefix, at.line));
        }
        sections
    }

    fn kind_of(&self, key: &str) -> String {
        if self.kind.is_empty() { key.to_owned() } else { format!("{}.{key}", self.kind) }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        #[cfg(test)]
        self.document.asked.borrow_mut().extend(self.asked.iter().map(|key| (self.kind.clone(), *key)));
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name: &str = key.get_ref();
            if self.asked.contains(name) || self.refused.contains(name) {
                continue;
            }
            let what = if self.kind.is_empty() { "section" } else { "key" };
            let remedy = match nearest(name, self.asked.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", self.asked.iter().copied().collect::<Vec<_>>().join(", ")),
            };
            self.document
                .problem(&self.place(&plain(name), Some(key.span())), format!("unknown {what}; {remedy}"));
        }
    }
}

/// An item of an array that may be short or long.
pub(super) enum Item<'d> {
    /// A string.
    Text(Found<&'d str>),
    /// A table.
    Table(Section<'d>),
}

/// A key as it would be written.
fn plain(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.len() <= 64 && key.chars().all(bare) { key.to_owned() } else { shown(key) }
}
