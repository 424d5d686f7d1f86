"""GETs over a plain socket: httpx, which does more, is a tenth of all memory and start-up time.

The same limits and words as ``HttpGetter``; what is more than a whole plain answer (TLS, chunks,
a compressed body) is asked again through it.
"""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

from ds4top.sources.base import SourceFault
from ds4top.sources.http import CONNECT_S, DENIED, MOST_BYTES, OWN_ENDS, Answer, HttpGetter

_BLOCK = 65_536
_HEAD_BYTES = 65_536


class PlainGetter(HttpGetter):
    """An ``HttpGetter`` without a client: each GET is one connection."""

    def open(self) -> None:
        """Nothing to load."""

    def get(self, path: str) -> Answer:
        """One GET. Raises ``SourceFault`` as the other does."""
        if not self.url.startswith("http:"):
            return super().get(path)
        with self._one:
            start = time.monotonic()
            found = self._plain(path, start)
        if found is None:
            return super().get(path)
        status, headers, body = found
        if status in DENIED:
            raise SourceFault("permission", self._denied(status, body))
        if 300 <= status < 400:
            raise SourceFault("parse", f"{self.url}{path} redirects ({status}): give the last URL")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(status, kind, body, time.monotonic() - start)

    def _plain(self, path: str, start: float) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and body; ``None`` for an answer that this does not read."""
        parts = urlsplit(self.url)
        try:
            peer = socket.create_connection((parts.hostname, parts.port or 80), CONNECT_S)
        except TimeoutError as error:
            words = f"{self.url} did not take a connection in {CONNECT_S} s"
            raise SourceFault("timeout", words) from error
        except ConnectionRefusedError as error:
            words = "nothing listens there (down, or still loading: the port opens after the load)"
            raise SourceFault("refused", f"{self.url}: {words}") from error
        except OSError as error:
            raise SourceFault("error", f"{self.url} is out of reach: {error}") from error
        with peer:
            try:
                OWN_ENDS.append(peer.getsockname()[:2])
                peer.sendall(self._head(path, parts.netloc))
                return self._answer(peer, path, start)
            except TimeoutError as error:
                raise self._late(path) from error
            except OSError as error:
                raise SourceFault("error", f"{self.url}{path}: {error}") from error

    def _head(self, path: str, host: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += ["Accept: */*", "Accept-Encoding: identity", "User-Agent: ds4top"]
        if self._api_key:
            lines.append(f"Authorization: Bearer {self._api_key}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _answer(
        self, peer: socket.socket, path: str, start: float
    ) -> tuple[int, dict[str, str], bytes] | None:
        end = start + self._total_s
        data = bytearray()
        while b"\r\n\r\n" not in data:
            if len(data) > _HEAD_BYTES or not (block := self._block(peer, end)):
                raise SourceFault("parse", f"{self.url} speaks no HTTP")
            data += block
        head, _, rest = bytes(data).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not first.startswith("HTTP/1.") or len(words) < 2 or not words[1].isdecimal():
            raise SourceFault("parse", f"{self.url} speaks no HTTP")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        if {"transfer-encoding", "content-encoding"} & set(headers):
            return None
        told = headers.get("content-length", "")
        size = int(told) if told.isdecimal() else None
        body = bytearray(rest)
        while (size is None or len(body) < size) and (block := self._block(peer, end)):
            body += block
            if len(body) > MOST_BYTES:
                raise SourceFault("parse", f"{self.url}{path} is longer than 1 MiB: not read")
        if size is not None and len(body) < size:
            raise SourceFault("parse", f"{self.url}{path}: its answer ends too soon")
        return int(words[1]), headers, bytes(body)

    def _block(self, peer: socket.socket, end: float) -> bytes:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        peer.settimeout(min(left, self._read_s))
        return peer.recv(_BLOCK)
