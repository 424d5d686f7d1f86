"""Inside a real tmux, as each kind of terminal: every key has a visible effect, ends are clean."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from test_keys import AT_THE_END, VIEWS, press, script, show
from tmux_pane import Pane

PLAIN: Mapping[str, str | None] = {"COLORTERM": None, "NO_COLOR": None}
TRUE: Mapping[str, str | None] = {"COLORTERM": "truecolor", "NO_COLOR": None}


class Kind(NamedTuple):
    """What the terminal says it is, the environment, views that are gone through."""

    term: str
    env: Mapping[str, str | None]
    views: tuple[str, ...]


# What tmux and screen say they are goes through all views, with and without COLORTERM; of the
# others each has a view with a table.
KINDS = {
    "screen": Kind("screen", PLAIN, VIEWS),
    "screen, truecolor": Kind("screen", TRUE, VIEWS),
    "tmux-256color": Kind("tmux-256color", TRUE, VIEWS),
    "tmux-256color, plain": Kind("tmux-256color", PLAIN, VIEWS),
    "xterm-256color": Kind("xterm-256color", PLAIN, ("live", "log")),
    "truecolor": Kind("xterm-256color", TRUE, ("requests", "day")),
    "linux": Kind("linux", PLAIN, ("live", "kv")),
    "no-color": Kind("tmux-256color", {"NO_COLOR": "1"}, ("requests", "sources")),
}


@contextmanager
def pane_of(folder: Path, kind: Kind) -> Iterator[Pane]:
    """The dashboard over a replay that has ended, so that only keys change it."""
    assert shutil.which("tmux"), "tmux is needed for this test"
    pane = Pane(folder, kind.term, AT_THE_END, kind.env)
    try:
        pane.wait_until(lambda: "replay ended" in pane.text, "the end of the replay")
        pane.settle()
        yield pane
    finally:
        pane.close()


def test_each_view_is_gone_through_as_tmux_and_as_screen() -> None:
    whole = {(kind.term, kind.env["COLORTERM"]) for kind in KINDS.values() if kind.views == VIEWS}
    assert whole == {
        (term, colours) for term in ("screen", "tmux-256color") for colours in (None, "truecolor")
    }


@pytest.mark.parametrize("name", KINDS)
def test_every_key(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    with pane_of(tmp_path, kind) as pane:
        assert pane.flags().startswith("1 1")
        at = "live"
        for view in kind.views:
            if view != at:
                show(pane, str(VIEWS.index(view) + 1))
                pane.settle()
            at = view
            under: list[tuple[object, ...]] = []
            for step in script(view):
                press(pane, step, under)
            assert under == []
        pane.press("q")
        pane.wait_until(lambda: "status=0" in pane.text, "a clean end")
        assert pane.flags() == "0 0 1 0"


def test_what_each_kind_draws_with(tmp_path: Path) -> None:
    for name in ("linux", "no-color", "screen"):
        folder = tmp_path / name
        folder.mkdir()
        with pane_of(folder, KINDS[name]) as pane:
            text, drawn = pane.text, pane.coloured()
        colours = set(re.findall(r"\b((?:38|48);[25];\d+|3[0-7]|4[0-7]|9[0-7])(?=[;m])", drawn))
        assert ("⠁" <= max(text) <= "⣿") == (name != "linux"), name
        assert text.isascii() == (name == "linux"), name
        assert bool(colours) == (name != "no-color"), colours
        # Sixteen colours of its own, nothing of the palette.
        assert name != "screen" or not any(colour[2:3] == ";" for colour in colours)


def test_the_mouse_is_given_away_and_taken_back(tmp_path: Path) -> None:
    with pane_of(tmp_path, KINDS["tmux-256color"]) as pane:
        for mouse in ("0", "1", "0"):
            pane.press("o")
            pane.wait_until(lambda mouse=mouse: pane.flags().startswith(f"1 {mouse}"), mouse)  # type: ignore[misc]
        pane.press("q")
        pane.wait_until(lambda: "status=0" in pane.text, "a clean end")
        assert pane.flags() == "0 0 1 0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["screen", "xterm-256color"])
@pytest.mark.parametrize("over", ["", "question_mark", "slash"])
def test_a_signal_leaves_the_terminal_as_it_was(
    name: str, number: signal.Signals, over: str, tmp_path: Path
) -> None:
    with pane_of(tmp_path, KINDS[name]) as pane:
        if over:
            before = pane.cells()
            pane.press(over)
            pane.wait_until(lambda: pane.cells() != before, over)
        os.kill(pane.program(), number)
        pane.wait_until(lambda: "status=" in pane.text, "its end")
        pane.run("send-keys", "-l", "after")
        pane.wait_until(lambda: "after" in pane.text, "an echo of what is typed")
        assert pane.text.split() == [f"status={128 + number}", "after"]
        assert pane.flags() == "0 0 1 0"
