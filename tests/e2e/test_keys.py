"""Every key on every view answers, on a real terminal; test_tmux.py has the same inside tmux."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from terminal import SIM_SHORT, Terminal, ds4top, environment
from tmux_pane import Pane

from ds4top.core.keymap import COMMANDS

VIEWS = ("live", "requests", "kv", "memory", "launch", "log", "day", "sources")
AT_THE_END = ds4top("--replay", SIM_SHORT, "--speed", "1000")

ACTS = {"restart": "R", "mode": "M", "park": "P", "start": "S", "signal": "K"}
BODY = "the rows between the first and the last two change"
LAYER = "something opens over the view"
BACK = "what was open is gone, the view is as before"
UNMARKED = "the same text, and no row stands out any more"
UNFILTERED = "no filter is named in the message line"


class Step(NamedTuple):
    """A key and its effect: one of those above, or what the message line then says."""

    command: str
    key: str
    effect: str


def opened(command: str, key: str) -> tuple[Step, Step]:
    """Open something and close it again."""
    return Step(command, key, LAYER), Step("app.cancel", "escape", BACK)


def script(view: str) -> list[Step]:
    """All keys but those that change the view or quit; each finds something to act on."""
    is_table = view in ("live", "requests")
    is_sorted = is_table or view == "kv"
    details = (
        opened("row.details", "enter")
        if is_table
        else (Step("row.details", "enter", "no entry" if is_sorted else "nothing to open"),)
    )
    return [
        Step("move.first", "g", BODY),
        Step("row.copy", "y", "copied: "),
        Step("move.down", "j", BODY),
        Step("move.down", "down", BODY),
        Step("move.up", "k", BODY),
        Step("move.up", "up", BODY),
        Step("move.page_down", "pagedown", BODY),
        Step("move.page_up", "pageup", BODY),
        Step("move.last", "G", BODY),
        Step("move.first", "home", BODY),
        Step("move.last", "end", BODY),
        *details,
        Step("app.cancel", "escape", UNMARKED),
        Step("row.copy", "y", "no row to copy"),
        Step("sort.next", "s", "sorted by" if is_sorted else "nothing to sort"),
        Step("follow.toggle", "f", "following"),
        Step("follow.toggle", "f", "following"),
        Step("filter.next", "n", "no filter"),
        Step("filter.previous", "N", "no filter"),
        Step("filter.edit", "slash", BODY),
        Step("", "e", BODY),
        Step("", "enter", r"filter\s+e\b"),
        Step("move.first", "g", BODY),
        Step("filter.next", "n", BODY),
        Step("filter.previous", "N", BODY),
        Step("app.cancel", "escape", UNFILTERED),
        Step("chart.window", "w", r"window \d"),
        Step("chart.axis", "u", "context axis"),
        Step("chart.unit", "x", "ms per token"),
        Step("chart.unit", "x", "tok/s"),
        Step("paint.faster", "plus", r"every 0\.5 s"),
        Step("paint.slower", "minus", "every 1 s"),
        Step("look.theme", "t", r"theme \w"),
        *(Step(f"server.{name}", key, "read-only: a replay") for name, key in ACTS.items()),
        *(
            [Step("text.toggle", "v", f"model text {word}") for word in ("shown", "hidden")]
            if view == "log"
            else [Step("text.toggle", "v", "no model text here")]
        ),
        Step("keep.export", "e", rf"wrote {view}-\S+\.(csv|json): "),
        Step("keep.picture", "p", rf"wrote {view}-\S+\.svg and \.txt: "),
        Step("look.mouse", "o", "mouse off: the terminal selects text"),
        Step("look.mouse", "o", "mouse on"),
        Step("server.choose", "c", "a replay shows"),
        Step("log.copy_pane", "l", "no server is watched"),
        *opened("app.help", "question_mark"),
        *opened("app.help", "f1"),
        *opened("app.palette", "colon"),
        *opened("app.palette", "ctrl+p"),
        Step("time.freeze", "space", "paused"),
        Step("time.back", "left_square_bracket", "-30 s"),
        Step("time.forward", "right_square_bracket", r"\+30 s"),
        Step("time.freeze", "space", "playing"),
    ]  # fmt: skip


@contextmanager
def at_the_end(view: str = "live") -> Iterator[Terminal]:
    """A replay that has ended, so that only keys change the screen, on a view."""
    with (
        TemporaryDirectory() as place,
        Terminal(AT_THE_END, env=environment(XDG_STATE_HOME=place)) as terminal,
    ):
        terminal.wait_for("replay ended")
        terminal.wait_for(r"18:27:57|last life|turn 29")
        if view != "live":
            show(terminal, str(VIEWS.index(view) + 1))
        terminal.settle(0.15)
        yield terminal


def show(terminal: Terminal | Pane, key: str) -> None:
    """Press a key that shows another view."""
    before = terminal.cells()[1:-2]
    terminal.press(key)
    terminal.wait_until(lambda: terminal.cells()[1:-2] != before, f"another view by {key}")


def press(terminal: Terminal | Pane, step: Step, under: list[tuple[object, ...]]) -> None:
    """Press a key and wait for its effect. ``under``: views that have something over them."""
    # In tmux each look is a command: only what is compared is looked at.
    before = terminal.cells()[1:-2] if step.effect in (BODY, LAYER, UNMARKED) else ()
    text = terminal.lines[1:-2] if step.effect == UNMARKED else []
    what = f"{step.effect!r} by {step.key}"
    since = terminal.written()[0]
    terminal.press(step.key)
    if step.effect in (BODY, LAYER):
        terminal.wait_until(lambda: terminal.cells()[1:-2] != before, what)
        if step.effect == LAYER:
            under.append(before)
    elif step.effect == BACK:
        view = under.pop()
        terminal.wait_until(lambda: terminal.cells()[1:-2] == view, what)
    elif step.effect == UNMARKED:
        # Only this says that Esc was taken: a key too soon after it would be another one, Alt-key.
        terminal.wait_until(
            lambda: terminal.cells()[1:-2] != before and terminal.lines[1:-2] == text, what
        )
    elif step.effect == UNFILTERED:
        terminal.wait_until(lambda: not re.search(r"filter\s+e\b", terminal.lines[-2]), what)
    else:
        # A machine that stands still for seconds may not see what stood there for four.
        terminal.wait_until(
            lambda: (
                re.search(step.effect, terminal.lines[-2])
                or re.search(step.effect, terminal.written(since)[1])
            ),
            what,
        )
    terminal.settle(0.03)


@pytest.mark.parametrize("view", VIEWS)
def test_every_key(view: str) -> None:
    with at_the_end(view) as terminal:
        under: list[tuple[object, ...]] = []
        for step in script(view):
            press(terminal, step, under)
        assert under == []
        assert terminal.process.poll() is None
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.left() == []


def test_no_key_is_forgotten() -> None:
    pressed = {(step.command, step.key) for view in VIEWS for step in script(view)}
    elsewhere = ("view.", "app.quit")
    for command in COMMANDS:
        if not command.id.startswith(elsewhere):
            assert {(command.id, key) for key in command.keys.split(",")} <= pressed


def shown(terminal: Terminal) -> str:
    """The view whose name is marked in the last row."""
    row = terminal.screen.buffer[terminal.screen.lines - 1]
    text = terminal.lines[-1]
    places = {name: match.start(1) for name in VIEWS if (match := re.search(rf"\d ({name})", text))}
    looks = {name: row[x]._replace(data="") for name, x in places.items()}
    odd = [name for name, look in looks.items() if list(looks.values()).count(look) == 1]
    return odd[0] if len(odd) == 1 else ""


def test_views_by_number_and_in_turn() -> None:
    with at_the_end() as terminal:
        for number in (2, 3, 4, 5, 6, 7, 8, 1):
            show(terminal, str(number))
            name = VIEWS[number - 1]
            terminal.wait_until(lambda name=name: shown(terminal) == name, name)  # type: ignore[misc]
        for index in (1, 2, 3, 4, 5, 6, 7, 0):
            show(terminal, "tab")
            name = VIEWS[index]
            terminal.wait_until(lambda name=name: shown(terminal) == name, name)  # type: ignore[misc]
        for index in (7, 6, 5, 4, 3, 2, 1, 0):
            show(terminal, "shift+tab")
            name = VIEWS[index]
            terminal.wait_until(lambda name=name: shown(terminal) == name, name)  # type: ignore[misc]


def test_escape_never_quits() -> None:
    with at_the_end() as terminal:
        for view in range(8):
            show(terminal, str((view + 1) % 8 + 1))
            for _ in range(3):
                terminal.press("escape")
                terminal.settle(0.15)
        assert terminal.process.poll() is None
        before = terminal.cells()
        terminal.press("2")
        terminal.wait_change(before, "2")


def test_a_filter_takes_every_character() -> None:
    with at_the_end("requests") as terminal:
        terminal.press("slash")
        terminal.settle(0.15)
        for character in "q1?:t G":
            before = terminal.cells()
            terminal.press("space" if character == " " else character)
            terminal.wait_change(before, character)
        terminal.wait_for(re.escape("q1?:t G"))
        assert terminal.process.poll() is None
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 0


def test_the_palette_takes_every_character() -> None:
    with at_the_end() as terminal:
        before = terminal.cells()
        terminal.press("colon")
        terminal.wait_change(before, ":")
        terminal.settle(0.15)
        terminal.type("quit")
        terminal.wait_for("Quit; the server is left alone")
        assert terminal.process.poll() is None
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 0


@pytest.mark.parametrize("over", ["question_mark", "colon", "enter", "slash"])
def test_ctrl_c_quits_from_everywhere(over: str) -> None:
    with at_the_end() as terminal:
        before = terminal.cells()
        terminal.press(over)
        terminal.wait_change(before, over)
        terminal.settle(0.1)
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 0
        assert terminal.left() == []
