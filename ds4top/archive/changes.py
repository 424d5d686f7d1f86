"""Which samples a recording needs: of what holds until it changes, the changes.

Memory and the GPU are judged by their rates and by how old they are, so each of theirs is needed;
so is each answer of ``/v1/models``, since how long it took is shown. A replay always begins at the
beginning, so the last one recorded is the one that holds; until another server comes, or this one
goes: then the store forgets, and each kind is recorded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ds4top.core.gpu import GpuSample
from ds4top.core.kvfile import KvDirSample
from ds4top.core.meminfo import MemorySample
from ds4top.core.serverinfo import MetricsSample, ModelsAnswer, PropsSample, SlotsSample
from ds4top.core.units import GIB
from ds4top.core.vitals import Vitals


def _same_but_for_time(old: Any, new: Any) -> bool:
    times = {name: getattr(old, name) for name in ("t", "wall") if hasattr(old, name)}
    return bool(replace(new, **times) == old)


def _same_directory(old: KvDirSample, new: KvDirSample) -> bool:
    """Free space counts by the tenths of a GiB that are shown: it moves with every log line. How
    far a scan is counts until something is known of the directory.
    """
    held: dict[str, Any] = {"t": old.t, "wall": old.wall, "scan_s": old.scan_s}
    if _tenths(old.disk_free_bytes) == _tenths(new.disk_free_bytes):
        held["disk_free_bytes"] = old.disk_free_bytes
    if old.entries and not old.scanning:
        held |= {"scanning": old.scanning, "headers_read": old.headers_read}
    return replace(new, **held) == old


def _tenths(size: int | None) -> int | None:
    return None if size is None else round(size / GIB * 10)


_SAME: Mapping[type, Callable[[Any, Any], bool]] = {
    KvDirSample: _same_directory,
    **dict.fromkeys((Vitals, MetricsSample, SlotsSample, PropsSample), _same_but_for_time),
}


_EACH = (MemorySample, GpuSample, ModelsAnswer)


class Changes:
    """Knows the last sample of each kind that was recorded."""

    def __init__(self) -> None:
        self._last: dict[type, object] = {}

    def needs(self, sample: object) -> bool:
        """Whether a replay without this one would show something else; it is held then."""
        kind = type(sample)
        same, last = _SAME.get(kind), self._last.get(kind)
        if same is None:
            if kind not in _EACH:
                self._last.clear()
            return True
        if last is not None and same(last, sample):
            return False
        self._last[kind] = sample
        return True
