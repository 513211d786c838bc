"""Tries what the daemon's unit forbids, in its place. A line of JSON for each: what, what was heard, what may be."""

import ctypes
import errno
import functools
import json
import mmap
import os
import pathlib
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
STATE = pathlib.Path("/var/lib/cairld")


def call(name: str, *arguments: object) -> Callable[[], None]:
    """A function of the C library, which fails with -1."""

    def do() -> None:
        if getattr(LIBC, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    return do


def attempt(what: str, do: Callable[[], object], *wanted: str) -> None:
    try:
        do()
        heard = "OK"
    except OSError as error:
        heard = errno.errorcode.get(error.errno, str(error))
    except ValueError as error:
        # Python's setrlimit says it so where it is not permitted.
        heard = "EPERM" if "not allowed" in str(error) else str(error)
    print(json.dumps({"what": what, "heard": heard, "wanted": wanted}), flush=True)


def executable() -> None:
    """A page that is made executable after it was written."""
    libc_mmap = LIBC.mmap
    libc_mmap.restype = ctypes.c_void_p
    page = libc_mmap(None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    call("mprotect", ctypes.c_void_p(page), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC)()


def runs_from(folder: pathlib.Path) -> None:
    """Writes a program there and runs it."""
    program = folder / "probe"
    program.write_bytes(pathlib.Path("/usr/bin/true").read_bytes())
    program.chmod(0o700)
    try:
        subprocess.run([program], check=True)
    finally:
        program.unlink()


def suid() -> None:
    program = STATE / "probe"
    program.touch()
    try:
        program.chmod(0o4755)
    finally:
        program.unlink()


def others() -> None:
    """Processes of others are not there to be seen."""
    if any(path.name == "1" for path in pathlib.Path("/proc").iterdir()):
        return
    raise OSError(errno.ENOENT, "no process 1")


def memory() -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


# Memory and system calls.
attempt("mmap, to write and to run", memory, "EPERM", "EACCES")
attempt("mprotect, to run what was written", executable, "EPERM", "EACCES")
attempt("mount", call("mount", b"none", b"/tmp", b"tmpfs", 0, None), "EPERM")
attempt("unshare: a user namespace", call("unshare", 0x10000000), "EPERM")
attempt("ptrace", call("ptrace", 16, 1, 0, 0), "EPERM")
attempt("setuid to root", lambda: os.setuid(0), "EPERM")
attempt("chown", lambda: os.chown(STATE, os.getuid(), os.getgid()), "EPERM")
attempt("personality", call("personality", 0x0040000), "EPERM")
attempt("a real-time priority", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), "EPERM")
attempt("setting the clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()), "EPERM")
attempt("setting the host's name", lambda: socket.sethostname("x"), "EPERM")
attempt("locking memory", call("mlockall", 1), "EPERM")
if platform.machine() == "x86_64":
    attempt("io_uring", call("syscall", 425, 1, None), "EPERM", "ENOSYS")
    attempt("bpf", call("syscall", 321, 0, None, 0), "EPERM")
    attempt("keyctl", call("syscall", 250, 0, -3, 0), "EPERM")
# The network.
attempt("a socket of netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), "EAFNOSUPPORT", "EPERM")
attempt("a socket of packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW), "EAFNOSUPPORT", "EPERM")
attempt("a socket of TCP", lambda: socket.socket().close(), "OK")
# Files.
attempt("writing to /etc", lambda: pathlib.Path("/etc/cairld/x").touch(), "EROFS", "EACCES")
attempt("writing to /usr", lambda: pathlib.Path("/usr/x").touch(), "EROFS", "EACCES")
attempt("reading the secrets at their place", lambda: os.listdir("/etc/cairld/secrets"), "EACCES")
attempt("reading /home", lambda: os.listdir("/home"), "EACCES")
attempt("reading the kernel's log", pathlib.Path("/dev/kmsg").read_bytes, "ENOENT", "EACCES", "EPERM")
attempt("writing to /proc/sys", lambda: pathlib.Path("/proc/sys/kernel/core_pattern").write_text("x"), "EROFS", "EACCES")
attempt("seeing others' processes", others, "ENOENT")
attempt("making a program suid", suid, "EPERM")
for folder in ("/var/lib/cairld", "/run/cairld", "/tmp", "/var/tmp", "/dev/shm"):
    attempt(f"running what it wrote to {folder}", functools.partial(runs_from, pathlib.Path(folder)), "EACCES")
attempt("a file in memory, to be run", lambda: os.memfd_create("probe"), "EPERM")
attempt("reading which boot this is", pathlib.Path("/proc/sys/kernel/random/boot_id").read_text, "OK")
attempt("writing to the store's folder", lambda: (STATE / "probe").touch(), "OK")
(STATE / "probe").unlink()
attempt("signalling another's process", lambda: os.kill(1, signal.SIGCONT), "EPERM")
