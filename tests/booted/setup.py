"""The machine as docs/operations.md has it: the daemon installed, configured, with its secrets; and who calls it."""

import pathlib
import re

from machine import blocks, check, follow, quietly, say, show, until, write

CONFIG = "/etc/cairld/cairld.toml"
WEBHOOK_SECRET = "secret_of_its_webhooks_0123456789"
# How long the drop-in lets the daemon be stuck: the unit's thirty seconds are too long to wait for here.
WATCHDOG = 15
# What the page leaves to the reader. The client's table is the page's last one, and goes on here.
BEFORE = """\
[grpc]
insecure = true                       # TCP of loopback
[http]
ops = "127.0.0.1:9464"
webhooks = "127.0.0.1:8980"
[store]
path = "/var/lib/cairld/cairld.redb"
"""
BEHIND = """\
base_url = "http://127.0.0.1:8970"
redirect_uris = ["https://shop.example/callback"]

[[caller]]
name = "checkout"
uid = 1001
clients = ["shop"]
rpcs = ["*"]
admin = true

[[caller]]
name = "billing"
token_file = "/etc/cairld/billing.token"
clients = ["shop"]
rpcs = ["*"]
"""


def machine() -> None:
    say("# the machine")
    show("cat /proc/1/comm")
    show("systemctl --version | head -n 1")
    until("the machine has booted", lambda: quietly("systemctl is-system-running", None) != "starting")
    show("systemctl is-system-running")


def version() -> int:
    return int(quietly("systemctl --version").split()[1])


def install() -> None:
    say("\n# installed as docs/operations.md says")
    first, later = blocks("Install", "sh")
    built, rest = first.split("\n", 1)
    check("the page begins with the build, which happened before", built.startswith("cargo build --release"))
    follow(rest)
    if version() >= 254:
        follow(later)
    # A disk of the store's own, so small that it can be filled.
    quietly("mkdir /var/lib/cairld && mount -t tmpfs -o size=320m,mode=700 tmpfs /var/lib/cairld")
    show("getent passwd cairld; stat -c '%A %U:%G %n' /run/cairld")


def configure() -> None:
    say("\n# configured, with secrets as credentials")
    inis, tomls = blocks("Credentials", "ini"), blocks("Credentials", "toml")
    secrets = {
        "shop.client_id": "cairl_test_shop",
        "shop.client_secret": "secret_of_the_shop_0123456789",
        "shop.webhook_secret": WEBHOOK_SECRET,
    }
    quietly("install -d -m 700 /etc/cairld/secrets")
    for name, secret in secrets.items():
        write(f"/etc/cairld/secrets/{name}", secret + "\n", 0o600)
    show("cairld keygen /etc/cairld/secrets/store.key")
    (care,) = blocks("Backup and care", "toml")
    care = re.sub(r"uid = \d+", f"uid = {quietly('id -u cairld')}", care)
    write(CONFIG, BEFORE + tomls[0] + BEHIND + care)
    # What `systemctl edit` would write.
    write("/etc/systemd/system/cairld.service.d/override.conf", inis[0])
    (socket,) = blocks("Start, reload, restart, stop", "ini")
    # The page's is for TLS: without it, loopback.
    write("/etc/systemd/system/cairld.socket.d/override.conf", socket.replace("0.0.0.0", "127.0.0.1"))
    write(
        "/etc/systemd/system/cairld.service.d/sooner.conf",
        f"# The unit's thirty seconds are long to wait for.\n[Service]\nWatchdogSec={WATCHDOG}s\n",
    )
    # A file of the daemon's own, for what is to be changed by a reload.
    write("/etc/cairld/billing.token", "tok_of_the_billing_0123456789abcdef\n", 0o600)
    quietly("chown cairld: /etc/cairld/billing.token")
    # Those who call: a service with its user, another one that the daemon does not know, and a file for TCP.
    quietly("useradd --uid 1001 checkout && useradd --uid 1002 stranger")
    write("/home/stranger.token", pathlib.Path("/etc/cairld/billing.token").read_text(), 0o600)
    quietly("chown stranger /home/stranger.token && systemctl daemon-reload")
    show("systemctl cat cairld.service cairld.socket", lines=r"^(# /etc|(Load|Listen|Watchdog)\S*=)")


def provider() -> None:
    """The provider's stand-in, as a service beside."""
    quietly("systemd-run --quiet --unit=provider -p DynamicUser=yes cairld sandbox --listen 127.0.0.1:8970")
    # In its own words: systemd tells its command line.
    until("the provider's stand-in listens", lambda: "http://127.0.0.1:8970" in quietly("journalctl -u provider --output=cat"))


def reconfigure(text: str) -> None:
    """Another configuration, as an editor leaves it."""
    write(CONFIG, text)
