//! The documents say what is so.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use cairld::domain::{catalogue, conditions};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn errors_page_is_the_catalogue() {
    let path = root().join("docs/errors.md");
    let page = cairld::api::errors_page::render();
    if env::var_os("CAIRLD_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == page,
        "docs/errors.md is stale; its head says how to renew it"
    );
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let page = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let names: BTreeSet<&String> = ["dependencies", "build-dependencies", "dev-dependencies"]
        .iter()
        .flat_map(|section| manifest[*section].as_table().unwrap().keys())
        .collect();
    assert!(names.len() > 20);
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/dependencies.md");
    }
}

/// Whoever is woken by an error looks for what its remedy names: a setting, a field, a call.
#[test]
fn whatever_a_remedy_names_exists() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let settings = read("docs/cairld.toml");
    let mut named = settings.clone() + &read("src/api/status.rs");
    for file in fs::read_dir(root().join("proto/cairld/v1")).unwrap() {
        named += &fs::read_to_string(file.unwrap().path()).unwrap();
    }
    let exists = |name: &str| {
        let is_word = |text: &str| {
            text.split(|c: char| !c.is_alphanumeric() && !"_.".contains(c)).any(|word| word == name)
        };
        let in_section = name.split_once('.').is_some_and(|(section, key)| {
            let after = settings.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_default();
            let body = after.split("\n[").next().unwrap_or_default();
            body.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} =")))
        });
        is_word(&named) || in_section
    };
    let texts = catalogue().map(|entry| entry.remedy);
    let mut count = 0;
    for remedy in texts.chain(conditions().iter().map(|condition| condition.remedy)) {
        for word in remedy.split(|c: char| c.is_whitespace() || "`[],;:()…".contains(c)) {
            let word = word.trim_matches('.');
            let is_path = word.contains('.') && !word.contains('/') && word != "cairld.toml";
            let is_field = word.contains('_') && !word.starts_with("cairl_");
            let is_call =
                word.chars().skip(1).any(char::is_uppercase) && word.chars().any(char::is_lowercase);
            if (is_path || is_field || is_call) && !word.starts_with("X-") {
                assert!(exists(word), "{word}, of the remedy: {remedy}");
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count} names were looked for");
}

/// A reviewer looks for the test that shows a point.
#[test]
fn whatever_test_the_threat_model_names_exists() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let files = sources(root().join("src")).chain(sources(root().join("tests")));
    let code: Vec<(String, String)> =
        files.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect();
    let mut count = 0;
    for name in page.split('`').skip(1).step_by(2) {
        if let Some((module, test)) = name.split_once("::") {
            let is_there = |(path, text): &(String, String)| {
                path.contains(module) && text.contains(&format!("fn {test}("))
            };
            assert!(code.iter().any(is_there), "there is no test {name}");
            count += 1;
        } else if name.starts_with("scripts/") {
            assert!(root().join(name).exists(), "{name}");
        }
    }
    assert!(count > 40, "{count} tests were looked for");
}

/// All files under a folder.
fn sources(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    let mut folders = vec![folder];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"))
}

/// The fenced blocks of a page: the language and the file that stand behind the fence, and the code inside.
fn code_blocks(page: &str) -> Vec<(&str, Option<&str>, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let (language, source) = info.split_once(' ').map_or((info, None), |(l, s)| (l, Some(s)));
        let inside = lines.by_ref().take_while(|line| *line != "```");
        blocks.push((language, source, inside.map(|line| format!("{line}\n")).collect()));
    }
    blocks
}

#[test]
fn the_code_shown_to_clients_is_that_of_the_examples() {
    let page = fs::read_to_string(root().join("docs/clients.md")).unwrap();
    let mut shown = BTreeSet::new();
    for (language, source, code) in code_blocks(&page) {
        let Some(source) = source else {
            assert_eq!(language, "sh", "only commands stand without the file that they are from:\n{code}");
            continue;
        };
        let text =
            fs::read_to_string(root().join(source)).unwrap_or_else(|error| panic!("{source}: {error}"));
        // Whole lines: a block must not begin in the middle of one.
        let is_there = text.starts_with(&code) || text.contains(&format!("\n{code}"));
        assert!(is_there, "docs/clients.md shows what is not in {source}:\n{code}");
        shown.insert(language);
    }
    assert_eq!(shown, BTreeSet::from(["go", "java", "js", "python"]));
}
