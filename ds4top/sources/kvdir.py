"""The source ``KV directory``: what the server's disk cache holds, read without touching a text.

One stat a second of the directory; where that says something changed, names and stats; the first 52
bytes only of files that are new or different. A hit rewrites a header in place and leaves the
directory as it is, so the log's hit lines say which header to read again (``note_hit``), and once
a minute every file is compared by its stat.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ds4top.core.kvfile import (
    HEAD_BYTES,
    MAY_2026,
    Build,
    Filesystem,
    KvDirSample,
    KvEntry,
    Refusal,
    Refused,
    Tally,
    is_temporary,
    key_of,
    parse_head,
)
from ds4top.core.kvpolicy import build_of
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault
from ds4top.sources.mounts import mount_of

SLICE_S = 0.2
"""Most time that one turn spends on a scan; a big directory takes several."""
COMPARE_S = 60.0
"""How often every file is compared by its stat although the directory looks unchanged."""
MOST_FILES = 65_536
"""Cache files that are kept; what is beyond is counted."""
_NAME_CHARS = 80
_SETTLE_NS = 100_000_000
"""A directory this young may change again within the same time stamp."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC

_Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    """A cache file as it was read: size, mtime and inode, and what its header said."""

    signature: _Signature
    found: KvEntry | Refused


class KvDirectory:
    """Watches one directory. ``note_hit`` and ``configure`` may be called from any thread."""

    name = "KV directory"

    def __init__(
        self,
        path: Path,
        *,
        budget_bytes: int | None = None,
        build: Build | None = None,
        clock: Clock = SYSTEM_CLOCK,
        proc: Path = Path("/proc"),
        slice_s: float = SLICE_S,
    ) -> None:
        """``build``: the server's; ``None`` takes the one that last saved here."""
        self.path = path
        self._budget_bytes = budget_bytes
        self._build = build
        self._clock = clock
        self._proc = proc
        self._slice_s = slice_s
        self._hits: deque[str] = deque(maxlen=1_024)
        self._known: dict[str, _Known] = {}
        self._others = Tally()
        self._scan: Iterator[None] | None = None
        self._watched: tuple[int, int, int] | None = None
        self._compared_t = 0.0
        self._scan_cost_s: float | None = None
        self._headers_read = 0
        self._unread = 0
        self._filesystem: tuple[int, Filesystem | None] | None = None
        self._sample: KvDirSample | None = None
        self._stale = True

    @property
    def interval_s(self) -> float:
        """A second; while a scan is under way the next slice comes sooner."""
        return 1.0 if self._scan is None else self._slice_s

    def note_hit(self, file: str) -> None:
        """The log named this file in a hit: its header was rewritten in place."""
        self._hits.append(file.rpartition("/")[2])

    def configure(self, *, budget_bytes: int | None, build: Build | None) -> None:
        """What the server's command line or log said since."""
        self._budget_bytes = budget_bytes
        self._build = build
        self._stale = True

    def open(self) -> None:
        """Forget what was read: the next turn scans the directory whole."""
        self._drop_scan()
        self._known = {}
        self._others = Tally()
        self._watched = None
        self._sample = None
        self._filesystem = None
        self._headers_read = 0

    def close(self) -> None:
        """End a scan that is under way."""
        self._drop_scan()

    def read(self, now: float) -> Sequence[KvDirSample]:
        """The directory as it is. Raises ``SourceFault`` where it is not there or not readable."""
        try:
            state = os.stat(self.path)
            self._turn(state, now)
            disk = os.statvfs(self.path)
        except OSError as error:
            self._drop_scan()
            self._watched = None
            raise _fault(self.path, error) from error
        sample = self._sample
        if sample is None or (self._stale and self._scan is None):
            self._stale = False
            sample = self._summary()
        self._sample = replace(
            sample,
            t=now,
            wall=self._clock.wall(),
            disk_free_bytes=disk.f_bavail * disk.f_frsize,
            disk_total_bytes=disk.f_blocks * disk.f_frsize,
            filesystem=self._place(state.st_dev),
            headers_read=self._headers_read,
            scanning=self._scan is not None,
            scan_s=self._scan_cost_s,
        )
        return (self._sample,)

    def _turn(self, state: os.stat_result, now: float) -> None:
        if not stat.S_ISDIR(state.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))
        watched = (state.st_dev, state.st_ino, state.st_mtime_ns)
        if self._scan is None and (watched != self._watched or now - self._compared_t >= COMPARE_S):
            age_ns = self._clock.wall() * 1e9 - state.st_mtime_ns
            self._watched = None if abs(age_ns) < _SETTLE_NS else watched
            self._compared_t = now
            self._scan = self._walk()
            self._scan_cost_s = 0.0
        if self._scan is not None:
            self._advance(self._scan)
        # A scan may have passed a file before its hit, so hits wait for the end of it.
        if self._scan is None and self._hits:
            self._reread_hits()

    def _advance(self, scan: Iterator[None]) -> None:
        start = self._clock.monotonic()
        for _ in scan:
            if self._clock.monotonic() - start >= self._slice_s:
                break
        else:
            self._scan = None
            self._stale = True
        self._scan_cost_s = (self._scan_cost_s or 0.0) + self._clock.monotonic() - start

    def _walk(self) -> Iterator[None]:
        """Compare every file with what is known; the new picture replaces the old at the end."""
        known: dict[str, _Known] = {}
        others = Tally()
        unread = 0
        folder = os.open(self.path, _DIR_FLAGS)
        try:
            with os.scandir(folder) as listing:
                for item in listing:
                    key = key_of(item.name)
                    if key is None:
                        others.add(_other(item))
                    elif len(known) < MOST_FILES:
                        look = self._look(folder, item.name, self._known.get(item.name))
                        if look is not None:
                            known[item.name] = look
                    else:
                        unread += 1
                    yield
        finally:
            os.close(folder)
        self._known, self._others, self._unread = known, others, unread

    def _look(self, folder: int, name: str, before: _Known | None) -> _Known | None:
        """One file; ``None`` if it has gone since its name was listed."""
        size = 0
        try:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            size = _size(state)
            if not stat.S_ISREG(state.st_mode):
                kind = stat.filemode(state.st_mode)[0]
                refused = Refused(name, Refusal.SPECIAL, 0, _SPECIAL.get(kind, kind))
                return _Known((0, 0, 0), refused)
            if before is not None and before.signature == _signature(state):
                return before
            return self._read_head(folder, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            words = error.strerror or type(error).__name__
            return _Known((0, 0, 0), Refused(name, Refusal.DENIED, size, words))

    def _read_head(self, folder: int, name: str) -> _Known:
        # Not followed, not waited for, and looked at again once open: the name may by now stand
        # for something else than what was listed.
        fd = os.open(name, _FLAGS, dir_fd=folder)
        try:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode):
                return _Known((0, 0, 0), Refused(name, Refusal.SPECIAL, 0))
            head = os.read(fd, HEAD_BYTES)
        finally:
            os.close(fd)
        self._headers_read += 1
        return _Known(_signature(state), parse_head(name, head, state.st_size))

    def _reread_hits(self) -> None:
        names = dict.fromkeys(self._hits.popleft() for _ in range(len(self._hits)))
        names = {name: None for name in names if name in self._known}
        if not names:
            return
        folder = os.open(self.path, _DIR_FLAGS)
        try:
            for name in names:
                look = self._look(folder, name, None)
                if look is not None and look != self._known[name]:
                    self._known[name] = look
                    self._stale = True
        finally:
            os.close(folder)

    def _summary(self) -> KvDirSample:
        whole: list[KvEntry] = []
        refused = self._others.copy()
        for known in self._known.values():
            if isinstance(known.found, KvEntry):
                whole.append(known.found)
            else:
                refused.add(known.found)
        build = self._build or build_of(whole) or MAY_2026
        entries = tuple(entry for entry in whole if build.sees(entry))
        old = tuple(entry for entry in whole if not build.sees(entry))
        for entry in old:
            what = f"ABI {entry.abi}, not {build.abi}"
            refused.add(Refused(entry.name, Refusal.OLD_ABI, entry.file_bytes, what))
        counts = refused.result()
        return KvDirSample(
            t=0.0,
            wall=0.0,
            path=str(self.path),
            entries=entries,
            old_abi=old,
            used_bytes=sum(entry.file_bytes for entry in entries),
            foreign_bytes=sum(size for _, _, size in counts),
            refused=counts,
            examples=tuple(refused.examples),
            budget_bytes=self._budget_bytes,
            unread_files=self._unread,
            build=build,
            build_inferred=self._build is None,
        )

    def _place(self, device: int) -> Filesystem | None:
        """The filesystem; looked up once for each device that the path has been on."""
        if self._filesystem is None or self._filesystem[0] != device:
            self._filesystem = device, mount_of(str(self.path), self._proc)
        return self._filesystem[1]

    def _drop_scan(self) -> None:
        scan, self._scan = self._scan, None
        close = getattr(scan, "close", None)
        if close is not None:
            close()


_SPECIAL = {"p": "a fifo", "l": "a link", "d": "a directory", "s": "a socket"}
_SPECIAL |= {"c": "a device", "b": "a device"}


def _signature(state: os.stat_result) -> _Signature:
    return state.st_size, state.st_mtime_ns, state.st_ino


def _size(state: os.stat_result) -> int:
    return state.st_size if stat.S_ISREG(state.st_mode) else 0


def _other(item: os.DirEntry[str]) -> Refused:
    """A file under a name that the server ignores; only a plain one has a size that counts."""
    kind = Refusal.TEMPORARY if is_temporary(item.name) else Refusal.FOREIGN
    name = item.name[:_NAME_CHARS].encode("utf-8", "replace").decode()
    try:
        state = item.stat(follow_symlinks=False)
    except OSError as error:
        return Refused(name, kind, 0, error.strerror or "")
    return Refused(name, kind, _size(state))


_MENDS = {
    "not_found": "it is made when a server with --kv-disk-dir starts",
    "permission": "it is its owner's alone (mode 0700): run ds4top as the server's user",
}


def _fault(path: Path, error: OSError) -> SourceFault:
    if isinstance(error, PermissionError):
        return SourceFault("permission", f"{path} may not be read; {_MENDS['permission']}")
    if isinstance(error, FileNotFoundError):
        return SourceFault("not_found", f"{path} is not there; {_MENDS['not_found']}")
    return SourceFault("error", f"{path}: {error.strerror or error}")
