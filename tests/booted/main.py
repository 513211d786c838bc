"""A day in the life of the service, under a real systemd: from the installation to the stop.

scripts/booted.sh boots a machine for it, whose only purpose it is. Prints what happens, as a transcript; ends with an error
where something is not as it should be.
"""

import os
import pathlib
import time

import care
import confined
import logs
import setup
import troubles
from machine import (
    OF_THE_DAEMON,
    as_caller,
    blocks,
    check,
    ctl,
    curl,
    flow,
    logged,
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

TCP = "cairlctl --endpoint http://127.0.0.1:50051 --token-file /home/stranger.token"
CALLERS, RESTARTS = 3, 3
# One call after the other, until it is enough; how each ended.
CALL = """\
#!/bin/bash
while [ ! -e /run/enough ]; do
  code=0
  cairlctl session get "$1" >/dev/null 2>&1 || code=$?
  echo "$code"
done
"""


def starts() -> None:
    say("\n# start")
    show("systemctl enable --quiet --now cairld.socket cairld")
    until("it serves", lambda: unit()["StatusText"].startswith("serving gRPC"))
    status()
    text = unit()["StatusText"]
    for says in ("gRPC on /run/cairld/cairld.sock", "gRPC on 127.0.0.1:50051", "metrics on 127.0.0.1:9464"):
        check(f"its status says {says}: {text}", says in text)
    check("systemd knows when it is ready", unit()["Type"] in ("notify", "notify-reload"))
    check("no start failed", unit()["NRestarts"] == "0")
    curl("/readyz?verbose")
    for path, mode in {
        "/var/lib/cairld": "700 cairld cairld",
        "/var/lib/cairld/cairld.redb": "600 cairld cairld",
        "/run/cairld": "750 cairld cairld",
        "/run/cairld/cairld.sock": "660 cairld cairld",
        "/etc/cairld": "755 root root",
        "/etc/cairld/secrets": "700 root root",
    }.items():
        found = quietly(f"stat -c '%a %U %G' {path}")
        check(f"{path} is {found} instead of {mode}", found == mode)
        say(f"  {mode:20} {path}")


def calls() -> str:
    """Every way to call; the session of a flow that was taken to its end."""
    say("\n# who calls: by uid, with a token over TCP; one who is not known, one who is not of the group")
    show(as_caller("cairlctl status"), lines="^daemon|version|^store|takes writes|^client shop")
    show(as_caller(f"{TCP} start --scope age_18_plus", "stranger", ""), lines="session|status")
    show(as_caller("cairlctl start --scope age_18_plus", "stranger"), 77, "cairlctl:|reason")
    show(as_caller("cairlctl status", "checkout", ""), 69, "cairlctl:")
    client = {"client_id": "cairl_test_shop", "client_secret": "secret_of_the_shop_0123456789"}
    client |= {"redirect_uris": ["https://shop.example/callback"]}
    client |= {"webhook_url": "http://127.0.0.1:8980/webhooks/shop", "webhook_secret": setup.WEBHOOK_SECRET}
    post("clients", client)
    return flow()["id"]


def reloads(session: str) -> None:
    say("\n# reload: what is wrong changes nothing, what is right all of it")
    right = pathlib.Path(setup.CONFIG).read_text()
    pid, begun = unit()["MainPID"], mark()
    _, lent = blocks("Configure", "sh")
    show(lent.strip())
    setup.reconfigure(right.replace('name = "billing"\n', 'name = "billing"\nlimit.streams = 9\n'))
    check("check says what the reload would", "unknown key" in show(lent.strip(), 78))
    # Where systemd waits for its end, a reload that is refused has ended as well.
    show("systemctl reload cairld")
    until("it tells that it was refused", lambda: unit()["StatusText"].startswith("serving as before"))
    status()
    check("the log names what is wrong", "unknown key" in logged(begun, OF_THE_DAEMON))
    logs.errors(begun, "unknown key; did you mean `limits`?")
    check("it is a warning", "[!]configuration" in curl("/readyz?verbose"))
    session_is(session, "COMPLETE")
    setup.reconfigure(right.replace('name = "billing"\n', 'name = "billing"\nlimits.streams = 9\n'))
    write("/etc/cairld/billing.token", "tok_of_the_billing_that_is_new_0123456789\n", 0o600)
    show("systemctl reload cairld")
    until("it serves again", lambda: unit()["StatusText"].startswith("serving gRPC"))
    check("it is in force", "[+]configuration ok" in curl("/readyz?verbose"))
    show(as_caller(f"{TCP} start --scope age_18_plus", "stranger", ""), 77, "cairlctl:|reason")
    check("it is the same process", unit()["MainPID"] == pid)


def restarts(session: str) -> None:
    say(f"\n# {RESTARTS} restarts under calls: {CALLERS} callers, one call after the other, each repeated by nobody")
    write("/usr/bin/calls", CALL, 0o755)
    answers = pathlib.Path("/run/calls")
    answers.touch()
    names = [f"calls-{number}.service" for number in range(CALLERS)]
    joins = f"-p User=checkout -p SupplementaryGroups=cairld -p StandardOutput=append:{answers}"
    for name in names:
        quietly(f"systemd-run --quiet --unit={name} {joins} -p RemainAfterExit=yes -p RuntimeMaxSec=300 calls {session}")
    for number in range(RESTARTS):
        until("all are calling", lambda enough=15 * (number + 1): len(answers.read_text().split()) > enough)
        began = time.monotonic()
        show("systemctl restart cairld")
        check("it ended in time", time.monotonic() - began < 18)
    pathlib.Path("/run/enough").touch()
    until("the callers have ended", lambda: all(unit(name)["SubState"] == "exited" for name in names))
    codes = answers.read_text().split()
    failed = sorted(code for code in codes if code != "0")
    say(f"  {len(codes) - len(failed)} calls answered; exit codes of those that may be repeated: {failed or 'none'}")
    # The daemon is unavailable, or: not now.
    check("whoever called was answered, or may repeat", set(failed) <= {"69", "75"})
    check("each restart is felt once by each caller at most", len(failed) <= CALLERS * RESTARTS)


def sealed(session: str) -> None:
    say("\n# the store's key and the client's secret, sealed for this host")
    in_clear, encrypted = blocks("Credentials", "ini")
    (command,) = blocks("Credentials", "sh")
    drop_in = in_clear
    for name in ("store.key", "shop.client_secret"):
        show(command.strip().replace("store.key", name))
        quietly(f"rm /etc/cairld/secrets/{name}")
        drop_in = drop_in.replace(
            f"LoadCredential={name}:/etc/cairld/secrets/{name}\n",
            encrypted.replace("[Service]\n", "").replace("store.key", name),
        )
    write("/etc/systemd/system/cairld.service.d/override.conf", drop_in)
    show("systemctl cat cairld.service", lines="^LoadCred")
    check("both are in use", drop_in.count("LoadCredentialEncrypted") == 2)
    show("systemctl daemon-reload && systemctl restart cairld")
    session_is(session, "COMPLETE")
    flow()


def binds(session: str) -> None:
    say("\n# without cairld.socket: the daemon binds by itself")
    right = pathlib.Path(setup.CONFIG).read_text()
    show("systemctl disable --quiet --now cairld.socket && systemctl stop cairld")
    setup.reconfigure(right.replace("[grpc]\n", '[grpc]\nunix = "/run/cairld/cairld.sock"\ntcp = "127.0.0.1:50051"\n'))
    show("systemctl start cairld")
    bound = show("stat -c '%a %U %G' /run/cairld/cairld.sock")
    check("the socket that it makes is the group's as well", bound == "660 cairld cairld")
    session_is(session, "COMPLETE")
    # Its place is taken by the socket again, whatever became of the file.
    setup.reconfigure(right)
    show("systemctl stop cairld && systemctl enable --quiet --now cairld.socket cairld")
    session_is(session, "COMPLETE")


def stops(session: str) -> None:
    say("\n# stop: of the service alone, and of both")
    show("systemctl stop cairld")
    session_is(session, "COMPLETE")
    check("the caller has started it", unit()["ActiveState"] == "active")
    began = time.monotonic()
    show("systemctl stop cairld.socket cairld")
    check("it ended in time", time.monotonic() - began < 18)
    after = unit()
    check("it ended as asked", (after["Result"], after["ExecMainStatus"]) == ("success", "0"))
    status()
    show(as_caller("cairlctl status"), 69, "cairlctl:")
    check("the socket is gone, its folder is not", os.listdir("/run/cairld") == [])


def main() -> None:
    setup.machine()
    setup.install()
    setup.configure()
    setup.provider()
    starts()
    session = calls()
    logs.story()
    confined.told_by_the_kernel()
    confined.tried()
    reloads(session)
    troubles.is_stuck(session)
    troubles.crashes(session)
    troubles.disk_full(session)
    troubles.is_wrong(session)
    restarts(session)
    sealed(session)
    binds(session)
    care.backs_up_and_restores(session)
    stops(session)
    logs.entries()
    say("booted: all as promised")


main()
