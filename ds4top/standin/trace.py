"""The `--trace` file: a head and an end for each request, without prompts and outputs."""

from __future__ import annotations

import threading
import time

from ds4top.standin.lookup import Found
from ds4top.standin.requests import Request


class Trace:
    """Truncated at start, unbuffered."""

    def __init__(self, path: str) -> None:
        """Raises OSError where the file cannot be written."""
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - lives as long as the server
        self._lock = threading.Lock()
        self._count = 0

    def begin(self, request: Request, found: Found) -> int:
        """Write the head and the cache decision; the request's number."""
        with self._lock:
            self._count += 1
            number = self._count
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._write(
            f"\n===== request {number} {stamp} =====\n"
            f"kind: {request.kind}\nmodel: {request.model}\nstream: {int(request.stream)}\n"
            f"tools: {int(bool(request.tools))}\n"
            f"think_mode: {'high' if request.thinks else 'none'}\n"
            f"prompt_tokens: {request.prompt_tokens}\n"
            f"effective_prompt_tokens: {found.tokens}\ncached_tokens: {found.cached}\n"
            f"max_tokens: {request.max_tokens}\n"
            f"stream_include_usage: {int(request.include_usage)}\n\n"
            f"--- cache decision ---\ncache_source: {found.source}\n"
            f"cached_tokens: {found.cached}\n"
        )
        return number

    def finish(self, number: int, finish: str, generated: int, seconds: float) -> None:
        """Write the end."""
        self._write(
            f"\n--- parsed message ---\nfinish: {finish}\ngenerated_tokens: {generated}\n"
            f"elapsed_sec: {seconds:.3f}\n===== end request {number} =====\n"
        )

    def _write(self, text: str) -> None:
        self._file.write(text.encode())
