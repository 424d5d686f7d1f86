"""The one parser: bytes of a ds4-server log in, typed events out.

Pure: no clock, no file. Feeding the same bytes in any split gives the same events. A clean line
of a common kind is read the short way (``patterns_quick``), every other piece by the templates
(``patterns``). What no template knows becomes ``Unrecognised``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ds4top.core import events as ev
from ds4top.core.envelope import unwrap
from ds4top.core.patterns import KV, REQUEST, SERVER, Template, flags_of
from ds4top.core.patterns_engine import BARE, ENGINE
from ds4top.core.patterns_quick import KEY, QUICK, request_line
from ds4top.core.pieces import HEAD, PieceSplitter, shorten
from ds4top.core.stamps import StampClock

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\x9c]{0,1000}(?:\x07|\x1b\\|\x9c)|[@-Z\\-_])"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ORIGIN = re.compile(r"ds4(?:-server|-kvstore)?: ", re.ASCII)
_STAMP = re.compile(r"\d{4} \d\d:\d\d:\d\d", re.ASCII)
_STAMP_CHARS = 13
_SERVER_MARK = " ds4-server: "
_BODY = _STAMP_CHARS + len(_SERVER_MARK)
_NEW_FIELD = re.compile(r",? ([a-z][\w.\-]{0,31})=([^\s=,\"\[\]()]{1,80})(?=[ ,)]|$)", re.ASCII)
_MODEL_TEXT = re.compile(r"text_snippet: |dsml_snippet: | names=\[", re.ASCII)
_USAGE = "Usage: ds4-server [options]"
_SYSTEMD = re.compile(r"-- .* --", re.ASCII)
_USAGE_LINES = 400
_SNIPPET_LINES = 40
_MAX_MESSAGES = 16
"""Messages looked for in one piece; a piece with more is hostile, and its last ones count."""
_MAX_JOINED = 4
"""A message may hold the mark of another in its free text: so many pieces are tried as one."""
_MAX_EXTRA = 16
_KNOWN_FIELDS = frozenset(
    name
    for template in (*REQUEST, *SERVER, *KV)
    for name in re.findall(r"([a-z_]\w*)=", template.pattern.pattern)
) | {"raw_dsml", "raw_tool_text"}


def strip_controls(text: str) -> str:
    """Text without terminal sequences and control characters; safe to draw."""
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return _CONTROL.sub("", text)


_LITERAL = re.compile(r"(?:\(\?P<text>)?([A-Za-z ]{4})(?![?*+{])")


class _Index:
    """Templates by the four characters they begin with; those that begin otherwise fit all."""

    def __init__(self, templates: Sequence[Template]) -> None:
        heads = [_LITERAL.match(template.pattern.pattern) for template in templates]
        rows = [(head[1] if head else "", row) for head, row in zip(heads, templates, strict=True)]
        self._others = tuple(row for head, row in rows if not head)
        self._by_head = {
            known: tuple(row for head, row in rows if head in ("", known))
            for known in {head for head, _ in rows if head}
        }

    def of(self, body: str) -> Sequence[Template]:
        return self._by_head.get(body[:4], self._others)


_REQUEST, _SERVER, _ENGINE = _Index(REQUEST), _Index((*KV, *SERVER)), _Index(ENGINE)


def _templates(origin: str, body: str) -> Sequence[Template]:
    if origin != "ds4-server":
        return _ENGINE.of(body)
    is_request = body.partition(" ")[2].startswith("ctx=")
    return (_REQUEST if is_request else _SERVER).of(body)


def _match(templates: Iterable[Template], at: float | None, body: str) -> ev.Event | None:
    for template in templates:
        found = template.pattern.fullmatch(body)
        if found:
            return template.build(at, found.groupdict())
    return None


def _parse(origin: str, at: float | None, body: str) -> ev.Event | None:
    """The event of one message; fields that no template knows are set aside in ``extra``."""
    templates = _templates(origin, body)
    event = _match(templates, at, body)
    if event is not None or origin != "ds4-server" or _MODEL_TEXT.search(body):
        return event
    trimmed, extra = _without_new_fields(body)
    if not extra:
        return None
    event = _match(templates, at, trimmed)
    if isinstance(event, ev.Note):
        return event._replace(fields={**dict(extra), **event.fields})
    if event is not None and "extra" in event._fields:
        return event._replace(extra=extra)  # type: ignore[call-arg]
    return event


def _without_new_fields(body: str) -> tuple[str, ev.Extra]:
    extra: list[tuple[str, str]] = []

    def drop(match: re.Match[str]) -> str:
        if match[1] in _KNOWN_FIELDS:
            return match[0]
        extra.append((match[1], match[2]))
        return ""

    return _NEW_FIELD.sub(drop, body), tuple(extra[:_MAX_EXTRA])


class _Mark(NamedTuple):
    """Where a message begins in a piece: its stamps from ``start``, its words from ``body``."""

    start: int
    body: int
    origin: str
    stamp: str


def _marks(text: str) -> list[_Mark]:
    found = []
    for match in _ORIGIN.finditer(text):
        start = match.start()
        stamp = ""
        while (
            start > _STAMP_CHARS
            and text[start - 1] == " "
            and _STAMP.match(text, start - _STAMP_CHARS - 1)
        ):
            start -= _STAMP_CHARS + 1
            stamp = stamp or text[start : start + _STAMP_CHARS]
        found.append(_Mark(start, match.end(), match[0][:-2], stamp))
    return found[-_MAX_MESSAGES:]


def _without_stamps(text: str) -> str:
    """Text without stamps at its end, which belong to what another thread writes next."""
    while _STAMP.fullmatch((cut := text.rstrip(" "))[-_STAMP_CHARS:]):
        text = cut[:-_STAMP_CHARS]
    return text


@dataclass(slots=True)
class _Block:
    """Unstamped lines that belong to the line before: usage text, or held model text."""

    usage: bool = False
    held: list[tuple[str, float | None, str]] = field(default_factory=list)
    left: int = 0


class LogReader:
    """Reads one log. ``feed`` bytes as they come; ``close`` when no more will.

    ``unrecognised`` counts the pieces that no template knows. Memory is bounded whatever comes:
    a part of a line, a part of a carrier's record and ``_SNIPPET_LINES`` lines are held at most.
    """

    def __init__(self, clock: StampClock) -> None:
        self.clock = clock
        self.unrecognised = 0
        self._splitter = PieceSplitter()
        self._block: _Block | None = None
        self._partial = ""

    @property
    def lines(self) -> int:
        """Physical lines read, each ended by a newline."""
        return self._splitter.lines

    @property
    def held_chars(self) -> int:
        """Characters and bytes held back until what they belong to is complete."""
        block = sum(len(text) for text, _, _ in self._block.held) if self._block else 0
        return self._splitter.held_bytes + len(self._partial) + block

    def feed(self, data: bytes) -> list[ev.Event]:
        """Events of the lines that these bytes complete, in their order. Never raises."""
        out: list[ev.Event] = []
        add = out.append
        # The built-in makes an event at half the cost of the generated __new__.
        new = tuple.__new__
        clock_at = self.clock.at
        stamp: str | None = None
        at: float | None = None
        holding = self._holding
        for piece in self._splitter.feed(data):
            m = None if holding else request_line(piece)
            if m is None:
                if not piece:
                    continue
                quick = None if holding else QUICK.get(piece[KEY])
                m = quick[0](piece) if quick else None
                if quick and m:
                    add(quick[1](clock_at(m[1]), m.groups()))
                else:
                    self._general(piece, out)
                    holding = self._holding
                stamp = None
                continue
            now, kind, a, b, c, gen, words, done, total, rate, mean, finish, s = m.groups()
            if now != stamp:
                stamp, at = now, clock_at(now)
            flags = flags_of(words)
            if done:
                if gen is None:
                    add(new(ev.PrefillChunk, (
                        at, kind, int(a), int(b), int(c), flags, False, int(done), int(total),
                        float(rate), float(mean), float(s), (),
                    )))  # fmt: skip
                    continue
            elif rate:
                if gen:
                    add(new(ev.Decoding, (
                        at, kind, int(a), int(b), int(c), int(gen), flags,
                        float(rate), float(mean), float(s), (),
                    )))  # fmt: skip
                    continue
            elif finish:
                if gen:
                    add(new(ev.Finish, (
                        at, kind, int(a), int(b), int(c), int(gen), flags,
                        finish, None, float(s), (),
                    )))  # fmt: skip
                    continue
            elif gen is None:
                if s:
                    add(ev.PromptDone(at, kind, int(a), int(b), int(c), flags, float(s)))
                else:
                    add(ev.PromptStart(at, kind, int(a), int(b), int(c), flags))
                continue
            self._general(piece, out)
            holding = self._holding
        return out

    def close(self) -> list[ev.Event]:
        """The end of this log: a torn last line is no event, but it is counted and shown."""
        out: list[ev.Event] = []
        while self._block is not None:
            self._release_block(out)
        tail = self._partial + (self._splitter.close() or "")
        self._partial = ""
        text = strip_controls(tail).strip()
        if text:
            self._unknown(out, self.clock.last, shorten(text), torn=True)
        return out

    @property
    def _holding(self) -> bool:
        return self._block is not None or bool(self._partial)

    def _unknown(
        self, out: list[ev.Event], at: float | None, text: str, *, torn: bool = False
    ) -> None:
        self.unrecognised += 1
        out.append(ev.Unrecognised(at, text, torn))

    def _plain(self, piece: str, out: list[ev.Event]) -> bool:
        """Read a piece that is one clean stamped message; whether it was one."""
        if piece[_STAMP_CHARS:_BODY] != _SERVER_MARK or self._holding or len(piece) > HEAD:
            return False
        if not piece.isprintable() or _ORIGIN.search(piece, _BODY) or not _STAMP.match(piece):
            return False
        body = _without_stamps(piece[_BODY:])
        event = _parse("ds4-server", self.clock.at(piece[:_STAMP_CHARS]), body)
        if event is not None:
            self._known(event, body, out)
        return event is not None

    def _general(self, piece: str, out: list[ev.Event]) -> None:
        if self._plain(piece, out):
            return
        inner = unwrap(strip_controls(shorten(piece)))
        text = self._partial + inner.text
        if inner.partial:
            self._partial = shorten(text)
            return
        self._partial = ""
        if "\n" not in text and "\r" not in text:
            self._text(text, inner.at, inner.speaker, out)
            return
        for part in re.split(r"[\r\n]", text):
            self._text(strip_controls(shorten(part)), inner.at, inner.speaker, out)

    def _text(self, text: str, outer_at: float | None, speaker: str, out: list[ev.Event]) -> None:
        marks = _marks(text)
        if self._block is not None and self._absorb(text, marks, outer_at, speaker, out):
            return
        self._bare(text[: marks[0].start] if marks else text, outer_at, speaker, out)
        index = 0
        while index < len(marks):
            index = self._segment(text, marks, index, outer_at, out)

    def _segment(
        self,
        text: str,
        marks: Sequence[_Mark],
        index: int,
        outer_at: float | None,
        out: list[ev.Event],
    ) -> int:
        """Parse the message at one mark; gives the index of the next one to look at."""
        here = marks[index]
        at = self.clock.at(here.stamp) if here.stamp else None
        if outer_at is not None:
            at = outer_at
        stops = [mark.start for mark in marks[index + 1 : index + _MAX_JOINED]]
        if index + _MAX_JOINED > len(marks):
            stops.append(len(text))
        for joined, stop in enumerate(stops, 1):
            body = _without_stamps(text[here.body : stop])
            if not body.strip():
                return index + joined
            if stop < len(text) and _MODEL_TEXT.search(body):
                continue
            event = _parse(here.origin, at, body) or _parse(here.origin, at, body.strip())
            if event is not None:
                self._known(event, body, out)
                return index + joined
        self._unknown(out, at, f"{here.origin}: {text[here.body : stops[0]]}".strip())
        return index + 1

    def _known(self, event: ev.Event, body: str, out: list[ev.Event]) -> None:
        out.append(event)
        if isinstance(event, ev.Note) and "text_snippet: " in body and not body.endswith("]"):
            self._block = _Block(left=_SNIPPET_LINES)

    def _bare(self, text: str, at: float | None, speaker: str, out: list[ev.Event]) -> None:
        text = _without_stamps(text).strip()
        if not text:
            return
        if text.startswith(_USAGE):
            out.append(ev.Note(at, "usage", "info", _USAGE, {}))
            self._block = _Block(usage=True, left=_USAGE_LINES)
            return
        found = _match(BARE, at, text)
        if found is not None:
            out.append(found)
        elif speaker in ("systemd", "kernel") or _SYSTEMD.fullmatch(text):
            out.append(ev.Note(at, "carrier", "info", text, {"speaker": speaker}))
        else:
            self._unknown(out, at, text)

    def _absorb(
        self,
        text: str,
        marks: Sequence[_Mark],
        at: float | None,
        speaker: str,
        out: list[ev.Event],
    ) -> bool:
        """Whether a line belongs to the block that is open."""
        block = self._block
        assert block is not None
        block.left -= 1
        if block.usage:
            if block.left > 0 and not (marks and marks[0].start == 0):
                return True
            self._block = None
            return False
        if text.endswith("]"):
            self._block = None
            return True
        block.held.append((text, at, speaker))
        if block.left <= 0:
            self._release_block(out)
        return True

    def _release_block(self, out: list[ev.Event]) -> None:
        """Lines held as model text whose end never came are read as lines after all."""
        block, self._block = self._block, None
        if block is not None:
            for held in block.held:
                self._text(*held, out)
