//! How far something is that lasts: a bar that is drawn over itself on a terminal, else a line for each tenth.

use std::io;

use prost::Message;

use super::{
    failure::Failure,
    watch::{Lines, Reader},
};

/// How wide a bar is, characters.
const WIDTH: usize = 24;

/// The progress of one command.
pub(super) struct Progress<'l, 's> {
    lines: &'l mut Lines<'s>,
    on_terminal: bool,
    /// Tenths that were told.
    tenths: u64,
    is_drawn: bool,
}

impl<'l, 's> Progress<'l, 's> {
    pub(super) fn new(lines: &'l mut Lines<'s>, on_terminal: bool) -> Self {
        Self { lines, on_terminal, tenths: 0, is_drawn: false }
    }

    /// So much is done of so much: as a bar, a line or the message itself, of the contract's type `name`. `words` say it.
    pub(super) fn told(
        &mut self,
        name: &str,
        message: &impl Message,
        (done, total): (i64, i64),
        words: &str,
    ) -> Result<Reader, Failure> {
        if self.lines.json {
            return self.lines.write(name, message, "");
        }
        self.shown((done, total), words)
    }

    /// The same, where no message says it.
    pub(super) fn shown(&mut self, (done, total): (i64, i64), words: &str) -> Result<Reader, Failure> {
        let percent = percent(done, total);
        if self.lines.json {
            Ok(Reader::Here)
        } else if self.on_terminal {
            self.is_drawn = true;
            self.over(&format!("{} {percent:3} %  {words}", bar(percent)))
        } else if percent / 10 > self.tenths {
            self.tenths = percent / 10;
            self.lines.text(&format!("{percent:3} %  {words}"))
        } else {
            Ok(Reader::Here)
        }
    }

    /// How far it is where nobody knows how much there is to do: only on a terminal, which is not filled by it.
    pub(super) fn counted(&mut self, words: &str) -> Result<Reader, Failure> {
        if self.lines.json || !self.on_terminal {
            return Ok(Reader::Here);
        }
        self.is_drawn = true;
        self.over(words)
    }

    /// Whether the messages themselves are told.
    pub(super) fn is_json(&self) -> bool {
        self.lines.json
    }

    /// A line that stays, above the bar.
    pub(super) fn line(&mut self, text: &str) -> Result<Reader, Failure> {
        self.clear()?;
        self.lines.text(text)
    }

    /// Takes the bar away; gives back where the outcome goes.
    pub(super) fn over_with(mut self) -> Result<&'l mut Lines<'s>, Failure> {
        self.clear()?;
        Ok(self.lines)
    }

    fn clear(&mut self) -> Result<Reader, Failure> {
        if std::mem::take(&mut self.is_drawn) { self.over("") } else { Ok(Reader::Here) }
    }

    /// Writes over the line that stands there.
    fn over(&mut self, text: &str) -> Result<Reader, Failure> {
        match write!(self.lines.sink, "\r\u{1b}[K{text}").and_then(|()| self.lines.sink.flush()) {
            Ok(()) => Ok(Reader::Here),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => Err(Failure::line(&error)),
        }
    }
}

/// Of nothing all is done.
fn percent(done: i64, total: i64) -> u64 {
    let (done, total) = (u64::try_from(done).unwrap_or(0), u64::try_from(total).unwrap_or(0));
    if total == 0 { 100 } else { (u128::from(done) * 100 / u128::from(total)).min(100) as u64 }
}

fn bar(percent: u64) -> String {
    let done = usize::try_from(percent).unwrap_or(0) * WIDTH / 100;
    format!("[{}{}]", "#".repeat(done), ".".repeat(WIDTH.saturating_sub(done)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_it_should_be() {
        assert_eq!(bar(0), format!("[{}]", ".".repeat(24)));
        assert_eq!(bar(50), "[############............]");
        assert_eq!(bar(100), format!("[{}]", "#".repeat(24)));
        for (done, total, of_hundred) in
            [(0, 0, 100), (0, 7, 0), (7, 7, 100), (9, 7, 100), (i64::MAX - 1, i64::MAX, 99), (-1, 7, 0)]
        {
            assert_eq!(percent(done, total), of_hundred, "{done} of {total}");
        }
    }
}
