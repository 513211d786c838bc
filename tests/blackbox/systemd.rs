//! What systemd is told while the daemon runs.

use std::fs;

use rustix::process::Signal;

use crate::support::{Daemon, World};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_is_at() {
    let world = World::new().await;
    let daemon = Daemon::start_told(&world.config(), &[]);
    daemon.tells("STATUS=serving gRPC on ", 1);
    let told = daemon.told();
    let socket = world.path("cairld.sock");
    for says in [&format!("gRPC on {}", socket.display()), daemon.tcp(), "webhooks on 127.0.0.1:"] {
        assert!(told.contains(says), "{says} is not in {told}");
    }
    let at = |words: &str| told.find(words).unwrap_or_else(|| panic!("no {words} in {told}"));
    assert!(at("STATUS=opening the store") < at("READY=1"));

    daemon.signal(Signal::HUP);
    daemon.tells("RELOADING=1", 1);
    daemon.tells("MONOTONIC_USEC=", 1);
    daemon.tells("STATUS=reading the configuration anew", 1);
    daemon.tells("STATUS=serving gRPC on ", 2);

    // Wrong in itself, and right but for what needs a restart.
    for text in [
        world.config_text().replace("insecure", "insecur"),
        world.config_text().replace("cairld.redb", "b.redb"),
    ] {
        fs::write(world.config(), text).unwrap();
        let before = daemon.told().matches("STATUS=serving as before").count();
        daemon.signal(Signal::HUP);
        daemon.tells("STATUS=serving as before", before + 1);
    }
    daemon.tells("READY=1", 4);
    daemon.signal(Signal::TERM);
    daemon.tells("STOPPING=1", 1);
    daemon.tells("STATUS=finishing calls in flight", 1);
    assert!(!daemon.told().contains("WATCHDOG"), "nobody asked for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_feeds_the_watchdog_that_systemd_has_for_it() {
    let world = World::new().await;
    let daemon = Daemon::start_told(&world.config(), &[("WATCHDOG_USEC", "50000")]);
    daemon.tells("WATCHDOG=1", 5);
    // For another process: nothing to do for this one.
    let other = World::new().await;
    let environment = [("WATCHDOG_USEC", "50000"), ("WATCHDOG_PID", "1")];
    let unwatched = Daemon::start_told(&other.config(), &environment);
    daemon.tells("WATCHDOG=1", 10);
    unwatched.signal(Signal::TERM);
    unwatched.tells("STOPPING=1", 1);
    assert!(!unwatched.told().contains("WATCHDOG"));
}
