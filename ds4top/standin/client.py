"""A client of the server: one call at a time, whole or streamed, that can hang up on purpose."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

Json = Mapping[str, object]


@dataclass(frozen=True)
class CallRecord:
    """What the client saw of one call; times in epoch seconds, None is what it never learned."""

    endpoint: str
    stream: bool
    start: float
    end: float
    status: int | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish: str | None = None
    aborted: bool = False
    error: str | None = None
    tool_calls: int = 0


@dataclass(frozen=True)
class Answer:
    """What was said: text, reasoning, and calls as (id, name, arguments)."""

    record: CallRecord
    content: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the call came to its own end."""
        return self.record.status == 200 and self.record.finish not in (None, "error", "failed")


@dataclass
class _Reading:
    content: str = ""
    reasoning: str = ""
    finish: str | None = None
    error: str | None = None
    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    calls: list[tuple[str, str, str]] = field(default_factory=list)

    def usage(self, usage: object) -> None:
        """Any of the three shapes."""
        if not isinstance(usage, dict):
            return
        details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
        if isinstance(details, dict):
            self.prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
            self.completion = usage.get("completion_tokens", usage.get("output_tokens"))
            self.cached = details.get("cached_tokens")
            return
        self.completion = usage.get("output_tokens", self.completion)
        if "cache_read_input_tokens" in usage:
            self.cached = usage["cache_read_input_tokens"]
            self.prompt = usage["input_tokens"] + self.cached + usage["cache_creation_input_tokens"]

    def openai(self, event: dict[str, object]) -> None:
        """A chunk or a whole answer of chat or plain completions."""
        self.usage(event.get("usage"))
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            part = choice.get("delta") or choice.get("message") or {}
            self.content += part.get("content") or choice.get("text") or ""
            self.reasoning += part.get("reasoning_content") or ""
            self.finish = choice.get("finish_reason") or self.finish
            for call in part.get("tool_calls") or ():
                function = call["function"]
                self.calls.append((call["id"], function["name"], function["arguments"]))

    def anthropic(self, event: dict[str, object]) -> None:
        """An event or a whole answer of the Messages API."""
        message = event.get("message", event)
        if isinstance(message, dict):
            self.usage(message.get("usage"))
            for block in message.get("content") or ():
                self.content += block.get("text", "")
                self.reasoning += block.get("thinking", "")
                self.tool_use(block)
            self.finish = message.get("stop_reason") or self.finish
        self.tool_use(event.get("content_block"))
        delta = event.get("delta")
        if isinstance(delta, dict):
            self.content += delta.get("text", "")
            self.reasoning += delta.get("thinking", "")
            self.finish = delta.get("stop_reason") or self.finish

    def tool_use(self, block: object) -> None:
        """A call of the Messages API; streamed, its arguments come later and are not kept."""
        if isinstance(block, dict) and block.get("type") == "tool_use":
            self.calls.append((block["id"], block["name"], json.dumps(block.get("input"))))

    def responses(self, event: dict[str, object]) -> None:
        """An event or a whole answer of the Responses API."""
        body = event.get("response", event)
        if not isinstance(body, dict) or body.get("status") in (None, "in_progress"):
            return
        self.usage(body.get("usage"))
        self.finish = str(body["status"])
        for item in body.get("output") or ():
            if item["type"] == "message":
                self.content += "".join(part["text"] for part in item["content"])
            elif item["type"] == "function_call":
                self.calls.append((item["call_id"], item["name"], item["arguments"]))

    def take(self, endpoint: str, event: dict[str, object]) -> None:
        """One JSON object from the server."""
        if "error" in event and isinstance(event["error"], dict):
            self.error = str(event["error"].get("message"))
            return
        if endpoint.endswith("messages"):
            self.anthropic(event)
        elif endpoint.endswith("responses"):
            self.responses(event)
        else:
            self.openai(event)


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, object]]:
    for line in response:
        if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
            yield json.loads(line[6:])


class Client:
    """Calls one server. Hangs up when `stop` is set."""

    def __init__(self, base_url: str, stop: threading.Event) -> None:
        """`base_url` as http://HOST:PORT."""
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._stop = stop
        self._sock: socket.socket | None = None
        threading.Thread(target=self._hang_up_on_stop, daemon=True).start()

    def is_up(self) -> bool:
        """Whether the server answers."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def call(
        self,
        endpoint: str,
        body: Json,
        *,
        hang_up_after_s: float | None = None,
        hang_up_after_events: int | None = None,
    ) -> Answer:
        """One call; `hang_up_after_s` are real seconds. Never raises for what the server does."""
        connection = http.client.HTTPConnection(self._host, self._port)
        stream = body.get("stream") is True
        start = time.time()
        reading = _Reading()
        status: int | None = None
        left = False
        hung_up = threading.Event()
        timer: threading.Timer | None = None
        try:
            connection.connect()
            self._sock = connection.sock
            if hang_up_after_s is not None:
                timer = threading.Timer(hang_up_after_s, self._hang_up, (hung_up,))
                timer.daemon = True
                timer.start()
            connection.request("POST", endpoint, json.dumps(body))
            response = connection.getresponse()
            status = response.status
            if stream and status == 200:
                for count, event in enumerate(_events(response), 1):
                    reading.take(endpoint, event)
                    if count == hang_up_after_events:
                        left = True
                        break
            else:
                reading.take(endpoint, json.loads(response.read()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reading.error = f"{type(error).__name__}: {error}"
        finally:
            if timer is not None:
                timer.cancel()
                left = left or (hung_up.is_set() and reading.finish is None)
            self._close(connection, left)
        record = CallRecord(
            endpoint=endpoint,
            stream=stream,
            start=start,
            end=time.time(),
            status=status,
            prompt_tokens=reading.prompt,
            completion_tokens=reading.completion,
            cached_tokens=reading.cached,
            finish=None if left else reading.finish,
            aborted=left,
            error=reading.error,
            tool_calls=0 if left else len(reading.calls),
        )
        if record.error is None and not left and record.finish is None:
            record = replace(record, error="the stream ended early")
        return Answer(record, reading.content, reading.reasoning, tuple(reading.calls))

    def _close(self, connection: http.client.HTTPConnection, reset: bool) -> None:
        sock, self._sock = self._sock, None
        if reset and sock is not None:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                sock.close()
        connection.close()

    def _hang_up(self, done: threading.Event) -> None:
        done.set()
        self._shut()

    def _shut(self) -> None:
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)

    def _hang_up_on_stop(self) -> None:
        self._stop.wait()
        self._shut()
