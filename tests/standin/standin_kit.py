"""What the stand-in tests share: running processes, calls, text of a known length."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "standin"
DEADLINE_S = 15.0
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
        },
    }
    for name in ("bash", "read_file")
]


def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds; fail after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.004)


def unstamped(text: str) -> str:
    """A log without its stamps."""
    return re.sub(r"(?m)^\d{4} \d\d:\d\d:\d\d (?=ds4-server: )", "", text)


@dataclass
class Reply:
    """Status, headers and body of one call."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[dict]:
        """The JSON objects of an event stream."""
        lines = self.body.decode().split("\n")
        return [json.loads(x[6:]) for x in lines if x.startswith("data: {")]


@dataclass
class Running:
    """One started process and where it keeps its things."""

    process: subprocess.Popen
    port: int
    log_path: Path
    directory: Path
    calls: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        """Standard error so far."""
        return self.log_path.read_text()

    def lines(self, start: int = 0) -> list[str]:
        """Whole lines of the log from `start` on, without stamps."""
        return unstamped(self.log).splitlines()[start:]

    def wait_for(self, text: str) -> None:
        """Until the log holds this text."""
        eventually(lambda: text in self.log or self.process.poll() is not None, text)
        assert text in self.log

    def ready(self) -> Running:
        """Until it listens."""
        self.wait_for("listening on")
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def request(self, method: str, path: str, body: object = None) -> Reply:
        """One HTTP call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        connection.request(method, path, data)
        response = connection.getresponse()
        reply = Reply(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return reply

    def post(self, path: str, **body: object) -> Reply:
        """One POST of JSON; what was generated has its finish line, which follows the answer."""
        finished = self.log.count("finish=")
        reply = self.request("POST", path, body)
        generated = path.startswith("/v1/") and b"event: error" not in reply.body
        if reply.status == 200 and generated:
            eventually(lambda: self.log.count("finish=") > finished, "a finish line")
        return reply

    def open(self, path: str, **body: object) -> socket.socket:
        """Send a POST and leave the answer unread."""
        data = json.dumps(body).encode()
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        head = f"POST {path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n"
        sock.sendall(head.encode() + data)
        return sock


Start = Callable[..., Running]


def words(tokens: int) -> str:
    """Text of exactly this many tokens."""
    return ("some words of a prompt. " * (tokens // 6 + 1))[: tokens * 4]
