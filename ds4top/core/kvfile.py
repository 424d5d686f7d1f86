"""A file of the server's KV disk cache, read from its name, its size and its first 52 bytes.

Layout and validity are those of ds4_kvstore.c (May 2026, and August 2026 where said): a header of
48 bytes, little endian, a length, then the rendered text, the payload and an optional trailer. The
text is the conversation: nothing here reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct

HEAD_BYTES = 52
"""The header and the length of the text: all that is ever read of a file."""
ABI = 2
"""The payload ABI that builds since 2026-05-26 write, and the only one that they see."""
VERSION = 1

_HEAD = Struct("<3sBBBBBIIIB3xQQQI")
_MAGIC = b"KVC"
_NAME = re.compile(r"([0-9a-fA-F]{40})\.kv")
_TEMPORARY = re.compile(r"[0-9a-fA-F]{40}\.kv\.tmp\.\d+")
_QUANT_BITS = (2, 4)
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999: a later time is no time."""

REASONS = (
    "unknown",
    "cold",
    "continued",
    "evict",
    "shutdown",
    "agent-system",
    "agent-session",
)
_FLAGS = ((1, "tool-map"), (2, "responses-visible"), (4, "thinking-visible"), (8, "title"))
_TRANSCRIPTS = ("responses-visible", "thinking-visible")


class Refusal(StrEnum):
    """Why a directory entry is no checkpoint that the server can use."""

    FOREIGN = "foreign"
    """Another name: the server ignores it and never deletes it."""
    TEMPORARY = "temporary"
    """A save in progress, or what a crash left behind for ever."""
    SPECIAL = "not a regular file"
    TORN = "torn"
    """Shorter than its header says."""
    MAGIC = "foreign magic"
    VERSION = "other version"
    INVALID = "invalid header"
    """No tokens, or quant bits that the server rejects."""
    OLD_ABI = "old ABI"
    """Another payload ABI than the server's: it cannot see the file and never deletes it."""
    DENIED = "not readable"


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is none of the cache's; ``detail`` says what was found."""

    name: str
    kind: Refusal
    file_bytes: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KvEntry:
    """One checkpoint. Times are epoch seconds; ``None`` where the header has none that can be.

    ``ctx_size`` is the context of the server that saved it, in tokens. ``last_used_at`` and
    ``hits`` are rewritten in place at each hit.
    """

    key: str
    tokens: int
    hits: int
    ctx_size: int
    quant_bits: int
    reason: str
    file_bytes: int
    text_bytes: int
    payload_bytes: int
    created_at: int | None
    last_used_at: int | None
    flags: tuple[str, ...] = ()
    model: int = 0
    abi: int = ABI
    version: int = VERSION

    @property
    def name(self) -> str:
        """The file's name, as the server writes it."""
        return f"{self.key}.kv"

    @property
    def trailer_bytes(self) -> int:
        """What follows the payload: the tool map, where there is one."""
        return self.file_bytes - HEAD_BYTES - self.text_bytes - self.payload_bytes

    @property
    def text_kind(self) -> str:
        """What the text is, in the words of the log's ``key=``."""
        return next((flag for flag in self.flags if flag in _TRANSCRIPTS), "token-text")


@dataclass(frozen=True, slots=True)
class Build:
    """What a build of the server makes of these files. ``abi``: the only one that it sees; else
    every one. ``anchor_factor``: what saves on purpose are worth. ``reserve``: it evicts before it
    writes, not after.
    """

    name: str
    abi: int | None
    anchor_factor: float
    reserve: bool

    def sees(self, entry: KvEntry) -> bool:
        """Whether this build counts the file, loads it and may delete it."""
        return self.abi is None or entry.abi == self.abi


MAY_2026 = Build("May 2026", None, 1.0, reserve=False)
AUGUST_2026 = Build("August 2026", ABI, 2.0, reserve=True)
"""And every build since 2026-05-26."""


def key_of(name: str) -> str | None:
    """The key in a file's name; ``None`` for a name that the server ignores."""
    match = _NAME.fullmatch(name)
    return match[1].lower() if match else None


def is_temporary(name: str) -> bool:
    """Whether this is the name under which a checkpoint is written before it is renamed."""
    return _TEMPORARY.fullmatch(name) is not None


def parse_head(name: str, head: bytes, file_bytes: int) -> KvEntry | Refused:
    """A checkpoint from the first 52 bytes of a file of this size. Never raises.

    The ABI is kept and not judged: which one is visible depends on the server's build.
    """
    key = key_of(name)
    if key is None:
        kind = Refusal.TEMPORARY if is_temporary(name) else Refusal.FOREIGN
        return Refused(name, kind, file_bytes)
    if len(head) < HEAD_BYTES:
        if head and not head.startswith(_MAGIC[: len(head)]):
            return Refused(name, Refusal.MAGIC, file_bytes, repr(head[:4]))
        detail = f"{file_bytes} of at least {HEAD_BYTES} bytes"
        return Refused(name, Refusal.TORN, file_bytes, detail)
    magic, version, quant, reason, flags, model, *rest = _HEAD.unpack_from(head)
    tokens, hits, ctx, abi, created, used, payload, text = rest
    if magic != _MAGIC:
        return Refused(name, Refusal.MAGIC, file_bytes, repr(head[:4]))
    if version != VERSION:
        return Refused(name, Refusal.VERSION, file_bytes, f"version {version}")
    if tokens == 0 or quant not in _QUANT_BITS:
        return Refused(name, Refusal.INVALID, file_bytes, f"{tokens} tokens, {quant} quant bits")
    if file_bytes < HEAD_BYTES + text + payload:
        detail = f"{file_bytes} of {HEAD_BYTES + text + payload} bytes"
        return Refused(name, Refusal.TORN, file_bytes, detail)
    return KvEntry(
        key=key,
        tokens=tokens,
        hits=hits,
        ctx_size=ctx,
        quant_bits=quant,
        reason=REASONS[reason] if reason < len(REASONS) else REASONS[0],
        file_bytes=file_bytes,
        text_bytes=text,
        payload_bytes=payload,
        created_at=_time(created),
        last_used_at=_time(used),
        flags=tuple(word for bit, word in _FLAGS if flags & bit),
        model=model,
        abi=abi,
        version=version,
    )


def payload_bytes(tokens: int) -> int:
    """Payload of a checkpoint of so many tokens of the 43-layer Flash (ds4.c session payload).

    Checked to the byte against the kvcache_bytes column of speed-bench/gb10.csv.
    """
    short = max(0, 128 - tokens) * 88_064
    return 23_995_788 + 4 * tokens + 53_760 * (tokens // 4) + 40_960 * (tokens // 128) - short


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Where a path lies. ``kind``: ``disk``, ``memory`` (it costs RAM) or ``network``."""

    kind: str
    type: str
    mount: str
    device: str


_MEMORY = frozenset(("tmpfs", "ramfs"))
_NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3")
)
_REMOTE = frozenset(("ceph", "gcsfuse", "glusterfs", "juicefs", "rclone", "s3fs", "sshfs"))
"""What FUSE shows of other machines; its own disks (``fuse.ntfs-3g``) are disks."""
_OCTAL = re.compile(r"\\([0-7]{3})")


def filesystem_of(mounts: str, path: str) -> Filesystem | None:
    """The mount of an absolute, resolved path: the longest prefix in proc_mounts(5).

    Of two mounts on one place the later one is on top. ``None`` if no line covers the path.
    """
    best: Filesystem | None = None
    for line in mounts.splitlines():
        fields = [_unescape(field) for field in line.split(" ")]
        if len(fields) < 3 or not _covers(fields[1], path):
            continue
        if best is None or len(fields[1]) >= len(best.mount):
            best = Filesystem(_kind(fields[2]), fields[2], fields[1], fields[0])
    return best


@dataclass(frozen=True, slots=True)
class KvDirSample:
    """The cache's directory at monotonic ``t`` (``wall``: epoch seconds); sizes in bytes.

    ``entries``: what the server of this build can see, in the directory's own order; their sizes
    add up to ``used_bytes``, what the server holds against its budget. Everything else adds up
    to ``foreign_bytes``: it takes disk, the server neither counts nor deletes it; ``refused`` has
    files and bytes of it by kind.
    ``headers_read`` counts since the source was opened; ``unread_files`` are those beyond what
    is kept. ``build_inferred``: the ABI of the newest file says which build the server is.
    While ``scanning``, the figures are those of the last whole scan, or of none yet.
    """

    t: float
    wall: float
    path: str
    entries: tuple[KvEntry, ...] = ()
    old_abi: tuple[KvEntry, ...] = ()
    used_bytes: int = 0
    foreign_bytes: int = 0
    refused: tuple[tuple[Refusal, int, int], ...] = ()
    examples: tuple[Refused, ...] = ()
    budget_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    filesystem: Filesystem | None = None
    headers_read: int = 0
    unread_files: int = 0
    scanning: bool = False
    scan_s: float | None = None
    build: Build = MAY_2026
    build_inferred: bool = True


class Tally:
    """Counts refused files and their bytes by kind, and keeps the first few."""

    _MOST_EXAMPLES = 20

    def __init__(self) -> None:
        self._found: dict[Refusal, tuple[int, int]] = {}
        self.examples: list[Refused] = []

    def add(self, one: Refused) -> None:
        """Count one file."""
        files, size = self._found.get(one.kind, (0, 0))
        self._found[one.kind] = files + 1, size + one.file_bytes
        if len(self.examples) < self._MOST_EXAMPLES:
            self.examples.append(one)

    def copy(self) -> Tally:
        """A tally that goes on from here by itself."""
        other = Tally()
        other._found = dict(self._found)
        other.examples = list(self.examples)
        return other

    def result(self) -> tuple[tuple[Refusal, int, int], ...]:
        """Kind, files, bytes; in the order of ``Refusal``."""
        return tuple((kind, *self._found[kind]) for kind in Refusal if kind in self._found)


def _time(seconds: int) -> int | None:
    return seconds if 0 < seconds <= _LAST_SECOND else None


def _covers(mount: str, path: str) -> bool:
    return mount == "/" or path == mount or path.startswith(f"{mount}/")


def _kind(fs_type: str) -> str:
    if fs_type in _MEMORY:
        return "memory"
    remote = fs_type in _NETWORK or fs_type.removeprefix("fuse.") in _REMOTE
    return "network" if remote else "disk"


def _unescape(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
