"""What befalls a daemon, and what systemd and it make of that."""

import pathlib
import time

import logs
import setup
from machine import (
    OF_SYSTEMD,
    OF_THE_DAEMON,
    SURELY,
    as_caller,
    check,
    ctl,
    is_active,
    logged,
    mark,
    quietly,
    say,
    session_is,
    show,
    status,
    unit,
    until,
    write,
)

SLOWER = "/etc/systemd/system/cairld.socket.d/slower.conf"


def restarted(before: dict[str, str]) -> None:
    """Waits until systemd has started it again, by itself, after what happened to the one before."""
    until(
        "it was started again",
        lambda: int(unit()["NRestarts"]) > int(before["NRestarts"]) and is_active(),
    )
    check("it is another process", unit()["MainPID"] != before["MainPID"])


def is_stuck(session: str) -> None:
    say("\n# it is stuck: the watchdog")
    before = unit()
    opened = ctl("start --scope age_18_plus")["session"]["id"]
    begun = mark()
    show(f"kill -STOP {before['MainPID']}")
    restarted(before)
    said = logged(begun, OF_SYSTEMD, ": |Started")
    check("the watchdog did it", "Watchdog timeout" in said and "status=6/ABRT" in said)
    status()
    session_is(session, "COMPLETE")
    session_is(opened, "PENDING")


def crashes(session: str) -> None:
    say("\n# it is killed")
    before, begun = unit(), mark()
    opened = ctl("start --scope age_18_plus")["session"]["id"]
    show(f"kill -KILL {before['MainPID']}")
    # Nobody is turned away meanwhile: the socket is systemd's.
    session_is(opened, "PENDING")
    restarted(before)
    logged(begun, OF_SYSTEMD, ": |Started")
    status()
    session_is(session, "COMPLETE")


def disk_full(session: str) -> None:
    """Other than with a supervisor that is played, callers wait at systemd's socket here, and each start is theirs."""
    say("\n# the disk gets full, and is mended")
    before, begun = unit(), mark()
    ballast = pathlib.Path("/var/lib/cairld/ballast")
    show(f"dd if=/dev/zero of={ballast} bs=1M", 1, "No space")
    # What is free within the file may be enough for some calls, and for a start.
    deadline = time.monotonic() + 2 * SURELY
    while int(unit()["NRestarts"]) < int(before["NRestarts"]) + 3:
        check("it ends each time", time.monotonic() < deadline)
        start = as_caller("cairlctl --timeout 1s start --scope age_18_plus")
        code = quietly(f"{start} >/dev/null 2>&1 || echo $?")
        check(f"what callers hear meanwhile: {code}", code in ("", "69", "75"))
    said = logged(begun, OF_THE_DAEMON, "a write failed")
    check("the last word names the file", "cairld.redb" in said and "No space left" in said)
    check("it ended with EX_IOERR", "status=74" in logged(begun, OF_SYSTEMD, "status="))
    check("the socket listens all the while", unit("cairld.socket")["ActiveState"] == "active")
    ballast.unlink()
    say(f"$ rm {ballast}")
    # In its own words, since one that the full disk is about to end may be active still.
    until("it serves again, by itself", lambda: quietly("curl -s http://127.0.0.1:9464/readyz", None) == "ok" and is_active())
    session_is(session, "COMPLETE")
    ctl("start --scope age_18_plus")


def is_wrong(session: str) -> None:
    say("\n# the configuration is wrong")
    right = pathlib.Path(setup.CONFIG).read_text()
    setup.reconfigure(right.replace("[http]", "[https]").replace("uid = 1001", "uid = -1"))
    begun = mark()
    show("systemctl restart cairld", 1)
    before = unit()
    check("it ended with EX_CONFIG", before["ExecMainStatus"] == "78")
    check(f"it is not started again: {before['SubState']}", before["SubState"] == "failed")
    status()
    said = logged(begun, OF_THE_DAEMON, "toml")
    check("the log says all that is wrong", "unknown section" in said and "must be a whole number" in said)
    logs.errors(begun, "https: unknown section", "uid: must be a whole number")
    say("  and who calls meanwhile starts it again, until systemd has had enough of that")
    # The unit's ten seconds are short for ten starts where a machine is busy.
    write(SLOWER, "[Socket]\nTriggerLimitIntervalSec=1min\n")
    quietly("systemctl daemon-reload")
    begun = mark()
    show(as_caller("cairlctl --timeout 80s status"), 69, "cairlctl:")
    until("the socket gives up", lambda: unit("cairld.socket")["ActiveState"] == "failed")
    starts = logged(begun, "-u cairld.socket _PID=1", "^cairld.socket").count("Failed to start")
    say(f"  (it had failed {starts} times by then)")
    check("the socket says why", unit("cairld.socket")["Result"] == "trigger-limit-hit")
    quietly(f"rm {SLOWER} && systemctl daemon-reload")
    setup.reconfigure(right)
    show("systemctl restart cairld.socket cairld")
    session_is(session, "COMPLETE")
