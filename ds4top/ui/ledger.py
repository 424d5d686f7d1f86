"""What ds4top did before: the journal and the way back, read in a thread when they changed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ds4top.archive.paths import JOURNAL, PARKED
from ds4top.core.process import Life, life_of

if TYPE_CHECKING:
    from ds4top.control.past import Past
    from ds4top.ui.acts import Acts

_JOURNAL_S = 5.0
"""Another ds4top may have written into the journal: how often its size is looked at."""


class Ledger:
    """Puts the last actions, who started the server and whether one is parked into the model."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts
        self._server: Life | None = None
        self._journal: tuple[int, int] | None = None
        self._journal_t = 0.0
        self._reading = False
        self._started = False
        self._unsettled = False

    def start(self) -> None:
        """Once the screen stands: tell what became of an action that was cut off."""
        self._started = True
        if self._acts.place is not None and not self._untouched():
            self._acts.apart(self._recover, self._recovered)

    def look(self) -> None:
        """With every paint: read again where the server is another, or the journal has grown."""
        if self._acts.place is None or not self._started:
            return
        server = self._acts.model.machine.server
        life = life_of(server.target) if server is not None else None
        if life != self._server:
            self._server = life
            if self._unsettled:
                self.start()
            self.read()
        elif time.monotonic() - self._journal_t >= _JOURNAL_S:
            self._journal_t = time.monotonic()
            if self._stamp() != self._journal:
                self.read()

    def _recover(self) -> tuple[str, str, bool]:
        from ds4top.control.facts import Situation

        found = self._acts.make(Situation()).recovered()
        return (found.words, found.can, found.settled) if found is not None else ("", "", True)

    def _recovered(self, found: tuple[str, str, bool]) -> None:
        words, can, settled = found
        self._unsettled = not settled
        if words:
            end = f" {can} brings it back, or {self._acts.keys['start']}." if can else ""
            self._acts.notice(words + end, "warning")
        self.read()

    def _untouched(self) -> bool:
        """Whether nothing was ever done here: 2 MiB of controls need not be loaded to tell that."""
        place = self._acts.place
        if place is None or self._acts.config.words("control.start"):
            return False
        return not any((place.state / name).exists() for name in (JOURNAL, PARKED))

    def _journal_path(self) -> Path:
        assert self._acts.place is not None
        return self._acts.place.state / JOURNAL

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._journal_path().stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def read(self) -> None:
        """Read the journal and the way back again."""
        if self._reading or self._untouched():
            return
        self._reading = True
        self._journal = self._stamp()
        self._acts.apart(self._past, self._take_past)

    def _past(self) -> Past:
        from ds4top.control.facts import Situation
        from ds4top.control.past import Past, past_deeds, starts_of

        controller = self._acts.make(Situation())
        entries = list(controller.gatherer.journal.entries())
        startable = controller.startable()
        if startable is not None:
            startable = replace(startable, key=self._acts.keys["start"])
        return Past(past_deeds(entries), starts_of(entries, self._acts.model.tz), startable)

    def _take_past(self, past: Past) -> None:
        self._reading = False
        self._acts.model.past, self._acts.model.startable = past.deeds, past.startable
        self._acts.model.machine.took(past.started)
        self._acts.app.paint()
        if self._stamp() != self._journal:
            self.read()
