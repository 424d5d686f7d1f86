"""Bytes to and from one client: one request a connection, no keep-alive, writes that give up."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

_STALL_S = 2.0
_READ_TIMEOUT_S = 10.0
_MAX_HEADER = 64 * 1024
_MAX_BODY = 64 * 1024 * 1024
_REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    409: "Conflict",
    500: "Internal Server Error",
}
_CORS = (
    "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
    "Access-Control-Allow-Headers: *\r\n"
)


@dataclass(frozen=True)
class HttpRequest:
    """Method, path without query, body."""

    method: str
    path: str
    body: bytes


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def error_body(message: str) -> str:
    """The usual error object."""
    return compact({"error": {"message": message, "type": "invalid_request_error"}}) + "\n"


class Wire:
    """A client's socket. `refuses` is asked before each write: a stopping server writes nothing."""

    def __init__(self, sock: socket.socket, cors: bool, refuses: Callable[[], bool]) -> None:
        """Takes over the socket."""
        self._sock = sock
        self._cors = _CORS if cors else ""
        self._refuses = refuses
        sock.settimeout(_READ_TIMEOUT_S)

    def read(self) -> HttpRequest | None:
        """One request; None where it is none, too large, or too slow."""
        data = bytearray()
        try:
            while (end := data.find(b"\r\n\r\n")) < 0:
                part = self._sock.recv(65536)
                if not part or len(data) > _MAX_HEADER:
                    return None
                data += part
            lines = data[:end].decode("latin-1").split("\r\n")
            words = lines[0].split()
            if len(words) < 2:
                return None
            length = 0
            for line in lines[1:]:
                name, _, value = line.partition(":")
                if name.strip().lower() == "content-length":
                    length = int(value)
            if not 0 <= length <= _MAX_BODY:
                return None
            body = data[end + 4 :]
            while len(body) < length:
                part = self._sock.recv(65536)
                if not part:
                    return None
                body += part
        except (OSError, ValueError):
            return None
        return HttpRequest(words[0], words[1].partition("?")[0], bytes(body[:length]))

    def queue(self) -> None:
        """From here on writes do not block for long."""
        self._sock.setblocking(False)

    def send(self, data: bytes, *, always: bool = False) -> bool:
        """Write all of it; False where the client is gone, stalls, or the server stops."""
        deadline = time.monotonic() + _STALL_S
        view = memoryview(data)
        while view:
            if self._refuses() and not always:
                return False
            try:
                sent = self._sock.send(view)
            except (BlockingIOError, InterruptedError):
                if time.monotonic() >= deadline:
                    return False
                select.select([], [self._sock], [], 0.05)
                continue
            except OSError:
                return False
            view = view[sent:]
            deadline = time.monotonic() + _STALL_S
        return True

    def respond(self, status: int, body: str = "", *, always: bool = False) -> bool:
        """A whole reply; JSON unless it is empty."""
        data = body.encode()
        kind = "Content-Type: application/json\r\n" if data else ""
        head = (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Length: {len(data)}\r\n"
            f"{kind}{self._cors}Connection: close\r\n\r\n"
        )
        return self.send(head.encode() + data, always=always)

    def error(self, status: int, message: str, *, always: bool = False) -> bool:
        """An error in the usual shape."""
        return self.respond(status, error_body(message), always=always)

    def stream_headers(self) -> bool:
        """Head of an event stream."""
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
            f"{self._cors}Connection: close\r\n\r\n"
        )
        return self.send(head.encode())

    def close(self) -> None:
        """Done with this client."""
        self._sock.close()
