"""The black box of a live session: moments go in, the end of the last run comes out.

The ring lies in ds4top's own state folder. What it held is judged once the kernel's log and the
processes have been looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo

from ds4top.archive.blackbox import BlackBox, BoxPast, BoxPump, Tapped
from ds4top.archive.paths import BLACK_BOX, state_dir
from ds4top.core.autopsy import Autopsy, EndFacts, autopsy
from ds4top.core.boxfill import record_of
from ds4top.core.boxrecord import Past
from ds4top.core.derive import Status
from ds4top.core.meminfo import MemorySample
from ds4top.core.model import Model
from ds4top.sources.base import Source
from ds4top.sources.procfs import ProcFs
from ds4top.sources.supervisor import Beat

_ASKED = ("process", "kernel log", "memory")


class FlightRecorder:
    """Feeds the pump, and tells how the last run ended."""

    def __init__(self, pump: BoxPump, boot_id: str, booted_wall: float | None = None) -> None:
        """``booted_wall``: when this boot began, epoch seconds."""
        self.pump = pump
        self._boot_id = boot_id
        self._booted_wall = booted_wall
        self._past: Past | None = None

    def tapped(self, source: Source) -> Source:
        """The memory source, whose samples are recorded in its own thread: while the screen hangs
        the box goes on.
        """

        def tap(sample: object) -> None:
            if isinstance(sample, MemorySample):
                self.pump.memory(sample)

        return Tapped(source, tap)

    def take(self, sample: object) -> bool:
        """Keep what the ring held; ``False`` for any other sample."""
        if isinstance(sample, BoxPast):
            self._past = sample.past
            return True
        return False

    def look(self, model: Model, status: Status) -> None:
        """What is known now, for the records to come."""
        self.pump.look(record_of(model.machine, model.log, status, model.now))

    def judge(self, model: Model, beats: Mapping[str, Beat], tz: tzinfo | None) -> Autopsy | None:
        """The end of the last run, once everybody has been asked; ``None`` before, and for none."""
        past = self._past
        if past is None or any(beats[name].turns == 0 for name in _ASKED if name in beats):
            return None
        self._past = None
        machine = model.machine
        server = machine.server
        last = next((record for record in reversed(past.records) if record.pid), None)
        alive = None
        if last is not None:
            alive = server is not None and (
                (server.target.pid, server.target.start_ticks) == (last.pid, last.start_ticks)
            )
        sample = machine.memory.sample
        facts = EndFacts(
            self._boot_id,
            oom_kills=sample.oom_kills if sample is not None else None,
            kills=tuple(machine.kernel.kills),
            server_alive=alive,
            boot_wall=self._booted_wall,
        )
        return autopsy(past, facts, tz)


def flight_recorder(environment: Mapping[str, str], ok_bytes: int) -> FlightRecorder | None:
    """The recorder in the user's state folder; ``None`` without a home or a boot id."""
    folder = state_dir(environment)
    procfs = ProcFs()
    try:
        boot_id, booted_wall = procfs.boot_id, procfs.booted_wall()
    except OSError:
        return None
    if folder is None:
        return None
    box = BlackBox(folder / BLACK_BOX, boot_id)
    return FlightRecorder(BoxPump(box, ok_bytes), boot_id, booted_wall or None)
