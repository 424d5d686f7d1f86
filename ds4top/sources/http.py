"""One bounded GET at a time to the server, and the source ``/v1/models`` made of it.

Never anything but GET: any completion would replace the live KV cache of the user's conversation.
The connection threads of ds4 answer while a request runs, so silence is news. Both servers close a
connection after one answer; so do we, so that none of ours is counted among the clients.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ds4top.core.serverinfo import (
    ModelsAnswer,
    PropsSample,
    SlotsSample,
    error_message,
    parse_models,
    parse_props,
    parse_slots,
)
from ds4top.lean import with_openssl
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault
from ds4top.sources.samples import ErrorKind

if TYPE_CHECKING:
    import httpx

TOTAL_S = 2.0
CONNECT_S = 0.5
READ_S = 1.5
MOST_BYTES = 1 << 20
PROPS_EVERY_S = 60.0
KEY_VARIABLE = "DS4TOP_API_KEY"
_UNSUPPORTED = frozenset((404, 405, 501))
DENIED = frozenset((401, 403))
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


OWN_ENDS: deque[tuple[str, int]] = deque(maxlen=16)
"""Where the last connections of ds4top itself came from: they are no clients of the server."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, a body of at most ``MOST_BYTES``, and how long it took."""

    status: int
    kind: str
    body: bytes
    latency_s: float


def base_url(url: str) -> str:
    """The URL to ask: without path, and a wildcard address is asked on loopback.

    Raises ``ValueError`` for what is no http URL.
    """
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no http URL")
    host = parts.hostname
    host = _WILDCARDS.get(host, f"[{host}]" if ":" in host else host)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


class HttpGetter:
    """GETs of one server, one in flight; sources of the same server share one of these."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = SYSTEM_CLOCK,
        total_s: float = TOTAL_S,
        read_s: float = READ_S,
    ) -> None:
        """``api_key`` (default: ``DS4TOP_API_KEY``) is sent to this server only.

        Raises ``ValueError`` for what is no http URL.
        """
        self.url = base_url(url)
        self._api_key = api_key or os.environ.get(KEY_VARIABLE) or None
        self._transport = transport
        self._clock = clock
        self._total_s = total_s
        self._read_s = read_s
        self._one = Lock()
        self._client: httpx.Client | None = None

    def open(self) -> None:
        """Load httpx and make the client; nothing is sent."""
        with self._one:
            self._ready()

    def close(self) -> None:
        """Let the client go; a later ``get`` makes another."""
        with self._one:
            client, self._client = self._client, None
            if client is not None:
                client.close()

    def get(self, path: str) -> Answer:
        """One GET. Raises ``SourceFault``: refused, timeout, permission, parse, error."""
        with self._one:
            client = self._ready()
            return self._get(client, path)

    def _ready(self) -> httpx.Client:
        if self._client is None:
            httpx = load_httpx()
            headers = {"Connection": "close", "Accept-Encoding": "identity", "User-Agent": "ds4top"}
            if self._api_key:
                headers["Authorization"] = f"Bearer {self._api_key}"
            self._client = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(self._read_s, connect=CONNECT_S),
                follow_redirects=False,
                # A proxy of the environment must not see what goes to loopback, and a client
                # without TLS needs no certificates.
                trust_env=False,
                verify=self.url.startswith("https:"),
                transport=self._transport,
            )
        return self._client

    def _get(self, client: httpx.Client, path: str) -> Answer:
        httpx = load_httpx()
        start = self._clock.monotonic()
        guard = _Guard(self._total_s)
        try:
            with (
                guard,
                client.stream("GET", path, extensions={"trace": guard.trace}) as response,
            ):
                body = self._body(response, path, start)
                latency_s = self._clock.monotonic() - start
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                status = response.status_code
        except (httpx.HTTPError, OSError) as error:
            raise self._fault(error, path, late=guard.fired) from error
        if guard.fired:
            raise self._late(path)
        if status in DENIED:
            raise SourceFault("permission", self._denied(status, body))
        if 300 <= status < 400:
            raise SourceFault("parse", f"{self.url}{path} redirects ({status}): give the last URL")
        return Answer(status, kind, body, latency_s)

    def _body(self, response: httpx.Response, path: str, start: float) -> bytes:
        body = bytearray()
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise SourceFault("parse", f"{self.url}{path} is compressed although not asked to be")
        for block in response.iter_bytes():
            body += block
            if len(body) > MOST_BYTES:
                raise SourceFault("parse", f"{self.url}{path} is longer than 1 MiB: not read")
            if self._clock.monotonic() - start > self._total_s:
                raise self._late(path)
        return bytes(body)

    def _denied(self, status: int, body: bytes) -> str:
        words = error_message(body)
        said = f"{status}: {words}" if words else str(status)
        if self._api_key:
            return f"{self.url} refuses the API key ({said}): check {KEY_VARIABLE}"
        return f"{self.url} wants an API key ({said}): set {KEY_VARIABLE}"

    def _late(self, path: str) -> SourceFault:
        return SourceFault("timeout", f"{self.url}{path} gave no whole answer in {self._total_s} s")

    def _fault(self, error: Exception, path: str, *, late: bool) -> SourceFault:
        httpx = load_httpx()
        if late:
            return self._late(path)
        if isinstance(error, httpx.ConnectTimeout):
            return SourceFault("timeout", f"{self.url} did not take a connection in {CONNECT_S} s")
        if isinstance(error, httpx.TimeoutException):
            return SourceFault("timeout", f"{self.url}{path} did not answer in {self._read_s} s")
        cause = _cause(error)
        if isinstance(cause, ConnectionRefusedError):
            words = "nothing listens there (down, or still loading: the port opens after the load)"
            return SourceFault("refused", f"{self.url}: {words}")
        if isinstance(error, httpx.ConnectError):
            return SourceFault("error", f"{self.url} is out of reach: {cause}")
        if isinstance(error, httpx.RemoteProtocolError):
            return SourceFault("parse", f"{self.url} speaks no HTTP: {error}")
        return SourceFault("error", f"{self.url}{path}: {error or type(error).__name__}")


class ModelsSource:
    """The source ``/v1/models``: alive, which model, which context limit, how promptly.

    On llama-server ``/slots`` comes with it, and ``/props`` once a minute; what those two do not
    give is a reason in their samples, never a fault.
    """

    name = "/v1/models"
    backoff_most_s = 4.0
    """A server that starts answers soon after its port is there."""
    interval_s = 2.0

    def __init__(self, getter: HttpGetter, clock: Clock = SYSTEM_CLOCK) -> None:
        self._getter = getter
        self._clock = clock
        self._props_due_t = float("-inf")
        self._no_slots = ""

    def open(self) -> None:
        """Make the client."""
        self._getter.open()
        self._props_due_t = float("-inf")
        self._no_slots = ""

    def close(self) -> None:
        """Let the client go."""
        self._getter.close()

    def read(self, now: float) -> Sequence[ModelsAnswer | PropsSample | SlotsSample]:
        """One look. Raises ``SourceFault``, with the key where the answer is not understood."""
        answer = self._getter.get("/v1/models")
        models = self._models(answer, now)
        if models.flavour != "llama.cpp":
            return (models,)
        if now < self._props_due_t:
            return models, self._slots(now)
        self._props_due_t = now + PROPS_EVERY_S
        return models, self._props(now), self._slots(now)

    def _props(self, now: float) -> PropsSample:
        try:
            return parse_props(self._extra("/props"), t=now)
        except (SourceFault, ValueError) as error:
            return PropsSample(now, reason=f"/props: {error}")

    def _slots(self, now: float) -> SlotsSample:
        wall = self._clock.wall()
        if self._no_slots:
            return SlotsSample(now, wall, None, self._no_slots)
        try:
            return parse_slots(self._extra("/slots"), t=now, wall=wall)
        except (SourceFault, ValueError) as error:
            reason = f"/slots: {error}"
            if isinstance(error, SourceFault) and error.kind == "unsupported":
                self._no_slots = reason
            return SlotsSample(now, wall, None, reason)

    def _extra(self, path: str) -> bytes:
        answer = self._getter.get(path)
        if answer.status == 200:
            return answer.body
        raise SourceFault(_kind(answer.status), said(answer))

    def _models(self, answer: Answer, now: float) -> ModelsAnswer:
        wall, url = self._clock.wall(), self._getter.url
        status, latency_s = answer.status, answer.latency_s
        if status == 200:
            try:
                return parse_models(
                    answer.body, t=now, wall=wall, url=url, status=status, latency_s=latency_s
                )
            except ValueError as error:
                raise SourceFault("parse", f"{url}/v1/models: {error}") from error
        if status == 503:
            message = error_message(answer.body) or "not ready"
            return ModelsAnswer(now, wall, url, status, latency_s, message=message)
        raise SourceFault(_kind(status), f"{url}/v1/models answers {said(answer)}")


class _Guard:
    """Ends a request as a whole: a server that sends a byte now and then outlives any timeout of
    a single read, so its socket is shut down under it.
    """

    def __init__(self, after_s: float) -> None:
        self.fired = False
        self._socket: Any = None
        self._timer = Timer(after_s, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """What httpcore reports: the connection it made (its ``trace`` extension)."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            with contextlib.suppress(OSError):
                OWN_ENDS.append(self._socket.getsockname()[:2])

    def _cut(self) -> None:
        self.fired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def load_httpx() -> Any:
    """The module httpx, without the command of its own that it imports if it can.

    That command brings click, pygments and more of rich: 3.3 MiB and a tenth of a second.
    """
    if "httpx" not in sys.modules:
        with_openssl()
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        try:
            import httpx
        finally:
            sys.modules.pop("httpx._main", None)
    import httpx

    return httpx


def said(answer: Answer) -> str:
    """The status of an answer, and the server's own words if it has any."""
    return f"{answer.status} {error_message(answer.body)}".strip()


def unsupported(answer: Answer) -> bool:
    """Whether the server says that it has no such thing, as against being in trouble."""
    return answer.status in _UNSUPPORTED


def _kind(status: int) -> ErrorKind:
    return "unsupported" if status in _UNSUPPORTED else "error"


def _cause(error: BaseException) -> BaseException:
    """The operating system's error behind httpx's, else the error itself."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, OSError):
            return one
        one = one.__cause__ or one.__context__
    return error
