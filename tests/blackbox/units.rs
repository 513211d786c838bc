//! The files in `systemd/`: all that they must have is there, and nothing else. `scripts/units.sh` has systemd's own tools
//! judge the units, which says nothing of what was left out.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::support::{cairld, output};

/// All that `cairld.service` says, line by line: a line more can weaken it as much as one less.
const SERVICE: &[&str] = &[
    "[Unit]",
    "Description=CAIRL verification for the services of this host",
    "Documentation=file:/usr/share/doc/cairld/operations.md",
    "After=network-online.target nss-lookup.target time-sync.target",
    "Wants=network-online.target",
    "StartLimitIntervalSec=0",
    "[Service]",
    // How it starts, ends, and comes back.
    "Type=notify",
    "NotifyAccess=main",
    "ExecStart=/usr/bin/cairld serve --config /etc/cairld/cairld.toml",
    "ExecReload=/bin/kill -HUP $MAINPID",
    "TimeoutStartSec=10min",
    "TimeoutStopSec=50s",
    "Restart=on-failure",
    "RestartSec=2s",
    "RestartPreventExitStatus=64 65 78",
    "WatchdogSec=30s",
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
    "SystemCallErrorNumber=EPERM",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "NoExecPaths=/ /run /run/cairld /var/lib/cairld /tmp /var/tmp /dev/shm -/dev/hugepages",
    "ExecPaths=/usr",
    "BindReadOnlyPaths=/usr",
    "ReadOnlyPaths=/run /etc/cairld",
    "[Install]",
    "WantedBy=multi-user.target",
];

const SOCKET: &[&str] = &[
    "[Unit]",
    "Description=Where callers reach cairld",
    "Documentation=file:/usr/share/doc/cairld/operations.md",
    "[Socket]",
    "ListenStream=/run/cairld/cairld.sock",
    "SocketUser=cairld",
    "SocketGroup=cairld",
    "SocketMode=0660",
    "DirectoryMode=0755",
    "Accept=no",
    "Backlog=4096",
    "RemoveOnStop=yes",
    "TriggerLimitIntervalSec=10s",
    "TriggerLimitBurst=10",
    "[Install]",
    "WantedBy=sockets.target",
];

/// What `systemctl reload` waits with, from systemd 254 on.
const NOTIFY_RELOAD: &[&str] =
    &["[Service]", "Type=notify-reload", "ExecReload=", "RestartSteps=6", "RestartMaxDelaySec=1min"];

/// The daemon's user, and the folder where its socket lies.
const SYSUSERS: &[&str] = &["u cairld - \"cairld\" /var/lib/cairld"];
const TMPFILES: &[&str] = &["d /run/cairld 0750 cairld cairld -"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a file says, in its order: all but blank lines and comments.
fn said(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("systemd").join(file)).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn nothing_of_the_units_is_lost_changed_or_added() {
    for (file, wanted) in [
        ("cairld.service", SERVICE),
        ("cairld.socket", SOCKET),
        ("since-254/cairld.service.d/notify-reload.conf", NOTIFY_RELOAD),
        ("sysusers.d/cairld.conf", SYSUSERS),
        ("tmpfiles.d/cairld.conf", TMPFILES),
    ] {
        assert_eq!(said(file), wanted, "{file}");
    }
}

#[test]
fn the_start_is_not_repeated_for_what_a_human_has_to_mend() {
    let (help, text, _) = output(cairld().arg("--help"));
    assert!(help.status.success());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for says in [
        "64 wrong usage",
        "65 the store is damaged, or the backup in its place",
        "78 the configuration or the store's key is wrong",
    ] {
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
