"""Where the Log view finds the lines of the log."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ds4top.session import Session
from ds4top.sources.logroute import LogRouter
from ds4top.view.logview import LogLines, Pages

if TYPE_CHECKING:
    from ds4top.sources.logindex import LogPages


class LogBook:
    """The log that the session reads: its file where it is one, else the lines that are kept."""

    def __init__(self, session: Session) -> None:
        self._session = session
        replayed = session.replay_clock is not None
        self._ring = LogLines(why="so many of a replay are kept") if replayed else LogLines()
        self._file: LogPages | None = None

    def feed(self, data: bytes) -> None:
        """Bytes of the log have come: of a stream they are kept, a file has them."""
        if self._path() is None:
            self._ring.feed(data)

    def clear(self) -> None:
        """A replay went back."""
        self._ring.clear()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def pages(self, on_change: Callable[[], None]) -> Pages:
        """The lines that can be reached now; a file is opened by the first who asks.

        ``on_change`` is called from another thread when more of it was counted or searched.
        """
        path = self._path()
        if path is None:
            return self._ring
        if self._file is None or self._file.path != path:
            self.close()
            from ds4top.sources.logindex import LogPages

            self._file = LogPages(path, on_change)
            self._file.start()
        return self._file

    def _path(self) -> str | None:
        source = self._session.source
        address = source.address if isinstance(source, LogRouter) else None
        if address is None or address.path is None or address.path == "-":
            return None
        return os.path.abspath(address.path)
