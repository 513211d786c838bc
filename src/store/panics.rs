//! Panics: those that whoever works on the store's file waits for, since redb trusts what it reads, and what may be repeated
//! of any.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind},
};

thread_local! {
    /// How many of the thread's callers wait for a panic.
    static WAITING: Cell<u32> = const { Cell::new(0) };
    /// Where the last one came from that somebody waited for.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether a panic of this thread is told by whoever works on the store's file, with the file's name and what to do. For the
/// process's panic hook, which alone hears where a panic comes from.
pub(crate) fn is_told_by_the_store(panic: &PanicHookInfo<'_>) -> bool {
    let is_told = WAITING.get() > 0;
    if is_told {
        PLACE.set(panic.location().map(place));
    }
    is_told
}

/// Does it; where it panics, answers with what that says and where it was. What the work had in hand is not to be used after
/// that.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    WAITING.set(WAITING.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    WAITING.set(WAITING.get() - 1);
    done.map_err(|panic| {
        let said = said(&*panic);
        PLACE.take().map_or_else(|| said.to_owned(), |place| format!("{said}, {place}"))
    })
}

/// What the standard library says before a value that nobody expected, which may hold anybody's text.
const VALUES: [&str; 2] = ["on an `Err` value:", "on an `Ok` value:"];

/// What a panic says, without the text or the value that one of the standard library's quotes at its end.
pub(crate) fn said(payload: &dyn Any) -> &str {
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words");
    let quoted = ["of `", "slicing `"].into_iter().filter_map(|words| said.find(words)).min();
    let quoted = quoted.filter(|_| said.contains("byte") || said.contains("slicing"));
    let values = VALUES.into_iter().filter_map(|words| Some(said.find(words)? + words.len()));
    match values.chain(quoted).min() {
        Some(begins) => said.get(..begins).unwrap_or_default().trim_end(),
        None => said,
    }
}

/// The crate, the file in it and the line, without where crates lay on the machine that built it.
fn place(location: &Location<'_>) -> String {
    format!("{}:{}", file_in_crate(location.file()), location.line())
}

fn file_in_crate(file: &str) -> &str {
    let folder = file.rfind("/src/").and_then(|at| file.get(..at)).unwrap_or_default();
    let begins = folder.rfind('/').map_or(0, |at| at + 1);
    file.get(begins..).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_cut_wrongly_is_not_repeated() {
        let secret = "wh\u{e9}c_secret".to_owned();
        for (from, to) in [(3, 4), (0, 3), (5, 99), (4, 2)] {
            let said = caught(|| drop(secret[from..to].to_owned())).unwrap_err();
            assert!(!said.contains("secret") && said.len() > 10, "{said}");
        }
        let none = "called `Option::unwrap()` on a `None` value";
        assert_eq!((said(&none), said(&1)), (none, "no words"));
    }

    #[test]
    fn a_value_that_was_not_expected_is_not_repeated() {
        let said = caught(|| String::from_utf8(b"secret\xff".to_vec()).unwrap()).unwrap_err();
        assert_eq!(said, "called `Result::unwrap()` on an `Err` value:");
        let said = caught(|| String::from_utf8(b"secret".to_vec()).unwrap_err()).unwrap_err();
        assert_eq!(said, "called `Result::unwrap_err()` on an `Ok` value:");
    }

    #[test]
    fn it_is_told_which_crate_it_was() {
        for (file, told) in [
            ("src/store/redb/sweep.rs", "src/store/redb/sweep.rs"),
            (
                "/home/me/.cargo/registry/src/index-1/redb-4.6.0/src/tree_store/page.rs",
                "redb-4.6.0/src/tree_store/page.rs",
            ),
            ("/rustc/0123/library/core/src/option.rs", "core/src/option.rs"),
            ("../src/lib.rs", "../src/lib.rs"),
        ] {
            assert_eq!(file_in_crate(file), told);
        }
    }
}
