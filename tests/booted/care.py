"""Backups, what looks after the store, and a restore, as docs/operations.md says."""

import pathlib
import re
import time

import logs
from machine import (
    OF_SYSTEMD,
    as_caller,
    blocks,
    check,
    ctl,
    flow,
    follow,
    mark,
    post,
    quietly,
    say,
    session_is,
    show,
    status,
    unit,
    until,
    write,
)

STORE = "/var/lib/cairld/cairld.redb"
BACKUPS = pathlib.Path("/backups")


def owned(path: object) -> None:
    found = quietly(f"stat -c '%a %U:%G' {path}")
    check(f"{path} is {found}", found == "600 cairld:cairld")
    say(f"  {found:20} {path}")


def backs_up(hand: str, timer: str) -> pathlib.Path:
    """By hand, and by the timer's service; the later one."""
    follow(hand)
    (first,) = BACKUPS.iterdir()
    owned(first)
    (units,) = blocks("Backup and care", "ini")
    for path, text in re.findall(r"^# (/etc/\S+)\n(.*?)(?=^# /etc|\Z)", units, flags=re.MULTILINE | re.DOTALL):
        # As often as the page has it, it might come at the moment of the one by hand.
        write(path, text.replace("OnCalendar=hourly", "OnCalendar=yearly"))
    check("the page has it hourly", "OnCalendar=hourly" in units)
    # A name is a backup's for good: the next one's says the next second.
    until("the next second has begun", lambda: time.strftime("%FT%H%M%SZ", time.gmtime()) not in first.name)
    follow(timer)
    ran = unit("cairld-backup.service")
    check("the service has done it", (ran["Result"], ran["ExecMainStatus"]) == ("success", "0"))
    check("the timer is there", unit("cairld-backup.timer")["ActiveState"] == "active")
    (later,) = set(BACKUPS.iterdir()) - {first}
    owned(later)
    return later


def backs_up_and_restores(session: str) -> None:
    say("\n# backup and care: by hand, and by a timer")
    hand, timer, restore = blocks("Backup and care", "sh")
    complete = flow()
    opened = ctl("start --scope age_18_plus")["session"]["id"]
    backup = backs_up(hand, timer)
    later = ctl("start --scope age_18_plus")["session"]["id"]

    say("\n# a restore")
    # What STATUS= was in between, systemd tells afterwards.
    quietly("systemctl log-level debug")
    begun = mark()
    stop, start = restore.splitlines()[0], restore.splitlines()[-1]
    check("it begins with the stop and ends with the start", "stop" in stop and "start" in start)
    restore, named = re.subn(r"/backups/cairld-\S+", str(backup), restore)
    check("it names a backup", named == 1)
    follow(restore.removesuffix(f"{start}\n"))
    # Root restored it, and its owner is the daemon.
    owned(STORE)
    follow(start)
    quietly("systemctl log-level info")
    status()
    check("it serves", unit()["StatusText"].startswith("serving gRPC"))
    owned(STORE)
    heard = "".join(entry["MESSAGE"] for entry in logs.read(f"{OF_SYSTEMD} --since={begun}"))
    check("STATUS said what it was at", "STATUS=restoring a backup" in heard)
    (warning,) = [
        entry for entry in logs.read(f"-u cairld -p warning --since={begun}") if "restored a backup" in entry["MESSAGE"]
    ]
    say(f"  {warning['MESSAGE']}")
    check("it is a warning", warning["PRIORITY"] == "4")
    found = ctl(f"session get {complete['id']}")["session"]
    check(f"what was complete is, with its claims: {found}", found["claims"] == complete["claims"] != {})
    session_is(complete["id"], "COMPLETE")
    session_is(session, "COMPLETE")
    session_is(opened, "INDETERMINATE")
    show(as_caller(f"cairlctl session get {later}"), 1, "cairlctl:|reason")
    say("  who completes one in the minute after it:")
    started = ctl("start --scope age_18_plus")
    callback = post("decide", {"authorization_url": started["authorizationUrl"], "outcome": "approve"})["callback_url"]
    show(as_caller(f"cairlctl --timeout 1s complete '{callback}'"), 75, "cairlctl:|reason")
    show("runuser -u cairld -- cairlctl store verify")
