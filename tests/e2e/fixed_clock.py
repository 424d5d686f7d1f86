"""Runs the dashboard over a replay whose clock moves only when it is told to.

``fixed_clock.py LOG FD [VIEW [SECONDS]]``: from so many seconds on, for every byte that comes on
the descriptor, time moves on by a second, the screen is painted, and a mark follows the frame on
the same terminal: state and played seconds.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from pathlib import Path

from ds4top.session import replay
from ds4top.ui.app import Ds4top
from ds4top.view.look import Look

STEP_S = 1.0


class Stepped(Ds4top):
    """Painted on demand."""

    # A relative path would be looked for beside this file.
    CSS_PATH = Path(inspect.getfile(Ds4top)).with_name("ds4top.tcss")

    def __init__(self, path: str, orders: int, view: str = "live", begin: str = "0") -> None:
        session = replay(path, fixed=True)
        session.source.open()
        super().__init__(session, Look(), ticking=False)
        self._orders = orders
        self._view = view
        self._played_s = float(begin)

    async def on_ready(self) -> None:
        """The screen is on: take orders."""
        await self.action_view(self._view)
        self._play()
        asyncio.get_running_loop().add_reader(self._orders, self._order)

    def _play(self) -> None:
        session = self.session
        assert session.replay_clock is not None
        at = session.replay_clock.begin + self._played_s
        session.pump(session.source.read_to(at))  # type: ignore[union-attr]
        self.paint()
        self.screen.call_after_refresh(self._mark)

    def _order(self) -> None:
        if not os.read(self._orders, 1):
            self.exit()
            return
        self._played_s += STEP_S
        self._play()

    def _mark(self) -> None:
        assert self._driver is not None
        state = self.status().state.value
        self._driver.write(f"\x1b]777;{state};{self._played_s:g}\x07")
        self._driver.flush()


if __name__ == "__main__":
    app = Stepped(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    app.run()
    app.session.close()
