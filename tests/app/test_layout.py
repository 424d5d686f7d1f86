"""How screens follow each other along a replay: nothing wraps, is cut unsaid, or jumps aside."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from ds4top.session import Session
from ds4top.ui.app import Ds4top
from ds4top.ui.screens import VIEWS
from ds4top.ui.widgets.lines import LineView
from ds4top.view.look import Look
from ds4top.view.text import row_text, row_width
from tests.frames import DECODE_S, LOAD_S, PREFILL_S, SPEED, advance, demo, frame_of, frames
from tests.screenshots import session_at

FRAMES = ("now", "kv", "memory", "head", "message", "foot")
STEP_S = 10.0
"""Of the server's own time; the demo's runs eight times as fast as its recording."""
_FIGURE = re.compile(r"[\d.,<]*\d[\d.,]*|–")
_DRAWN = re.compile(r"[▏▎▍▌▋▊▉█░]+")
_WORD = re.compile(r"[^\W\d_][^\s]*")


def shape(text: str) -> str:
    """A row without its figures and the length of its bars."""
    return " ".join(_FIGURE.sub("#", _DRAWN.sub("=", text)).split())


def words(text: str) -> list[tuple[int, str]]:
    """Where each word stands; what belongs to a figure (12K) is no word."""
    return [(found.start(), found[0]) for found in _WORD.finditer(text)
            if not text[found.start() - 1 : found.start()].isdigit()]  # fmt: skip


def log_alone() -> Session:
    return session_at("18:25:29")


SCENES: dict[str, tuple[Callable[[], Session], list[float]]] = {
    "demo": (demo, [10.0 + i * STEP_S / SPEED for i in range(51)]),
    "log": (log_alone, [i * STEP_S for i in range(1, 16)]),
}


@pytest.mark.parametrize("size", [(200, 50), (120, 30), (80, 24), (60, 12)])
@pytest.mark.parametrize("scene", SCENES)
async def test_consecutive_screens(scene: str, size: tuple[int, int]) -> None:
    make, moments = SCENES[scene]
    session = make()
    app = Ds4top(session, Look(), theme_name="dark", ticking=False)
    jumps: set[tuple[str, str, str]] = set()
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        before: dict[tuple[str, int], str] = {}
        for moment in moments:
            advance(session, moment)
            app._alerts = None
            app.paint()
            await pilot.pause()
            frame = frame_of(app)
            assert len(frame.rows) == size[1]
            assert {len(styles) for styles in frame.styles} == {size[0]}
            now: dict[tuple[str, int], str] = {}
            for widget in app.screen.query(LineView):
                if not widget.display or not widget.size.width:
                    continue
                for y, line in enumerate(widget.rows[: widget.size.height]):
                    drawn = widget.render_line(y).text
                    if row_width(line) > widget.size.width:
                        assert drawn.rstrip().endswith("…"), drawn
                    # Parts of memory are compared by their length.
                    is_bar = widget.id == "memory" and "free" in drawn.split("MemFree")[0]
                    if widget.id in FRAMES and not is_bar:
                        now[widget.id, y] = row_text(line)
            for place, text in now.items():
                old = before.get(place, "")
                if shape(old) == shape(text) and words(old) != words(text):
                    jumps.add((place[0], old, text))
            before = now
    session.close()
    assert not jumps, "\n".join(f"{name}:\n  {old}\n  {new}" for name, old, new in sorted(jumps))


async def test_the_widest_live_screen_has_no_empty_stretch() -> None:
    for moment in (PREFILL_S, DECODE_S, LOAD_S):
        (frame,) = (await frames(demo(moment), [("live", (200, 50))])).values()
        assert "\n\n\n\n" not in frame.text


async def test_the_widest_screens_are_filled_on_purpose() -> None:
    """No empty stretch inside a view; what does not fill the height stands in two columns."""
    views = [view for view in VIEWS if view != "log"]
    for (view, (width, _)), frame in (
        await frames(demo(DECODE_S), [(view, (200, 50)) for view in views])
    ).items():
        body = "\n".join(line.rstrip() for line in frame.rows[1:-2])
        assert "\n\n\n\n" not in body.rstrip(), view
        rows = body.rstrip().split("\n")
        # A page of two columns: each begins at the top, and nothing reaches over the middle.
        if view in ("launch", "day", "sources"):
            assert rows[0][: width // 2].strip(), view
            assert rows[0][width // 2 :].strip(), view
            assert {line[width // 2 : width // 2 + 1] for line in rows} <= {" ", ""}, view
        else:
            assert len(rows) >= len(frame.rows) - 6, view


async def test_memory_is_drawn_to_the_foot() -> None:
    (frame,) = (await frames(demo(DECODE_S), [("memory", (200, 50))])).values()
    assert re.search(r"^ HEADROOM +10 min$", frame.text, re.MULTILINE)
    assert re.search(r"^ +10 m +9\.5 m .* now$", frame.rows[-3].rstrip())
    assert "last 10 min" not in frame.text
    # Where there are fewer rows the ten minutes stand among them.
    (frame,) = (await frames(demo(DECODE_S), [("memory", (200, 30))])).values()
    assert "last 10 min" in frame.text
    assert " HEADROOM   10 min" not in frame.text


# A question of the Live screen, and what answers it: while a request decodes, while one prefills.
UP = (r"^ +DECODE +ds4-server 17180", r"^ +PREFILL +ds4-server 17180")
HOW_FAST = (r"77\.0 tok/s now .*expected +74\.8 at +13K", r"1,777 tok/s")
IS_NORMAL = (r"1\.03 x +normal", "")
PREFILL_ENDS = ("", r"51 %.*ends in +1\.7 s")
CONTEXT_LEFT = (r"13,471 of 131,072 .*117,601 left", r"13,371 of 131,072 .*117,701 left")
HOT = (r"6,379 new \+ +6,992 cached +hot +52 %",) * 2
SAVED = (r"hit +66 % +disk +10, live +9, miss +10 .*saved +43 s",) * 2
HEADROOM = (
    r"headroom +24\.7 GiB +falling +8\.1 GiB/min",
    r"headroom +24\.3 GiB +falling +8\.5 GiB/min",
)
AT_80X24 = (UP, HOW_FAST, IS_NORMAL, PREFILL_ENDS, CONTEXT_LEFT, HOT, SAVED, HEADROOM)
AT_60X12 = (
    (r"^ +DECODE ", r"^ +PREFILL "),
    (r"77\.0 tok/s .*of 74\.8 at +13K", r"3\.2K of 6\.4K .* 51 % +ETA 1\.7 s +1,777 tok/s"),
    (r"13,471 of 131,072", r"13,371 of 131,072"),
    (HEADROOM[0] + r".*prefill 64K fits", HEADROOM[1] + r".*prefill 64K fits"),
)


@pytest.mark.parametrize(
    ("size", "questions"), [((80, 24), AT_80X24), ((60, 12), AT_60X12)], ids=["80x24", "60x12"]
)
async def test_one_screen_answers(
    size: tuple[int, int], questions: tuple[tuple[str, str], ...]
) -> None:
    for index, moment in enumerate((DECODE_S, PREFILL_S)):
        (frame,) = (await frames(demo(moment), [("live", size)])).values()
        for question in questions:
            assert re.search(question[index], frame.text, re.DOTALL), question[index]


@pytest.mark.parametrize("size", [(20, 4), (10, 2), (1, 1)])
async def test_no_size_is_too_small(size: tuple[int, int]) -> None:
    for frame in (await frames(demo(DECODE_S), [(view, size) for view in VIEWS])).values():
        assert len(frame.rows) == size[1]
        assert "too small" not in frame.text
