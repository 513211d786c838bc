//! `docs/metrics.md` and the book are one.

use super::*;
use crate::daemon::metrics::book::Line;

const BEGIN: &str = "<!-- begin: generated -->\n";
const END: &str = "<!-- end: generated -->";

/// No number at all.
fn numbers() -> Numbers {
    Numbers {
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
    }
}

/// A book without a number in it.
fn empty() -> Book {
    write(numbers())
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

/// What an alert looks at: a metric, and the labels with the values that it names.
struct Selector {
    metric: String,
    labels: Vec<(String, Vec<String>)>,
}

/// The selectors of an expression, and the labels that it groups by or matches on.
fn parts_of(expr: &str) -> (Vec<Selector>, Vec<String>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut selectors, mut grouped, mut rest) = (Vec::new(), Vec::new(), expr);
    while let Some(start) = rest.find(is_word) {
        let word = rest[start..].split(|c| !is_word(c)).next().unwrap();
        rest = &rest[start + word.len()..];
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        if matches!(word, "by" | "on") {
            let (list, behind) = rest.trim_start().strip_prefix('(').unwrap().split_once(')').unwrap();
            grouped.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = behind;
        } else if ["cairld_", "process_"].iter().any(|start| word.starts_with(start)) || word == "up" {
            let matchers = braces.map(|(matchers, _)| matchers).unwrap_or_default();
            let labels =
                matchers.split(',').filter_map(|matcher| matcher.split_once('=')).map(|(label, values)| {
                    let values = values.trim_matches(|c| matches!(c, '~' | '"')).split('|');
                    (label.to_owned(), values.map(str::to_owned).collect())
                });
            selectors.push(Selector { metric: word.to_owned(), labels: labels.collect() });
            rest = braces.map_or(rest, |(_, behind)| behind);
        }
    }
    (selectors, grouped)
}

#[test]
fn alerts_name_what_there_is_from_the_start() {
    let page = include_str!("../../../docs/metrics.md");
    let exprs: Vec<&str> = page.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(exprs.len() > 10, "{exprs:?}");
    // A daemon that nobody has called yet, with one client.
    let (flows, provider) = (FlowMetrics::default(), ProviderMetrics::default());
    let client = crate::domain::ClientName::parse("shop").unwrap();
    flows.begin(&client);
    provider.begin(&client);
    let calls = Calls::read(&crate::api::Tally::new());
    let clients = Clients::of(client.as_str());
    let book = write(Numbers { calls, flows, provider, clients, ..numbers() });
    let text = book.text().unwrap();
    let labels_of = |metric: &str| {
        let base = metric.strip_suffix("_bucket").unwrap_or(metric);
        book.contents().iter().find_map(|line| match line {
            Line::Metric { name, labels, .. } if name == base => Some(*labels),
            Line::Metric { .. } | Line::Heading(_) => None,
        })
    };
    for expr in exprs {
        let (selectors, grouped) = parts_of(expr);
        assert!(!selectors.is_empty(), "{expr}");
        for Selector { metric, labels } in &selectors {
            if metric == "up" {
                continue;
            }
            let known = labels_of(metric).unwrap_or_else(|| panic!("{expr}: no metric is named {metric}"));
            // Which daemon it is says Prometheus.
            for (label, values) in labels.iter().filter(|(label, _)| *label != "job") {
                assert!(known.contains(&label.as_str()), "{expr}: {metric} has no label {label}");
                for value in values {
                    let row = format!("{label}=\"{value}\"");
                    let is_there = |line: &str| line.starts_with(metric.as_str()) && line.contains(&row);
                    assert!(text.lines().any(is_there), "{expr}: nothing has {row} from the start");
                }
            }
            for label in &grouped {
                let is_known =
                    matches!(label.as_str(), "instance" | "job") || known.contains(&label.as_str());
                assert!(is_known, "{expr}: {metric} has no label {label}");
            }
        }
        // Two sides whose labels differ match nothing unless it is said on which they are to.
        let is_two_sided = [" unless ", " and "].iter().any(|operator| expr.contains(operator));
        assert!(!is_two_sided || expr.contains(" on ("), "{expr}: on which labels?");
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
