//! Answers for people: aligned blocks of keys and values, nothing in them that steers a terminal.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    time::Duration,
};

use jiff::Timestamp;
use prost::Message;
use rustix::fs::{FileType, fstat, major, minor};
use serde_json::Value;

use super::{failure::Failure, json};

/// Keys longer than this do not push the column of values further out.
const WIDEST_KEY: usize = 28;

/// What a command has to say, in both forms.
pub(super) struct Report {
    data: Data,
    text: Block,
    /// What to do where it cannot be written.
    if_lost: &'static str,
}

/// Where nothing was done but to read, which is what most commands do.
const READ_AGAIN: &str = "Make room where the output goes, and run the command again.";

/// What is written as JSON.
enum Data {
    /// An answer of the daemon, by the full name of its type in the contract.
    Message(&'static str, Vec<u8>),
    /// What no call answers.
    Plain(Value),
}

impl Report {
    /// `message` is the full name of `answer`'s type in the contract.
    pub(super) fn new(message: &'static str, answer: &impl Message, text: Block) -> Self {
        Self { data: Data::Message(message, answer.encode_to_vec()), text, if_lost: READ_AGAIN }
    }

    /// What the daemon was not asked for.
    pub(super) fn plain(data: Value, text: Block) -> Self {
        Self { data: Data::Plain(data), text, if_lost: READ_AGAIN }
    }

    /// The same after something was done, which stays done where nobody can be told: what to do then.
    pub(super) fn if_lost(self, remedy: &'static str) -> Self {
        Self { if_lost: remedy, ..self }
    }

    /// Writes it; a reader that has gone away (`| head`) has read enough.
    pub(super) fn write(&self, as_json: bool, sink: &mut dyn Write) -> Result<(), Failure> {
        let written = if as_json {
            match &self.data {
                Data::Message(name, encoded) => writeln!(sink, "{:#}", json::of(name, encoded)?),
                Data::Plain(value) => writeln!(sink, "{value:#}"),
            }
        } else {
            self.text.write(sink)
        };
        match written.and_then(|()| sink.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::output(&error, self.if_lost))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Whether what is written there is lost: /dev/null, wherever it was opened.
pub(super) fn is_discarded(output: impl AsFd) -> bool {
    fstat(output).is_ok_and(|file| {
        let is_device = FileType::from_raw_mode(file.st_mode) == FileType::CharacterDevice;
        is_device && (major(file.st_rdev), minor(file.st_rdev)) == (1, 3)
    })
}

/// Rows of keys and values under one column, with headings between.
#[derive(Debug, Default)]
pub(super) struct Block {
    indent: &'static str,
    rows: Vec<(String, String)>,
}

impl Block {
    /// A block whose rows stand under a line of their own.
    pub(super) fn indented() -> Self {
        Self { indent: "  ", rows: Vec::new() }
    }

    /// A row, whatever its value.
    pub(super) fn row(&mut self, key: &str, value: impl AsRef<str>) {
        self.rows.push((clean(key), clean(value.as_ref())));
    }

    /// A row, unless its value is empty.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.row(key, value);
        }
    }

    /// A row for a moment, unless it is unset.
    pub(super) fn time(&mut self, key: &str, value: Option<&prost_types::Timestamp>) {
        if let Some(value) = value {
            self.row(key, time(value));
        }
    }

    /// A line over the rows that follow; they are usually [`Self::item`]s.
    pub(super) fn heading(&mut self, text: &str) {
        self.rows.push((clean(text), String::new()));
    }

    /// A row under a heading.
    pub(super) fn item(&mut self, key: &str, value: impl AsRef<str>) {
        self.rows.push((format!("  {}", clean(key)), clean(value.as_ref())));
    }

    /// All rows of another block.
    pub(super) fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
    }

    pub(super) fn write(&self, sink: &mut dyn Write) -> io::Result<()> {
        let valued = self.rows.iter().filter(|(_, value)| !value.is_empty());
        let width = valued.map(|(key, _)| key.chars().count()).max().unwrap_or_default().min(WIDEST_KEY);
        for (key, value) in &self.rows {
            if value.is_empty() {
                writeln!(sink, "{}{key}", self.indent)?;
            } else {
                writeln!(sink, "{}{key:width$}  {value}", self.indent)?;
            }
        }
        Ok(())
    }
}

/// A size in the largest unit that keeps it above one, and exactly.
pub(super) fn bytes(count: i64) -> String {
    let exact = format!("{count} bytes");
    let unit =
        [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)].into_iter().find(|(_, unit)| count >= *unit);
    match unit {
        Some((name, unit)) => format!("{}.{} {name} ({exact})", count / unit, count % unit * 10 / unit),
        None => exact,
    }
}

/// Text from elsewhere with what could steer a terminal, break a line or reverse the reading order made visible.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
    }
    cleaned
}

/// Zero-width characters, separators of lines, and marks of direction.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// A moment in RFC 3339, UTC; one that no calendar has is told by its numbers.
pub(super) fn time(moment: &prost_types::Timestamp) -> String {
    match Timestamp::new(moment.seconds, moment.nanos) {
        Ok(moment) => moment.to_string(),
        Err(_) => format!("{} s {} ns after 1970", moment.seconds, moment.nanos),
    }
}

/// A span in words.
pub(super) fn span(span: &prost_types::Duration) -> String {
    match Duration::try_from(*span) {
        Ok(span) if span.as_secs() > 0 => {
            humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
        }
        Ok(span) => humantime::format_duration(span).to_string(),
        Err(_) => format!("{} s {} ns", span.seconds, span.nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(block: &Block) -> String {
        let mut sink = Vec::new();
        block.write(&mut sink).unwrap();
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn sizes_are_readable_and_exact() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1024), "1.0 KiB (1024 bytes)");
        assert_eq!(bytes(5 << 30), "5.0 GiB (5368709120 bytes)");
    }

    #[test]
    fn values_stand_under_each_other() {
        let mut block = Block::default();
        block.row("id", "ses_1");
        block.text("reference", "");
        block.text("redirect uri", "https://shop.example/");
        block.heading("claims");
        block.item("age_18_plus", "true");
        assert_eq!(
            written(&block),
            "id             ses_1\nredirect uri   https://shop.example/\nclaims\n  age_18_plus  true\n"
        );
    }

    #[test]
    fn a_long_key_does_not_widen_the_rest() {
        let mut block = Block::default();
        block.row(&"k".repeat(100), "v");
        block.row("id", "v");
        assert!(written(&block).ends_with(&format!("\n{:28}  v\n", "id")));
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let hostile = "a\u{1b}]0;x\u{7}b\u{9b}2Jc\rd\ne\u{202e}f\u{feff}";
        assert_eq!(clean(hostile), "a\\u{1b}]0;x\\u{7}b\\u{9b}2Jc\\rd\\ne\\u{202e}f\\u{feff}");
        assert_eq!(clean("Größe 日本 ✓"), "Größe 日本 ✓");
        let mut block = Block::default();
        block.item("k\u{1b}", "v\u{1b}");
        assert_eq!(written(&block), "  k\\u{1b}  v\\u{1b}\n");
    }

    #[test]
    fn times_are_utc() {
        let moment = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
        assert_eq!(time(&moment(1_735_689_600, 0)), "2025-01-01T00:00:00Z");
        assert_eq!(time(&moment(1_735_689_600, 250_000_000)), "2025-01-01T00:00:00.25Z");
        assert_eq!(time(&moment(i64::MAX, 0)), "9223372036854775807 s 0 ns after 1970");
    }

    #[test]
    fn spans_are_words() {
        let of = |seconds, nanos| span(&prost_types::Duration { seconds, nanos });
        assert_eq!(of(3723, 5_000_000), "1h 2m 3s");
        assert_eq!(of(0, 5_000_000), "5ms");
        assert_eq!(of(-1, 0), "-1 s 0 ns");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let mut text = Block::default();
        text.row("id", "ses_1");
        let report = Report::new("cairld.v1.GetSessionResponse", &(), text);
        for json in [false, true] {
            assert!(report.write(json, &mut Broken(io::ErrorKind::BrokenPipe)).is_ok());
            let full = report.write(json, &mut Broken(io::ErrorKind::StorageFull)).unwrap_err();
            assert_eq!(full.exit().code(), 74);
        }
    }
}
