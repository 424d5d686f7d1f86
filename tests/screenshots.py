"""The pictures of the documentation, made by a command.

``python -m tests.screenshots`` draws every picture of ``SHOTS`` headless, from a recorded log at a
fixed moment, and writes SVG files to ``screenshots/``. ``--check`` compares instead and names what
differs; ``--png`` adds PNG files through headless Chromium (Debian: ``chromium``) with DejaVu Sans
Mono, and DejaVu Sans for braille (``fonts-dejavu-core``); ``--tmux`` adds what
a real tmux shows, as text with its escapes.
"""

from __future__ import annotations

import argparse
import asyncio
import filecmp
import gzip
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from functools import cache
from html import escape, unescape
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ds4top.demo import FLAGS
from ds4top.session import Session, replay
from ds4top.ui.app import Ds4top
from ds4top.view.look import Look
from ds4top.view.text import ASCII, UNICODE
from tests import act_shots

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "screenshots"
LOG = ROOT / "ds4top" / "data" / "example.log"
UTC = ZoneInfo("UTC")
YEAR = 2026
RECORDING = ROOT / "tests" / "data" / "demo" / "demo.jsonl.gz"
RECORDED_S = 294.0
"""A turn of the recorded demo that decodes, seconds after its beginning."""
DECODE = "18:27:52"
PREFILL = "18:27:40"
LOOKUP_END = "18:28:01"


class Shot(NamedTuple):
    """One picture: its name, view, size, moment of the log (``None``: of the demo), theme.

    ``act``: the screen of acting that lies over the view.
    """

    name: str
    view: str
    size: tuple[int, int]
    at: str | None = DECODE
    theme: str = "dark"
    ascii_only: bool = False
    act: str = ""


_SIZES = ((200, 50), (120, 30), (80, 24), (60, 12))
_DEEPER = ("requests", "kv", "memory", "launch", "log", "day", "sources")
SHOTS: tuple[Shot, ...] = (
    *(Shot(f"live-{w}x{h}", "live", (w, h)) for w, h in _SIZES),
    Shot("live-prefill-120x30", "live", (120, 30), PREFILL),
    Shot("live-stopped-120x30", "live", (120, 30), LOOKUP_END),
    Shot("live-light-120x30", "live", (120, 30), theme="light"),
    Shot("live-ascii-80x24", "live", (80, 24), ascii_only=True),
    *(Shot(f"{view}-{w}x{h}", view, (w, h), LOOKUP_END) for view in _DEEPER for w, h in _SIZES),
    *(
        Shot(f"demo-{view}-{w}x{h}", view, (w, h), None)
        for view in ("live", *_DEEPER)
        for w, h in _SIZES
    ),
    *(
        Shot(f"act-{act}-{w}x{h}", "live", (w, h), None, act=act)
        for act in act_shots.ACTS
        for w, h in _SIZES[1:]
    ),
)


def moment(clock: str) -> float:
    """Seconds since the epoch of a time of the example log."""
    return datetime.fromisoformat(f"{YEAR}-11-24T{clock}").replace(tzinfo=UTC).timestamp()


def session_at(clock: str, log: Path = LOG) -> Session:
    """A replay that stands still at a time of the log."""
    session = replay(str(log), tz=UTC, year=YEAR, fixed=True)
    session.source.open()
    play_to(session, moment(clock), "example.log")
    return session


@cache
def unpacked(path: Path) -> str:
    """A packed recording, in a file of this process's own."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl", delete=False) as place:
        place.write(gzip.decompress(path.read_bytes()))
    return place.name


def recorded(seconds: float = RECORDED_S) -> Session:
    """The recorded demo, standing still so many seconds after its beginning."""
    session = replay(unpacked(RECORDING), tz=UTC, fixed=True)
    session.source.open()
    session.model.demo, session.model.flags = "demo", FLAGS
    assert session.replay_clock is not None
    play_to(session, session.replay_clock.begin + seconds, "server.log")
    return session


_heard: dict[int, list[bytes]] = {}
"""Bytes of logs that were played before there was an app to show them."""


def play_to(session: Session, at: float, name: str) -> None:
    """Play up to a time, under a name that is the same on every machine."""
    session.on_log = _heard.setdefault(id(session), []).append
    session.pump(session.source.read_to(at))  # type: ignore[union-attr]
    session.model.source = name
    session.pump(())


def app_of(session: Session, look: Look, theme: str) -> Ds4top:
    """The app over a session that stands still; what ds4top costs is made up."""
    from tests.frames import OWN

    session.model.own = OWN
    app = Ds4top(session, look, theme_name=theme, ticking=False)
    for data in _heard.pop(id(session), []):
        app.log_book.feed(data)
    return app


async def draw(shot: Shot) -> str:
    """The picture as SVG."""
    draining = act_shots.DRAINING_S if shot.act == "progress" else RECORDED_S
    session = recorded(draining) if shot.at is None else session_at(shot.at)
    if shot.act:
        act_shots.allow(session)
    app = app_of(session, Look(ASCII if shot.ascii_only else UNICODE), shot.theme)
    async with app.run_test(size=shot.size) as pilot:
        await app.action_view(shot.view)
        if shot.act:
            await act_shots.show(app, pilot, shot.act)
        for _ in range(2):
            # What is shown on wide screens alone is there once the first picture is laid out.
            await pilot.pause()
            app.paint()
        await pilot.pause()
        svg = app.export_screenshot(title=f"ds4top {shot.size[0]}x{shot.size[1]}")
    session.close()
    return stable(svg)


def stable(svg: str) -> str:
    """The same picture without what differs from run to run: the generated class prefix."""
    return re.sub(r"terminal-\d+", "terminal", svg) + "\n"


async def draw_all(folder: Path) -> None:
    """Every picture into a folder."""
    folder.mkdir(exist_ok=True)
    for shot in SHOTS:
        (folder / f"{shot.name}.svg").write_text(await draw(shot), encoding="utf-8")


def differences() -> list[str]:
    """Names of the committed pictures that the present code draws otherwise."""
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(draw_all(Path(place)))
        return [
            shot.name
            for shot in SHOTS
            if not (FOLDER / f"{shot.name}.svg").is_file()
            or not filecmp.cmp(FOLDER / f"{shot.name}.svg", Path(place) / f"{shot.name}.svg", False)
        ]


_TEXT = re.compile(
    r'<text class="(?P<style>[^"]+)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="[\d.]+"'
    r' clip-path="(?P<clip>[^"]+)">(?P<text>.*?)</text>',
    re.DOTALL,
)
_CELL_PX = 12.2
"""Width of a cell in the SVG files."""


def in_cells(svg: str) -> str:
    """The picture with every braille cell in its place.

    No monospaced font at hand has braille. The one that stands in for it is wider, so a run of
    both would be squeezed as a whole, and points would be drawn beside their values.
    """

    def split(found: re.Match[str]) -> str:
        out: list[str] = []
        x = float(found["x"])
        for part in re.findall(r"[\u2800-\u28ff]|[^\u2800-\u28ff\n]+", unescape(found["text"])):
            width = len(part) * _CELL_PX
            adjust = ' lengthAdjust="spacingAndGlyphs"' if part[0] >= "\u2800" else ""
            if part.strip():
                out.append(
                    f'<text class="{found["style"]}" x="{x:.1f}" y="{found["y"]}"'
                    f' textLength="{width:.1f}"{adjust} clip-path="{found["clip"]}">'
                    f"{escape(part)}</text>"
                )
            x += width
        return "".join(out)

    return _TEXT.sub(split, svg)


def make_png(name: str) -> None:
    """A PNG of one SVG, by headless Chromium."""
    svg = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = in_cells(svg.replace("Fira Code", "DejaVu Sans Mono"))
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found is not None
    width, height = (int(float(value)) + 1 for value in found.groups())
    page = f'<body style="margin:0;background:#121212">{svg}</body>'
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "page.html"
        source.write_text(page, encoding="utf-8")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--disable-background-networking", f"--user-data-dir={place}/profile"]
        command += [f"--window-size={width},{height}", f"--screenshot={FOLDER / name}.png"]
        subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=60)


_HOLD = """
import sys
from tests.screenshots import DECODE, session_at
from ds4top.ui.app import Ds4top
from ds4top.view.look import Look
app = Ds4top(session_at(DECODE), Look(), theme_name="dark", ticking=False)
app.run(mouse=False)
"""


def make_tmux(size: tuple[int, int]) -> None:
    """What tmux shows of the Live view at one size, with its escapes."""
    width, height = size
    base = ["tmux", "-L", f"ds4top-shot-{width}x{height}", "-f", "/dev/null"]
    try:
        subprocess.run(
            [*base, "new-session", "-d", "-x", str(width), "-y", str(height), "env", "LANG=C.UTF-8",
             f"PYTHONPATH={ROOT}", sys.executable, "-c", _HOLD], check=True,
        )  # fmt: skip
        text = ""
        for _ in range(100):
            shown = subprocess.run(
                [*base, "capture-pane", "-p", "-e"], check=True, capture_output=True, text=True
            ).stdout
            if shown == text and "DECODE" in shown:
                break
            text = shown
            subprocess.run(["sleep", "0.2"], check=True)
        (FOLDER / f"live-{width}x{height}.tmux.txt").write_text(text, encoding="utf-8")
    finally:
        subprocess.run([*base, "kill-server"], check=False)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--png", action="store_true")
    parser.add_argument("--tmux", action="store_true")
    args = parser.parse_args()
    if args.check:
        other = differences()
        print("\n".join(f"differs: {name}" for name in other) or "all pictures are as committed")
        return 1 if other else 0
    asyncio.run(draw_all(FOLDER))
    if args.png:
        for shot in SHOTS:
            if shot.size == (120, 30) or (shot.view == "live" and not shot.act):
                make_png(shot.name)
    if args.tmux:
        for size in _SIZES:
            make_tmux(size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
