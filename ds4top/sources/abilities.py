"""The source ``launch``: what the watched server can be told and what supervises it, asked once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds4top.core.helptext import Flag
from ds4top.core.launch_units import UnitSeen
from ds4top.core.process import ServerProcess
from ds4top.core.supervision import SUPERVISORS
from ds4top.core.target import Target
from ds4top.sources.base import SourceFault

if TYPE_CHECKING:
    from ds4top.sources.helpflags import HelpFlags

_PACE_S, _SOON_S = 2.0, 0.1


@dataclass(frozen=True, slots=True)
class AbilitiesSeen:
    """Flags of the help and variables in the executable; ``None`` where they are not known."""

    target: Target
    flags: tuple[Flag, ...] | None
    variables: frozenset[str] | None
    why: str


class LaunchAbilities:
    """Source of ``AbilitiesSeen`` and ``UnitSeen``, one of each for a server that is new.

    Runs ``EXE --help`` and asks systemd, docker or podman, without a terminal, with a timeout.
    ``helps``: where answers are kept, ``None`` for nowhere. ``asker`` and ``unit_of`` stand in for
    who asks.
    """

    name = "launch"

    def __init__(
        self,
        watched: Callable[[], ServerProcess | None],
        asker: HelpFlags | None = None,
        unit_of: Callable[[ServerProcess], UnitSeen] | None = None,
        helps: Path | None = None,
    ) -> None:
        self._helps = helps
        self._watched = watched
        self._asker = asker
        self._unit_of = unit_of
        self._asked: Target | None = None
        self._left: list[Callable[[ServerProcess], Sequence[AbilitiesSeen | UnitSeen]]] = []

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> Sequence[AbilitiesSeen | UnitSeen]:
        """What is known of a server that is new. Raises ``SourceFault`` where it is not had."""
        server = self._watched()
        if server is None:
            return ()
        if server.target != self._asked:
            self._asked, self._left = server.target, [self._abilities]
            if server.owner.kind in SUPERVISORS:
                self._left.append(self._unit)
        if self._left:
            # One a turn: a supervisor that is slow to answer holds nothing up.
            found = self._left[0](server)
            # Only now: what raised is asked again.
            del self._left[0]
            return found
        if server.argv is None:
            raise SourceFault("permission", "its command line cannot be read")
        return ()

    @property
    def interval_s(self) -> float:
        """Seconds until the next turn."""
        return _SOON_S if self._left else _PACE_S

    def _abilities(self, server: ServerProcess) -> Sequence[AbilitiesSeen]:
        if server.argv is None:
            return ()
        if self._asker is None:
            # Not before there is something to ask: a single look ends sooner.
            from ds4top.sources.helpflags import HelpFlags

            self._asker = HelpFlags(self._helps, keep=("--standin-profile",))
        exe = f"/proc/{server.target.pid}/exe"
        found = self._asker.read(server.argv, exe, server.env or (), server.cwd)
        return (AbilitiesSeen(server.target, found.flags, found.variables, found.why),)

    def _unit(self, server: ServerProcess) -> Sequence[UnitSeen]:
        if self._unit_of is None:
            from ds4top.sources.unitlook import unit_of

            self._unit_of = unit_of
        return (self._unit_of(server),)

    @property
    def has_told(self) -> bool:
        """Whether everything is known that can be known of the watched server."""
        server = self._watched()
        return server is None or (server.target == self._asked and not self._left)

    def close(self) -> None:
        """Nothing to do."""
