//! Each rule, broken.

use super::*;

/// Asserts that a configuration with these lines is wrong in one way, told in these words.
fn wrong(host: &Host, lines: Lines<'_>, key: &str, words: &str) {
    let text = with(lines);
    let told = host.told(&text);
    let [problem] = told.as_slice() else { panic!("{text}\n{told:#?}") };
    let place = problem.split_once(&format!(": {key}: "));
    assert!(place.is_some_and(|(_, message)| message.contains(words)), "{text}\n{key}: …{words}…\n{problem}");
}

#[test]
fn listeners() {
    let host = Host::new();
    let long = format!("unix = \"/{}\"", "x".repeat(107));
    for (lines, key, words) in [
        ("-unix", "grpc.unix", "is missing: say where callers reach the daemon"),
        ("unix = \"\"", "grpc.unix", "must be a path"),
        ("unix = 5", "grpc.unix", "must be a string in quotes, not an integer"),
        (&long, "grpc.unix", "107 bytes"),
        ("tcp = \"127.0.0.1:50051\"", "grpc.tcp", "set tls, or insecure = true"),
        ("tcp = \"0.0.0.0:1\"\ninsecure = true", "grpc.tcp", "must be a loopback address"),
        ("tcp = \"[::ffff:192.0.2.1]:1\"\ninsecure = true", "grpc.tcp", "must be a loopback address"),
        ("tcp = \"localhost:1\"\ninsecure = true", "grpc.tcp", "an IP address and a port"),
        ("tcp = 50051", "grpc.tcp", "must be a string in quotes"),
        ("insecure = \"yes\"", "grpc.insecure", "must be true or false, not a string"),
        ("tpc = \"x\"", "grpc.tpc", "unknown key; did you mean `tcp`?"),
    ] {
        wrong(&host, Lines { grpc: lines, ..Lines::default() }, key, words);
    }
    let told = host.told(&with(Lines { grpc: "tcp = \"192.0.2.1:1\"", ..Lines::default() }));
    assert_eq!(told.len(), 2, "not loopback, and plain: {told:?}");
}

#[test]
fn the_store_and_its_keys() {
    let host = Host::new();
    for (lines, key, words) in [
        ("-path", "store.path", "is missing"),
        ("backend = \"postgres\"", "store.backend", "must be \"redb\""),
        ("cache = \"64\"", "store.cache", "from \"1MiB\" to \"64GiB\""),
        ("cache = 64", "store.cache", "must be a string in quotes"),
        ("retention = \"59s\"", "store.retention", "from 1m to 365d"),
        ("retention = \"366d\"", "store.retention", "from 1m to 365d"),
        ("event_retention = \"59m\"", "store.event_retention", "from 1h to 3650d"),
        ("event_size = \"1KiB\"", "store.event_size", "from \"1MiB\""),
        (
            "event_size = \"2MiB\"\nunread_event_size = \"1MiB\"",
            "store.unread_event_size",
            "no less than event_size",
        ),
        ("pending_sessions = 0", "store.pending_sessions", "from 1 to 1000000000"),
        ("retention = 24", "store.retention", "must be a string in quotes, not an integer"),
        ("retenshun = \"1h\"", "store.retenshun", "did you mean `retention`?"),
    ] {
        wrong(&host, Lines { store: lines, ..Lines::default() }, key, words);
    }
    host.secret("bad.key", "CANARY-is-no-key");
    host.secret("short.key", "AAAA");
    host.credential("store.key", &MasterKeyText::new(7).0);
    for (lines, key, words) in [
        ("-files", "keys.files", "`cairld keygen` makes one"),
        ("files = []", "keys.files", "is empty"),
        ("-files\ncredentials = []", "keys.credentials", "is empty"),
        ("files = \"store.key\"", "keys.files", "must be an array of strings"),
        ("files = [\"store.key\", 5]", "keys.files[1]", "must be a string in quotes"),
        ("files = [\"bad.key\"]", "keys.files[0]", "bad.key: must hold 32 bytes in base64"),
        ("files = [\"store.key\", \"short.key\"]", "keys.files[1]", "32 bytes"),
        ("credentials = [\"store.key\"]", "keys.credentials", "given beside files"),
        ("key = \"CANARY\"", "keys.key", "secrets are files"),
    ] {
        wrong(&host, Lines { keys: lines, ..Lines::default() }, key, words);
    }
}

#[test]
fn clients() {
    let host = Host::new();
    host.secret("two_lines", "CANARY\nCANARY\n");
    host.secret("spaced", "CANARY CANARY");
    host.file("empty.pem", "no certificate", 0o644);
    let hollow = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    host.file("hollow.pem", hollow, 0o644);
    let good = tls::certificate("ca.internal").0;
    host.file("second.pem", format!("# the first\n{good}# the second\n{hollow}"), 0o644);
    let line = good.lines().count() + 3;
    let told_second = format!("second.pem: certificate 2, in line {line}, is none that can be believed");
    let shop = |key: &str| format!("client \"shop\": {key}");
    for (lines, key, words) in [
        ("-name", "client[0].name".to_owned(), "is missing"),
        ("name = \"Shop\"", "client[0].name".to_owned(), "1 to 64 characters out of a-z"),
        ("-base_url", shop("base_url"), "is missing"),
        ("base_url = \"http://cairl.app\"", shop("base_url"), "must be https"),
        ("base_url = \"https://me:CANARY@cairl.app\"", shop("base_url"), "user name or password"),
        ("-client_id_file", shop("client_id_file"), "is missing: name a file with client_id_file"),
        ("client_id_file = \"spaced\"", shop("client_id_file"), "printable ASCII without spaces"),
        ("-client_secret_file", shop("client_secret_file"), "client_secret_credential"),
        ("client_secret_file = \"two_lines\"", shop("client_secret_file"), "more than one line"),
        ("client_secret = \"CANARY\"", shop("client_secret"), "secrets are files"),
        ("-client_secret_file\nclient_secret = \"CANARY\"", shop("client_secret"), "client_secret_file"),
        ("client_id = \"CANARY\"", shop("client_id"), "secrets are files"),
        ("api_key = \"CANARY\"", shop("api_key"), "secrets are files"),
        ("webhook_secret = \"CANARY\"", shop("webhook_secret"), "secrets are files"),
        ("webhook_secrets = [\"CANARY\"]", shop("webhook_secrets"), "secrets are files"),
        ("client_secret_credential = \"shop.id\"", shop("client_secret_credential"), "keep one of the two"),
        (
            "webhook_secret_files = [\"none\"]",
            shop("webhook_secret_files[0]"),
            "none: no such file; create it",
        ),
        (
            "webhook_secret_files = [{ until = \"2026-12-01T00:00:00Z\" }]",
            shop("webhook_secret_files[0].file"),
            "is missing: name the secret",
        ),
        (
            "webhook_secret_files = [\"webhook\", { file = \"webhook\", until = \"2026-12-01\" }]",
            shop("webhook_secret_files[1].until"),
            "must be a time with its offset",
        ),
        (
            "webhook_secret_files = [{ file = \"webhook\", untill = \"2026-12-01T00:00:00Z\" }]",
            shop("webhook_secret_files[0].untill"),
            "did you mean `until`?",
        ),
        ("webhook_secret_files = [5]", shop("webhook_secret_files[0]"), "a string in quotes, or a table"),
        ("webhook_secret_files = \"webhook\"", shop("webhook_secret_files"), "must be an array"),
        (
            "webhook_secret_credentials = [{ credential = \"none\" }]",
            shop("webhook_secret_credentials[0].credential"),
            "none: no such file",
        ),
        ("-redirect_uris", shop("redirect_uris"), "is missing"),
        ("redirect_uris = []", shop("redirect_uris"), "is empty"),
        ("redirect_uris = [\"/callback\"]", shop("redirect_uris[0]"), "must be an absolute URI"),
        ("redirect_uris = [\"https://a/\", \"https://a/#b\"]", shop("redirect_uris[1]"), "fragment"),
        ("redirect_uris = [\"https://a/\", \"https://a/\"]", shop("redirect_uris[1]"), "twice"),
        ("require_binding = 1", shop("require_binding"), "must be true or false, not an integer"),
        ("share = []", shop("share"), "must be true or false, not an array"),
        ("issuer = \"cairl\"", shop("issuer"), "whole address"),
        ("authorize_params = { state = \"x\" }", shop("authorize_params.state"), "cairld sets this"),
        ("authorize_params = { a = 1 }", shop("authorize_params.a"), "must be a string"),
        ("authorize_params = { \"\" = \"\" }", shop("authorize_params.\"\""), "needs a name"),
        ("authorize_params = 1", shop("authorize_params"), "must be a table"),
        ("ca_file = \"none.pem\"", shop("ca_file"), "none.pem: no such file"),
        ("ca_file = \"empty.pem\"", shop("ca_file"), "holds no certificate"),
        ("ca_file = \".\"", shop("ca_file"), "not a regular file"),
        ("ca_file = \"hollow.pem\"", shop("ca_file"), "hollow.pem: certificate 1, in line 1, is none"),
        ("ca_file = \"second.pem\"", shop("ca_file"), told_second.as_str()),
        ("proxy = \"http://me:CANARY@proxy:1\"", shop("proxy"), "user name or password"),
        ("endpoints = { token = \"token\" }", shop("endpoints.token"), "or a path below base_url"),
        ("endpoints = { tokens = \"/t\" }", shop("endpoints.tokens"), "did you mean `token`?"),
        ("endpoints = \"/t\"", shop("endpoints"), "must be a table, { key = value }, not a string"),
        ("timeouts.connect = \"61s\"", shop("timeouts.connect"), "from 10ms to 1m"),
        ("timeouts.request = \"1h\"", shop("timeouts.request"), "from 10ms to 5m"),
        ("timeouts.request = \"1s\"", shop("timeouts.request"), "no less than connect"),
        ("limits.token_per_minute = 0", shop("limits.token_per_minute"), "from 1 to 6000"),
        ("limits.session_per_minute = 6001", shop("limits.session_per_minute"), "from 1 to 6000"),
        ("limits.session_per_minute = 1.5", shop("limits.session_per_minute"), "not a float"),
        ("redirect_uri = \"https://a/\"", shop("redirect_uri"), "did you mean `redirect_uris`?"),
        ("colour = \"CANARY\"", shop("colour"), "unknown key; known here: api_key_credential, "),
    ] {
        // A caller's "shop" is unknown where the client's name is wrong: that is another test.
        let caller = if lines.contains("name =") || lines == "-name" { "-clients\nadmin = true" } else { "" };
        wrong(&host, Lines { client: lines, caller, ..Lines::default() }, &key, words);
    }
}

#[test]
fn callers() {
    let host = Host::new();
    host.secret("short", "CANARY");
    host.secret("spaced", &format!("{TOKEN} {TOKEN}"));
    let checkout = |key: &str| format!("caller \"checkout\": {key}");
    for (lines, key, words) in [
        ("-name", "caller[0].name".to_owned(), "is missing"),
        ("name = \"a b\"", "caller[0].name".to_owned(), "1 to 64 characters"),
        ("-uid", checkout("uid"), "no way to recognise this caller"),
        ("uid = -1", checkout("uid"), "from 0 to 4294967294"),
        ("uid = 4294967295", checkout("uid"), "from 0 to 4294967294"),
        ("uid = \"root\"", checkout("uid"), "must be a whole number"),
        ("gid = 99999999999999999999", checkout("gid"), "must be a whole number"),
        ("token = \"CANARY\"", checkout("token"), "secrets are files"),
        ("-uid\ntoken = \"CANARY\"", checkout("token"), "secrets are files"),
        ("token_file = \"short\"", checkout("token_file"), "32 characters or more"),
        ("token_file = \"spaced\"", checkout("token_file"), "without spaces"),
        ("-uid\nsan = \"*.shop.example\"", checkout("san"), "must be a DNS name or a URI"),
        ("-uid\nsan = \"127.0.0.1\"", checkout("san"), "must be a DNS name or a URI"),
        ("-uid\nsan = \"spiffe://shop example\"", checkout("san"), "must be a DNS name or a URI"),
        ("limits = { concurrent_calls = 0 }", checkout("limits.concurrent_calls"), "from 1 to 100000"),
        ("limits = { pending_sessions = 0 }", checkout("limits.pending_sessions"), "from 1 to 1000000000"),
        ("limits = { streams = 1000001 }", checkout("limits.streams"), "from 1 to 1000000"),
        ("limits = { calls = 1 }", checkout("limits.calls"), "unknown key"),
        ("-clients", checkout("clients"), "is missing"),
        ("clients = []", checkout("clients"), "is empty"),
        (
            "clients = [\"shpo\"]",
            checkout("clients[0]"),
            "no [[client]] is named \"shpo\"; did you mean \"shop\"?",
        ),
        ("clients = [\"shop\", \"another\"]", checkout("clients[1]"), "configured: shop"),
        ("clients = \"shop\"", checkout("clients"), "must be an array of strings"),
        ("-rpcs", checkout("rpcs"), "is missing"),
        ("rpcs = []", checkout("rpcs"), "is empty"),
        ("rpcs = [\"GetSesion\"]", checkout("rpcs[0]"), "did you mean \"GetSession\"?"),
        ("rpcs = [\"GetSession\", \"Frobnicate\"]", checkout("rpcs[1]"), "there are AcknowledgeEvents, "),
        ("rpcs = [\"*\", \"GetSession\"]", checkout("rpcs"), "let it stand alone"),
        ("rpcs = [\"GetStatus\"]", checkout("rpcs[0]"), "set admin = true too"),
        ("rpcs = [\"GetAccessToken\"]", checkout("rpcs[0]"), "set access_token = true too"),
        ("admin = \"yes\"", checkout("admin"), "must be true or false"),
        ("event = true", checkout("event"), "did you mean `events`?"),
    ] {
        wrong(&host, Lines { caller: lines, ..Lines::default() }, &key, words);
    }
    host.good(&with(Lines { caller: "-clients\nadmin = true", ..Lines::default() }));
}

#[test]
fn callers_can_be_told_apart() {
    let host = Host::new();
    let second = |own: &str, other: &str| {
        let end = format!("[[caller]]\nname = \"second\"\nclients = [\"shop\"]\nrpcs = [\"*\"]\n{other}\n");
        with(Lines { caller: own, end: &end, ..Lines::default() })
    };
    for (own, other, words) in [
        ("", "uid = 1001", "has the same uid and gid"),
        ("gid = 5", "uid = 1001\ngid = 5", "has the same uid and gid"),
        ("-uid\ngid = 5", "gid = 5", "gid: caller \"checkout\" has the same uid and gid"),
        ("", "uid = 1001\ngid = 5", "move this one above it"),
        (
            "token_file = \"token\"",
            "token_file = \"token\"",
            "token_file: caller \"checkout\" has the same token",
        ),
        ("-uid\ntoken_file = \"token\"", "token_credential = \"t\"", "token_credential: caller \"checkout\""),
    ] {
        host.credential("t", TOKEN);
        let told = host.told(&second(own, other));
        assert!(told.len() == 1 && told[0].contains(words), "{own} {other}: {told:?}");
    }
    for (own, other) in
        [("", "uid = 1002"), ("gid = 5", "uid = 1001"), ("gid = 5", "uid = 1001\ngid = 6"), ("", "gid = 5")]
    {
        host.good(&second(own, other));
    }
}

#[test]
fn names_are_unique() {
    let host = Host::new();
    let twice = with(Lines::default());
    let again: String = twice.split_inclusive('\n').skip_while(|line| *line != "[[client]]\n").collect();
    let told = host.told(&format!("{twice}{}", again.replace("uid = 1001", "uid = 1002")));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].ends_with("client \"shop\": name: another [[client]] has this name; choose a different one")
    );
    assert!(told[1].contains("caller \"checkout\": name: another [[caller]] has this name"), "{told:?}");
}

#[test]
fn sections() {
    let host = Host::new();
    for (end, key, words) in [
        (
            "[http]\nwebhooks = \"127.0.0.1:9464\"\nops = \"127.0.0.1:9464\"",
            "http.ops",
            "is where http.webhooks listens; each needs an address of its own",
        ),
        (
            "[http]\nwebhooks = \"0.0.0.0:9464\"\nops = \"127.0.0.1:9464\"",
            "http.ops",
            "is where http.webhooks listens",
        ),
        (
            "[http]\nwebhooks = \"127.0.0.1:9464\"\nops = \"[::]:9464\"",
            "http.ops",
            "is where http.webhooks listens",
        ),
        ("[http]\nwebhooks = \"localhost:8980\"", "http.webhooks", "an IP address and a port"),
        ("[http]\nwebhooks = 8980", "http.webhooks", "must be a string in quotes"),
        ("[http]\nwebhook = \"x\"", "http.webhook", "did you mean `webhooks`?"),
        ("[grcp]\n", "grcp", "unknown section; did you mean `grpc`?"),
        (
            "[telemetry]\n",
            "telemetry",
            "unknown section; known here: caller, client, grpc, http, keys, store",
        ),
    ] {
        wrong(&host, Lines { end, ..Lines::default() }, key, words);
    }
    let beside = |http: &str| {
        with(Lines { grpc: "tcp = \"127.0.0.1:50051\"\ninsecure = true", end: http, ..Lines::default() })
    };
    for key in ["webhooks", "ops"] {
        let told = host.told(&beside(&format!("[http]\n{key} = \"127.0.0.1:50051\"")));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(&format!("http.{key}: is where grpc.tcp listens")), "{told:?}");
    }
    for http in [
        "",
        "webhooks = \"0.0.0.0:0\"\nops = \"0.0.0.0:0\"",
        "webhooks = \"127.0.0.2:50051\"\nops = \"127.0.0.3:50051\"",
        "webhooks = \"0.0.0.0:1\"\nops = \"[::1]:1\"",
    ] {
        host.good(&beside(&format!("[http]\n{http}")));
    }

    let told = host.told("");
    let keys = ["grpc.unix", "store.path", "keys.files", "client", "caller"];
    assert_eq!(told.len(), keys.len(), "{told:?}");
    for (told, key) in told.iter().zip(keys) {
        assert!(told.starts_with(&format!("cairld.toml: {key}: is missing: ")), "{told}");
    }
    let told = host.told("grpc = 1\nstore = []\nkeys = \"CANARY\"\n[client]\nname = \"shop\"\n[caller]\n");
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[0].ends_with("cairld.toml:1: grpc: must be a section, [grpc], not an integer"), "{told:?}");
    assert!(told[3].contains(":4: client: must be a list of sections, each under [[client]]"), "{told:?}");
    assert!(host.told("client = [1]")[0].contains("client[0]: must be a list of sections"));
}

#[test]
fn what_is_not_toml() {
    let host = Host::new();
    assert_eq!(host.told("[grpc\n").len(), 1);
    let told = host.told("[grpc]\nunix = \"a\"\nunix = \"b\"\n[store]\n  path = CANARY\n");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("cairld.toml:3: column 1: not TOML: "), "{told:?}");
    assert!(told[1].starts_with("cairld.toml:5: column 10: not TOML: "), "{told:?}");
}

#[test]
fn secret_files_are_guarded() {
    let host = Host::new();
    let secret = |line: &str| with(Lines { client: line, ..Lines::default() });
    for mode in [0o640, 0o604, 0o620, 0o644, 0o610, 0o777] {
        host.file("open", "CANARY", mode);
        let told = host.told(&secret("client_secret_file = \"open\""));
        let words = format!("open: others can read this secret (mode {mode:04o}); run `chmod 600 open`");
        assert!(told.len() == 1 && told[0].contains(&words), "{told:?}");
    }
    for mode in [0o600, 0o400, 0o700] {
        host.file("closed", "CANARY", mode);
        host.good(&secret("client_secret_file = \"closed\""));
    }
    host.secret("empty", "\n");
    host.secret("latin", "");
    fs::write(host.path("latin"), b"CANARY\xff").unwrap();
    host.secret("long", &"CANARY".repeat(11_000));
    for (name, words) in [
        ("empty", "empty: empty; write the secret into it"),
        ("latin", "not UTF-8"),
        ("long", "over 64 KiB"),
        (".", "not a regular file"),
        ("/dev/null", "/dev/null: not a regular file"),
        ("closed/x", "cannot be read"),
        ("none", "none: no such file; create it, or correct the path"),
        ("", "must be a path"),
        ("a\\nb", "must be a path"),
    ] {
        let told = host.told(&secret(&format!("client_secret_file = \"{name}\"")));
        assert!(told.len() == 1 && told[0].contains(words), "{name}: {told:?}");
    }
}

#[test]
fn a_pipe_does_not_hold_up_the_start() {
    let host = Host::new();
    let status = std::process::Command::new("mkfifo").arg("-m600").arg(host.path("pipe")).status().unwrap();
    assert!(status.success());
    let told = host.told(&with(Lines { client: "client_secret_file = \"pipe\"", ..Lines::default() }));
    assert!(told.len() == 1 && told[0].contains("pipe: not a regular file"), "{told:?}");
}

#[test]
fn credentials_are_plain_names_under_systemd_s_folder() {
    let mut host = Host::new();
    let secret = |name: &str| {
        with(Lines {
            client: &format!("-client_id_file\nclient_id_credential = \"{name}\""),
            ..Lines::default()
        })
    };
    host.good(&secret("shop.id"));
    for (name, words) in [
        ("", "plain name"),
        (".", "plain name"),
        ("..", "plain name"),
        ("../client_id", "plain name"),
        ("/etc/passwd", "plain name"),
        ("none", "credentials/none: no such file"),
    ] {
        let told = host.told(&secret(name));
        assert!(told.len() == 1 && told[0].contains(words), "{name}: {told:?}");
    }
    host.environment.credentials_directory = None;
    let told = host.told(&secret("shop.id"));
    assert!(told.len() == 1 && told[0].contains("$CREDENTIALS_DIRECTORY is not set"), "{told:?}");
}

#[test]
fn ten_mistakes_are_told_at_once() {
    let host = Host::new();
    host.file("open", "CANARY", 0o644);
    let text = r#"[grpc]
tcp = "192.0.2.1:50051"

[store]
backend = "sqlite"
path = "cairld.redb"
retention = "10s"

[keys]
files = ["none.key"]

[[client]]
name = "shop"
base_uri = "https://cairl.app"
client_id_file = "client_id"
client_secret_file = "open"
redirect_uris = [
    "https://shop.example/callback",
    "/callback",
]

[[caller]]
name = "checkout"
token = "CANARY"
clients = ["shp"]
rpcs = ["StartAuthorisation"]
"#;
    let told = host.told(text);
    let expected = [
        "2: grpc.tcp: must be a loopback address",
        "2: grpc.tcp: is TCP without TLS",
        "5: store.backend: must be \"redb\"",
        "7: store.retention: must be a span of time",
        "10: keys.files[0]: none.key: no such file",
        "12: client \"shop\": base_url: is missing",
        "14: client \"shop\": base_uri: unknown key; did you mean `base_url`?",
        "16: client \"shop\": client_secret_file: open: others can read this secret (mode 0644)",
        "19: client \"shop\": redirect_uris[1]: must be an absolute URI",
        "24: caller \"checkout\": token: secrets are files",
        "25: caller \"checkout\": clients[0]: no [[client]] is named \"shp\"; did you mean \"shop\"?",
        "26: caller \"checkout\": rpcs[0]: no RPC is named \"StartAuthorisation\"; did you mean \"StartAuthorization\"?",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(&format!("cairld.toml:{expected}")), "{told}\n{expected}");
    }
}
