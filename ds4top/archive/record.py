"""Recordings: JSON Lines, a header and then one sample a line, to be replayed later.

``{"schema": "ds4top.record/1", "version": ..., "host": {...}}``, then
``{"t": seconds since the start, "wall": epoch, "source": name, "data": {...}}``. Bytes of the log
go in as ``{"text": ...}``, or ``{"base64": ...}`` where they are not UTF-8, cut at line ends so
that a secret is never split over two samples; a break of the log as ``{"break": reason}``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds4top.archive.changes import Changes
from ds4top.archive.codec import encode, plain
from ds4top.sources.base import SYSTEM_CLOCK, Clock
from ds4top.sources.samples import HistoryProgress, HistorySwap, LogBreak, LogEvents, SourceError

SCHEMA = "ds4top.record/1"
LOG = "log"
FLUSH_S = 1.0
_FLUSH_BYTES = 256 * 1024
_HELD_BYTES = 64 * 1024

Mask = Callable[[str], str]


def _unmasked(text: str) -> str:
    return text


class RecordingExistsError(FileExistsError):
    """The file is there already and was not to be replaced."""


class RecordingError(ValueError):
    """A recording that cannot be read: file, line (from 1) and what is wrong."""

    def __init__(self, path: str, line: int, what: str) -> None:
        super().__init__(f"{path}:{line}: {what}")
        self.path = path
        self.line = line


class Recorder:
    """Writes one recording. For one thread; ``flush`` is called at each tick.

    ``mask`` takes every string on its way to the file. After a write that fails nothing more is
    written: the file ends with its last whole line, and one ``SourceError`` is returned.
    """

    def __init__(
        self,
        path: str,
        host: Mapping[str, object],
        version: str = "",
        mask: Mask = _unmasked,
        clock: Clock = SYSTEM_CLOCK,
        *,
        replace: bool = False,
    ) -> None:
        """Creates the file, readable for its owner only, with its header in it.

        Raises ``RecordingExistsError`` where it is there and ``replace`` is not set, ``OSError``.
        """
        self.path = path
        self.samples = 0
        self._changes = Changes()
        self._mask = mask
        self._clock = clock
        self._start = clock.monotonic()
        self._flushed = self._start
        self._open_line = b""
        self._size = 0
        self._lines: list[bytes] = []
        self._pending = 0
        head = {"schema": SCHEMA, "version": version, "host": self._masked(plain(host))}
        self._fd = _create(path, _line(head), replace)
        self._size = os.fstat(self._fd).st_size

    def record(self, source: str, sample: object, wall: float | None = None) -> None:
        """Take a sample. ``LogEvents`` and ``LogBreak`` are recorded as the log itself.

        What only holds on (``changes``) is not written again, nor how the beginning of a big log is
        read. Raises ``TypeError`` for what is not a sample.
        """
        if isinstance(sample, LogEvents):
            self.log(sample.data, sample.wall, live=sample.live)
        elif isinstance(sample, LogBreak):
            self.log_break(sample)
        elif not isinstance(sample, HistorySwap | HistoryProgress) and self._changes.needs(sample):
            self._add(source, self._masked(encode(sample)), wall)

    def log(self, data: bytes, wall: float | None = None, *, live: bool = True) -> None:
        """Bytes of the log; what follows the last line end waits for the rest of its line.

        ``live`` false, for what was in the log before, goes in as ``"live": false``.
        """
        data = self._open_line + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if len(data) - end > _HELD_BYTES:
            end = len(data)
        self._open_line = data[end:]
        if end:
            past = {} if live else {"live": False}
            self._add(LOG, self._log_data(data[:end]) | past, wall)

    def log_break(self, item: LogBreak) -> None:
        """The log was rotated, emptied, ended ...; an open line ends here if it can never go on."""
        if item.closes:
            self._release()
        self._add(LOG, {"break": item.reason, "generation": item.generation}, None)

    def flush(self, now: float | None = None) -> SourceError | None:
        """Write what waits, at most once a second; the error if that failed just now."""
        now = self._clock.monotonic() if now is None else now
        if now - self._flushed < FLUSH_S and self._pending < _FLUSH_BYTES:
            return None
        self._flushed = now
        return self._write(now)

    def close(self) -> SourceError | None:
        """Write the rest and close; may be called again."""
        if self._fd < 0:
            return None
        self._release()
        error = self._write(self._clock.monotonic())
        self._shut()
        return error

    @property
    def failed(self) -> bool:
        """Whether writing has ended for good."""
        return self._fd < 0

    def _release(self) -> None:
        held, self._open_line = self._open_line, b""
        if held:
            self._add(LOG, self._log_data(held), None)

    def _log_data(self, data: bytes) -> dict[str, object]:
        try:
            return {"text": self._mask(data.decode())}
        except UnicodeDecodeError:
            text = self._mask(data.decode("utf-8", "surrogateescape"))
            coded = base64.b64encode(text.encode("utf-8", "surrogateescape"))
            return {"base64": coded.decode()}

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._mask(value)
        if isinstance(value, dict):
            return {name: self._named(name, item) for name, item in value.items()}
        if isinstance(value, list):
            # An option and its value are two strings of a list: --api-key SECRET.
            names = ["", *value][: len(value)]
            return [self._named(name, item) for name, item in zip(names, value, strict=True)]
        return value

    def _named(self, name: Any, value: Any) -> Any:
        """A value masked in the light of what it is called: secrets are known by their names."""
        if not isinstance(value, str) or not isinstance(name, str) or not name:
            return self._masked(value)
        return self._mask(f"{name}={value}").removeprefix(f"{name}=")

    def _add(self, source: str, data: Mapping[str, object], wall: float | None) -> None:
        if self._fd < 0:
            return
        t = round(self._clock.monotonic() - self._start, 6)
        wall = self._clock.wall() if wall is None else wall
        line = _line({"t": t, "wall": wall, "source": source, "data": data})
        self._lines.append(line)
        self._pending += len(line)
        self.samples += 1

    def _write(self, now: float) -> SourceError | None:
        data = b"".join(self._lines)
        self._lines.clear()
        self._pending = 0
        if self._fd < 0 or not data:
            return None
        try:
            _write_all(self._fd, data)
        except OSError as error:
            # The part of a line that did fit would make the whole recording unreadable.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            self._shut()
            reason = os.strerror(error.errno) if error.errno else str(error)
            message = f"recording to {self.path} ended after {self._size} bytes: {reason}"
            return SourceError("record", "error", message, now)
        self._size += len(data)
        return None

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


def _line(value: Mapping[str, object]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate (a name in /proc that is not UTF-8) must not break the file.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _create(path: str, head: bytes, replace: bool) -> int:
    if not replace:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except FileExistsError:
            raise RecordingExistsError(
                f"{path} exists already; a recording replaces nothing"
            ) from None
        _write_or_remove(fd, path, head)
        return fd
    folder, name = os.path.split(os.path.abspath(path))
    fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    _write_or_remove(fd, temporary, head)
    os.replace(temporary, path)
    return fd


def _write_or_remove(fd: int, path: str, head: bytes) -> None:
    try:
        _write_all(fd, head)
    except OSError:
        os.close(fd)
        os.unlink(path)
        raise


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line of a recording: ``t`` seconds since its start, ``wall`` epoch seconds."""

    t: float
    wall: float
    source: str
    data: Mapping[str, Any]


class Recording:
    """A recording on disk, indexed; samples are parsed as they are read.

    ``torn`` tells that the last line had no end (the recorder or its machine died).
    """

    def __init__(self, path: str, header: Mapping[str, Any], first_offset: int) -> None:
        self.path = path
        self.version = str(header.get("version", ""))
        self.host: Mapping[str, Any] = header["host"]
        self.torn = False
        self.wall_start = 0.0
        self.times = array("d")
        self._offsets = array("q", [first_offset])

    def __len__(self) -> int:
        """Samples in it."""
        return len(self.times)

    def __iter__(self) -> Iterator[Recorded]:
        """All samples in their order."""
        return self.read(0, len(self))

    def read(self, start: int, stop: int) -> Iterator[Recorded]:
        """Samples ``start`` to ``stop`` (not included). Raises ``OSError``, ``RecordingError``."""
        with Path(self.path).open("rb") as file:
            file.seek(self._offsets[start])
            for place in range(start, min(stop, len(self))):
                yield _sample(self.path, place + 2, file.readline())

    def _index(self, sample: Recorded, end: int) -> None:
        if not self.times:
            self.wall_start = sample.wall - sample.t
        self.times.append(sample.t)
        self._offsets.append(end)


def read_recording(path: str) -> Recording:
    """Open a recording and check each of its lines.

    Raises ``OSError``, or ``RecordingError`` with file and line for what is not a recording.
    """
    with Path(path).open("rb") as file:
        first = file.readline()
        recording = Recording(path, _header(path, first), len(first))
        number, latest = 1, 0.0
        for line in file:
            number += 1
            if not line.endswith(b"\n"):
                recording.torn = True
                break
            sample = _sample(path, number, line)
            if sample.t < latest:
                raise RecordingError(path, number, f'"t" goes back from {latest:g} to {sample.t:g}')
            latest = sample.t
            recording._index(sample, recording._offsets[-1] + len(line))
    return recording


def _object(path: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise RecordingError(path, number, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RecordingError(path, number, "not a JSON object")
    return value


def _header(path: str, line: bytes) -> dict[str, Any]:
    if not line:
        raise RecordingError(path, 1, "the file is empty")
    value = _object(path, 1, line)
    if value.get("schema") != SCHEMA:
        raise RecordingError(path, 1, f'"schema" is {value.get("schema")!r}, not "{SCHEMA}"')
    if not isinstance(value.get("host"), dict):
        raise RecordingError(path, 1, '"host" is missing or not an object')
    return value


_FIELDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("t", (int, float), "a number"),
    ("wall", (int, float), "a number"),
    ("source", (str,), "a string"),
    ("data", (dict,), "an object"),
)


def _sample(path: str, number: int, line: bytes) -> Recorded:
    value = _object(path, number, line)
    for name, kinds, words in _FIELDS:
        if type(value.get(name)) not in kinds:
            raise RecordingError(path, number, f'"{name}" is missing or not {words}')
    return Recorded(float(value["t"]), float(value["wall"]), value["source"], value["data"])
