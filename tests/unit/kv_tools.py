"""Cache files for tests: real headers as recorded, and made ones under chosen names."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ds4top.core.kvfile import Build, KvDirSample, KvEntry, Refusal, parse_head, payload_bytes
from ds4top.core.kvpolicy import Victim, going, order

HEADERS = Path(__file__).parent.parent / "data" / "kv" / "headers.json"
NOW_S = 1_795_544_800
REASONS = ("unknown", "cold", "continued", "evict", "shutdown", "agent-system", "agent-session")


def listing(recording: str, label: str) -> list[dict[str, Any]]:
    """The directory of a recorded server at one moment."""
    recorded = json.loads(HEADERS.read_text())
    return next(
        one["files"] for one in recorded if (one["recording"], one["label"]) == (recording, label)
    )


def recorded_head(file: dict[str, Any]) -> bytes:
    """The first 52 bytes of a recorded file; where a tool map follows and no line of the log gave
    the length of the text, what follows the payload counts as text too."""
    header = bytes.fromhex(file["header48_hex"])
    if len(header) < 48:
        return header
    text = file["text_bytes"]
    if text is None:
        text = file["size"] - 52 - int.from_bytes(header[40:48], "little")
    return header + int(text).to_bytes(4, "little")


def recorded(recording: str, label: str) -> dict[str, Any]:
    """What each recorded file of one moment parses to, by the first eight letters."""
    return {
        file["file"][:8]: parse_head(file["file"], recorded_head(file), file["size"])
        for file in listing(recording, label)
    }


def head(
    tokens: int = 4_096,
    *,
    hits: int = 0,
    reason: int | str = "cold",
    quant: int = 2,
    flags: int = 0,
    model: int = 0,
    ctx: int = 131_072,
    abi: int = 0,
    created: int = NOW_S,
    used: int = NOW_S,
    payload: int | None = None,
    text: int = 100,
    magic: bytes = b"KVC",
    version: int = 1,
) -> bytes:
    """52 bytes, written apart from the parser: field by field at its offset."""
    data = bytearray(52)
    data[0:3] = magic
    data[3] = version
    data[4] = quant
    data[5] = REASONS.index(reason) if isinstance(reason, str) else reason
    data[6] = flags
    data[7] = model
    for offset, value in ((8, tokens), (12, hits), (16, ctx), (48, text)):
        struct.pack_into("<I", data, offset, value)
    data[20] = abi
    size = payload_bytes(tokens) if payload is None else payload
    for offset, value in ((24, created), (32, used), (40, size)):
        struct.pack_into("<Q", data, offset, value)
    return bytes(data)


def key(number: int | str) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


def write(folder: Path, number: int | str, data: bytes, size: int | None = None) -> Path:
    """A sparse file of a size (that of its header, if not given), as the server leaves one."""
    path = folder / f"{key(number)}.kv"
    path.write_bytes(data)
    if size is None:
        size = 52 + int.from_bytes(data[48:52], "little") + int.from_bytes(data[40:48], "little")
    os.truncate(path, size)
    return path


def entry(number: int | str, **fields: Any) -> KvEntry:
    """A checkpoint as a value."""
    data = head(**fields)
    size = 52 + int.from_bytes(data[48:52], "little") + int.from_bytes(data[40:48], "little")
    found = parse_head(f"{key(number)}.kv", data, size)
    assert isinstance(found, KvEntry)
    return found


def victims_of_save(
    entries: Iterable[KvEntry],
    now_s: float,
    build: Build,
    *,
    budget_bytes: int,
    incoming_bytes: int = 0,
    superseded: Collection[str] = (),
) -> tuple[Victim, ...]:
    """What a save deletes, or a start under this budget, by the product's order and count."""
    ranked = order(entries, now_s, build, superseded)
    used_bytes = ranked[-1].freed_bytes if ranked else 0
    return ranked[: going(ranked, used_bytes, budget_bytes, incoming_bytes)]


def refused(found: KvDirSample, *kinds: Refusal) -> int:
    """Refused files of these kinds."""
    return sum(files for kind, files, _ in found.refused if kind in kinds)
