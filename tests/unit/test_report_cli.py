from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ds4top.report import cli
from ds4top.report.csvout import COLUMNS

DATA = Path(__file__).parent.parent / "data" / "ds4"
SIM = (DATA / "sim-short" / "server.log").read_bytes()
MTIME = datetime(2026, 11, 24, 18, 30, tzinfo=UTC).timestamp()
Run = Any


@pytest.fixture
def sim(tmp_path: Path) -> str:
    return write(tmp_path / "server.log", SIM)


def write(path: Path, data: bytes, mtime: float = MTIME) -> str:
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def main(*words: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser)
        code = cli.main(parser.parse_args(words))
        out, err = capsys.readouterr()
        return code, out, err

    return main


def test_json(run: Run, sim: str) -> None:
    code, out, err = run(sim, "--json", "--tz", "UTC")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert list(report) == [
        "schema", "source", "sources", "server", "requests", "context", "durations", "speed",
        "kv_cache", "decode", "prefill",
    ]  # fmt: skip
    assert report["schema"] == "ds4top.report/1"
    assert report["source"] == {
        "paths": [sim], "lines": 319, "unrecognised_lines": 0,
        "first": "2026-11-24T18:25:29+00:00", "last": "2026-11-24T18:28:01+00:00",
    }  # fmt: skip


def test_text_without_a_terminal_has_no_colour(run: Run, sim: str) -> None:
    code, out, err = run(sim, "--tz", "UTC")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert out.splitlines()[0] == (
        "ds4-server, Tue 24 Nov 2026 18:25 – Tue 24 Nov 2026 18:28 (2 m 32 s)"
    )
    assert "29 requests: 26 completed, 1 interrupted, 2 aborted" in out
    assert "Mean context 7,162 tokens, largest 13,882; 70 % of all prompt tokens" in out
    assert "58 % took 0–5 s." in out
    assert "Cold 1 x: its checkpoint had been evicted from the disk cache." in out
    assert "3 starts, 0 failed starts, 2 clean stops, 1 unclean stop." in out
    assert max(len(line) for line in out.splitlines() if "│" in line) <= 80


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("no_color", "term", "coloured"),
    [("", "xterm", True), ("1", "xterm", False), ("", "dumb", False)],
)
def test_colour_only_where_it_is_wanted(
    run: Run, sim: str, monkeypatch: pytest.MonkeyPatch, no_color: str, term: str, coloured: bool
) -> None:
    screen = Terminal(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    run(sim)
    assert (b"\x1b[1m" in screen.buffer.getvalue()) is coloured  # type: ignore[attr-defined]


def test_an_ascii_terminal_gets_ascii(run: Run, sim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    code, _, _ = run(sim)
    text = screen.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert code == 0
    assert "\\u" not in text
    assert "Decode against context" in text


def test_markdown(run: Run, sim: str) -> None:
    code, out, _ = run(sim, "--markdown", "--tz", "UTC")
    assert code == 0
    assert out.startswith("## ds4-server, Tue 24 Nov 2026 18:25")
    assert "| 8,192–16,384 | 30 | 35.8 | 36.6 | 37.6 |" in out
    assert "### What the KV cache saved" in out


def test_csv(run: Run, sim: str) -> None:
    code, out, _ = run(sim, "--csv", "--tz", "UTC")
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 29
    assert rows[0] == {
        "started": "2026-11-24T18:25:29+00:00", "api": "chat", "end": "completed",
        "finish": "tool_calls", "class": "cold", "cause": "first_after_start",
        "prompt_tokens": "5816", "cached_tokens": "0", "generated_tokens": "140",
        "ttft_s": "7.249", "prefill_s": "7.249", "decode_tps": "41.01", "duration_s": "10.663",
        "tool_calls": "1", "disk_hit_tokens": "", "load_ms": "",
    }  # fmt: skip
    # 1.370 s of prefill, 182.2 ms of load; the evict save belongs to the lookup before.
    assert (rows[6]["ttft_s"], rows[6]["disk_hit_tokens"], rows[6]["load_ms"]) == (
        "1.5522", "11358", "182.2",
    )  # fmt: skip
    assert rows[5]["ttft_s"] == "0.1935"
    assert [row["end"] for row in rows].count("aborted") == 2


def test_since_and_until(run: Run, sim: str) -> None:
    words = (sim, "--csv", "--tz", "UTC", "--since", "2026-11-24T18:27:28")
    rows = list(csv.DictReader(run(*words, "--until", "2026-11-24T18:27:57")[1].splitlines()))
    assert [row["prompt_tokens"] for row in rows] == ["13317", "12743", "13632", "13718"]
    everything = json.loads(run(*words[:1], "--json", "--tz", "UTC", "--since", "36500d")[1])
    assert everything["requests"]["total"] == 29
    nothing = json.loads(run(sim, "--json", "--tz", "UTC", "--until", "2026-11-24")[1])
    assert nothing["requests"]["total"] == 0


def test_several_files_in_the_order_of_their_stamps_each_once(run: Run, tmp_path: Path) -> None:
    lines = SIM.splitlines(keepends=True)
    first = write(tmp_path / "b.log", b"".join(lines[:100]))
    second = tmp_path / "a.log.gz"
    with gzip.open(second, "wb") as packed:
        packed.write(b"".join(lines[100:]))
    os.utime(second, (MTIME, MTIME))
    link = tmp_path / "link.log"
    link.hardlink_to(first)
    whole = json.loads(run(write(tmp_path / "whole.log", SIM), "--json", "--tz", "UTC")[1])
    parts = json.loads(run(str(second), first, str(link), "--json", "--tz", "UTC")[1])
    assert parts["source"].pop("paths") == [first, str(second)]
    whole["source"].pop("paths")
    assert parts == whole


def test_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SIM)))
    code, out, _ = run("-", "--json", "--year", "2026", "--tz", "UTC")
    assert code == 0
    assert json.loads(out)["source"]["paths"] == ["-"]
    assert json.loads(out)["source"]["first"] == "2026-11-24T18:25:29+00:00"
    assert json.loads(out)["requests"]["total"] == 29


def stamped(*stamps: str) -> bytes:
    return b"".join(f"{s} ds4-server: listening on http://127.0.0.1:1\n".encode() for s in stamps)


def ends(run: Run, *words: str) -> tuple[str, str]:
    source = json.loads(run(*words, "--json", "--tz", "UTC")[1])["source"]
    return source["first"][:10], source["last"][:10]


def test_the_year_is_the_newest_that_the_file_allows(run: Run, tmp_path: Path) -> None:
    january = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
    over = write(tmp_path / "over", stamped("1230 10:00:00", "0102 10:00:00"), january)
    assert ends(run, over) == ("2025-12-30", "2026-01-02")
    # More than a year in one file: only its end shows that the first guess was a year late.
    long = ("0104 10:00:00", "0601 10:00:00", "1130 10:00:00", "0103 10:00:00")
    assert ends(run, write(tmp_path / "long", stamped(*long), january)) == (
        "2025-01-04", "2026-01-03",
    )  # fmt: skip


def test_a_given_year_is_that_of_the_last_stamp(run: Run, tmp_path: Path) -> None:
    old = write(tmp_path / "old", stamped("1230 10:00:00", "0102 10:00:00"))
    assert ends(run, old, "--year", "2024") == ("2023-12-30", "2024-01-02")
    spring = write(tmp_path / "spring", stamped("0301 10:00:00", "0302 10:00:00"))
    assert ends(run, spring, "--year", "2030") == ("2030-03-01", "2030-03-02")
    assert ends(run, spring, old, "--year", "2020") == ("2019-12-30", "2020-03-02")


def test_the_zone_of_the_stamps(run: Run, sim: str) -> None:
    first = json.loads(run(sim, "--json", "--tz", "+02:00")[1])["source"]["first"]
    assert first == "2026-11-24T18:25:29+02:00"
    first = json.loads(run(sim, "--json", "--tz", "Europe/Berlin")[1])["source"]["first"]
    assert first == "2026-11-24T18:25:29+01:00"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which log? name a file, or - for standard input"),
        (("LOG", "--tz", "Mars/Olympus"), "--tz Mars/Olympus: no such time zone"),
        (("LOG", "--tz", "../../etc/passwd"), "--tz ../../etc/passwd: no such time zone"),
        (("LOG", "--since", "noon"), "noon: not a time (2026-11-24T18:25, 18:25, today, 24h)"),
        (("LOG", "--since", "1h", "--until", "2h"), "--since is not before --until"),
        (("LOG", "--year", "20"), "--year 20: not a year a log can be of"),
        (("/nonexistent/x.log",), "/nonexistent/x.log: No such file or directory"),
        (("/",), "/: Is a directory"),
    ],
)
def test_wrong_usage(run: Run, sim: str, words: tuple[str, ...], said: str) -> None:
    code, out, err = run(*(sim if word == "LOG" else word for word in words))
    assert (code, out, err) == (64, "", f"ds4top: report: {said}\n")


def test_a_broken_archive_is_said(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "x.gz", gzip.compress(SIM)[:-2_000])
    code, out, err = run(path)
    assert (code, out) == (64, "")
    assert err.startswith(f"ds4top: report: {path}: ")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("90m", "2026-11-24T17:00:00+00:00"),
        ("7d", "2026-11-17T18:30:00+00:00"),
        ("today", "2026-11-24T00:00:00+00:00"),
        ("yesterday", "2026-11-23T00:00:00+00:00"),
        ("9:05", "2026-11-24T09:05:00+00:00"),
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T10:00:00+02:00", "2026-11-01T08:00:00+00:00"),
    ],
)
def test_times(word: str, expected: str) -> None:
    found = cli.parse_time(word, MTIME, UTC)
    assert datetime.fromtimestamp(found, UTC).isoformat() == expected


def test_offsets_are_zones() -> None:
    assert cli.parse_tz("-0330") == timezone(-timedelta(hours=3, minutes=30))


def test_what_comes_out_of_a_log_cannot_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    evil = b"1124 18:25:29 ds4-server: unknown option: --x\x1b]0;owned\x07\xe2\x80\xae|`<b>\n"
    path = write(tmp_path / "evil.log", evil)
    for form in ((), ("--markdown",)):
        out = run(path, *form)[1]
        assert "unknown option: --x" in out
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "\\|\\`\\<b\\>" in out


def test_a_torn_tail_is_one_unrecognised_line(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "torn.log", SIM[:-10])
    source = json.loads(run(path, "--json")[1])["source"]
    assert (source["lines"], source["unrecognised_lines"]) == (318, 1)
