//! `docs/metrics.md` and the book are one.

use super::*;
use crate::daemon::metrics::book::Line;

const BEGIN: &str = "<!-- begin: generated -->\n";
const END: &str = "<!-- end: generated -->";

/// A book without a number in it.
fn empty() -> Book {
    write(Numbers {
        process: Process::default(),
        last_reload: LastReload::default(),
        calls: Calls::default(),
        store: StoreStatus::default(),
        last_sweep: None,
        unread_removed: 0,
        store_metrics: StoreMetrics::default(),
        flows: FlowMetrics::default(),
        provider: ProviderMetrics::default(),
        clients: Clients::default(),
    })
}

/// The contents of the book as tables.
fn tables() -> String {
    let mut page = String::new();
    for line in empty().contents() {
        match line {
            Line::Heading(heading) => {
                page.push_str(&format!(
                    "\n## {heading}\n\n| metric | type | labels | what |\n| --- | --- | --- | --- |\n"
                ));
            }
            Line::Metric { name, kind, labels, help } => {
                let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
                page.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
            }
        }
    }
    page.push('\n');
    page
}

#[test]
fn the_page_says_what_the_book_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (block, after) = rest.split_once(END).unwrap();
    if std::env::var_os("CAIRLD_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", tables())).unwrap();
        return;
    }
    assert_eq!(block, tables(), "run CAIRLD_BLESS=1 cargo test --lib the_page_says_what_the_book_says");
    // What the page says around the tables, alerts say, names metrics that there are.
    let names: Vec<String> = empty()
        .contents()
        .iter()
        .filter_map(|line| match line {
            Line::Metric { name, .. } => Some(name.clone()),
            Line::Heading(_) => None,
        })
        .collect();
    for word in [before, after].concat().split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        let is_name = ["cairld_", "process_", "tokio_"].iter().any(|prefix| word.starts_with(prefix));
        let is_known = names.iter().any(|name| {
            word == name
                || word
                    .strip_prefix(name.as_str())
                    .is_some_and(|suffix| matches!(suffix, "_count" | "_sum" | "_bucket"))
        });
        assert!(!is_name || is_known, "{word} is no metric");
    }
}

#[test]
fn each_entry_has_a_name_of_its_own_and_a_sentence() {
    let book = empty();
    let mut names = std::collections::BTreeSet::new();
    for line in book.contents() {
        let Line::Metric { name, help, labels, .. } = line else { continue };
        assert!(names.insert(name.clone()), "{name} twice");
        assert!(help.ends_with('.') && !help.contains('\n') && !help.contains('|'), "{name}: {help}");
        assert!(labels.iter().all(|label| label.chars().all(|c| c.is_ascii_lowercase())), "{name}");
    }
    assert!(names.len() > 40, "{}", names.len());
}

#[test]
fn labels_are_escaped_and_a_row_without_labels_has_no_braces() {
    let mut book = Book::default();
    book.gauges(entry("one", &["label"], "One."), [Row::of([("label", "a\"b\\c\nd")], 1.5)]);
    book.counters(entry("two", &[], "Two.").in_unit("bytes"), [Row::only(7)]);
    book.counters(entry("none", &["label"], "None."), []);
    let text = book.text().unwrap();
    assert!(text.contains("one{label=\"a\\\"b\\\\c\\nd\"} 1.5\n"), "{text}");
    assert!(
        text.contains(
            "# HELP two_bytes Two.\n# TYPE two_bytes counter\n# UNIT two_bytes bytes\ntwo_bytes_total 7\n"
        ),
        "{text}"
    );
    assert!(!text.contains("none") && text.ends_with("# EOF\n"), "{text}");
}
