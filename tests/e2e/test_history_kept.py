"""The history of real runs: once each, whoever reads the log again; none where none is wanted."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from terminal import Terminal, ds4top, environment

LOG = Path(__file__).parents[1] / "data" / "ds4" / "h200-copy" / "server.log"


def kept(path: Path) -> list[tuple[object, ...]]:
    """The rows of all requests; none where there is no such table yet."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute("SELECT * FROM requests").fetchall()
    except sqlite3.OperationalError:
        return []


def test_two_runs_over_one_log_keep_it_once_and_no_history_keeps_nothing(tmp_path):
    log = tmp_path / "server.log"
    shutil.copyfile(LOG, log)
    env = environment(XDG_STATE_HOME=str(tmp_path / "state"), HOME=str(tmp_path))
    path = tmp_path / "state" / "ds4top" / "history.sqlite"

    with Terminal(ds4top("--log", log, "--no-history"), env=env) as terminal:
        terminal.wait_for("requests|TIME")
        terminal.press("8")
        terminal.wait_for(r"history +missing +(?:– +)+--no-history")
        terminal.press("q")
        assert terminal.wait_exit() == 0
    assert not path.parent.exists()

    def run() -> list[tuple[object, ...]]:
        with Terminal(ds4top("--log", log), env=env) as terminal:
            terminal.press("8")
            terminal.wait_for(r"history +ok .*rows written [1-9]\d*")
            terminal.press("q")
            assert terminal.wait_exit() == 0
        return kept(path)

    first = run()
    assert len(first) == 29
    with log.open("ab") as file:
        file.write(b"1124 18:40:00 ds4-server: chat ctx=0..100:100 prompt start\n")
        file.write(b"1124 18:40:01 ds4-server: chat ctx=0..100:100 gen=5 finish=stop 1.200s\n")
    again = run()
    assert len(again) == 30
    assert set(first) < set(again)


def alerts(path: Path) -> list[tuple[str, str]]:
    """Kind and text of the alerts that are kept, in their order."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            sql = "SELECT kind, text FROM events WHERE kind LIKE '% context' ORDER BY at"
            return db.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []


def turn(log: Path, prompt: int) -> None:
    """A request of so many tokens, begun and ended."""
    with log.open("a") as file:
        file.write(f"1124 18:40:00 ds4-server: chat ctx=0..{prompt}:{prompt} prompt start\n")
        file.write(f"1124 18:40:01 ds4-server: chat ctx=0..{prompt}:{prompt} gen=5")
        file.write(" finish=stop 1.200s\n")


def test_an_alert_is_kept_once_with_its_begin_and_its_end_and_the_day_tells_it(tmp_path):
    log = tmp_path / "server.log"
    shutil.copyfile(LOG, log)
    turn(log, 112_000)
    env = environment(XDG_STATE_HOME=str(tmp_path / "state"), HOME=str(tmp_path))
    path = tmp_path / "state" / "ds4top" / "history.sqlite"
    begin = ("warning context", "context: 85 % used, 112,000 of 131,072")

    def run(more: int | None, *said: str) -> None:
        with Terminal(ds4top("--log", log), env=env) as terminal:
            terminal.press("7")
            terminal.wait_for(r"stands +warning +context: 85 %")
            if more is not None:
                turn(log, more)
            for words in said:
                terminal.wait_for(words)
            terminal.press("q")
            assert terminal.wait_exit() == 0

    run(None)
    assert alerts(path) == [begin]
    # It stands when the next one comes: the same one, and its end.
    run(100, r"for \d.* s +warning +context: 85 %")
    ((kind, text),) = alerts(path)[1:]
    assert alerts(path)[0] == begin
    assert kind == "over context"
    assert text.startswith("context: over after ")
    assert text.endswith(", last 85 % used, 112,000 of 131,072")
    # The Live view counts it among those of the day.
    turn(log, 113_000)
    with Terminal(ds4top("--log", log), env=env) as terminal:
        terminal.wait_for(r"context: 86 % used, .* \(2 times in 24 h\)")
        terminal.press("q")
        assert terminal.wait_exit() == 0
