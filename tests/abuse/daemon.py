"""The real daemon beside its sandbox's absence, an honest caller, and a look at the daemon's memory."""

import atexit
import hashlib
import hmac
import json
import os
import pathlib
import resource
import socket
import subprocess
import tempfile
import threading
import time

SECRET = "whsec_0123456789abcdef0123456789abcdef"
HONEST = "tok_of_an_honest_caller_0123456789abcdef"
# He is let in too, and may have no more than another: what he does must be his own loss.
TOKEN = "tok_of_a_greedy_caller_0123456789abcdef"
CONFIG = """
[grpc]
unix = "cairld.sock"
tcp = "127.0.0.1:0"
insecure = true
[http]
webhooks = "127.0.0.1:0"
[store]
path = "cairld.redb"
[keys]
files = ["store.key"]
[[client]]
name = "shop"
base_url = "http://127.0.0.1:9"
client_id_file = "client.id"
client_secret_file = "client.secret"
webhook_secret_files = ["webhook.secret"]
redirect_uris = ["https://shop.example/callback"]
[[caller]]
name = "checkout"
uid = {uid}
token_file = "caller.token"
clients = ["shop"]
rpcs = ["*"]
admin = true
[[caller]]
name = "greedy"
token_file = "greedy.token"
clients = ["shop"]
rpcs = ["*"]
admin = true
"""


def usual_limit():
    """As a service is started: a soft limit of 1024 open files below a higher one."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


class Daemon:
    def __init__(self, programs):
        self.programs = pathlib.Path(programs)
        self.folder = tempfile.TemporaryDirectory(prefix="cairld-")
        folder = pathlib.Path(self.folder.name)
        subprocess.run([self.programs / "cairld", "keygen", folder / "store.key"], check=True, capture_output=True)
        texts = {"client.id": "cairl_test_0123456789abcdef", "client.secret": "cs_0123456789abcdef",
                 "webhook.secret": SECRET, "caller.token": HONEST, "greedy.token": TOKEN}
        for name, text in texts.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text + "\n")
        (folder / "cairld.toml").write_text(CONFIG.format(uid=os.getuid()))
        self.unix = str(folder / "cairld.sock")
        self.token_file = folder / "caller.token"
        self.process = subprocess.Popen(
            [self.programs / "cairld", "serve", "--config", folder / "cairld.toml"], stderr=subprocess.PIPE, text=True,
            preexec_fn=usual_limit)
        # However this ends.
        atexit.register(self.process.kill)
        self.log, self.tcp, self.webhooks = [], None, None
        self.said = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        with self.said:
            if not self.said.wait_for(lambda: self.webhooks or self.process.poll() is not None, 60) or not self.webhooks:
                raise SystemExit("cairld did not start:\n" + "\n".join(self.log))

    def _read(self):
        for line in self.process.stderr:
            with self.said:
                self.log.append(line.rstrip())
                del self.log[:-200]
                if '"serving' in line:
                    said = json.loads(line)
                    address = tuple(said["address"].rsplit(":", 1)) if "address" in said else None
                    if "TCP" in said["message"]:
                        self.tcp = (address[0], int(address[1]))
                    if "webhooks" in said["message"]:
                        self.webhooks = (address[0], int(address[1]))
                self.said.notify_all()

    def memory(self):
        """Resident memory and its highest, in MiB, and how many file descriptors are open."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        found = dict(line.split(":", 1) for line in text.splitlines())
        return int(found["VmRSS"].split()[0]) / 1024, len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.terminate()
        # Its end has limits of its own; only what is broken takes longer.
        status = self.process.wait(60)
        self.folder.cleanup()
        if status != 0:
            raise SystemExit(f"cairld ended with {status}:\n" + "\n".join(self.log))


class Watch:
    """While it is entered: samples the daemon every 100 ms, and makes an honest caller's calls by every way in."""

    def __init__(self, daemon):
        self.daemon, self.curve, self.slowest, self.failures = daemon, [], 0.0, []
        # Calls that have ended, by kind: one thread counts each.
        self.ended = {"cairlctl": 0, "a webhook": 0}
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=target, daemon=True) for target in (self._sample, self._call, self._deliver)]

    def __enter__(self):
        self.began = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _sample(self):
        while not self.stopping.wait(0.1):
            memory, files = self.daemon.memory()
            self.curve.append((time.monotonic() - self.began, memory, files))

    def _answered(self, what, call):
        began = time.monotonic()
        try:
            call()
        except Exception as error:  # Whatever it was: the honest caller was not served.
            self.failures.append(f"{what} after {time.monotonic() - began:.1f} s: {error}")
        self.ended[what] += 1
        self.slowest = max(self.slowest, time.monotonic() - began)

    def _call(self):
        ways = [[f"http://{self.daemon.tcp[0]}:{self.daemon.tcp[1]}", "--token-file", self.daemon.token_file],
                [f"unix:{self.daemon.unix}"]]
        number = 0
        while not self.stopping.wait(0.05):
            endpoint = ways[number % 2]
            command = [self.daemon.programs / "cairlctl", "--endpoint", *endpoint]
            command += ["start", "--client", "shop", "--scope", "age_18_plus"] if number % 3 == 0 else ["status"]
            number += 1
            self._answered("cairlctl", lambda: subprocess.run(command, check=True, capture_output=True, timeout=30))

    def _deliver(self):
        number = 0
        while not self.stopping.wait(0.05):
            number += 1
            self._answered("a webhook", lambda: deliver(self.daemon.webhooks, number))


class Span:
    """How long an attack goes on: so many seconds, and until three honest calls of each kind have ended beside it, of which the
    first may have begun before it. Each call has a time-out, so that this comes, however slow the machine is."""

    def __init__(self, watch, seconds):
        self.watch, self.end = watch, time.monotonic() + seconds
        self.wanted = {what: ended + 3 for what, ended in watch.ended.items()}

    def is_over(self):
        return time.monotonic() >= self.end and all(self.watch.ended[what] >= ended for what, ended in self.wanted.items())

    def wait(self):
        while not self.is_over():
            time.sleep(0.05)


def deliver(address, number):
    """A webhook as the provider sends it; again like the provider, where the first attempt finds no place."""
    body = json.dumps({"id": f"evt-{time.monotonic_ns()}-{number}", "type": "vae.resolved"}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (f"POST /webhooks/shop HTTP/1.1\r\nhost: cairld\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
            f"x-cairl-signature: sha256={signature}\r\n\r\n").encode()
    answer = b""
    for _ in range(3):
        with socket.create_connection(address, timeout=30) as connection:
            try:
                connection.sendall(head + body)
                answer = connection.recv(64)
            except ConnectionError:
                continue
        if answer:
            break
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"answered with {answer!r}")
