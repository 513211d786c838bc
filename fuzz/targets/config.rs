//! A configuration, beside secrets that it may name.

#![no_main]

use std::{fs, os::unix::fs::PermissionsExt, sync::LazyLock};

use cairld::daemon::config::{Config, Environment};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const SECRET: &str = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";

/// Names are short, so that they are found.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in
        [("k", SECRET.to_owned()), ("s", SECRET.to_owned()), ("i", format!("cairl_test_{SECRET}"))]
    {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    }
    folder
});

fuzz_target!(|text: &str| {
    let environment =
        Environment { credentials_directory: Some(FOLDER.path().to_owned()), ..Environment::default() };
    match Config::parse(text, &FOLDER.path().join("c"), &environment) {
        Ok(config) => {
            assert!(!config.clients.is_empty() && !config.callers.is_empty());
            // Unless it stands where nobody keeps one.
            assert!(text.contains(SECRET) || !format!("{config:?}").contains(SECRET), "nothing prints a secret");
        }
        Err(problems) => {
            let said = problems.to_string();
            assert!(!said.is_empty() && (text.contains(SECRET) || !said.contains(SECRET)));
        }
    }
});
