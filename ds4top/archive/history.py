"""What is kept from one ds4top to the next, in SQLite: written by a thread of its own.

``add`` puts rows into a bounded queue and never waits; what finds no room is counted as dropped.
The thread writes them in batches, one transaction each (WAL, synchronous=NORMAL: a kill loses
nothing that was committed, a power cut may lose the last batches and breaks nothing). Readers open
a read-only connection of their own for each question. Nothing here raises because of the disk:
``problem`` says what is wrong, and the dashboard goes on.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from ds4top.archive.history_schema import (
    APPLICATION_ID,
    KEEP_S,
    MIGRATIONS,
    PRUNED,
    DecodeRow,
    Row,
    Subject,
    SubjectRow,
)
from ds4top.archive.paths import private_folder, reason_of
from ds4top.core.kept import PastEvent, PastPrompts, PastStart
from ds4top.sources.base import SYSTEM_CLOCK, Clock

BATCH_S = 5.0
RETRY_S = 30.0
PRUNE_S = 86_400.0
CAPACITY = 20_000
"""Rows that may wait: a long log that is read at the start has a few thousand."""
_BUSY_S = 2.0
_ASK_S = 0.2
_MAGIC = b"SQLite format 3\0"
_ID_AT = 68
_SIDES = ("", "-wal", "-shm")


DecodePoint = tuple[float, int, float]


class NotOursError(Exception):
    """The file by this name is not a history of ds4top, or of a newer one."""


class NoHistory:
    """Nothing is kept: ``--no-history``, or a user without a home."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.dropped = 0
        self.written = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Forget them."""

    def past_starts(self, machine: str, model: str, limit: int = 20) -> list[PastStart]:
        """None."""
        return []

    def decode_points(self, subject: Subject, limit: int = 5_000) -> list[DecodePoint]:
        """None."""
        return []

    def prompts(self, machine: str, since: float) -> PastPrompts | None:
        """None."""
        return None

    def minima(self, machine: str, since: float) -> list[tuple[float, int]]:
        """None."""
        return []

    def events(self, machine: str, since: float, limit: int = 200) -> list[PastEvent]:
        """None."""
        return []

    def alerts(self, machine: str, since: float, limit: int = 200) -> list[PastEvent]:
        """None."""
        return []

    def flush(self, wait_s: float = 5.0) -> bool:
        """There is nothing to write."""
        return True

    def close(self, wait_s: float = 1.0) -> bool:
        """There is nothing to close."""
        return True


class History(NoHistory):
    """The file. ``start`` its thread once, ``close`` it once; readers may be used without it."""

    def __init__(
        self, path: Path, clock: Clock = SYSTEM_CLOCK, *, capacity: int = CAPACITY
    ) -> None:
        super().__init__()
        self.path = path
        self._clock = clock
        self._capacity = capacity
        self._change = Condition()
        self._waiting: deque[Row] = deque()
        self._stopping = False
        self._asked = 0
        self._done = 0
        self._db: sqlite3.Connection | None = None
        self._pruned: float | None = None
        self._thread: Thread | None = None

    def start(self) -> History:
        """Begin to write."""
        self._thread = Thread(target=self._run, name="history", daemon=True)
        self._thread.start()
        return self

    def add(self, rows: Iterable[Row]) -> None:
        """Hand rows over, in their order. Never waits for the disk."""
        with self._change:
            for row in rows:
                if len(self._waiting) >= self._capacity:
                    self.dropped += 1
                else:
                    self._waiting.append(row)

    def flush(self, wait_s: float = 5.0) -> bool:
        """Have all that was added tried now; whether it was written within ``wait_s``."""
        with self._change:
            self._asked += 1
            asked = self._asked
            self._change.notify_all()
            tried = self._change.wait_for(lambda: self._done >= asked, wait_s)
            return tried and not self._waiting

    def close(self, wait_s: float = 1.0) -> bool:
        """Write the rest and end; ``False`` where that took longer than ``wait_s``."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(wait_s)
            return not self._thread.is_alive() and not self._waiting
        return not self._waiting

    # writing --------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = 0.0
        while True:
            with self._change:
                if not self._stopping and self._asked == self._done:
                    self._change.wait(pause_s)
                stopping, asked = self._stopping, self._asked
            pause_s = BATCH_S if self.turn() else RETRY_S
            with self._change:
                self._done = asked
                self._change.notify_all()
            if stopping:
                self._shut()
                return

    def turn(self) -> bool:
        """Write what waits, in the calling thread; whether that went well."""
        with self._change:
            batch = list(self._waiting)
        try:
            db = self._opened()
            if batch:
                self._write(db, batch)
            self._prune(db)
        except NotOursError as error:
            return self._trouble(str(error))
        except sqlite3.DatabaseError as error:
            # Its subclasses (locked, full, read-only, …) are over some day; itself is damage.
            broken = type(error) is sqlite3.DatabaseError
            return self._trouble(f"{self.path}: {self._moved(error) if broken else error}")
        except OSError as error:
            return self._trouble(f"{self.path}: {reason_of(error)}")
        with self._change:
            for _ in batch:
                self._waiting.popleft()
        self.written += len(batch)
        self.problem = ""
        return True

    def _trouble(self, what: str) -> bool:
        self._shut()
        self.problem = what
        return False

    def _shut(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None or not self.path.exists():
            self._shut()
            self._db = open_for_writing(self.path, self._clock.wall())
        return self._db

    def _write(self, db: sqlite3.Connection, batch: Sequence[Row]) -> None:
        subjects: set[SubjectRow] = set()
        with _transaction(db):
            for row in batch:
                if isinstance(row, DecodeRow):
                    subject = SubjectRow(row.machine, row.build, row.model, row.residency)
                    if subject not in subjects:
                        subjects.add(subject)
                        db.execute(subject.sql, _values(subject))
                try:
                    db.execute(row.sql, _values(row))
                except (OverflowError, sqlite3.IntegrityError):
                    # A figure that no column takes must not keep the others waiting for ever.
                    self.dropped += 1

    def _prune(self, db: sqlite3.Connection) -> None:
        now = self._clock.wall()
        if self._pruned is not None and 0 <= now - self._pruned < PRUNE_S:
            return
        with _transaction(db):
            for table, column in PRUNED:
                db.execute(f"DELETE FROM {table} WHERE {column} < ?", (now - KEEP_S,))
        db.execute("PRAGMA incremental_vacuum")
        self._pruned = now

    def _moved(self, error: sqlite3.Error) -> str:
        """Put a broken file of our own aside, for a new one to be begun; what became of it."""
        self._shut()
        if not is_ours(self.path):
            return f"{error}; it does not look like ds4top's and is left as it is"
        aside = f"{self.path.name}.broken-{int(self._clock.wall())}"
        for side in reversed(_SIDES):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}{side}", self.path.with_name(aside + side))
        return f"{error}; kept as {aside}, a new one is begun"

    # reading --------------------------------------------------------------------------------

    def _ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_ASK_S)) as db:
                if db.execute("PRAGMA user_version").fetchone()[0] != len(MIGRATIONS):
                    return []
                return db.execute(sql, values).fetchall()
        except sqlite3.Error:
            # What cannot be read is not known; the writing thread says why.
            return []

    def past_starts(self, machine: str, model: str, limit: int = 20) -> list[PastStart]:
        """Starts that came up and whose time is known, newest first."""
        rows = self._ask(
            "SELECT residency, load_s, at FROM starts WHERE machine = ? AND model = ?"
            " AND listened AND load_s IS NOT NULL ORDER BY at DESC LIMIT ?",
            machine, model, limit,
        )  # fmt: skip
        return [PastStart(*row) for row in rows]

    def decode_points(self, subject: Subject, limit: int = 5_000) -> list[DecodePoint]:
        """Time, context and tok/s of the newest samples, oldest first; none of a first request."""
        rows = self._ask(
            "SELECT at, context_tokens, tps FROM decode JOIN subjects ON subject = id"
            " WHERE machine = ? AND build = ? AND model = ? AND residency = ? AND NOT first"
            " ORDER BY at DESC, context_tokens DESC LIMIT ?",
            subject.machine, subject.build, subject.model, subject.residency, limit,
        )  # fmt: skip
        return [(at, context, tps) for at, context, tps in reversed(rows)]

    def prompts(self, machine: str, since: float) -> PastPrompts | None:
        """Figures of the requests from ``since`` on; ``None`` without any."""
        rows = self._ask(
            "SELECT COUNT(*), AVG(prompt_tokens), MAX(prompt_tokens - cached_tokens),"
            " SUM(cause IS 'evicted') FROM requests WHERE machine = ? AND started >= ?",
            machine, since,
        )  # fmt: skip
        return PastPrompts(*rows[0]) if rows and rows[0][0] else None

    def minima(self, machine: str, since: float) -> list[tuple[float, int]]:
        """The least headroom of each minute from ``since`` on: its begin, and bytes."""
        return [
            (at, headroom)
            for at, headroom in self._ask(
                "SELECT at, headroom_bytes FROM minima WHERE machine = ? AND at >= ? ORDER BY at",
                machine, since,
            )
        ]  # fmt: skip

    def events(self, machine: str, since: float, limit: int = 200) -> list[PastEvent]:
        """The newest events from ``since`` on, oldest first; without those of alerts."""
        return self._events("NOT GLOB", machine, since, limit)

    def alerts(self, machine: str, since: float, limit: int = 200) -> list[PastEvent]:
        """The same of alerts: their begins, rises and ends."""
        return self._events("GLOB", machine, since, limit)

    def _events(self, matches: str, machine: str, since: float, limit: int) -> list[PastEvent]:
        rows = self._ask(
            f"SELECT at, kind, text FROM events WHERE machine = ? AND at >= ?"
            f" AND kind {matches} '* *' ORDER BY at DESC LIMIT ?",
            machine, since, limit,
        )  # fmt: skip
        return [PastEvent(*row) for row in reversed(rows)]


# the file -------------------------------------------------------------------------------------


def is_ours(path: Path) -> bool:
    """Whether a file carries ds4top's mark, whatever else is wrong with it."""
    try:
        with path.open("rb") as file:
            head = file.read(_ID_AT + 4)
    except OSError:
        return False
    return head.startswith(_MAGIC) and head[_ID_AT:] == APPLICATION_ID.to_bytes(4, "big")


def open_for_writing(path: Path, now: float) -> sqlite3.Connection:
    """The database, made or brought up to date. Raises ``OSError``, ``sqlite3.Error``,
    ``NotOursError`` for a file of somebody else's or of a newer ds4top.
    """
    private_folder(path.parent)
    # Made here, so that it is private from its first byte; SQLite's own files take after it.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.pread(fd, len(_MAGIC), 0) not in (b"", _MAGIC):
            raise NotOursError(f"{path} is not a history of ds4top, and is left as it is")
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _bring_up(db, path, now)
    except BaseException:
        db.close()
        raise
    return db


def _bring_up(db: sqlite3.Connection, path: Path, now: float) -> None:
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if mark != APPLICATION_ID and tables:
        raise NotOursError(f"{path} is not a history of ds4top, and is left as it is")
    if version > len(MIGRATIONS):
        raise NotOursError(
            f"{path} is of a newer ds4top (schema {version}, this one knows {len(MIGRATIONS)}):"
            " nothing is kept"
        )
    if not tables:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # Before the log is split off, so that the mark stands in the file itself.
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    for number in range(version, len(MIGRATIONS)):
        with _transaction(db):
            # Another ds4top may have been faster.
            if db.execute("PRAGMA user_version").fetchone()[0] != number:
                continue
            for statement in MIGRATIONS[number].split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute("INSERT INTO migrations VALUES (?, ?)", (number + 1, now))
            db.execute(f"PRAGMA user_version = {number + 1}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _values(row: Row) -> dict[str, object]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
