//! Nothing that stands in the file makes the reader fail, or makes it say a secret.

use proptest::prelude::*;

use super::*;

/// Lines of a configuration, with secrets where they don't belong.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let complete = with(Lines {
        client: "client_secret = \"CANARY\"\nclient_id = \"CANARY\"\napi_key = [\"CANARY\"]\n\
                 webhook_secrets = [\"CANARY\"]\nwebhook_secret = { a = \"CANARY\" }\n\
                 api_key_file = \"open\"\nwebhook_secret_files = [\"open\", \"webhook\"]\n\
                 proxy = \"http://u:CANARY@p\"\nbase_url = \"https://u:CANARY@h\"\ntimeouts.connect = \"5s\"",
        caller: "token = \"CANARY\"\ntoken_file = \"short\"",
        keys: "key = \"CANARY\"\nkeys = [\"CANARY\"]\nfiles = [\"client_secret\"]",
        ..Lines::default()
    });
    let lines: Vec<String> = complete.lines().map(str::to_owned).collect();
    let junk = prop_oneof![
        "[a-z_.]{0,12} = (\"[a-z/:.*]{0,12}\"|-?[0-9]{1,12}|true|\\[\\]|\\{\\}|0x1f|1e9|1979-05-27)",
        "\\[{1,2}(grpc|store|keys|client|caller|http|client.endpoints)\\]{1,2}",
        ".{0,20}",
    ];
    prop::collection::vec(prop_oneof![4 => prop::sample::select(lines), 1 => junk], 0..40)
}

proptest! {
    #[test]
    fn no_text_makes_it_fail(text in any::<String>()) {
        let _ = Config::parse(&text, Path::new("cairld.toml"), &Environment::default());
    }

    #[test]
    fn no_secret_is_ever_said(lines in lines()) {
        let host = Host::new();
        host.file("open", "CANARY", 0o644);
        host.secret("short", "CANARY");
        let told = match host.parse(&lines.join("\n")) {
            Ok(config) => format!("{config:?}"),
            Err(problems) => {
                prop_assert!(problems.len() > 0);
                format!("{problems}\n{problems:?}")
            }
        };
        prop_assert!(!told.contains("CANARY"), "{}", told);
    }
}
