"""The server's log lines, written from the format's description (never from this project's parser).

`Log` writes whole lines to stderr with one write each; the functions give the text of one line.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

MIB = 1024 * 1024
GIB = 1024**3


class Tint(Enum):
    """Colour of a line on a terminal."""

    PLAIN = ""
    PREFILL = "\x1b[36m"
    DECODE = "\x1b[32m"
    CACHE = "\x1b[33m"
    TOOL = "\x1b[90m"
    WARNING = "\x1b[38;5;208m"


class Log:
    """Standard error as the server writes it: stamped lines, and engine lines without a stamp."""

    def __init__(self, fd: int = 2) -> None:
        """Write to file descriptor `fd`; colours only where it is a terminal."""
        self._fd = fd
        self._colour = os.isatty(fd)
        self._lock = threading.Lock()

    def server(self, text: str, tint: Tint = Tint.PLAIN) -> None:
        """`MMDD HH:MM:SS ds4-server: TEXT`, local time."""
        stamp = time.strftime("%m%d %H:%M:%S")
        body = f"ds4-server: {text}"
        if self._colour and tint is not Tint.PLAIN:
            body = f"{tint.value}{body}\x1b[0m"
        self._write(f"{stamp} {body}\n")

    def engine(self, text: str) -> None:
        """`ds4: TEXT`, no stamp."""
        self._write(f"ds4: {text}\n")

    def raw(self, text: str) -> None:
        """Text as it is."""
        self._write(text)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        with self._lock:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except OSError:
                    return


@dataclass(frozen=True)
class Span:
    """The tokens of a line: reused, all, and the difference."""

    start: int
    end: int

    def __str__(self) -> str:
        """As the log writes it: A..B:C."""
        return f"{self.start}..{self.end}:{max(0, self.end - self.start)}"


@dataclass(frozen=True)
class Flags:
    """The words between a span and the event of a line, in their fixed order."""

    respproto: bool = False
    tools: bool = False
    thinking: bool = False
    dsml_start: bool = False
    dsml_end: bool = False

    def __str__(self) -> str:
        """The words that hold, each followed by a space."""
        words = (
            ("RESPPROTO", self.respproto),
            ("TOOLS", self.tools),
            ("THINKING", self.thinking),
            ("DSML_START", self.dsml_start),
            ("DSML_END", self.dsml_end),
        )
        return "".join(f"{word} " for word, on in words if on)


def _proto(on: bool) -> str:
    return " RESPPROTO" if on else ""


def live_miss(respproto: bool, live: int, prompt: int, common: int, reason: str) -> str:
    """Nothing in memory could be reused."""
    return (
        f"live kv cache miss{_proto(respproto)} live={live} prompt={prompt} common={common} "
        f"reason={reason}"
    )


def responses_continuation(match: str, ids: int, cached: int, prompt: int) -> str:
    """A Responses request goes on from the state in memory."""
    return (
        f"responses live continuation RESPPROTO match={match} ids={ids} cached={cached} "
        f"prompt={prompt}"
    )


def anthropic_continuation(ids: int, cached: int, prompt: int) -> str:
    """A Messages request answers the tool calls of the state in memory."""
    return (
        f"anthropic live continuation match=tool-output-ids ids={ids} cached={cached} "
        f"prompt={prompt}"
    )


def thinking_continuation(cached: int, prompt: int) -> str:
    """A chat goes on from a state whose reasoning the client does not send back."""
    return f"thinking live continuation match=visible-prefix cached={cached} prompt={prompt}"


def missing_reasoning(source: str, cached: int, prompt: int) -> str:
    """A replayed tool turn came without its reasoning."""
    return (
        "responses replay RESPPROTO missing reasoning state; continuing from visible history "
        f"source={source} cached={cached} prompt={prompt}"
    )


def prompt_start(kind: str, span: Span, flags: Flags) -> str:
    """Prefill begins."""
    return f"{kind} ctx={span} {flags}prompt start"


def prompt_done(kind: str, span: Span, flags: Flags, seconds: float) -> str:
    """Prefill has ended."""
    return f"{kind} ctx={span} {flags}prompt done {seconds:.3f}s"


def prefill_chunk(
    kind: str,
    span: Span,
    flags: Flags,
    done: int,
    total: int,
    chunk_tps: float,
    avg_tps: float,
    seconds: float,
) -> str:
    """Prefill has reached `done` of `total` tokens to prefill."""
    percent = 100.0 * done / total if total else 100.0
    return (
        f"{kind} ctx={span} {flags}prefill chunk {done}/{total} ({percent:.1f}%) "
        f"chunk={chunk_tps:.2f} t/s avg={avg_tps:.2f} t/s {seconds:.3f}s"
    )


def decoding(
    kind: str,
    span: Span,
    generated: int,
    flags: Flags,
    chunk_tps: float,
    avg_tps: float,
    seconds: float,
) -> str:
    """One decode interval."""
    return (
        f"{kind} ctx={span} gen={generated} {flags}decoding chunk={chunk_tps:.2f} t/s "
        f"avg={avg_tps:.2f} t/s {seconds:.3f}s"
    )


def tool_calls(
    span: Span, respproto: bool, raw_field: str, ids: Iterable[str], names: Iterable[str]
) -> str:
    """The reply held tool calls."""
    id_list, name_list = list(ids), list(names)
    return (
        f"tool calls ctx={span}{_proto(respproto)} n={len(id_list)} {raw_field}=1 "
        f"ids=[{','.join(id_list)}] names=[{','.join(name_list)}]"
    )


def thinking_remembered(span: Span, live: int, visible_bytes: int) -> str:
    """The visible history of a state with hidden reasoning is kept as its key."""
    return f"thinking live checkpoint remembered ctx={span} live={live} visible={visible_bytes}"


def finish(
    kind: str, span: Span, generated: int, flags: Flags, word: str, error: str, seconds: float
) -> str:
    """The request has ended."""
    tail = f' error="{error}"' if word == "error" and error else ""
    return f"{kind} ctx={span} gen={generated} {flags}finish={word}{tail} {seconds:.3f}s"


def stream_event(kind: str, span: Span, flags: Flags, text: str) -> str:
    """A loss of the client or a failure of prefill, in the words of `text`."""
    return f"{kind} ctx={span} {flags}{text}"


def kv_stored(
    tokens: int, trimmed: int, reason: str, key: str, size_bytes: int, save_ms: float
) -> str:
    """A checkpoint was written."""
    return (
        f"kv cache stored tokens={tokens} trimmed={trimmed} reason={reason} key={key} "
        f"size={size_bytes / MIB:.2f} MiB save={save_ms:.1f} ms"
    )


def kv_hit(
    respproto: bool,
    tokens: int,
    text_bytes: int,
    quant: int,
    key: str,
    load_ms: float,
    consumed: bool,
    path: str,
) -> str:
    """A checkpoint was loaded."""
    eaten = " consumed" if consumed else ""
    return (
        f"kv cache hit text{_proto(respproto)} tokens={tokens} text={text_bytes} quant={quant} "
        f"key={key} load={load_ms:.1f} ms{eaten} file={path}"
    )


def kv_evicted(tokens: int, hits: int, size_bytes: int, path: str) -> str:
    """A checkpoint was removed for the budget."""
    return (
        f"kv cache evicted reason=disk-cache-full tokens={tokens} hits={hits} "
        f"size={size_bytes / MIB:.2f} MiB file={path}"
    )


def kv_too_large(tokens: int, reason: str, size: int, needed: int, budget: int) -> str:
    """One snapshot does not fit into the budget."""
    return (
        f"kv cache skipped tokens={tokens} reason={reason} because estimated file size "
        f"{size / MIB:.2f} MiB ({needed / MIB:.2f} MiB with safety) exceeds budget "
        f"{budget / MIB:.2f} MiB"
    )


def kv_store_failed(reason: str, error: str, save_ms: float) -> str:
    """Writing a checkpoint failed."""
    return f"kv cache store failed ({reason}): {error} save={save_ms:.1f} ms"


def persisting(slot: int | None, tokens: int) -> str:
    """The live state is saved before the end (builds with slots name the slot)."""
    if slot is None:
        return f"persisting current KV cache before shutdown tokens={tokens}"
    return f"persisting resident KV cache before shutdown slot={slot} tokens={tokens}"
