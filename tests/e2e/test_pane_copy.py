"""A tmux pane copied to a file: with a real tmux, and by the screen's own keys."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ds4top.control.panecopy import PaneCopies, copy_path, pane_to_copy
from ds4top.core.logplace import ErrorLink, place_of
from ds4top.core.plan import Target
from ds4top.core.process import Owner
from ds4top.session import Wanted, live
from ds4top.sources.logroute import LogRouter
from ds4top.ui.app import Ds4top
from ds4top.ui.screens.panecopy import AskCopy, question
from ds4top.view.look import Look
from ds4top.view.text import row_text
from tests.unit.test_status_view import server

ECHO = "import sys\nfor line in sys.stdin: print('said', line, end='', flush=True)"


class Pane:
    """A pane of a tmux server of its own, in which a program says what it is told."""

    def __init__(self, folder: Path) -> None:
        self.tmux = ("tmux", "-S", str(folder / "socket"))
        self.run("new-session", "-d", "-x", "80", "-y", "24", sys.executable, "-c", ECHO)
        self.id = self.run("display-message", "-p", "#{pane_id}")

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [*self.tmux, *words], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout.strip()

    def say(self, word: str) -> None:
        self.run("send-keys", "-t", self.id, word, "Enter")

    @property
    def piped(self) -> bool:
        return self.run("display-message", "-p", "-t", self.id, "#{pane_pipe}") == "1"


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Pane]:
    found = Pane(tmp_path)
    yield found
    found.run("kill-server")


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 15.0
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)  # tmux has no event for this.


def test_a_pane_is_copied_from_now_on_and_let_go_again(pane: Pane, tmp_path: Path) -> None:
    pane.say("early")
    until(lambda: "said early" in pane.run("capture-pane", "-p", "-t", pane.id))
    path = copy_path(tmp_path / "state", Target(7, 9, "boot", "ds4-server"))
    assert path == str(tmp_path / "state" / "panes" / "7-9.log")
    copies = PaneCopies()
    assert copies.start(pane.tmux, pane.id, path) == ""
    assert pane.piped
    pane.say("late")
    until(lambda: "said late" in Path(path).read_text())
    assert "said early" not in Path(path).read_text()
    assert Path(path).stat().st_mode & 0o777 == 0o600
    copies.close()
    assert not pane.piped


def test_a_pipe_of_somebody_else_stays(pane: Pane, tmp_path: Path) -> None:
    copies = PaneCopies()
    path = str(tmp_path / "ours.log")
    assert copies.start(pane.tmux, pane.id, path) == ""
    pane.run("pipe-pane", "-t", pane.id, f"exec cat >> '{tmp_path}/theirs.log'")
    # Ours ends when tmux has closed its pipe.
    pane.say("word")
    until((tmp_path / "theirs.log").exists)
    until(lambda: "said word" in (tmp_path / "theirs.log").read_text())
    copies.close()
    assert pane.piped


def test_a_tmux_that_is_not_there_is_said(tmp_path: Path) -> None:
    trouble = PaneCopies().start(("tmux", "-S", str(tmp_path / "none")), "%0", f"{tmp_path}/x.log")
    assert "none" in trouble


@pytest.mark.parametrize("name", ["it's", "a b", "$(x)", 'q"', "n\nl"])
def test_a_folder_that_a_shell_minds_is_refused(tmp_path: Path, name: str) -> None:
    assert copy_path(tmp_path / name, Target(7, 9, "boot", "ds4-server")) is None


def place(pane: Pane | None = None, **fields: object):  # type: ignore[no-untyped-def]
    """The log of a server on a terminal, in a pane or not."""
    known = {"pane": pane.id, "tmux": pane.tmux} if pane else {}
    link = ErrorLink(4711, "/dev/pts/3", **{**known, **fields})  # type: ignore[arg-type]
    return place_of(link, Owner("none"))


def test_why_there_is_nothing_to_copy(pane: Pane) -> None:
    def why(**fields: object) -> str:
        return pane_to_copy(replace(server(), log=place(pane, **fields)))

    assert pane_to_copy(None) == "no server is watched"
    assert pane_to_copy(replace(server(), log=place())) == "its log is in no tmux pane"
    assert why(copies=("/x.log",)) == "its pane is copied to /x.log already"
    assert why(pane_piped=True) == "its pane is piped elsewhere already"
    assert why() == ""


async def test_it_asks_first_and_enter_is_no(
    pane: Pane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    session = live(Wanted())
    made = Ds4top(session, Look(), ticking=False)
    one = replace(server(), log=place(pane))
    made.model.machine.seen((one,), one)
    async with made.run_test(size=(80, 24)) as pilot:
        await pilot.press("l")
        assert isinstance(made.screen, AskCopy)
        await pilot.press("enter")
        assert not isinstance(made.screen, AskCopy)
        assert not pane.piped
        await pilot.press("l", "y")
        await made.workers.wait_for_complete()
        assert pane.piped
        assert isinstance(session.source, LogRouter)
        assert session.source.address is not None
        path = str(tmp_path / "ds4top" / "panes" / "4711-99.log")
        assert session.source.address.path == path
    session.close()
    assert not pane.piped


def test_the_command_is_shown_whole(pane: Pane) -> None:
    path = "/home/ana/.local/state/ds4top/panes/4711-99.log"
    for width in (60, 80, 120):
        lines = [
            row_text(each) for each in question(replace(server(), log=place(pane)), path, width)
        ]
        assert max(map(len, lines[5:-4])) <= width
        begin = next(at for at, text in enumerate(lines) if text.startswith("  runs"))
        end = next(at for at, text in enumerate(lines) if text.startswith("  undone"))
        whole = "".join(text[10:].replace(" ", "") for text in lines[begin:end])
        wanted = f"{' '.join(pane.tmux)} pipe-pane -o -t {pane.id} \"exec cat >> '{path}'\""
        assert whole == wanted.replace(" ", "")
