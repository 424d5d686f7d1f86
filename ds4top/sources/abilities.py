"""The source ``launch``: what the watched server's executable can be told, asked once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds4top.core.helptext import Flag
from ds4top.core.process import ServerProcess
from ds4top.core.target import Target
from ds4top.sources.base import SourceFault

if TYPE_CHECKING:
    from ds4top.sources.helpflags import HelpFlags


@dataclass(frozen=True, slots=True)
class AbilitiesSeen:
    """Flags of the help and variables in the executable; ``None`` where they are not known."""

    target: Target
    flags: tuple[Flag, ...] | None
    variables: frozenset[str] | None
    why: str


class LaunchAbilities:
    """Source of ``AbilitiesSeen``: runs ``EXE --help``, without a terminal, with a timeout."""

    name = "launch"
    interval_s = 2.0

    def __init__(
        self, watched: Callable[[], ServerProcess | None], asker: HelpFlags | None = None
    ) -> None:
        self._watched = watched
        self._asker = asker
        self._asked: Target | None = None

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> Sequence[AbilitiesSeen]:
        """The abilities of a server that is new. Raises ``SourceFault`` where they are not had."""
        server = self._watched()
        if server is None or server.target == self._asked:
            return ()
        if server.argv is None:
            raise SourceFault("permission", "its command line cannot be read")
        if self._asker is None:
            # Not before there is something to ask: a single look ends sooner.
            from ds4top.sources.helpflags import HelpFlags

            self._asker = HelpFlags(None, keep=("--standin-profile",))
        pid = server.target.pid
        found = self._asker.read(server.argv, f"/proc/{pid}/exe", server.env or (), server.cwd)
        self._asked = server.target
        return (AbilitiesSeen(server.target, found.flags, found.variables, found.why),)

    def close(self) -> None:
        """Nothing to do."""
