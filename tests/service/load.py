"""Callers with the stock gRPC library for Python, who go on while the daemon is restarted."""

import collections
import json
import pathlib
import threading
import time
import uuid

import grpc
from cairld.v1.integration_service_pb2 import (
    CompleteAuthorizationRequest,
    GetSessionRequest,
    StartAuthorizationRequest,
)
from cairld.v1.integration_service_pb2_grpc import IntegrationServiceStub

BINDING = "hash-of-a-session-cookie"
CALLERS = 8
# Those of them that take whole flows to their end.
COMPLETING = 2


def channel(target: str, service_config: pathlib.Path | None) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0)]
    if target.startswith("unix:"):
        options.append(("grpc.default_authority", "localhost"))
    if service_config:
        # One line: what the library is given is JSON, and it is read here so that a mistake in it shows.
        options.append(("grpc.service_config", json.dumps(json.loads(service_config.read_text()))))
    else:
        options.append(("grpc.enable_retries", 0))
    # Channels of one process to one address would share their connection.
    options.append(("grpc.use_local_subchannel_pool", 1))
    return grpc.insecure_channel(target, options)


def surely(call):
    """Calls again for as long as it fails, as everybody does who wants a user's flow to end; the failures are counted."""
    deadline = time.monotonic() + 60
    while (answer := call()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("a call fails on and on")
    return answer


class Load:
    """Several callers, each in a thread with a channel of its own, half of them over the Unix socket."""

    def __init__(self, service, sandbox, service_config: pathlib.Path | None, completions: int) -> None:
        self.service, self.sandbox, self.service_config = service, sandbox, service_config
        self.counts: collections.Counter = collections.Counter()
        # What the library says of calls that failed.
        self.errors: collections.Counter = collections.Counter()
        # How many answers each caller had, by its thread.
        self.answered: collections.Counter = collections.Counter()
        self.started: dict[str, str] = {}
        self.completed: dict[str, str] = {}
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.completions_left = completions
        address = f"127.0.0.1:{service.tcp.getsockname()[1]}"
        targets = [f"unix:{service.folder}/cairld.sock", address]
        self.threads = [
            threading.Thread(target=self._call if number >= COMPLETING else self._complete, args=(targets[number % 2],))
            for number in range(CALLERS)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def _one(self, method, request):
        """One call; its code is counted. None where it failed."""
        name = method._method.decode().rsplit("/", 1)[1]
        try:
            answer = method(request, timeout=30, metadata=[("authorization", f"Bearer {self.service.token}")])
            code = "OK"
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            answer, code = None, f"{error.code().name} {trailers.get('cairld-reason', '(no answer)')}"
            with self.lock:
                self.errors[f"{name}: {error.details()}"] += 1
        with self.lock:
            self.counts[name, code] += 1
            self.answered[threading.get_ident()] += answer is not None
        return answer

    def _start(self, stub):
        request_id = str(uuid.uuid4())
        request = StartAuthorizationRequest(request_id=request_id, scopes=["age_18_plus"], binding=BINDING)
        answer = self._one(stub.StartAuthorization, request)
        if answer:
            with self.lock:
                self.started[answer.session.id] = request_id
        return answer

    def _call(self, target: str) -> None:
        with channel(target, self.service_config) as connection:
            stub = IntegrationServiceStub(connection)
            while not self.is_over.is_set():
                if started := self._start(stub):
                    self._one(stub.GetSession, GetSessionRequest(session_id=started.session.id))

    def _complete(self, target: str) -> None:
        """Whole flows, as many as the provider's limit allows, all of them to their end; others' calls go on meanwhile."""
        with channel(target, self.service_config) as connection:
            stub = IntegrationServiceStub(connection)
            while self._takes_a_flow():
                started = surely(lambda: self._start(stub))
                decision = {"authorization_url": started.authorization_url, "outcome": "approve"}
                callback = self.sandbox.post("decide", decision)["callback_url"]
                request = CompleteAuthorizationRequest(callback_url=callback, binding=BINDING)
                surely(lambda request=request: self._one(stub.CompleteAuthorization, request))
                with self.lock:
                    self.completed[started.session.id] = callback

    def _takes_a_flow(self) -> bool:
        with self.lock:
            is_left = self.completions_left > 0
            self.completions_left -= is_left
        return is_left

    def answers(self) -> collections.Counter:
        with self.lock:
            return self.answered.copy()

    def have_all_been_answered(self, since: collections.Counter) -> bool:
        """Whether each caller that goes on has had an answer more than then."""
        with self.lock:
            return all(self.answered[caller.ident] > since[caller.ident] for caller in self.threads if caller.is_alive())

    def lost(self) -> int:
        """Calls that their callers had to see fail."""
        return sum(count for (_, code), count in self.counts.items() if code != "OK")

    def statuses(self) -> dict[str, int]:
        """How the sessions stand that were acknowledged, all of them asked for."""
        statuses: collections.Counter = collections.Counter()
        with channel(f"unix:{self.service.folder}/cairld.sock", self.service_config) as connection:
            stub = IntegrationServiceStub(connection)
            for session in self.started:
                answer = self._one(stub.GetSession, GetSessionRequest(session_id=session))
                statuses["gone" if answer is None else ("complete" if answer.session.subject else "open")] += 1
        return dict(statuses)
