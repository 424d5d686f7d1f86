"""What every view shows at every size, as text, made by a command.

``python -m tests.frames`` writes ``tests/data/frames/*.txt`` from replays that stand still and from
states put together by hand; ``tests/app/test_frames.py`` compares. A recording of the demo, eight
times as fast as the clock, has the machine in it; the example log stands for a log alone.
"""

from __future__ import annotations

import asyncio
import gzip
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rich.style import Style

from ds4top.archive.paths import KEPT
from ds4top.core.helptext import parse_help
from ds4top.core.launch_units import UnitSeen, units_of
from ds4top.core.logplace import COPY_PANE
from ds4top.core.machine import Machine
from ds4top.core.model import SourceHealth
from ds4top.core.own import OwnCost, OwnFile
from ds4top.core.plan import Target
from ds4top.core.process import LogPlace, Owner, ServerProcess
from ds4top.demo import FLAGS
from ds4top.session import Session, replay
from ds4top.ui.app import Ds4top
from ds4top.ui.screens import VIEWS
from ds4top.ui.theme import find
from ds4top.view.look import Look
from tests.screenshots import LOG, UTC, YEAR

ROOT = Path(__file__).resolve().parent
FOLDER = ROOT / "data" / "frames"
SIZES = ((200, 50), (120, 30), (80, 24), (60, 24), (60, 12), (80, 12), (40, 8))
DECODE_S, PREFILL_S, LOAD_S = 67.0, 64.0, 57.0
"""Moments of the demo's recording, in its seconds: one decodes, one prefills, weights load."""
SPEED = 8.0


class Frame(NamedTuple):
    """A screen: rows of text, each as wide as the screen, and the style of each cell."""

    rows: tuple[str, ...]
    styles: tuple[tuple[Style | None, ...], ...]

    @property
    def text(self) -> str:
        """The rows without blanks at their ends."""
        return "".join(row.rstrip() + "\n" for row in self.rows)


# scenes ---------------------------------------------------------------------------------------


@cache
def demo_log() -> str:
    """The recording of the demo, unpacked into a file of this process's own."""
    place = tempfile.NamedTemporaryFile(suffix=".jsonl", delete=False)  # noqa: SIM115
    with place:
        place.write(gzip.decompress((FOLDER / "demo.jsonl.gz").read_bytes()))
    return place.name


def demo(seconds: float | None = None) -> Session:
    """The demo's recording; stands at a moment of it, or at its beginning."""
    session = replay(demo_log(), tz=UTC, fixed=True)
    session.source.open()
    # A name that is the same in every run.
    session.model.source = "demo.jsonl"
    session.model.demo, session.model.speed, session.model.flags = "demo ×8", SPEED, FLAGS
    session.model.own = OWN
    if seconds is not None:
        advance(session, seconds)
    return session


OWN = OwnCost(
    span_s=60.0,
    cpu_share=0.0124,
    cpu_s=51.2,
    up_s=4_320.0,
    threads={"MainThread": 0.0091, "src-replay": 0.0021, "src-vitals": 0.0008, "textual": 0.0001},
    thread_count=9,
    rss_bytes=47_710_208,
    rss_peak_bytes=50_331_648,
    open_files=19,
    written_bytes=6_291_456,
    written_per_min=91_340.0,
    stored_bytes=413_696,
    folder="/home/spark/.local/state/ds4top",
    files=tuple(
        OwnFile(name, holds, size)
        for (name, holds), size in zip(
            KEPT,
            (8_388_608, 1_048_576, 912, None, 61, 11_204, 20_971_520, None, 48_213),
            strict=True,
        )
    ),
)
"""What ds4top itself might cost."""

_heard: dict[int, list[bytes]] = {}
"""Bytes of logs that were played before there was an app to show them."""


def advance(session: Session, seconds: float) -> None:
    """Play up to so many seconds after the beginning."""
    assert session.replay_clock is not None
    session.on_log = session.on_log or _heard.setdefault(id(session), []).append
    session.pump(session.source.read_to(session.replay_clock.begin + seconds))  # type: ignore[union-attr]


def example() -> Session:
    """The example log, played to its end: a log alone."""
    session = replay(str(LOG), tz=UTC, year=YEAR, fixed=True)
    session.source.open()
    session.model.own = OWN
    advance(session, 86_400.0)
    return session


def log_of(lines: Iterable[str], quiet_s: float = 0.0) -> Session:
    """A live session in all but its clock, over these lines of a log, so long after the last."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "server.log"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        session = replay(str(path), tz=UTC, year=YEAR, fixed=True)
        if path.stat().st_size:
            session.source.open()
            advance(session, 86_400.0)
    model = session.model
    model.replay, model.source = None, "server.log"
    model.now = (model.log.heard_at or moment_of_nothing()) + quiet_s
    age_s = None if model.log.heard_at is None else quiet_s
    model.health = (SourceHealth("log", "ok", "server.log", age_s), *_REST)
    return session


def moment_of_nothing() -> float:
    """A time for a session that has heard nothing: 18:00 of the example's day."""
    return 1_795_543_200.0


_REST = (
    SourceHealth("process", "ok", "no ds4-server or llama-server runs here", 0.0),
    SourceHealth("GPU (NVML)", "missing", "no NVIDIA driver here"),
)
_LINES = tuple(LOG.read_text(encoding="utf-8").splitlines())
_HEAD = _LINES[: next(i for i, line in enumerate(_LINES) if "listening on" in line) + 1]


def _without(health: SourceHealth, *, servers: int = 0, inside: str = "") -> Session:
    session = log_of(())
    model = session.model
    model.health, model.source, model.inside = (health, *_REST), "", inside
    found = tuple(_server(4711 + number) for number in range(servers))
    model.machine.servers = found
    return session


def _server(pid: int, log: LogPlace | None = None, **more: object) -> ServerProcess:
    target = Target(pid, 1, "boot", "ds4-server")
    place = log or LogPlace("null", "its standard error goes to /dev/null")
    return ServerProcess(
        target, moment_of_nothing() - 7_200, "ds4", 1000, "spark", log=place, **more  # type: ignore[arg-type]
    )  # fmt: skip


def _with_server(log: LogPlace, **more: object) -> Session:
    session = _without(SourceHealth("log", "missing", log.detail))
    server = _server(4711, log, **more)
    machine: Machine = session.model.machine
    machine.servers, machine.server = (server,), server
    return session


_NO_SERVER = SourceHealth("log", "missing", "no server is running, so no log is read")
_DENIED = SourceHealth(
    "log", "denied",
    "cannot read /var/log/ds4/server.log (it belongs to ds4:ds4, mode 0600); let spark read it:"
    " sudo setfacl -m u:spark:r /var/log/ds4/server.log",
)  # fmt: skip
_NOT_THERE = SourceHealth(
    "log", "missing", "the log file is not there (yet): waiting for it: server.log"
)
_OWN = {"argv": "not ours to read; sudo cat /proc/4711/cmdline shows it"}


def _waiting() -> Session:
    session = _without(_NOT_THERE)
    session.model.source = "server.log"
    return session


_ARGV = (
    "/opt/ds4/ds4-server", "-m", "q2.gguf", "--ctx", "131072", "--no-mmap", "--power", "100",
    "--kv-disk-dir", "/var/cache/ds4", "--kv-disk-space-mb", "16384", "--port", "8000",
)  # fmt: skip
_UNIT = """# /etc/systemd/system/ds4.service
[Service]
Environment=DS4_LOCK_FILE=/run/ds4/lock KV="--kv-disk-dir /var/cache/ds4 --kv-disk-space-mb 16384"
ExecStart=/opt/ds4/ds4-server -m q2.gguf --ctx 65536 --no-mmap $KV --port 8000

# /etc/systemd/system/ds4.service.d/50-ds4top.conf
[Service]
ExecStart=
ExecStart=/opt/ds4/ds4-server -m q2.gguf --ctx 131072 --no-mmap $KV --port 8000
"""
_HELP = ROOT / "data" / "help" / "standin-daily-agent.txt"


def _unit() -> Session:
    """A unit of systemd's with a drop-in; the log has a prefill longer than its stop may take."""
    session = log_of(_LINES)
    server = _server(
        4711, LogPlace("journald", "the journal of ds4.service"), argv=_ARGV, cwd="/srv",
        env=(("DS4_LOCK_FILE", "/run/ds4/lock"),), exe="/opt/ds4/ds4-server", exe_replaced=True,
        owner=Owner("systemd-system", "ds4.service"), oom_score_adj=0, model_fs_type="nfs4",
        listening=(("127.0.0.1", 8000),),
    )  # fmt: skip
    machine: Machine = session.model.machine
    machine.servers, machine.server = (server,), server
    machine.flags = parse_help(_HELP.read_text(encoding="utf-8"))
    machine.unit = UnitSeen(server.target, units_of(_UNIT), 15.0)
    return session


STATES: dict[str, Callable[[], Session]] = {
    "no server": lambda: _without(_NO_SERVER),
    "no server, in a container": lambda: _without(_NO_SERVER, inside="docker"),
    "several servers": lambda: _without(_NO_SERVER, servers=2),
    "log not readable": lambda: _without(_DENIED),
    "log not there yet": _waiting,
    "log on a terminal": lambda: _with_server(
        LogPlace("terminal", "its log is on the terminal /dev/pts/3",
                 mend="start it with 2>> server.log")
    ),
    "log in a tmux pane": lambda: _with_server(LogPlace("tmux", "tmux pane %3", mend=COPY_PANE)),
    "another user's server": lambda: _with_server(
        LogPlace("unknown", "its standard error may not be looked at"), denied=_OWN
    ),
    "a unit with a drop-in": _unit,
    "log without a line": lambda: log_of(()),
    "no request yet": lambda: log_of(_HEAD, 30.0),
    "last known": lambda: log_of(_LINES[:20], 4_000.0),
    "poisoned": lambda: log_of(
        (*_HEAD, "ds4: CUDA sync failed: an illegal memory access was encountered"), 5.0
    ),
    "failed start": lambda: log_of(
        ("1124 18:00:00 ds4-server: failed to listen on 127.0.0.1:8000: Address already in use",)
    ),
}  # fmt: skip
"""Screens of what is missing or wrong, by name."""
_OTHERS = tuple(view for view in VIEWS if view != "live")
_ALSO = {
    "no server": _OTHERS,
    "no request yet": _OTHERS,
    "another user's server": ("launch", "log"),
    "a unit with a drop-in": ("launch",),
    "log not readable": ("requests", "log"),
}
"""Views that a state is shown on as well."""
_STATE_SIZES = ((120, 30), (80, 24), (60, 12))


# frames ---------------------------------------------------------------------------------------


@contextmanager
def app_over(session: Session, theme: str = "dark") -> Iterator[Ds4top]:
    """The app over a session that stands still."""
    app = Ds4top(session, Look(), theme_name=theme, ticking=False)
    for data in _heard.pop(id(session), ()):
        app.log_book.feed(data)
    try:
        yield app
    finally:
        session.close()


def frame_of(app: Ds4top) -> Frame:
    """What the screen shows now."""
    rows, styles = [], []
    for strip in app.screen._compositor.render_strips():
        rows.append(strip.text)
        cells: list[Style | None] = []
        for segment in strip:
            cells += [segment.style] * segment.cell_length
        styles.append(tuple(cells))
    return Frame(tuple(rows), tuple(styles))


async def frames(
    session: Session,
    shots: Iterable[tuple[str, tuple[int, int]]],
    theme: str = "dark",
) -> dict[tuple[str, tuple[int, int]], Frame]:
    """Frames of views at sizes."""
    found = {}
    with app_over(session, theme) as app:
        async with app.run_test(size=(120, 30)) as pilot:
            for view, size in shots:
                await app.action_view(view)
                await pilot.resize_terminal(*size)
                await pilot.pause()
                app.paint()
                await pilot.pause()
                found[view, size] = frame_of(app)
    return found


def _titled(name: str, frame: Frame) -> str:
    return f"=== {name}\n{frame.text}"


async def view_file(view: str) -> str:
    """One view at every size; Live while a request decodes and while one prefills."""
    shots = [(view, size) for size in SIZES]
    out = []
    moments = {"": DECODE_S}
    if view == "live":
        moments |= {" prefill": PREFILL_S, " loading": LOAD_S}
    for word, seconds in moments.items():
        for (_, (width, height)), frame in (await frames(demo(seconds), shots)).items():
            out.append(_titled(f"{view}{word} {width}x{height}", frame))
    return "".join(out)


async def states_file() -> str:
    """Every state on Live at three sizes, and without a server every view."""
    out = []
    for name, make in STATES.items():
        shots = [("live", size) for size in _STATE_SIZES]
        shots += [(view, (80, 24)) for view in _ALSO.get(name, ())]
        if name == "no server":
            shots += [(view, (200, 50)) for view in VIEWS]
        for (view, (width, height)), frame in (await frames(make(), shots)).items():
            out.append(_titled(f"{name}: {view} {width}x{height}", frame))
    return "".join(out)


async def themes_file() -> str:
    """Live in every theme: under each row the style of each cell, as letters."""
    out = []
    for theme in sorted(find().by_name):
        (frame,) = (await frames(demo(DECODE_S), [("live", (80, 24))], theme)).values()
        letters: dict[str, str] = {}
        lines = []
        for text, styles in zip(frame.rows, frame.styles, strict=True):
            marks = "".join(
                letters.setdefault(str(style), _LETTERS[len(letters) % len(_LETTERS)])
                for style in styles
            )
            lines.append(f"{text.rstrip()}\n{marks}\n")
        legend = "".join(f"{letter} {style}\n" for style, letter in letters.items())
        out.append(f"=== {theme}\n{''.join(lines)}{legend}")
    return "".join(out)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

FILES: dict[str, Callable[[], Awaitable[str]]] = {
    **{view: lambda view=view: view_file(view) for view in VIEWS},  # type: ignore[misc]
    "states": states_file,
    "themes": themes_file,
}
"""Coroutines that make the files, by name."""


async def make_all() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (FOLDER / f"{name}.txt").write_text(await make(), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(make_all())
