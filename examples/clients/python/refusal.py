"""Reads what cairld says when it refuses a call, in two ways, and tells what to do about it."""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

T = TypeVar("T")


@dataclass(frozen=True)
class Refusal:
    """Why the daemon refused, from the status's rich details."""

    code: grpc.StatusCode
    reason: str
    remedy: str
    # Set exactly where the same call, with the same arguments, is safe to repeat: after this pause.
    retry_delay: timedelta | None
    # Set where the same callback can still complete, once the cause is mended.
    resume_until: datetime | None
    # What is wrong with the request, by field.
    violations: dict[str, str]


def read_details(error: grpc.RpcError) -> Refusal | None:
    """None where the daemon did not speak: then gRPC itself gave up, on a connection or a deadline."""
    status = rpc_status.from_call(error)
    if status is None:
        return None
    info, retry, bad = ErrorInfo(), RetryInfo(), BadRequest()
    for detail in status.details:
        for message in (info, retry, bad):
            detail.Unpack(message)  # leaves messages of another type alone
    if info.domain != "cairld":
        return None
    return Refusal(
        code=error.code(),
        reason=info.reason,
        remedy=info.metadata["remedy"],
        retry_delay=retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None,
        resume_until=_time(info.metadata["resume_until"]) if info.metadata["resumable"] == "true" else None,
        violations={violation.field: violation.description for violation in bad.field_violations},
    )


def _time(text: str) -> datetime:
    timestamp = Timestamp()
    timestamp.FromJsonString(text)
    return timestamp.ToDatetime(timezone.utc)


@dataclass(frozen=True)
class Trailers:
    """The short form, for services without grpcio-status."""

    reason: str
    retryable: bool
    remedy: str


def read_trailers(error: grpc.RpcError) -> Trailers | None:
    trailers = dict(error.trailing_metadata() or ())
    if "cairld-reason" not in trailers:
        return None
    return Trailers(
        reason=trailers["cairld-reason"],
        retryable=trailers["cairld-retryable"] == "true",
        remedy=unquote(trailers["cairld-remedy"]),  # percent-encoded UTF-8
    )


class NextStep(enum.Enum):
    REPEAT = "make the same call again after retry_delay"
    RESUME = "mend the cause, then present the same callback again, before resume_until"
    LOOK_UP = "GetSession tells what became of this callback"
    START_ANEW = "this flow is over: offer the user a new StartAuthorization"
    MEND = "a bug or a wrong configuration: no repetition helps"


def next_step(refusal: Refusal) -> NextStep:
    """What to do about a callback that CompleteAuthorization refused."""
    if refusal.retry_delay is not None:
        return NextStep.REPEAT
    if refusal.resume_until is not None:
        return NextStep.RESUME
    if refusal.reason in ("STATE_ALREADY_USED", "EXCHANGE_IN_PROGRESS", "DEADLINE_EXCEEDED"):
        return NextStep.LOOK_UP
    match refusal.code:
        case grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.NOT_FOUND | grpc.StatusCode.ALREADY_EXISTS:
            return NextStep.START_ANEW
        case _:
            return NextStep.MEND


def with_retries(call: Callable[[], T], patience: timedelta, heard: Callable[[grpc.RpcError], None]) -> T:
    """Repeats a call while the daemon says that this is safe and the pause fits into the user's patience."""
    give_up = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            heard(error)
            refusal = read_details(error)
            if refusal is None or refusal.retry_delay is None:
                raise
            pause = refusal.retry_delay.total_seconds()
            if time.monotonic() + pause > give_up:
                raise
        time.sleep(pause)
