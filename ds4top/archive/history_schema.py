"""The history's tables and rows. Figures, names and times only: never a prompt's text.

A row is found again by a natural key of what the log printed, not by a number of ds4top's own: a
log is read again at each start, perhaps from another place after a rotation, and must not count
twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ds4top.core.classify import cold_cause, heat_of
from ds4top.core.state import Life, Request

APPLICATION_ID = 0x64733474
"""``ds4t``, at byte 68 of the file (sqlite3 file format, 1.3): how a file is known to be ours."""
KEEP_S = 90 * 86_400.0
_FAILED_REASON_CHARS = 60

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE migrations (version INTEGER PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE subjects (
        id INTEGER PRIMARY KEY,
        machine TEXT NOT NULL, build TEXT NOT NULL, model TEXT NOT NULL, residency TEXT NOT NULL,
        UNIQUE (machine, build, model, residency)
    );
    CREATE TABLE requests (
        machine TEXT NOT NULL, started REAL NOT NULL, prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL, ordinal INTEGER NOT NULL,
        life_at REAL, api TEXT NOT NULL, generated_tokens INTEGER NOT NULL,
        heat TEXT NOT NULL, cause TEXT, ttft_s REAL, prefill_s REAL, decode_tps REAL,
        duration_s REAL, end TEXT NOT NULL, finish TEXT,
        PRIMARY KEY (machine, started, prompt_tokens, cached_tokens, ordinal)
    ) WITHOUT ROWID;
    CREATE TABLE decode (
        subject INTEGER NOT NULL REFERENCES subjects (id), at REAL NOT NULL,
        context_tokens INTEGER NOT NULL, tps REAL NOT NULL, first INTEGER NOT NULL,
        PRIMARY KEY (at, context_tokens, tps)
    ) WITHOUT ROWID;
    CREATE INDEX decode_subject ON decode (subject, at);
    CREATE TABLE starts (
        machine TEXT NOT NULL, at REAL NOT NULL, model TEXT NOT NULL, build TEXT NOT NULL,
        residency TEXT NOT NULL, load_s REAL, listened INTEGER NOT NULL, failed TEXT, stages TEXT,
        PRIMARY KEY (machine, at)
    ) WITHOUT ROWID;
    CREATE TABLE minima (
        machine TEXT NOT NULL, at REAL NOT NULL, headroom_bytes INTEGER NOT NULL,
        PRIMARY KEY (machine, at)
    ) WITHOUT ROWID;
    CREATE TABLE events (
        machine TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (machine, at, kind, text)
    ) WITHOUT ROWID;
    """,
)
"""Each brings the schema from its index to the next version; never changed once released."""

PRUNED: tuple[tuple[str, str], ...] = (
    ("requests", "started"), ("decode", "at"), ("starts", "at"), ("minima", "at"), ("events", "at"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """What decode samples may be compared within. ``build`` and ``model`` as ds4top names them."""

    machine: str
    build: str
    model: str
    residency: str


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request that has ended. ``started``: its stamp; ``ordinal`` tells apart what is equal."""

    sql: ClassVar[str] = (
        "INSERT OR IGNORE INTO requests VALUES (:machine, :started, :prompt_tokens,"
        " :cached_tokens, :ordinal, :life_at, :api, :generated_tokens, :heat, :cause, :ttft_s,"
        " :prefill_s, :decode_tps, :duration_s, :end, :finish)"
    )
    machine: str
    started: float
    prompt_tokens: int
    cached_tokens: int
    ordinal: int
    life_at: float | None
    api: str
    generated_tokens: int
    heat: str
    cause: str | None
    ttft_s: float | None
    prefill_s: float | None
    decode_tps: float | None
    duration_s: float | None
    end: str
    finish: str | None


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One decode sample. ``first``: of the first request after a start, left out of lines."""

    sql: ClassVar[str] = (
        "INSERT OR IGNORE INTO decode SELECT id, :at, :context_tokens, :tps, :first FROM subjects"
        " WHERE machine = :machine AND build = :build AND model = :model"
        " AND residency = :residency"
    )
    machine: str
    build: str
    model: str
    residency: str
    at: float
    context_tokens: int
    tps: float
    first: bool = False


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """Brings a subject into being; goes before its samples."""

    sql: ClassVar[str] = (
        "INSERT OR IGNORE INTO subjects (machine, build, model, residency)"
        " VALUES (:machine, :build, :model, :residency)"
    )
    machine: str
    build: str
    model: str
    residency: str


@dataclass(frozen=True, slots=True)
class StartRow:
    """A start: ``at`` is the stamp of ``listening on``, or of what a failed one printed first.

    ``stages``: JSON, a list of [stage, GiB done, seconds]. What is learned later is filled in.
    """

    sql: ClassVar[str] = (
        "INSERT INTO starts VALUES (:machine, :at, :model, :build, :residency, :load_s, :listened,"
        " :failed, :stages) ON CONFLICT DO UPDATE SET"
        " load_s = COALESCE(load_s, excluded.load_s), stages = COALESCE(stages, excluded.stages),"
        " residency = CASE residency WHEN 'unknown' THEN excluded.residency ELSE residency END"
    )
    machine: str
    at: float
    model: str
    build: str
    residency: str
    load_s: float | None
    listened: bool
    failed: str | None = None
    stages: str | None = None


@dataclass(frozen=True, slots=True)
class MinimumRow:
    """The least headroom of the minute that begins at ``at``."""

    sql: ClassVar[str] = (
        "INSERT INTO minima VALUES (:machine, :at, :headroom_bytes) ON CONFLICT DO UPDATE SET"
        " headroom_bytes = MIN(headroom_bytes, excluded.headroom_bytes)"
    )
    machine: str
    at: float
    headroom_bytes: int


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened to the server or the machine, in ds4top's own words."""

    sql: ClassVar[str] = "INSERT OR IGNORE INTO events VALUES (:machine, :at, :kind, :text)"
    machine: str
    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class AlertRow:
    """Begin, rise or end of an alert, an event whose kind has the rule behind a space.

    Of two ds4tops that look at one machine each sees it, a moment apart: the first one tells.
    """

    sql: ClassVar[str] = (
        "INSERT OR IGNORE INTO events SELECT :machine, :at, :kind, :text WHERE NOT EXISTS"
        " (SELECT 1 FROM events WHERE machine = :machine AND at BETWEEN :at - 5 AND :at + 5"
        " AND kind = :kind)"
    )
    machine: str
    at: float
    kind: str
    text: str


Row = RequestRow | DecodeRow | SubjectRow | StartRow | MinimumRow | EventRow | AlertRow


def request_row(machine: str, request: Request, life: Life | None, ordinal: int) -> RequestRow:
    """The row of a request that has ended. Raises ``ValueError`` for one without a start time."""
    if request.started_at is None:
        raise ValueError("a request without a time cannot be told from another")
    cause = cold_cause(request)
    return RequestRow(
        machine, request.started_at, request.prompt_tokens, request.cached_tokens, ordinal,
        life.listening_at or life.begun_at if life is not None else None,
        request.api, request.generated_tokens, heat_of(request).value,
        cause.value if cause is not None else None, request.ttft_s, request.prompt_s,
        request.decode_mean_tps, request.duration_s, request.end.value, request.finish,
    )  # fmt: skip


def start_row(
    machine: str,
    life: Life,
    model: str,
    build: str,
    residency: str,
    stages: str | None = None,
    load_s: float | None = None,
) -> StartRow | None:
    """The row of a start that came up or failed; ``None`` while it loads or without a time."""
    at = life.listening_at if life.listened else life.begun_at
    if at is None or not (life.listened or life.fatal is not None):
        return None
    failed = None
    if not life.listened and life.fatal is not None:
        failed = life.fatal.reason[:_FAILED_REASON_CHARS]
    return StartRow(machine, at, model, build, residency, load_s, life.listened, failed, stages)
