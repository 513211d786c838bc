"""Commands on the machine that was booted, shown as a transcript, and waiting for what they bring about."""

import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

# Whose words in the journal: systemd's about the unit, the daemon's own. Those by their name, since the journal may come too
# late to see of which unit a process was that lived for some milliseconds.
OF_SYSTEMD, OF_THE_DAEMON = "-u cairld _PID=1", "-t cairld"
PAGE = pathlib.Path("docs/operations.md")
# Far more than anything here takes: only what never comes is waited for that long.
SURELY = 60


def say(text: str) -> None:
    print(text, flush=True)


def check(what: str, is_so: bool) -> None:
    if not is_so:
        say(f"booted: FAILED: {what}")
        for show in ("systemctl status --no-pager --lines=0 cairld cairld.socket", "journalctl --no-pager --lines=40"):
            say(f"$ {show}\n{subprocess.run(show.split(), capture_output=True, text=True).stdout}")
        sys.exit(1)


def quietly(command: str, ends_with: int | None = 0) -> str:
    """Runs it in a shell; what it says. Fails where it ends with another code, None meaning any."""
    try:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # cairlctl gives up before that, and says why.
            timeout=SURELY + 30,
        )
    except subprocess.TimeoutExpired as late:
        check(f"{command}: was not over after {late.timeout} s:\n{late.stdout}", False)
    if ends_with is not None:
        check(f"{command}: ended with {ran.returncode} instead of {ends_with}:\n{ran.stdout}", ran.returncode == ends_with)
    return ran.stdout.rstrip()


def show(command: str, ends_with: int | None = 0, lines: str = "") -> str:
    """The same, in the transcript; of its lines those alone that have `lines` in them."""
    say(f"$ {command}")
    said = quietly(command, ends_with)
    for line in said.splitlines():
        if re.search(lines, line):
            say(f"  {line}")
    if ends_with:
        say(f"  (exit code {ends_with})")
    return said


def until(what: str, holds: Callable[[], object]) -> None:
    """Waits for it: systemd has no word for most of what is waited for here."""
    deadline = time.monotonic() + SURELY
    while not holds():
        check(f"it never came to this: {what}", time.monotonic() < deadline)
        time.sleep(0.05)


def unit(name: str = "cairld.service") -> dict[str, str]:
    """What systemd knows of a unit; with what is empty, as the status text is between two starts."""
    return dict(line.split("=", 1) for line in quietly(f"systemctl show --all {name}").splitlines() if "=" in line)


def is_active() -> bool:
    return unit()["ActiveState"] == "active"


def as_caller(command: str, user: str = "checkout", group: str = "cairld") -> str:
    """A service of the host that calls, as the page says: its unit joins the group."""
    joins = f" -p SupplementaryGroups={group}" if group else ""
    return f"systemd-run --quiet --wait --pipe --collect -p User={user}{joins} {command}"


def curl(path: str, status: int = 200) -> str:
    said = show(f"curl -s -w '%{{http_code}}\\n' 'http://127.0.0.1:9464{path}'")
    check(f"{path} answers {status}", said.splitlines()[-1] == str(status))
    return said


def write(path: str, text: str, mode: int = 0o644) -> None:
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def blocks(heading: str, language: str) -> list[str]:
    """What the page shows under that heading in that language, without the indentation of a list."""
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"{heading}\n")]
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def follow(code: str) -> None:
    """Does what a block of the page says, line by line."""
    for line in code.splitlines():
        command = line.split("  #")[0].rstrip()
        if command:
            show(command)


def post(call: str, body: object) -> dict:
    """A control call of the provider's stand-in."""
    request = urllib.request.Request(
        f"http://127.0.0.1:8970/sandbox/{call}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SURELY) as answer:
        return json.loads(answer.read() or b"{}")


def status() -> None:
    show("systemctl status --no-pager cairld", None, r"^. cairld|Active:|Main PID:|Status:")


def mark() -> str:
    """Where the journal is now."""
    return f"@{time.time():.6f}"


def logged(since: str, whose: str, lines: str = "") -> str:
    """What the journal has from then on, of systemd about the unit or of the daemon; in the answer with all fields."""
    command = f"journalctl {whose} --since={since}"
    said = quietly(f"journalctl --sync; {command} --output=cat")
    say(f"$ journalctl {whose}")
    for line in said.splitlines():
        if re.search(lines, line):
            say(f"  {line}")
    return quietly(f"{command} --output=json")


def ctl(arguments: str, shows: bool = False) -> dict:
    command = as_caller(f"cairlctl --json {arguments}")
    return json.loads((show if shows else quietly)(command))


def flow() -> dict:
    """A flow taken to its end over the Unix socket, with the client's secret; its session."""
    started = ctl("start --scope age_18_plus")
    callback = post("decide", {"authorization_url": started["authorizationUrl"], "outcome": "approve"})["callback_url"]
    completed = ctl(f"complete '{callback}'")["session"]
    check("a flow is completed", completed["status"] == "SESSION_STATUS_COMPLETE")
    say(f"  a whole flow: COMPLETE, {completed['claims']}")
    return completed


def session_is(session: str, status: str) -> None:
    found = ctl(f"session get {session}")["session"]["status"]
    check(f"the session is {found} instead of {status}", found == f"SESSION_STATUS_{status}")
    say(f"  the session from before: {status}")
