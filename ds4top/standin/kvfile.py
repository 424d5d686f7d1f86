"""One KV checkpoint file: header of 52 bytes, text, sparse payload, optional map of tool calls."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass

HEADER_BYTES = 52
FLAG_TOOL_MAP = 1
FLAG_RESPONSES_VISIBLE = 2
FLAG_THINKING_VISIBLE = 4
REASONS = ("unknown", "cold", "continued", "evict", "shutdown", "agent-system", "agent-session")
QUANT_BITS = 2

_NAME = re.compile(r"[0-9a-f]{40}\.kv")
_HEADER = struct.Struct("<3sBBBBBIIIIQQQI")
_PAYLOAD_MAGIC = 0x34565344


def sha1_hex(text: bytes) -> str:
    """Name of the file that holds this text."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Header:
    """The fixed fields; times in unix seconds, sizes in bytes."""

    reason: str
    tokens: int
    context_tokens: int
    created_s: int
    payload_bytes: int
    text_bytes: int
    hits: int = 0
    last_used_s: int = 0
    flags: int = 0
    quant: int = QUANT_BITS
    abi: int = 0

    def pack(self) -> bytes:
        """The 52 bytes."""
        return _HEADER.pack(
            b"KVC",
            1,
            self.quant,
            REASONS.index(self.reason),
            self.flags,
            0,
            self.tokens,
            self.hits,
            self.context_tokens,
            self.abi,
            self.created_s,
            self.last_used_s,
            self.payload_bytes,
            self.text_bytes,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Header | None:
        """The fields of 52 bytes, None where they are no header."""
        if len(data) < HEADER_BYTES:
            return None
        (
            magic,
            version,
            quant,
            reason,
            flags,
            _model,
            tokens,
            hits,
            context,
            abi,
            created,
            used,
            payload,
            text,
        ) = _HEADER.unpack(data[:HEADER_BYTES])
        if magic != b"KVC" or version != 1 or tokens == 0 or quant not in (2, 4):
            return None
        return cls(
            reason=REASONS[reason] if reason < len(REASONS) else "unknown",
            tokens=tokens,
            context_tokens=context,
            created_s=created,
            payload_bytes=payload,
            text_bytes=text,
            hits=hits,
            last_used_s=used,
            flags=flags,
            quant=quant,
            abi=abi & 0xFF,
        )


@dataclass(frozen=True)
class Entry:
    """A valid file of the directory."""

    path: str
    sha: str
    size_bytes: int
    header: Header


def scan(directory: str, abi: int) -> list[Entry]:
    """Valid files of a directory, in its own order; a build with an ABI ignores other ones."""
    found: list[Entry] = []
    try:
        names = os.listdir(directory)
    except OSError:
        return found
    for name in names:
        if not _NAME.fullmatch(name):
            continue
        path = f"{directory}/{name}"
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                header = Header.unpack(file.read(HEADER_BYTES))
        except OSError:
            continue
        if header is None or (abi and header.abi != abi):
            continue
        if size >= HEADER_BYTES + header.text_bytes + header.payload_bytes:
            found.append(Entry(path, name.removesuffix(".kv"), size, header))
    return found


def tool_map(calls: Mapping[str, bytes], text: bytes) -> bytes:
    """Trailer with every remembered call (id to its exact text) whose text stands in `text`."""
    rows = [
        struct.pack("<II", len(name), len(raw)) + name.encode("ascii") + raw
        for name, raw in calls.items()
        if raw in text
    ]
    return b"KTM\x01" + struct.pack("<I", len(rows)) + b"".join(rows) if rows else b""


def write(path: str, header: Header, text: bytes, trailer: bytes) -> None:
    """Write the file under a temporary name, the payload as a hole, then rename. Raises OSError."""
    temporary = f"{path}.tmp.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(header.pack())
            file.write(text)
            file.write(
                struct.pack(
                    "<13I",
                    _PAYLOAD_MAGIC,
                    1,
                    header.context_tokens,
                    2048,
                    2304,
                    128,
                    header.context_tokens // 4 + 2,
                    header.tokens,
                    43,
                    512,
                    128,
                    129280,
                    min(header.tokens, 128),
                )
            )
            end = HEADER_BYTES + len(text) + header.payload_bytes
            file.seek(end)
            file.write(trailer)
            file.truncate(end + len(trailer))
        os.rename(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def touch(entry: Entry) -> None:
    """Count a hit in place; a file that has gone is no error."""
    try:
        with open(entry.path, "r+b") as file:
            packed = bytearray(entry.header.pack())
            struct.pack_into("<I", packed, 12, entry.header.hits + 1)
            struct.pack_into("<Q", packed, 32, int(time.time()))
            file.write(packed[:48])
    except OSError:
        return


def read_text(entry: Entry) -> bytes:
    """The stored text. Raises OSError."""
    with open(entry.path, "rb") as file:
        file.seek(HEADER_BYTES)
        return file.read(entry.header.text_bytes)
