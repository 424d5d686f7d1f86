"""The short way for the lines that make up most of a log, as whole stamped lines.

These match a subset of what the templates match and give the same events, several times faster:
one match and no names. What they leave out (colour, carriers, new fields, ``nan``) is read by the
templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ds4top.core import events as ev
from ds4top.core.patterns import words

_STAMP = r"(\d{4} \d\d:\d\d:\d\d) ds4-server: "
_N = r"(\d{1,18})"
_R = r"(\d{1,18}\.\d{1,9})"
_WORD = r"([\w\-]{1,80})"
_PATH = r"([!-9;-~]{1,1000})"

request_line = re.compile(
    rf"{_STAMP}(chat|completion) ctx={_N}\.\.{_N}:{_N} (?:gen={_N} )?"
    r"((?:[A-Z][A-Z0-9_]{1,31} ){0,16})"
    rf"(?:(?:(?:prefill chunk {_N}/{_N} \(\d{{1,3}}\.\d%\) |decoding )chunk={_R} t/s avg={_R} t/s "
    rf"|finish=([a-z_]{{1,32}}) |prompt done ){_R}s|prompt start)",
    re.ASCII,
).fullmatch
"""Any line of a request. Groups: stamp, kind, A, B, C, gen, flags; done, total, chunk rate and
average rate where they are printed, the finish word, seconds. ``gen`` tells a decoding or finish
line from the others; whether it may stand there is for the caller to check."""

Quick = tuple[
    Callable[[str], "re.Match[str] | None"],
    Callable[[float | None, "tuple[str, ...]"], ev.Event],
]


def _quick(pattern: str, build: Callable[[float | None, tuple[str, ...]], ev.Event]) -> Quick:
    return re.compile(_STAMP + pattern, re.ASCII).fullmatch, build


def _tool_calls(at: float | None, g: tuple[str, ...]) -> ev.Event:
    return ev.ToolCalls(
        at, int(g[1]), int(g[2]), int(g[3]), int(g[4]), int(g[5]), words(g[6]), words(g[7])
    )


KEY = slice(26, 41)
"""Where the first 15 characters of a stamped message stand."""
QUICK: Mapping[str, Quick] = {
    "live kv cache m": _quick(
        rf"live kv cache miss live={_N} prompt={_N} common={_N} reason={_WORD}",
        lambda at, g: ev.LiveMiss(at, False, int(g[1]), int(g[2]), int(g[3]), g[4]),
    ),
    "kv cache stored": _quick(
        rf"kv cache stored tokens={_N} trimmed={_N} reason={_WORD} key={_WORD}"
        rf" size={_R} MiB save={_R} ms",
        lambda at, g: ev.KvStored(at, int(g[1]), int(g[2]), g[3], g[4], float(g[5]), float(g[6])),
    ),
    "kv cache hit te": _quick(
        rf"kv cache hit text tokens={_N} text={_N} quant={_N} key={_WORD} load={_R} ms file={_PATH}",
        lambda at, g: ev.KvHit(at, int(g[1]), int(g[2]), int(g[3]), g[4], float(g[5]), False, g[6]),
    ),
    "kv cache evicte": _quick(
        rf"kv cache evicted reason={_WORD} tokens={_N} hits={_N} size={_R} MiB file={_PATH}",
        lambda at, g: ev.KvEvicted(at, g[1], int(g[2]), int(g[3]), float(g[4]), g[5]),
    ),
    "tool calls ctx=": _quick(
        rf"tool calls ctx={_N}\.\.{_N}:{_N} n={_N} raw_(?:dsml|tool_text)={_N}"
        r" ids=\[([\w,\-]{0,4000})\] names=\[([\w,\-.]{0,4000})\]",
        _tool_calls,
    ),
}
"""By the first 15 characters of the message."""
