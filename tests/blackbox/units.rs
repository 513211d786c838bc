//! The units in `systemd/`: what they must have is there, and no weaker. `scripts/units.sh` has systemd's own tools judge
//! them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::support::{cairld, output};

/// What `cairld.service` has, line by line.
const SERVICE: &[&str] = &[
    // How it starts, ends, and comes back.
    "Type=notify",
    "ExecReload=/bin/kill -HUP $MAINPID",
    "Restart=on-failure",
    "RestartPreventExitStatus=64 78",
    "StartLimitIntervalSec=0",
    "WatchdogSec=30s",
    "TimeoutStopSec=20s",
    "LimitNOFILE=65536",
    "LimitCORE=0",
    // Whose it is, and where.
    "User=cairld",
    "Group=cairld",
    "UMask=0077",
    "StateDirectory=cairld",
    "StateDirectoryMode=0700",
    "ConfigurationDirectory=cairld",
    "RuntimeDirectory=cairld",
    "RuntimeDirectoryMode=0750",
    "RuntimeDirectoryPreserve=yes",
    // What it cannot do.
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    "PrivateIPC=yes",
    "RemoveIPC=yes",
    "ProtectHostname=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources @aio @keyring @memlock @chown @setuid memfd_create",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "NoExecPaths=/ /run /run/cairld /var/lib/cairld /tmp /var/tmp /dev/shm -/dev/hugepages",
    "ExecPaths=/usr",
    "BindReadOnlyPaths=/usr",
    "ReadOnlyPaths=/run /etc/cairld",
];

/// What would weaken it, or have it recognise nobody, or wrong ages.
const NEVER: &[&str] = &["PrivateUsers", "ProcSubset", "ReadWritePaths", "BindPaths", "DeviceAllow"];

const SOCKET: &[&str] = &[
    "ListenStream=/run/cairld/cairld.sock",
    "SocketUser=cairld",
    "SocketGroup=cairld",
    "SocketMode=0660",
    "Accept=no",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The assignments of a unit, in their order.
fn assignments(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("systemd").join(file)).unwrap();
    let is_said = |line: &&str| line.contains('=') && !line.starts_with('#');
    text.lines().filter(is_said).map(str::to_owned).collect()
}

#[test]
fn nothing_of_the_units_is_lost_or_weakened() {
    for (file, wanted) in [("cairld.service", SERVICE), ("cairld.socket", SOCKET)] {
        let said = assignments(file);
        for line in wanted {
            assert!(said.iter().any(|said| said == line), "{file} does not say {line}");
        }
        // A key that is given twice is added to, or overruled.
        let keys: Vec<&str> =
            said.iter().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
        for key in wanted.iter().filter_map(|line| line.split_once('=')).map(|(key, _)| key) {
            let count = |keys: &mut dyn Iterator<Item = &str>| keys.filter(|other| *other == key).count();
            let mut listed = wanted.iter().filter_map(|line| line.split_once('=')).map(|(key, _)| key);
            assert_eq!(count(&mut keys.iter().copied()), count(&mut listed), "{file}: {key}");
        }
        for key in NEVER {
            assert!(!keys.contains(key), "{file} sets {key}");
        }
    }
}

#[test]
fn the_start_is_not_repeated_for_what_a_human_has_to_mend() {
    let (help, text, _) = output(cairld().arg("--help"));
    assert!(help.status.success());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for says in ["64 wrong usage", "78 the configuration or the store's key is wrong"] {
        assert!(text.contains(says), "{says} is another code now: RestartPreventExitStatus= must follow");
    }
}

#[test]
fn the_credentials_that_are_shown_are_those_that_the_configuration_names() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let settings = read("docs/cairld.toml");
    let unit = read("systemd/cairld.service");
    let shown: BTreeSet<&str> = unit
        .lines()
        .filter_map(|line| {
            line.strip_prefix("#LoadCredential=").or(line.strip_prefix("#LoadCredentialEncrypted="))
        })
        .filter_map(|credential| credential.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert!(shown.len() >= 4);
    for name in shown {
        let is_named = |line: &str| line.contains("credential") && line.contains(&format!("\"{name}\""));
        assert!(settings.lines().any(is_named), "{name}: docs/cairld.toml names no such credential");
    }
}
