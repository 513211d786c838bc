"""Takes a user through a verification, then provokes errors and reads them. Runs against `cairld dev`.

    python main.py ENDPOINT SANDBOX [TOKEN_FILE]

ENDPOINT is 127.0.0.1:PORT or unix:/path/to/cairld.sock; over the Unix socket no token is needed.
"""

import json
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.request import Request, urlopen

import grpc

from cairld.v1 import session_pb2 as sessions
from cairld.v1.integration_service_pb2 import (
    CompleteAuthorizationRequest,
    GetSessionRequest,
    StartAuthorizationRequest,
)
from cairld.v1.integration_service_pb2_grpc import IntegrationServiceStub
from refusal import NextStep, Refusal, next_step, read_details, read_trailers, with_retries

# Ties the flow to the user's browser: the hash of a session cookie, say.
BINDING = "hash-of-the-browser-session"


def connect(endpoint: str) -> grpc.Channel:
    options = []
    if endpoint.startswith("unix:"):
        # Without it grpcio sends the socket's path as :authority, and the daemon's HTTP/2 library resets the call.
        options.append(("grpc.default_authority", "localhost"))
    return grpc.insecure_channel(endpoint, options)


class Verification:
    """The two calls of the flow, and the one that reads its result."""

    def __init__(self, channel: grpc.Channel, token: str | None) -> None:
        self._stub = IntegrationServiceStub(channel)
        # A deadline for every call; the token only where the socket does not tell who calls.
        self._options = {"timeout": 30, "metadata": [("authorization", f"Bearer {token}")] if token else []}

    def start(self, request_id: str, reference: str, scopes: list[str]) -> tuple[str, str]:
        """The session's id, and where to send the browser. The same again, for a request_id that is repeated."""
        request = StartAuthorizationRequest(
            request_id=request_id, reference=reference, scopes=scopes, binding=BINDING
        )
        started = self._stub.StartAuthorization(request, **self._options)
        return started.session.id, started.authorization_url

    def complete(self, callback_url: str) -> sessions.Session:
        """Takes the callback as the browser brought it, the whole URL."""
        request = CompleteAuthorizationRequest(callback_url=callback_url, binding=BINDING)
        return self._stub.CompleteAuthorization(request, **self._options).session

    def get(self, session_id: str) -> sessions.Session:
        return self._stub.GetSession(GetSessionRequest(session_id=session_id), **self._options).session


def claims(session: sessions.Session) -> dict[str, object]:
    """The claims as plain values. None means that the provider could not say, and is not the same as False."""
    values: dict[str, object] = {}
    for name, claim in session.claims.items():
        match claim.WhichOneof("kind"):
            case "bool_value":
                values[name] = claim.bool_value
            case "json_value":
                values[name] = json.loads(claim.json_value)
            case _:
                values[name] = None
    return values


class Sandbox:
    """The control API of the provider's stand-in: plays the user, breaks things."""

    def __init__(self, url: str) -> None:
        self._url = url

    def decide(self, authorization_url: str, outcome: str, **more: object) -> str:
        """The callback URL that the user's browser would be sent to."""
        decision = {"authorization_url": authorization_url, "outcome": outcome, **more}
        return json.loads(self._post("decide", decision))["callback_url"]

    def fault(self, **fault: object) -> None:
        self._post("faults", [{"endpoint": "token", **fault}])

    def _post(self, path: str, body: object) -> bytes:
        url, headers = f"{self._url}/sandbox/{path}", {"content-type": "application/json"}
        with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=30) as answer:
            return answer.read()


def check(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        sys.exit(f"{what}: wanted {wanted!r}, found {found!r}")


def check_refusal(
    what: str, error: grpc.RpcError, code: grpc.StatusCode, reason: str, step: NextStep
) -> Refusal:
    """Reads a refusal in both ways: they must say the same, and what the documentation says."""
    refusal, trailers = read_details(error), read_trailers(error)
    if refusal is None or trailers is None:
        sys.exit(f"{what}: the daemon did not speak: {error}")
    print(
        f"{what}: {refusal.reason} ({refusal.code.name}): {refusal.remedy}\n    next: {next_step(refusal).value}"
    )
    check(what, (refusal.code, refusal.reason, next_step(refusal)), (code, reason, step))
    check(f"{what}, trailers", trailers.reason, refusal.reason)
    check(f"{what}, trailers", trailers.remedy, refusal.remedy)
    check(f"{what}, trailers", trailers.retryable, refusal.retry_delay is not None)
    check(f"{what}, has a remedy", refusal.remedy != "", True)
    return refusal


def refused(what: str, call, *expected) -> Refusal:
    try:
        call()
    except grpc.RpcError as error:
        return check_refusal(what, error, *expected)
    sys.exit(f"{what}: was not refused")


def fresh() -> str:
    """A request id: one for each authorization that is wanted, kept with it until the call was answered."""
    return str(uuid.uuid4())


def run(service: Verification, stranger: Verification, sandbox: Sandbox) -> None:
    code = grpc.StatusCode

    request_id = fresh()
    session_id, url = service.start(request_id, "order-4711", ["age_18_plus", "name_match"])
    again = service.start(request_id, "order-4711", ["age_18_plus", "name_match"])
    check("started twice", again, (session_id, url))
    callback = sandbox.decide(url, "approve", claims={"age_18_plus": True, "name_match": None})
    session = service.complete(callback)
    print("complete:", session.id, claims(session))
    check("complete", (session.id, session.status), (session_id, sessions.SESSION_STATUS_COMPLETE))
    check("claims", claims(session), {"age_18_plus": True, "name_match": None})

    # A callback that somebody has tampered with, after the true one.
    replayed = callback.replace("code=", "code=x")
    refused(
        "replayed",
        lambda: service.complete(replayed),
        code.ALREADY_EXISTS,
        "STATE_ALREADY_USED",
        NextStep.LOOK_UP,
    )
    check("looked up", service.get(session_id).status, sessions.SESSION_STATUS_COMPLETE)

    _, url = service.start(fresh(), "declined", ["age_18_plus"])
    declined = sandbox.decide(url, "decline")
    refused(
        "declined",
        lambda: service.complete(declined),
        code.FAILED_PRECONDITION,
        "ACCESS_DENIED",
        NextStep.START_ANEW,
    )

    # The provider's wallet is empty: the code lives on, and completes once the wallet is filled.
    session_id, url = service.start(fresh(), "unpaid", ["age_18_plus"])
    callback = sandbox.decide(url, "approve")
    sandbox.fault(status=402, body={"error": "payment_required"})
    unpaid = refused(
        "unpaid",
        lambda: service.complete(callback),
        code.FAILED_PRECONDITION,
        "PAYMENT_REQUIRED",
        NextStep.RESUME,
    )
    check("resumable for a while", unpaid.resume_until > datetime.now(timezone.utc), True)
    # Who has the trailers alone asks the session whether it can be resumed.
    failure = service.get(session_id).failure
    check(
        "failure",
        (failure.resumable, failure.resume_until.ToDatetime(timezone.utc)),
        (True, unpaid.resume_until),
    )
    check("resumed", service.complete(callback).status, sessions.SESSION_STATUS_COMPLETE)

    # The provider is down for all three attempts of one call, and back for the next call.
    _, url = service.start(fresh(), "down", ["age_18_plus"])
    callback = sandbox.decide(url, "approve")
    sandbox.fault(status=503, times=3, headers={"retry-after": "2"})
    heard: list[grpc.RpcError] = []
    session = with_retries(lambda: service.complete(callback), timedelta(seconds=30), heard.append)
    check("calls that were refused", len(heard), 1)
    down = check_refusal("provider down", heard[0], code.UNAVAILABLE, "PROVIDER_ERROR", NextStep.REPEAT)
    check("retry_delay", down.retry_delay, timedelta(seconds=2))
    check("repeated", session.status, sessions.SESSION_STATUS_COMPLETE)

    wrong = refused(
        "bad request",
        lambda: service.start(fresh(), "x" * 257, ["age 18"]),
        code.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        NextStep.MEND,
    )
    for field, description in wrong.violations.items():
        print(f"    {field}: {description}")
    check("fields", set(wrong.violations), {"scopes[0]", "reference"})

    refused(
        "stranger", lambda: stranger.get(session_id), code.UNAUTHENTICATED, "CALLER_UNKNOWN", NextStep.MEND
    )

    # Nobody listens there: what gRPC itself says carries no reason.
    with connect("unix:/nowhere/cairld.sock") as nowhere:
        try:
            Verification(nowhere, None).get(session_id)
            sys.exit("nobody there: was answered")
        except grpc.RpcError as error:
            found = (error.code(), read_details(error), read_trailers(error))
            check("nobody there", found, (code.UNAVAILABLE, None, None))


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    endpoint, sandbox = sys.argv[1:3]
    token = Path(sys.argv[3]).read_text().strip() if len(sys.argv) == 4 else None
    with connect(endpoint) as channel:
        run(Verification(channel, token), Verification(channel, "not-a-token"), Sandbox(sandbox))
    print("all as documented")


if __name__ == "__main__":
    main()
