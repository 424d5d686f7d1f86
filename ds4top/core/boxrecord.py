"""The black box on paper: one moment as a fixed record, the ring's layout, when to flush.

A ring file is a header page and ``SLOTS`` slots of ``SLOT_BYTES``; a record of sequence number n
lies in slot n modulo ``SLOTS``. 256 bytes divide every sector size, so no slot lies across two
sectors: a write torn by a power cut costs the slot being written, and its checksum tells. All
little-endian. ``None`` is stored as the least integer or NaN, never as 0.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple
from uuid import UUID

from ds4top.core.memory import FALLING_BYTES_PER_S, OK_BYTES

VERSION = 1
HEADER_BYTES = 4096
SLOT_BYTES = 256
SLOTS = 4096
"""Memory is sampled five times a second at most: 4,096 records are at least 13 minutes."""
RING_BYTES = HEADER_BYTES + SLOTS * SLOT_BYTES
SPAN_S = 600.0
"""What is read back: the last ten minutes."""
URGENT_FLUSH_S = 0.5
CALM_FLUSH_S = 10.0
"""Urgent is half a second, so that with two samples a second it stays below one."""

Kind = Literal["sample", "closed"]
Ended = Literal["", "clean", "died"]
HeaderState = Literal["ours", "empty", "foreign", "damaged", "version"]

LEVELS = ("unknown", "ok", "warning", "critical")
PHASES = (
    "unknown", "absent", "loading", "idle", "lookup", "prefill", "decode", "draining", "stopped",
    "failed", "poisoned",
)  # fmt: skip
RESIDENCIES = ("unknown", "mmap", "copy", "mixed")
ENDS = ("", "clean", "died")
_KINDS: tuple[Kind, ...] = ("sample", "closed")


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """One moment. Memory is of ``wall``; all else is as it was known at ``told_wall``.

    ``gpu_held_bytes`` is the sum over NVML's processes; ``other_*`` the largest of them that is
    not the server. ``oom_kills`` is the kernel's counter. ``ended``: how a server that is gone
    went, empty while it runs or where nobody knows.
    """

    wall: float
    t: float
    level: str = "unknown"
    phase: str = "unknown"
    residency: str = "unknown"
    ended: str = ""
    free_bytes: int | None = None
    available_bytes: int | None = None
    headroom_bytes: int | None = None
    slope_bytes_per_s: float | None = None
    gpu_held_bytes: int | None = None
    oom_kills: int | None = None
    big_blocks: int | None = None
    power_w: float | None = None
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    utilisation_pct: int | None = None
    request_number: int | None = None
    request_started_wall: float | None = None
    context_tokens: int | None = None
    prompt_tokens: int | None = None
    decode_tps: float | None = None
    context_limit_tokens: int | None = None
    pid: int | None = None
    start_ticks: int | None = None
    other_pid: int | None = None
    other_bytes: int | None = None
    other_comm: str = ""
    told_wall: float | None = None


class Kept(NamedTuple):
    """A record as it lies in the ring: its number, which run of ds4top wrote it, in which boot."""

    seq: int
    run: int
    boot_id: str
    kind: Kind
    record: BoxRecord


# codec ----------------------------------------------------------------------------------------

_Q, _I = -(1 << 63), -(1 << 31)
_NAN = float("nan")


def _whole(least: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def pack(value: int | None) -> int:
        return least if value is None else min(max(int(value), least + 1), -least - 1)

    return pack, lambda raw: None if raw == least else raw


def _one_of(names: tuple[str, ...]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def pack(value: str) -> int:
        return names.index(value) if value in names else 0

    return pack, lambda raw: names[raw] if raw < len(names) else names[0]


_PACKS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "q": _whole(_Q),
    "i": _whole(_I),
    "d": (
        lambda value: _NAN if value is None else value,
        lambda raw: raw if abs(raw) < float("inf") else None,
    ),
    "16s": (
        lambda value: value.encode("utf-8", "replace")[:16],
        lambda raw: raw.rstrip(b"\0").decode("utf-8", "replace"),
    ),
}
_FIELDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("wall", "d", ()), ("t", "d", ()), ("told_wall", "d", ()),
    ("level", "B", LEVELS), ("phase", "B", PHASES), ("residency", "B", RESIDENCIES),
    ("ended", "B", ENDS),
    ("free_bytes", "q", ()), ("available_bytes", "q", ()), ("headroom_bytes", "q", ()),
    ("slope_bytes_per_s", "d", ()), ("gpu_held_bytes", "q", ()), ("oom_kills", "q", ()),
    ("big_blocks", "i", ()), ("power_w", "d", ()), ("sm_clock_mhz", "i", ()),
    ("temperature_c", "i", ()), ("utilisation_pct", "i", ()), ("request_number", "i", ()),
    ("request_started_wall", "d", ()), ("context_tokens", "q", ()), ("prompt_tokens", "q", ()),
    ("decode_tps", "d", ()), ("context_limit_tokens", "q", ()), ("pid", "i", ()),
    ("start_ticks", "q", ()), ("other_pid", "i", ()), ("other_bytes", "q", ()),
    ("other_comm", "16s", ()),
)  # fmt: skip
_CODECS = tuple(
    (name, *(_one_of(names) if names else _PACKS[code])) for name, code, names in _FIELDS
)
_BODY = struct.Struct("<" + "".join(code for _, code, _ in _FIELDS))
_HEAD = struct.Struct("<4sBxxxIQ16s")
_TIMES = struct.Struct("<dd")
"""With which a body begins: ``wall`` and ``t``."""
_SUM = struct.Struct("<I")
_SLOT_MAGIC = b"d4bx"
_RING_MAGIC = b"ds4top black box"
_RING = struct.Struct("<16sIIII")
_PAD = bytes(SLOT_BYTES - _HEAD.size - _BODY.size - _SUM.size)


def boot_of(boot_id: str) -> UUID:
    """A boot id as 16 bytes; what is no UUID (a demo's) by its digest."""
    try:
        return UUID(boot_id.strip())
    except ValueError:
        digest = hashlib.blake2b(boot_id.strip().encode(), digest_size=16)
        return UUID(bytes=digest.digest())


def encode_slot(seq: int, run: int, boot: UUID, kind: Kind, record: BoxRecord) -> bytes:
    """A slot's bytes. Unknown names become ``unknown``, figures too large the largest."""
    values = [pack(getattr(record, name)) for name, pack, _ in _CODECS]
    head = _HEAD.pack(_SLOT_MAGIC, _KINDS.index(kind), run, seq, boot.bytes)
    data = head + _BODY.pack(*values) + _PAD
    return data + _SUM.pack(zlib.crc32(data))


class _Slot(NamedTuple):
    """What a slot says of its record, which is dear to decode."""

    seq: int
    run: int
    boot: bytes
    kind: Kind
    t: float
    at: int


def _slot(data: bytes, at: int = 0) -> _Slot | None:
    """The slot at a place; ``None`` for an empty, torn or damaged one."""
    piece = memoryview(data)[at : at + SLOT_BYTES]
    if len(piece) != SLOT_BYTES or piece[: len(_SLOT_MAGIC)] != _SLOT_MAGIC:
        return None
    if _SUM.unpack(piece[-_SUM.size :])[0] != zlib.crc32(piece[: -_SUM.size]):
        return None
    _, kind, run, seq, boot = _HEAD.unpack_from(piece)
    wall, t = _TIMES.unpack_from(piece, _HEAD.size)
    # A time that is no number cannot be of a record that was written.
    if kind >= len(_KINDS) or not (isfinite(wall) and isfinite(t)):
        return None
    return _Slot(seq, run, boot, _KINDS[kind], t, at)


def _record(data: bytes, slot: _Slot) -> BoxRecord:
    raw = _BODY.unpack_from(data, slot.at + _HEAD.size)
    values = {name: unpack(value) for (name, _, unpack), value in zip(_CODECS, raw, strict=True)}
    return BoxRecord(**values)


def decode_slot(data: bytes) -> Kept | None:
    """What a slot holds; ``None`` for an empty, torn or damaged one."""
    slot = _slot(data) if len(data) == SLOT_BYTES else None
    if slot is None:
        return None
    boot_id = str(UUID(bytes=slot.boot))
    return Kept(slot.seq, slot.run, boot_id, slot.kind, _record(data, slot))


def header_bytes(version: int = VERSION) -> bytes:
    """The ring's header page."""
    head = _RING.pack(_RING_MAGIC, version, HEADER_BYTES, SLOT_BYTES, SLOTS)
    return (head + _SUM.pack(zlib.crc32(head))).ljust(HEADER_BYTES, b"\0")


def header_state(data: bytes) -> HeaderState:
    """Whose file this is. ``empty``: nothing was ever written; ``version``: of another ds4top."""
    head = data[:HEADER_BYTES]
    if not head.strip(b"\0"):
        return "empty"
    if not head.startswith(_RING_MAGIC):
        return "foreign"
    size = _RING.size
    if len(head) < size + 4 or _SUM.unpack_from(head, size)[0] != zlib.crc32(head[:size]):
        return "damaged"
    same = _RING.unpack_from(head)[1:] == (VERSION, HEADER_BYTES, SLOT_BYTES, SLOTS)
    return "ours" if same else "version"


@dataclass(frozen=True, slots=True)
class Past:
    """What a ring holds of the last run of ds4top, oldest first, at most ten minutes.

    ``closed``: that run said goodbye, at ``closed_wall``. ``bad`` counts torn and damaged slots.
    ``last_seq`` and ``last_run`` are 0 in an empty ring.
    """

    records: tuple[BoxRecord, ...] = ()
    boot_id: str = ""
    closed: bool = False
    closed_wall: float | None = None
    last_seq: int = 0
    last_run: int = 0
    bad: int = 0


def parse_ring(data: bytes) -> Past:
    """The last run in a ring file's bytes; a cut file is read as far as it goes.

    Only what is given is decoded, for all that a full ring holds takes memory that stays.
    """
    last: _Slot | None = None
    places = array("q")
    bad = 0
    for number, at in enumerate(range(HEADER_BYTES, len(data), SLOT_BYTES)):
        slot = _slot(data, at)
        if slot is not None and slot.seq % SLOTS == number:
            places.append(at)
            last = slot if last is None or slot.seq > last.seq else last
        elif data[at : at + SLOT_BYTES].strip(b"\0"):
            bad += 1
    if last is None:
        return Past(bad=bad)
    ours = (last.run, last.boot)
    run = [s for at in places if (s := _slot(data, at)) is not None and (s.run, s.boot) == ours]
    run = sorted(slot for slot in run if slot.kind == "sample")
    closed = last.kind == "closed"
    return Past(
        tuple(_record(data, slot) for slot in run if run[-1].t - slot.t <= SPAN_S),
        str(UUID(bytes=last.boot)), closed, _record(data, last).wall if closed else None,
        last.seq, last.run, bad,
    )  # fmt: skip


# policy ---------------------------------------------------------------------------------------


def is_urgent(record: BoxRecord, ok_bytes: int = OK_BYTES) -> bool:
    """Whether headroom is low or falling: then losing a second of records would hurt.

    The level alone is not enough: it is as old as the last look at everything else.
    """
    headroom, slope = record.headroom_bytes, record.slope_bytes_per_s
    return (
        record.level in ("warning", "critical")
        or (headroom is not None and headroom < ok_bytes)
        or (slope is not None and slope < -FALLING_BYTES_PER_S)
    )


def flush_due(since_s: float, urgent: bool, before: bool) -> bool:
    """Whether to flush now, ``since_s`` after the last time; ``before``: urgent at that time.

    What becomes urgent is flushed at once: it begins with what came before it.
    """
    if urgent and not before:
        return True
    return since_s >= (URGENT_FLUSH_S if urgent else CALM_FLUSH_S)
