"""A server on loopback that answers what a test says, byte by byte if it must."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx

from ds4top.sources.http import HttpGetter

LLAMA = Path(__file__).parent.parent / "data" / "llama-server"
Reply = Callable[[socket.socket, str, Event], None]


def plain(body: bytes, status: str = "200 OK", kind: str = "application/json") -> Reply:
    """A whole answer that closes its connection, as ds4 gives it."""

    def send(peer: socket.socket, path: str, done: Event) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        peer.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)

    return send


class Loopback:
    """Answers each connection with ``reply``; ``requests`` are the heads that came in."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[str] = []
        self._done = Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._done.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (block := peer.recv(65_536)):
                head += block
            self.requests.append(head.decode())
            words = head.decode().split(" ", 2)
            self.reply(peer, words[1] if len(words) > 1 else "", self._done)

    def close(self) -> None:
        self._done.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(15.0)


@contextlib.contextmanager
def serving(reply: Reply) -> Iterator[Loopback]:
    server = Loopback(reply)
    try:
        yield server
    finally:
        server.close()


def patient(server: Loopback, **options: Any) -> HttpGetter:
    """A getter for a server that a busy machine may slow down."""
    return HttpGetter(server.url, **({"total_s": 60.0, "read_s": 60.0} | options))


def mocked(handler: Callable[[httpx.Request], httpx.Response], **options: Any) -> HttpGetter:
    """A getter that reaches no network."""
    return HttpGetter("http://spark:8000", transport=httpx.MockTransport(handler), **options)


def answering(status: int, body: bytes | str, kind: str = "application/json") -> HttpGetter:
    """A getter that gets this to every request."""
    content = body.encode() if isinstance(body, str) else body
    return mocked(lambda _: httpx.Response(status, content=content, headers={"content-type": kind}))
