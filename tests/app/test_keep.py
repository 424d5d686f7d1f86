"""Export and picture: the files, word for word, and nothing in them that is nobody's business."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ds4top.core.secrets import MASK, masked
from ds4top.session import Session, replay
from ds4top.ui.app import Ds4top
from ds4top.ui.pictures import masked_cells
from ds4top.view.look import Look
from tests.screenshots import DECODE, UTC, YEAR, session_at

WRITTEN = "wild horses"
SECRETS = ("sk-0123456789abcdef", "hunter2hunter2", "hf_abcdefghijklmnop")
LOG = f"""\
1124 18:27:00 ds4-server: listening on http://127.0.0.1:8000
1124 18:27:01 ds4-server: Authorization: Bearer {SECRETS[0]}
1124 18:27:02 ds4-server: started with HF_TOKEN={SECRETS[1]} --hf-token {SECRETS[2]}
1124 18:27:03 ds4-server: gen done text_snippet: {WRITTEN}
1124 18:27:04 ds4-server: =1+1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files go."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "ds4top" / "exports"


def telling(tmp_path: Path) -> Session:
    """A replay of a log that tells too much."""
    path = tmp_path / "server.log"
    path.write_text(LOG, encoding="utf-8")
    session = replay(str(path), tz=UTC, year=YEAR, fixed=True)
    session.source.open()
    return session


async def keep(session: Session, view: str, *keys: str, size: tuple[int, int] = (120, 30)) -> str:
    """Press keys on a view; gives what the message line then says."""
    app = Ds4top(session, Look(), theme_name="dark", ticking=False)
    if session.replay_clock is not None and not session.model.lines:
        session.pump(session.source.read_to(session.replay_clock.begin + 60))  # type: ignore[union-attr]
    async with app.run_test(size=size) as pilot:
        await app.action_view(view)
        await pilot.pause()
        app.paint()
        await pilot.press(*keys)
        await pilot.pause()
        said = "".join(span.text for span in app.screen.message.rows[0])  # type: ignore[attr-defined]
    session.close()
    return said.strip()


async def test_requests_as_csv(folder: Path) -> None:
    said = await keep(session_at(DECODE), "requests", "e")
    assert said.startswith("wrote requests-20261124-182752.csv: 27 requests in /")
    path = folder / "requests-20261124-182752.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert len(rows) == 27
    assert rows[0]["end"] == "running"
    assert [path.name for path in folder.iterdir()] == ["requests-20261124-182752.csv"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_filter_and_an_order_hold(folder: Path) -> None:
    keys = ("slash", *"cold", "enter", "s", "s", "s", "e")
    await keep(session_at(DECODE), "requests", *keys)
    (path,) = folder.iterdir()
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    new = [int(row["prompt_tokens"]) - int(row["cached_tokens"]) for row in rows]
    assert {row["class"] for row in rows} == {"cold"}
    assert new == sorted(new, reverse=True)


async def test_a_second_one_replaces_nothing(folder: Path) -> None:
    await keep(session_at(DECODE), "sources", "e", "e")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["sources-20261124-182752-2.csv", "sources-20261124-182752.csv"]
    assert (folder / names[1]).read_text(encoding="utf-8") == (
        "name,state,age_s,cost_ms,detail\n"
        "log,ok,0.0,,example.log\n"
        + "".join(
            f"{name},missing,,,not in what is replayed\n"
            for name in (
                "process",
                "memory",
                "GPU (NVML)",
                "KV directory",
                "/v1/models",
                "/metrics",
            )
        )
    )


@pytest.mark.parametrize(
    ("view", "schema", "keys"),
    [
        ("live", "ds4top.status/1", {"server", "request", "kv_cache", "launch", "sources"}),
        ("kv", "ds4top.view/1", {"view", "kv_cache", "entries", "misses"}),
        ("memory", "ds4top.view/1", {"view", "memory", "gpu"}),
        ("launch", "ds4top.view/1", {"view", "server", "launch", "starts"}),
        ("day", "ds4top.report/1", {"requests", "durations", "decode"}),
    ],
)
async def test_the_others_as_json(folder: Path, view: str, schema: str, keys: set[str]) -> None:
    await keep(session_at(DECODE), view, "e")
    (path,) = folder.iterdir()
    assert path.name == f"{view}-20261124-182752.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["schema"] == schema
    assert keys <= found.keys()


async def test_a_picture_shows_what_the_screen_shows(folder: Path) -> None:
    said = await keep(session_at(DECODE), "live", "p")
    assert said.startswith("wrote live-20261124-182752.svg and .txt: in /")
    text = (folder / "live-20261124-182752.txt").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) == 30
    assert lines[0].startswith("  DECODE    ds4-server")
    svg = (folder / "live-20261124-182752.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert svg.replace("&#160;", " ").count("ds4-server") == text.count("ds4-server") > 0
    assert "@font-face" not in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "").replace(
        "https://www.textualize.io", ""
    )


async def test_the_log_without_secrets_and_model_text(folder: Path, tmp_path: Path) -> None:
    await keep(telling(tmp_path), "log", "e", "p", size=(160, 30))
    files = {path.suffix: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert sorted(files) == [".csv", ".svg", ".txt"]
    for text in files.values():
        assert "listening" in text
        for gone in (WRITTEN, *SECRETS):
            assert gone not in text.replace("&#160;", " ")
    assert f"started with HF_TOKEN={MASK} --hf-token {MASK}" in files[".csv"]
    assert f"Bearer {'*' * len(SECRETS[0])}" in files[".txt"]


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "ds4top").write_text("in the way", encoding="utf-8")
    said = await keep(session_at(DECODE), "day", "e")
    assert said == f"nothing written: {tmp_path}/ds4top/exports: Not a directory"


@pytest.mark.parametrize(
    "text",
    [
        "kv cache hit text tokens=1280 key=6f0a quant=2",
        "DS4_MAX_TOKENS=512 min_tokens=512",
        "differs after token 1,204 of 48,113",
        "chunk 2048 at 192 t/s: token 5",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_cells_stay_in_their_place() -> None:
    line = "│ OPENAI_API_KEY=日本x │"
    assert masked_cells(line) == "│ OPENAI_API_KEY=***** │"
    assert masked(line) == f"│ OPENAI_API_KEY={MASK} │"
