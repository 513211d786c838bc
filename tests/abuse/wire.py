"""HTTP/2 by hand, frame for frame: what no library would send."""

import socket

from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, SettingsFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Connection:
    """A connection over TCP or a Unix socket; a closed one is an `OSError` for whoever writes to it."""

    def __init__(self, address, settings=None, greet=True):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(address)
        self.encoder = Encoder()
        self.stream = -1
        self.credit, self.unread = 65535, b""
        if greet:
            self.send(PREFACE + SettingsFrame(0, settings=settings or {}).serialize())

    def send(self, data):
        """Sends it; whoever does not take it within a second has let us down, and is told so."""
        self.socket.settimeout(1)
        self.socket.sendall(data)

    def headers(self, path, token=None, extra=()):
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
                  ("content-type", "application/grpc"), ("te", "trailers")]
        if token:
            fields.append(("authorization", f"Bearer {token}"))
        return self.encoder.encode(fields + list(extra))

    def open(self, block, end_stream=False, end_headers=True):
        """The frame that opens the next stream."""
        self.stream += 2
        frame = HeadersFrame(self.stream, data=block)
        if end_headers:
            frame.flags.add("END_HEADERS")
        if end_stream:
            frame.flags.add("END_STREAM")
        return frame.serialize()

    def data(self, payload, end_stream=False):
        frame = DataFrame(self.stream, data=payload)
        if end_stream:
            frame.flags.add("END_STREAM")
        return frame.serialize()

    def continuation(self, payload):
        return ContinuationFrame(self.stream, data=payload).serialize()

    def drain(self):
        """Takes what has arrived, without waiting for more."""
        self.socket.setblocking(False)
        try:
            while data := self.socket.recv(65536):
                self._credit(data)
            raise ConnectionError("closed")
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(1)

    def acknowledge(self):
        """Waits for the other side's settings and accepts them: its windows are larger from then on."""
        self._credit(self.socket.recv(65536))
        frame = SettingsFrame(0)
        frame.flags.add("ACK")
        self.send(frame.serialize())

    def await_credit(self, size):
        """Waits until so much may be sent on the connection (RFC 9113 section 5.2)."""
        self.socket.settimeout(1)
        while self.credit < size:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self._credit(data)
        self.credit -= size

    def _credit(self, data):
        self.unread += data
        while len(self.unread) >= 9 and len(self.unread) >= 9 + int.from_bytes(self.unread[:3], "big"):
            length, kind = int.from_bytes(self.unread[:3], "big"), self.unread[3]
            if kind == 8 and self.unread[5:9] == bytes(4):
                self.credit += int.from_bytes(self.unread[9:13], "big")
            self.unread = self.unread[9 + length:]

    def close(self):
        self.socket.close()
