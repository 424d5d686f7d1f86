"""Calls of NVML to one GPU: what is supported is found out, what fails takes its own row alone.

Errors are told apart by the names of nvidia-ml-py's classes, so that a stand-in for the module
needs nothing but those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ds4top.sources.base import SourceFault
from ds4top.sources.samples import ErrorKind

AGAIN_S = 60.0
AFTER_ERROR_S = 10.0
UNSUPPORTED = "not supported"
_MISSING = ("NVMLError_NotSupported", "NVMLError_FunctionNotFound")
_LOST = {
    "NVMLError_GpuIsLost": "the GPU is lost to its driver; nvidia-smi says more, mend: reboot",
    "NVMLError_ResetRequired": "the GPU must be reset before it works again; mend: reboot",
}
_GONE: dict[str, tuple[ErrorKind, str]] = {
    "NVMLError_LibraryNotFound": ("unsupported", "no NVIDIA driver here"),
    "NVMLError_DriverNotLoaded": ("unsupported", "the NVIDIA driver is not loaded; see nvidia-smi"),
    "NVMLError_LibRmVersionMismatch": (
        "error",
        "the NVIDIA driver was updated and differs from its library; mend: reboot",
    ),
    "NVMLError_NoPermission": ("permission", "NVML may not be used by this user"),
    "NVMLError_Uninitialized": ("error", "NVML was shut down"),
}
_GONE_IN_A_CALL = frozenset(_GONE) - {"NVMLError_NoPermission"}


class GpuLost(SourceFault):
    """One GPU is lost; the others may go on."""


def fault_of(error: Exception) -> SourceFault:
    """What an error of NVML means for all of it, and the way to mend it."""
    name = type(error).__name__
    if name in _LOST:
        return GpuLost("error", _LOST[name], reopen=True)
    kind, message = _GONE.get(name, ("error", f"NVML: {error}"))
    return SourceFault(kind, message, reopen=True)


class Calls:
    """One GPU's calls. A ``turn`` is one look at all of it.

    A call that is not supported is not asked again for a minute; one that failed otherwise is
    asked as before, and while it fails all of them are asked again each ten seconds.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml = nvml
        self._handle = handle
        self._unsupported: set[str] = set()
        self._failed: dict[str, str] = {}
        self._answered = 0
        self._all_t = float("-inf")
        self._error: Exception | None = None

    def turn(self, now: float) -> None:
        """Begin a look at monotonic ``now``."""
        again_s = AFTER_ERROR_S if self._failed else AGAIN_S
        if now - self._all_t >= again_s:
            self._unsupported.clear()
            self._all_t = now
        self._answered = 0
        self._error = None

    def done(self) -> None:
        """End a look. Raises ``GpuLost`` where nothing was answered and errors were."""
        if self._answered == 0 and self._error is not None:
            fault = fault_of(self._error)
            raise GpuLost(fault.kind, fault.message, reopen=True)

    def ask(self, name: str, *arguments: Any) -> Any:
        """The answer of one call; ``None`` where there is none. Raises ``SourceFault`` when the
        GPU, or the driver, is lost."""
        if name in self._unsupported:
            return None
        try:
            answer = getattr(self.nvml, name)(self._handle, *arguments)
        except AttributeError:
            # A wrapper that this version of nvidia-ml-py does not have.
            self._not_there(name)
            return None
        except Exception as error:
            self._refused(name, error)
            return None
        self._failed.pop(name, None)
        self._answered += answer is not None
        return answer

    def number(self, name: str, *arguments: Any) -> int | None:
        """As ``ask``, for a call that answers with a whole number."""
        value = self.ask(name, *arguments)
        return value if isinstance(value, int) else None

    def first(self, *names: str) -> int | None:
        """The number of the first of several names of one call that is there."""
        for name in names:
            value = self.number(name)
            if value is not None or not self.unsupported(name):
                return value
        return None

    def unsupported(self, name: str) -> bool:
        """Whether the GPU said that it does not have this; an error does not say so."""
        return name in self._unsupported

    def constant(self, name: str) -> Any:
        """A constant of the module; ``None`` in a version without it."""
        return getattr(self.nvml, name, None)

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """Calls without an answer, and why."""
        found = {**dict.fromkeys(self._unsupported, UNSUPPORTED), **self._failed}
        return tuple(sorted(found.items()))

    def _refused(self, name: str, error: Exception) -> None:
        kind = type(error).__name__
        if kind in _LOST or kind in _GONE_IN_A_CALL:
            raise fault_of(error) from error
        if kind in _MISSING:
            self._not_there(name)
            return
        self._failed[name] = str(error) or kind
        self._error = error

    def _not_there(self, name: str) -> None:
        self._unsupported.add(name)
        self._failed.pop(name, None)


# Clock-event counters -------------------------------------------------------------------------

_POWER, _THERMAL, _SYNC = 74, 75, 76
_BASES = (251, 269)
_TOLERANCE_NS = 2_000_000_000
_FIELD_IDS = (_POWER, _THERMAL, _SYNC, *(base + at for base in _BASES for at in range(3)))


def counters_us(calls: Calls) -> tuple[tuple[str, int], ...]:
    """Time slowed by reason, in microseconds since the driver's start; only what is told.

    NVML counts nanoseconds in field values (DCGM names the same fields ``_NS``), nvidia-smi prints
    microseconds. 74 to 76 (the NVML_FI_DEV_PERF_POLICY ids) are the same in every driver. The three
    ids of software thermal, hardware thermal and power brake moved between versions of nvml.h: 251
    to 253 for driver 580, 269 to 271 in the header of CUDA 13, each power smoothing to the other;
    the block is taken whose first agrees with 75, which counts the same.
    """
    values = calls.ask("nvmlDeviceGetFieldValues", list(_FIELD_IDS))
    ns = _told(values) if values is not None else {}
    found = [("software power cap", ns.get(_POWER)), ("sync boost", ns.get(_SYNC))]
    base = _block(ns)
    if base is None:
        found.append(("thermal", ns.get(_THERMAL)))
    else:
        found += [
            ("software thermal", ns[base]),
            ("hardware thermal", ns.get(base + 1)),
            ("power brake", ns.get(base + 2)),
        ]
    return tuple((words, value // 1000) for words, value in found if value is not None)


def _told(values: Sequence[Any]) -> dict[int, int]:
    """Values by id, of those that were answered."""
    found: dict[int, int] = {}
    for number, field in zip(_FIELD_IDS, values, strict=False):
        value = getattr(getattr(field, "value", None), "ullVal", None)
        if getattr(field, "nvmlReturn", 1) == 0 and isinstance(value, int):
            found[number] = value
    return found


def _block(ns: dict[int, int]) -> int | None:
    """Where the three ids that moved begin; ``None`` where that cannot be told."""
    told = [base for base in _BASES if base in ns]
    if len(told) == 1 and _THERMAL not in ns:
        return told[0]
    agree = [base for base in told if abs(ns[base] - ns.get(_THERMAL, -1)) < _TOLERANCE_NS]
    return agree[0] if len(agree) == 1 else None
