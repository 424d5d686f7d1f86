"""What the screen costs on the line: bytes a second through a terminal, at 200×50 and 1 Hz."""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import pytest
from terminal import SIM_SHORT, Terminal, environment

DECODING_BYTES_A_SECOND = 1_800
IDLE_BYTES_A_SECOND = 170
MARK = re.compile(rb"\x1b\]777;(\w+);([0-9.]+)\x07")
RECORDING = Path(__file__).parent.parent / "data" / "demo" / "demo.jsonl.gz"
SERVED_S, BUSY_S = 70, 240
WORDS = {"live": "DECODE", "requests": "HOW LONG THEY TOOK", "memory": "WHO HOLDS IT"}
DRIVER = Path(__file__).with_name("fixed_clock.py")


class Stepper:
    """A dashboard whose time is moved second by second."""

    def __init__(self, terminal: Terminal, orders: int) -> None:
        self._terminal = terminal
        self._orders = orders
        self._at = 0
        self._await_mark()

    def step(self) -> tuple[str, float, int]:
        """One second: the state after it, the time played, the bytes of its frame."""
        os.write(self._orders, b".")
        return self._await_mark()

    def _await_mark(self) -> tuple[str, float, int]:
        raw, begin = self._terminal.raw, self._at
        self._terminal.wait_until(lambda: MARK.search(raw, begin), "the mark of a frame")
        found = MARK.search(raw, begin)
        assert found is not None
        self._at = found.end()
        return found[1].decode(), float(found[2]), found.start() - begin


@contextmanager
def stepping(path: Path, *more: str) -> Iterator[tuple[Stepper, Terminal]]:
    """A 200×50 terminal in the colours of tmux, with a dashboard that waits for steps."""
    reader, writer = os.pipe()
    argv = [sys.executable, str(DRIVER), str(path), str(reader), *more]
    env = environment(TERM="tmux-256color", TEXTUAL_COLOR_SYSTEM="256")
    with Terminal(argv, size=(200, 50), env=env, pass_fds=(reader,)) as terminal:
        os.close(reader)
        yield Stepper(terminal, writer), terminal
        os.close(writer)
        assert terminal.wait_exit() == 0
        assert terminal.left() == []


COUNTED = """
import sys
from ds4top.session import replay
from ds4top.ui.app import Ds4top
from ds4top.view.look import Look

session = replay(sys.argv[1], speed=1000.0)
app = Ds4top(session, Look())
drivers = []
app.call_later(lambda: drivers.append(app._driver))
app.run()
session.close()
with open(sys.argv[2], "w") as file:
    file.write(str(drivers[0].written_bytes))
"""


def test_the_terminal_gets_what_was_counted(tmp_path: Path) -> None:
    """What the Sources view says was written is what came: text of more than a byte a sign too."""
    told = tmp_path / "told"
    argv = [sys.executable, "-c", COUNTED, str(SIM_SHORT), str(told)]
    with Terminal(argv, size=(120, 30), env=environment()) as terminal:
        terminal.wait_for("replay ended")
        before = len(terminal.raw)
        terminal.press("8")
        shown = terminal.wait_for(r"([\d.]+) KiB written in all")
        # Between what had come before the view and what had when it was painted.
        assert before - 52 <= float(shown[1]) * 1024 <= len(terminal.raw) + 52
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert any(byte > 127 for byte in terminal.raw)
        assert int(told.read_text()) == len(terminal.raw)


def test_decoding(capsys: pytest.CaptureFixture[str]) -> None:
    costs: list[int] = []
    everything: list[int] = []
    with stepping(SIM_SHORT) as (stepper, terminal):
        for _ in range(150):
            state, _, size = stepper.step()
            everything.append(size)
            if state == "decode":
                costs.append(size)
        assert "tok/s" in terminal.text
    with capsys.disabled():
        print(
            f"\ndecoding: {mean(costs):.0f} bytes a second over {len(costs)} s"
            f" (at most {max(costs)}), all {mean(everything):.0f}"
        )
    assert len(costs) >= 60
    # Every second of decoding shows something new: a clock at the least.
    assert min(costs) > 0
    assert mean(costs) <= DECODING_BYTES_A_SECOND


@pytest.mark.parametrize("view", ["live", "requests", "memory"])
def test_a_busy_machine(view: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recorded demo has the machine in it: memory, GPU and process move with each turn."""
    recording = tmp_path / "demo.jsonl"
    recording.write_bytes(gzip.decompress(RECORDING.read_bytes()))
    busy: list[int] = []
    with stepping(recording, view, str(SERVED_S)) as (stepper, terminal):
        # The first step may hold the first picture.
        stepper.step()
        for _ in range(BUSY_S):
            state, _, size = stepper.step()
            if state != "idle":
                busy.append(size)
        assert WORDS[view] in terminal.text
    with capsys.disabled():
        print(f"\n{view}: {mean(busy):.0f} bytes a second over {len(busy)} s (at most {max(busy)})")
    assert len(busy) >= 200
    assert min(busy) > 0
    assert mean(busy) <= DECODING_BYTES_A_SECOND


@pytest.mark.parametrize("view", ["live", "requests", "memory"])
def test_idle(view: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a turn nothing is logged for two minutes, then another one begins."""
    lines = SIM_SHORT.read_text().splitlines(keepends=True)
    end = next(index for index, line in enumerate(lines) if "finish=stop" in line) + 1
    assert lines[end - 1].startswith("1124 18:25:58 ")
    log = tmp_path / "server.log"
    later = "1124 18:28:30 ds4-server: chat ctx=11120..11159:39 TOOLS prompt start\n"
    log.write_text("".join(lines[:end]) + later)
    costs: list[int] = []
    with stepping(log, view) as (stepper, terminal):
        played = 0.0
        while played < 60:
            _, played, _ = stepper.step()
        assert re.match(r"\W*IDLE", terminal.header)
        for _ in range(60):
            state, _, size = stepper.step()
            assert state == "idle"
            costs.append(size)
        assert "18:27:29" in terminal.header
    with capsys.disabled():
        print(f"\n{view}, idle: {mean(costs):.0f} bytes a second over {len(costs)} s")
    assert mean(costs) <= IDLE_BYTES_A_SECOND
