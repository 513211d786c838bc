"""A day in the life of the service: start, reload, restarts under load, a full disk and its healing, stop.

    python main.py PROGRAMS SERVICE_CONFIG

Prints what happens, as a transcript; ends with an error where something is not as it should be. Wants a `disk` of its own:
scripts/service.sh mounts a small one.
"""

import json
import pathlib
import sys
import tempfile
import time

import grpc
from cairld.v1.integration_service_pb2 import GetSessionRequest, StartAuthorizationRequest
from cairld.v1.integration_service_pb2_grpc import IntegrationServiceStub
from load import BINDING, Load, channel
from service import Sandbox, Service

RESTARTS = 10
# The provider's stand-in takes thirty token requests a minute, as the provider does.
COMPLETIONS = 12
# What callers hear of a daemon that ends.
UNHEARD = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
CONFIGURED = '[[caller]]\nname = "returns"\ntoken_file = "caller.token.2"\nclients = ["shop"]\nrpcs = ["GetSession"]\n'


def say(text: str) -> None:
    print(text, flush=True)


def check(what: str, is_so: bool) -> None:
    if not is_so:
        sys.exit(f"service: {what}")


def show(service: Service, path: str) -> tuple[int, str]:
    status, text = service.look(path)
    say(f"$ curl {path}\n{status or '-'} {text.strip()}")
    return status, text


def told(service: Service, begin: int) -> None:
    """What systemd heard since then, without the watchdog's food."""
    for word in service.words[begin:]:
        if word.startswith(("READY", "RELOADING", "STOPPING", "STATUS")):
            say(f"  {word}")


def starts(service: Service) -> None:
    say("# start")
    service.start()
    told(service, 0)
    status, _ = show(service, "/readyz?verbose")
    check("it is ready", status == 200)


def reloads(service: Service) -> None:
    say("\n# reload: what is wrong changes nothing, what is right all of it")
    begin = len(service.words)
    service.configure("[[caller]]\nname = \"returns\"\n")
    service.reload()
    service.tells(begin, "STATUS=serving as before")
    told(service, begin)
    status, text = show(service, "/readyz?verbose")
    check("a refused reload is a warning", status == 200 and "[!]configuration" in text)
    begin = len(service.words)
    service._write("caller.token.2", "tok_of_the_returns_0123456789abcdef")
    service.configure(CONFIGURED)
    service.reload()
    service.tells(begin, "STATUS=serving gRPC")
    told(service, begin)
    status, text = show(service, "/readyz?verbose")
    check("it is in force", "[+]configuration ok" in text)


def restarts(service: Service, sandbox: Sandbox, service_config: pathlib.Path | None) -> Load:
    how = "with the service config" if service_config else "without it, and without the library's own retries"
    say(f"\n# {RESTARTS} restarts under load, {how}")
    sandbox.post("faults", [{"endpoint": "token", "times": COMPLETIONS, "delay_ms": 400}])
    before = len(sandbox.token_requests())
    with Load(service, sandbox, service_config, COMPLETIONS) as load:
        pauses = []
        for _ in range(RESTARTS):
            # As many calls as make sure that all callers are at it, each with an answer since the last restart: a call is
            # carried over one, and five attempts are not enough where the next ones follow at the pace of its retries.
            enough, since = sum(load.counts.values()) + 200, load.answers()
            while sum(load.counts.values()) < enough or not load.have_all_been_answered(since):
                time.sleep(0.01)
            pauses.append(service.restart())
    for (method, code), count in sorted(load.counts.items()):
        say(f"  {method:24}{code:40}{count:8}")
    say(f"  from SIGTERM to the next READY: {min(pauses):.2f} to {max(pauses):.2f} s")
    sent = sandbox.token_requests()[before:]
    say(f"  {len(load.completed)} flows completed, by {len(sent)} token requests")
    check("a code was sent twice, or a flow not completed", len(sent) == len(load.completed) == COMPLETIONS)
    statuses = load.statuses()
    say(f"  of {len(load.started)} sessions that were acknowledged: {statuses}")
    check("an acknowledged session is gone", "gone" not in statuses)
    return load


def disk_full(service: Service) -> None:
    say("\n# the disk gets full, and is mended")
    ballast = service.folder / "disk" / "ballast"
    with channel(f"unix:{service.folder}/cairld.sock", None) as connection:
        stub = IntegrationServiceStub(connection)
        options = {"timeout": 30}
        request = StartAuthorizationRequest(scopes=["age_18_plus"], binding=BINDING)
        kept = stub.StartAuthorization(request, **options).session.id
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 65536):
                    pass
            except OSError as error:
                say(f"  {error}")
        status, text = show(service, "/readyz?verbose")
        check("little room is told", "MiB are free" in text)
        ended = len(service.exits)
        heard = None
        while heard is None:
            try:
                stub.StartAuthorization(request, **options)
            except grpc.RpcError as error:
                heard = error
        reason = dict(heard.trailing_metadata() or ()).get("cairld-reason", "(no answer)")
        say(f"  StartAuthorization: {heard.code().name} {reason}")
        check("who starts hears that it is not now", heard.code() is grpc.StatusCode.UNAVAILABLE)
        # What is free within the file may be enough for the next one to come up; it lasts for as many calls.
        while len(service.exits) < ended + 2:
            try:
                stub.StartAuthorization(request, wait_for_ready=True, timeout=5)
            except grpc.RpcError as error:
                check(f"what is heard meanwhile is no answer, or UNAVAILABLE: {error}", error.code() in UNHEARD)
        say(f"  exit codes: {service.exits[ended:]}")
        check("it ends with EX_IOERR", set(service.exits[ended:]) == {74})
        last = [json.loads(line)["message"] for line in service.log().splitlines() if '"ERROR"' in line][-1]
        say(f"  {last.replace(str(service.folder), '')}")
        check("the last word names the file", "cairld.redb" in last)
        ballast.unlink()
        say("$ rm ballast")
        # One that the full disk is about to end may be the one that is ready.
        deadline = time.monotonic() + 60
        while service.look("/readyz")[0] != 200:
            check("it is never ready again", time.monotonic() < deadline)
            time.sleep(0.05)
        show(service, "/readyz")
        answer = stub.GetSession(GetSessionRequest(session_id=kept), wait_for_ready=True, **options)
        say(f"  the session from before: {answer.session.id[:4]}..., open")
        stub.StartAuthorization(request, wait_for_ready=True, **options)


def stops(service: Service) -> None:
    say("\n# stop")
    begin = len(service.words)
    code = service.stop()
    told(service, begin)
    say(f"  exit code {code}")
    check("it ends as asked", code == 0)


def main() -> None:
    programs, service_config = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    folder = pathlib.Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else pathlib.Path(tempfile.mkdtemp())
    sandbox = Sandbox(programs)
    redirect = "https://shop.example/callback"
    sandbox.post(
        "clients",
        {
            "client_id": "cairl_test_service",
            "client_secret": "secret_of_the_shop_0123456789",
            "redirect_uris": [redirect],
        },
    )
    service = Service(programs, folder, sandbox.url)
    try:
        starts(service)
        reloads(service)
        with_config = restarts(service, sandbox, service_config)
        without = restarts(service, sandbox, None)
        say(f"\n  calls that failed: {with_config.lost()} with the service config, {without.lost()} without")
        check(f"no call is lost with the service config: {dict(with_config.errors)}", with_config.lost() == 0)
        check(
            "without it nothing but UNAVAILABLE is heard",
            all(code.startswith(("OK", "UNAVAILABLE")) for _, code in without.counts),
        )
        disk_full(service)
        stops(service)
    finally:
        sandbox.process.kill()
        if service.process and service.process.poll() is None:
            service.process.kill()


main()
