//! The documents say what is so.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

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
