"""What the journal has of the daemon: entries with fields, a session's story, and what stands in the way."""

import json
import re

from machine import OF_THE_DAEMON, check, ctl, flow, post, quietly, say, show, until

# What each line has: of the journal's own, and of the daemon's.
FIELDS = ["MESSAGE", "PRIORITY", "_PID", "_UID", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER"]
OWN = ["TARGET", "CODE_FILE", "CODE_LINE"]
# How loud some of it is.
PRIORITIES = {
    "serving gRPC on a Unix socket": "6",
    "a session is complete": "6",
    "the store is open; the first of its keys seals": "6",
    "there is no store yet; a new one is made": "4",
    "grpc.insecure is set": "4",
    "the configuration cannot be reloaded": "3",
}
STORY = [
    "a session is complete",
    "a webhook is kept",
    "a token is given up, and waits to be revoked by the provider",
    "the provider has revoked a token",
]


def read(arguments: str) -> list[dict]:
    """Entries, once all that was said until now is there."""
    said = quietly(f"journalctl --sync; journalctl {arguments} --output=json")
    return [json.loads(line) for line in said.splitlines()]


def values(entry: dict, field: str) -> set[str]:
    """Of a field that may be there more than once, from a line and from what is around it."""
    found = entry.get(field, [])
    return {found} if isinstance(found, str) else set(found)


def story() -> None:
    say("\n# one session through the journal; what becomes of others meanwhile is not in it")
    other = ctl("start --scope age_18_plus")["session"]["id"]
    session = flow()
    ctl(f"session cancel {other}")
    body = {"id": "verified", "type": "session.verified", "session_id": session["providerSessionId"], "status": "verified"}
    post("webhooks", {"client_id": "cairl_test_shop", "body": body})
    about = f"CAIRLD_SESSION={session['id']}"
    until("the webhook is kept", lambda: "a webhook is kept" in quietly(f"journalctl {about} --output=cat"))
    ctl(f"session revoke {session['id']}")
    until("the token is revoked", lambda: "has revoked" in quietly(f"journalctl {about} --output=cat"))
    show(f"journalctl --no-hostname --output=short-iso {about}", lines="cairld")
    entries = read(about)
    told = [entry["MESSAGE"] for entry in entries]
    # The caller and the provider hear of a revocation side by side; the provider's webhook of the approval may come before
    # the session is complete, or after.
    told = [message for message in told if message != "a webhook that came before is of this session"]
    check(f"its story is told: {told}", set(told) == set(STORY))
    complete, webhook, given_up, revoked = (told.index(message) for message in STORY)
    check(f"in order: {told}", complete < min(given_up, revoked) and webhook < max(given_up, revoked))
    check(f"once, but for webhooks: {told}", len(told) - told.count(STORY[1]) == len(STORY) - 1)
    for entry in entries:
        check(f"it is of this session and of INFO: {entry}", entry["PRIORITY"] == "6" and other not in json.dumps(entry))
        check(f"it says whose session it is: {entry}", values(entry, "CAIRLD_SESSION") == {session["id"]})
        check(f"it says of which client: {entry}", values(entry, "CAIRLD_CLIENT") <= {"shop"})
    (cancelled,) = read(f"CAIRLD_SESSION={other}")
    check(f"the other one has its own: {cancelled}", cancelled["MESSAGE"] == "a session is cancelled")


def errors(since: str, *words: str) -> None:
    """`-p err` says them, in what is shown without being asked for more."""
    command = f"journalctl {OF_THE_DAEMON} -p err --since={since}"
    quietly("journalctl --sync")
    shown = show(f"{command} --output=cat", lines="|".join(map(re.escape, words)))
    for each in words:
        check(f"-p err shows {each!r}", each in shown)
    found = [entry for entry in read(f"{OF_THE_DAEMON} --since={since}") if any(w in entry["MESSAGE"] for w in words)]
    check("they are errors", found != [] and all(entry["PRIORITY"] == "3" for entry in found))


def entries() -> None:
    say("\n# the journal")
    lines = read("_SYSTEMD_UNIT=cairld.service")
    # Without systemd's own in the processes that make way for the daemon, as long as it tells everything.
    lines = [line for line in lines if not line["SYSLOG_IDENTIFIER"].startswith("(")]
    check("the daemon's lines are there", len(lines) > 20)
    for line in lines:
        check(f"it has {FIELDS}: {line}", all(field in line for field in FIELDS))
        check(f"it is the daemon's: {line}", line["SYSLOG_IDENTIFIER"] == "cairld")
    own = [line for line in lines if line["_TRANSPORT"] == "journal"]
    for line in own:
        check(f"it has {OWN}: {line}", all(field in line for field in OWN))
    for words, priority in PRIORITIES.items():
        found = [line["PRIORITY"] for line in own if line["MESSAGE"].startswith(words)]
        check(f"{words!r} has the priority {priority}: {found}", found != [] and set(found) == {priority})
    # What a process says at its end, when it does not come up or has to go, is an entry as well, and an error.
    check("all of it is entries", own == lines)
    last = [line for line in own if line["MESSAGE"].startswith(("/var/lib/cairld/cairld.redb: ", "/etc/cairld/cairld.toml:"))]
    check("some ended with last words", last != [] and all(line["PRIORITY"] == "3" for line in last))
    say(f"  {len(own)} entries of the daemon, each with {', '.join(FIELDS + OWN)}; {len(last)} lines of last words")
