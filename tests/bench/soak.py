"""``python -m tests.bench.soak [TICKS]``: what many ticks of the Live view leave behind.

The dashboard runs in a child, on a terminal of 200x50 of its own, over the recorded demo, which is
played round and round: its clock moves by a second a tick, and every tenth round is another life
of the server, with another pid. Resident memory, threads and descriptors after a warm-up and at the
end are printed, with what a tick cost. Exit status 1 where memory grew by more than a twentieth, or
anything else at all.
"""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

TICKS = 86_400
WARM_TICKS = 1_000
GROWTH = 0.05
SIZE = (200, 50)
ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "data" / "demo" / "demo.jsonl.gz"
UTC = ZoneInfo("UTC")
_LIFE_ROUNDS = 10
_STAMP = re.compile(r"^\d{4} \d\d:\d\d:\d\d", re.MULTILINE)
_TURNS = 4
"""Of the event loop, for the messages of a paint."""
_SETTLED = 10
_SHIFTED = ("t", "wall", "slowed_t")


class Figures(NamedTuple):
    """Of the child: resident memory, threads and descriptors after so many ticks."""

    ticks: int
    rss_kib: int
    threads: int
    descriptors: int
    cpu_s: float


class Soaked(NamedTuple):
    """Figures along the way, the first after the warm-up, and the bytes written in all."""

    figures: tuple[Figures, ...]
    requests: int
    lives: int
    written_bytes: int

    @property
    def growth(self) -> float:
        """Resident memory at the end against that after the warm-up, less one."""
        return self.figures[-1].rss_kib / self.figures[0].rss_kib - 1

    @property
    def tick_ms(self) -> float:
        """Time of the processor that a tick after the warm-up took."""
        first, last = self.figures[0], self.figures[-1]
        return (last.cpu_s - first.cpu_s) / (last.ticks - first.ticks) * 1000


# the child --------------------------------------------------------------------------------------


class Rounds:
    """The recorded demo again and again, each time later."""

    def __init__(self) -> None:
        # As text: as objects they would be a seventh of what is measured.
        self._lines = gzip.decompress(RECORDING.read_bytes()).splitlines()[1:]
        first, last = json.loads(self._lines[0]), json.loads(self._lines[-1])
        self.begin: float = first["wall"] - first["t"]
        self._round_s: float = last["t"] + 1.0
        # What is before belongs to the start of a life.
        self._served = next(i for i, line in enumerate(self._lines) if b"listening on" in line) + 1
        self._served_s: float = json.loads(self._lines[self._served])["t"]

    def frames(self) -> Iterator[tuple[float, str, Any]]:
        """Time, source and data of what happens, without an end."""
        number, shift = 0, 0.0
        while True:
            starts = number % _LIFE_ROUNDS == 0
            if not starts:
                shift -= self._served_s
            for line in self._lines if starts else self._lines[self._served :]:
                one = json.loads(line)
                yield self.begin + one["t"] + shift, one["source"], self._later(one, shift, number)
            shift += self._round_s
            number += 1

    def _later(self, one: dict[str, Any], shift: float, number: int) -> Any:
        from ds4top.watch import recorded_sample

        if one["source"] == "log":
            # A stamp in whole seconds keeps its second.
            return _STAMP.sub(lambda found: _stamp(found[0], round(shift)), one["data"]["text"])
        sample: Any = recorded_sample(one["source"], one["data"], one["wall"])
        names = {field.name for field in fields(sample)} & set(_SHIFTED)
        known = {name: getattr(sample, name) for name in names}
        sample = replace(sample, **{n: v + shift for n, v in known.items() if v is not None})
        life = number // _LIFE_ROUNDS
        if hasattr(sample, "servers"):
            servers = (
                replace(s, target=replace(s.target, pid=s.target.pid + life,
                                          start_ticks=s.target.start_ticks + life),
                        started_wall=s.started_wall + shift)
                for s in sample.servers
            )  # fmt: skip
            return replace(sample, servers=tuple(servers))
        return replace(sample, pid=sample.pid + life) if hasattr(sample, "pid") else sample


def _stamp(text: str, shift_s: int) -> str:
    at = datetime.strptime(f"2026{text}", "%Y%m%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    return datetime.fromtimestamp(at + shift_s, UTC).strftime("%m%d %H:%M:%S")


def _figures(ticks: int) -> Figures:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = dict(line.split(":", 1) for line in status.splitlines())
    return Figures(
        ticks,
        int(found["VmRSS"].split()[0]),
        int(found["Threads"]),
        len(os.listdir("/proc/self/fd")),
        time.process_time(),
    )


def child(ticks: int, report_fd: int) -> None:
    """Runs the dashboard on this process's terminal; its figures go to the descriptor."""
    import asyncio
    import inspect

    from ds4top.core.logread import LogReader
    from ds4top.core.stamps import StampClock
    from ds4top.demo import FLAGS
    from ds4top.session import replay
    from ds4top.sources.samples import LogEvents
    from ds4top.ui.app import Ds4top, _settle
    from ds4top.view.look import Look
    from tests.screenshots import unpacked

    rounds = Rounds()
    path = unpacked(RECORDING)
    session = replay(path, tz=UTC, fixed=True)
    os.unlink(path)
    session.model.demo, session.model.flags = "demo", FLAGS
    assert session.replay_clock is not None
    clock = session.replay_clock
    clock.load(rounds.begin, rounds.begin + ticks + 1)
    reader = LogReader(StampClock(rounds.begin, UTC, 2026))
    every = max(ticks // 10, 1)
    warm = min(WARM_TICKS, ticks // 2)

    class Soaking(Ds4top):
        CSS_PATH = Path(inspect.getfile(Ds4top)).with_name("ds4top.tcss")

        def __init__(self) -> None:
            super().__init__(session, Look(), theme_name="dark", ticking=False)
            self._frames = rounds.frames()
            self._next = next(self._frames)
            self.found: list[Figures] = []

        async def on_ready(self) -> None:
            self._task = asyncio.create_task(self._soak())

        async def _soak(self) -> None:
            for done in range(1, ticks + 1):
                clock.advance(rounds.begin + done)
                session.pump(list(self._until(rounds.begin + done)))
                self.tick()
                # Widgets tell the screen what to paint; it would wait for a sixtieth of a second.
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                self.screen._on_timer_update()
                if done == min(_SETTLED, ticks):
                    _settle()
                if done in (warm, ticks) or (done > warm and done % every == 0):
                    self.found.append(_figures(done))
            self.exit()

        def _until(self, at: float) -> Iterator[object]:
            while self._next[0] <= at:
                when, source, data = self._next
                if source == "log":
                    coded = data.encode()
                    before = reader.lines
                    events = tuple(reader.feed(coded))
                    yield LogEvents(events, reader.lines - before, when, when, 0, True, coded)
                else:
                    yield data
                self._next = next(self._frames)

    app = Soaking()
    # Of a server's file no line is kept; of a replay so many that none of it would be seen here.
    session.on_log = None
    app.run()
    log = session.model.log
    session.close()
    said = {
        "figures": app.found,
        "requests": len(log.requests) + log.requests_dropped,
        "lives": len(log.lives) + log.lives_dropped,
    }
    os.write(report_fd, json.dumps(said).encode())


# the parent -------------------------------------------------------------------------------------


def soak(ticks: int) -> Soaked:
    """Runs the child to its end. Raises ``RuntimeError`` where it fails."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    reader, writer = os.pipe()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX")}
    env |= {"TERM": "tmux-256color", "TEXTUAL_COLOR_SYSTEM": "256", "LC_ALL": "C.UTF-8"}
    words = [sys.executable, "-m", "tests.bench.soak", "--child", str(ticks), str(writer)]
    process = subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=ROOT.parent,
        pass_fds=(writer,), start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    os.close(writer)
    written, last = 0, b""
    try:
        while data := _read(master):
            written += len(data)
            last = (last + data)[-4000:]
        said = b"".join(iter(lambda: os.read(reader, 65536), b""))
        if process.wait() or not said:
            raise RuntimeError(f"the child ended with {process.returncode}: {last!r}")
    finally:
        os.close(master)
        os.close(reader)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    found = json.loads(said)
    figures = tuple(Figures(*each) for each in found["figures"])
    return Soaked(figures, found["requests"], found["lives"], written)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""


def main() -> int:
    """Print the figures."""
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else TICKS
    begin = time.monotonic()
    found = soak(ticks)
    print(f"{'ticks':>8}{'RSS MiB':>10}{'threads':>9}{'files':>7}{'CPU s':>9}")
    for each in found.figures:
        print(
            f"{each.ticks:>8,}{each.rss_kib / 1024:>10.1f}{each.threads:>9}"
            f"{each.descriptors:>7}{each.cpu_s:>9.1f}"
        )
    print(
        f"{found.requests:,} requests of {found.lives} lives; RSS {found.growth:+.1%},"
        f" {found.tick_ms:.1f} ms and {found.written_bytes / ticks:,.0f} bytes a tick;"
        f" {time.monotonic() - begin:.0f} s"
    )
    first, last = found.figures[0], found.figures[-1]
    same = first[2:4] == last[2:4]
    return 0 if found.growth <= GROWTH and same else 1


if __name__ == "__main__":
    sys.exit(main())
