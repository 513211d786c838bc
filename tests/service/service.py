"""What stands for systemd: it holds the sockets, listens to what the daemon tells, and starts it again when it fails."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

CONFIG = """
[grpc]
insecure = true
[http]
ops = "127.0.0.1:0"
[store]
path = "disk/cairld.redb"
[keys]
files = ["store.key"]
[[client]]
name = "shop"
base_url = "{sandbox}"
client_id_file = "client.id"
client_secret_file = "client.secret"
redirect_uris = ["https://shop.example/callback"]
[[caller]]
name = "checkout"
uid = {uid}
token_file = "caller.token"
clients = ["shop"]
rpcs = ["*"]
admin = true
"""
# What the unit says: Restart=on-failure, RestartSec=2, RestartPreventExitStatus=64 65 78.
RESTART_AFTER = 2
NEVER_AGAIN = (0, 64, 65, 78)


class Service:
    """The daemon under its supervisor, in a folder of its own whose `disk` is small."""

    def __init__(self, programs: pathlib.Path, folder: pathlib.Path, sandbox: str) -> None:
        self.programs, self.folder, self.sandbox = programs, folder, sandbox
        self.token = "tok_of_the_checkout_0123456789abcdef"
        self.unix, self.tcp = socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.unix.bind(str(folder / "cairld.sock"))
        self.unix.listen(4096)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify.sock"))
        self.told = threading.Condition()
        self.words: list[str] = []
        self.exits: list[int] = []
        self.process: subprocess.Popen | None = None
        self.is_wanted = False
        self._write("caller.token", self.token)
        self._write("client.id", "cairl_test_service")
        self._write("client.secret", "secret_of_the_shop_0123456789")
        subprocess.run([programs / "cairld", "keygen", folder / "store.key"], check=True)
        self.configure()
        threading.Thread(target=self._listen, daemon=True).start()

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text + "\n")
        path.chmod(0o600)

    def configure(self, more: str = "") -> None:
        text = CONFIG.format(sandbox=self.sandbox, uid=os.getuid()) + more
        (self.folder / "cairld.toml").write_text(text)

    def _listen(self) -> None:
        """What the daemon tells its supervisor (sd_notify(3))."""
        while True:
            told = self.notify.recv(4096).decode().splitlines()
            with self.told:
                self.words += told
                self.told.notify_all()

    def tells(self, begin: int, wanted: str) -> None:
        """Waits until it has told that, behind the first `begin` words."""
        with self.told:
            if not self.told.wait_for(lambda: any(word.startswith(wanted) for word in self.words[begin:]), 60):
                raise SystemExit(f"it never said {wanted!r}: {self.words[begin:]}")

    def start(self) -> None:
        """Starts it, and again whenever it fails, until it is stopped. Comes back when it is ready."""
        self.is_wanted = True
        threading.Thread(target=self._supervise, daemon=True).start()
        self.ready()

    def ready(self) -> None:
        with self.told:
            if not self.told.wait_for(lambda: "READY=1" in self.words[self.begun :], 60):
                raise SystemExit(f"not ready: {self.words[self.begun:]}\n{self.log()[-2000:]}")

    begun = 0
    is_restarting = False

    def _supervise(self) -> None:
        while self.is_wanted:
            with self.told:
                self.begun = len(self.words)
            self.process = self._spawn()
            code = self.process.wait()
            with self.told:
                # What it has told counts no more, though the next one is started only later.
                self.begun = len(self.words)
            self.exits.append(code)
            if code in NEVER_AGAIN and self.is_wanted and not self.is_restarting:
                print(f"service: it ended with {code}, and is not started again", flush=True)
                os._exit(1)
            if code != 0:
                time.sleep(RESTART_AFTER)

    def _spawn(self) -> subprocess.Popen:
        # The shell puts the sockets where they are looked for, and says whom they are for (sd_listen_fds(3)).
        inherit = f"""
            exec 3<&{self.unix.fileno()} 4<&{self.tcp.fileno()}
            LISTEN_FDS=2 LISTEN_PID=$$ NOTIFY_SOCKET="$PWD/notify.sock" exec "$0" serve --config cairld.toml
        """
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                ["bash", "-c", inherit, self.programs / "cairld"],
                cwd=self.folder,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=[self.unix.fileno(), self.tcp.fileno()],
            )

    def restart(self) -> float:
        """`systemctl restart`: asks it to stop, and starts it when it has. Answers how long nobody was ready, seconds."""
        process = self.process
        began = time.monotonic()
        self.is_restarting = True
        self.begun = len(self.words)
        process.send_signal(signal.SIGTERM)
        process.wait()
        self.ready()
        self.is_restarting = False
        return time.monotonic() - began

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        self.is_wanted = False
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def look(self, path: str) -> tuple[int, str]:
        """What it shows of itself; 0 where nobody is there."""
        found = re.findall(r'"showing health and metrics","address":"([^"]+)"', self.log())
        try:
            with urllib.request.urlopen(f"http://{found[-1]}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, "connection refused\n"

    def metric(self, name: str) -> float:
        """The sum of a metric's rows."""
        _, text = self.look("/metrics")
        rows = [line for line in text.splitlines() if re.match(rf"{name}(\{{| )", line)]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


class Sandbox:
    """The provider's stand-in, as a process."""

    def __init__(self, programs: pathlib.Path) -> None:
        self.process = subprocess.Popen(
            [programs / "cairld", "sandbox", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.url = self.process.stdout.readline().decode().split()[-1]

    def post(self, call: str, body: object) -> dict:
        request = urllib.request.Request(
            f"{self.url}/sandbox/{call}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def token_requests(self) -> list[dict]:
        with urllib.request.urlopen(f"{self.url}/sandbox/journal", timeout=30) as answer:
            return [request for request in json.loads(answer.read()) if request["path"].endswith("/token")]
