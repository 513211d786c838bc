"""What the unit's sandbox comes to: as the kernel tells of the daemon, and as a process hears it that tries."""

import json
import os
import pathlib

from machine import check, quietly, say, show, unit, write

# What the kernel says of the daemon's process.
IN_FORCE = {
    "NoNewPrivs": "1",
    # With a filter.
    "Seccomp": "2",
    "CapInh": "0000000000000000",
    "CapPrm": "0000000000000000",
    "CapEff": "0000000000000000",
    "CapBnd": "0000000000000000",
    "CapAmb": "0000000000000000",
}
# Where anything may be written, as far as the folders' owners let the daemon.
WRITABLE = {
    "/var/lib/cairld",
    "/run/cairld",
    "/tmp",
    "/var/tmp",
    "/proc",
    "/dev/hugepages",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
}
# The daemon's own unit, with another program. Its end is the probe's, not a failure to be repeated.
PROBE = """\
[Service]
Type=oneshot
ExecStart=
ExecStart=/usr/bin/python3 -B /usr/lib/probe.py
Restart=no
WatchdogSec=0
"""


def told_by_the_kernel() -> None:
    say("\n# the sandbox is in force: what the kernel says of the daemon")
    pid = unit()["MainPID"]
    said = show(f"cat /proc/{pid}/status", lines=f"^(Uid|Gid|Groups|{'|'.join(IN_FORCE)}):")
    status = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    for name, wanted in IN_FORCE.items():
        check(f"{name} is {wanted}", status[name].strip() == wanted)
    user = quietly("id -u cairld")
    check("all its ids are those of its user", status["Uid"].split() == [user] * 4)
    writable = {}
    for line in pathlib.Path(f"/proc/{pid}/mounts").read_text().splitlines():
        place = line.split()[1]
        # The container's own, and where systemd 254 lets a service hear that memory gets short.
        if place.startswith("/run/host/") or place.endswith("/cairld.service/memory.pressure"):
            continue
        # Of mounts that lie over one another the uppermost counts, which the file does not tell.
        flags = os.statvfs(f"/proc/{pid}/root{place}").f_flag
        if not flags & os.ST_RDONLY:
            writable[place] = flags & os.ST_NOEXEC
    say(f"  mounted writable: {', '.join(sorted(writable))}")
    check(f"nothing else is writable: {set(writable) - WRITABLE}", set(writable) <= WRITABLE)
    check(f"what is writable is not run: {writable}", all(writable.values()))
    devices = {path.name for path in pathlib.Path(f"/proc/{pid}/root/dev").iterdir()}
    check(f"no devices but the pseudo ones: {devices}", not {"kmsg", "mem", "vda", "sda", "fuse"} & devices)


def tried() -> None:
    say("\n# and what another program hears in the daemon's place, under the same unit")
    quietly("cp tests/booted/probe.py /usr/lib/probe.py && cp systemd/cairld.service /etc/systemd/system/probe.service")
    write("/etc/systemd/system/probe.service.d/probe.conf", PROBE)
    quietly("systemctl daemon-reload && systemctl start probe")
    said = quietly("journalctl --sync; journalctl -u probe --output=cat --grep '^{'")
    for line in said.splitlines():
        answer = json.loads(line)
        say(f"  {answer['what']:60} {answer['heard']}")
        check(f"{answer['what']}: wanted {answer['wanted']}", answer["heard"] in answer["wanted"])
    check("all was tried", "signalling another's process" in said)
    # The folders are the daemon's as well.
    quietly("rm -r /etc/systemd/system/probe.service /etc/systemd/system/probe.service.d && systemctl daemon-reload")
