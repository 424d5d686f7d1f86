"""Recordings: what is written can be read, secrets are not in it, a full disk ends it in order."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.archive import record
from ds4top.archive.codec import decode, encode
from ds4top.archive.record import (
    Recorder,
    RecordingError,
    RecordingExistsError,
    read_recording,
)
from ds4top.sources.base import Clock
from ds4top.sources.samples import HistoryProgress, LogBreak, LogEvents, SourceError
from ds4top.sources.tracks import RecordTrack


class Ticks:
    """Time that is set by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: 1_700_000_000.0 + self.now)


class Mode(StrEnum):
    MMAP = "mmap"
    COPY = "copy"


class Part(NamedTuple):
    name: str
    size_bytes: int


@dataclass(frozen=True)
class Gpu:
    t: float
    power_w: float | None
    reasons: frozenset[str]
    parts: tuple[Part, ...]
    pair: tuple[int, str]
    env: dict[str, str]
    mode: Mode
    raw: bytes = b""


CLASSES: dict[str, type] = {"Gpu": Gpu, "Part": Part}
GPU = Gpu(
    51.0,
    12.5,
    frozenset({"b", "a"}),
    (Part("weights", 80),),
    (1, "x"),
    {"HF_TOKEN": "hunter2"},
    Mode.COPY,
    b"\xff\x00",
)


def mask(text: str) -> str:
    if text.startswith(("HF_TOKEN=", "--api-key=")):
        return text.partition("=")[0] + "=***"
    return text.replace("sk-secret", "***")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_header_then_a_sample_a_line(tmp_path: Path):
    ticks = Ticks()
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {"name": "spark"}, "1.0", clock=ticks.clock())
    ticks.now = 51.5
    recorder.record("gpu", GPU)
    recorder.close()
    header, line = lines_of(path)
    assert header == {"schema": "ds4top.record/1", "version": "1.0", "host": {"name": "spark"}}
    assert line == {
        "t": 1.5,
        "wall": 1_700_000_051.5,
        "source": "gpu",
        "data": {
            "type": "Gpu",
            "t": 51.0,
            "power_w": 12.5,
            "reasons": ["a", "b"],
            "parts": [{"type": "Part", "name": "weights", "size_bytes": 80}],
            "pair": [1, "x"],
            "env": {"HF_TOKEN": "hunter2"},
            "mode": "copy",
            "raw": {"_bytes": "/wA="},
        },
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_sample_comes_back_as_it_was_but_for_what_is_replaced(tmp_path: Path):
    assert decode(json.loads(json.dumps(encode(GPU))), CLASSES) == GPU
    assert decode(encode(GPU), CLASSES, t=7.0).t == 7.0


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.frozensets(st.text()),
    st.lists(st.builds(Part, st.text(), st.integers())),
    st.dictionaries(st.text(), st.text()),
    st.sampled_from(Mode),
    st.binary(),
)
def test_any_sample_comes_back(t, power, reasons, parts, env, mode, raw):
    sample = Gpu(t, power, reasons, tuple(parts), (1, "x"), env, mode, raw)
    assert decode(json.loads(json.dumps(encode(sample))), CLASSES) == sample


def test_what_is_not_finite_becomes_unknown():
    assert encode(SourceError("a", "error", "m", float("nan")))["t"] is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"type": "Nvml"}, "no sample type is called Nvml"),
        ({**encode(GPU), "power_w": "much"}, r"Gpu\.power_w: 'much' fits no kind"),
        ({**encode(GPU), "mode": "x"}, r"Gpu\.mode: 'x' is not a valid Mode"),
        ({**encode(GPU), "pair": [1]}, r"Gpu\.pair"),
        ({**encode(GPU), "t": "x"}, r"Gpu\.t: 'x' is not float"),
        ({"type": "Gpu", "t": 1.0}, "Gpu: .*missing"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(data: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        decode(data, CLASSES)


def test_a_field_of_a_newer_version_is_dropped_and_a_missing_default_filled():
    data = encode(GPU)
    del data["raw"]
    assert decode({**data, "novel": 1}, CLASSES).raw == b""


def test_secrets_are_masked_by_their_names_and_by_themselves(tmp_path: Path):
    @dataclass(frozen=True)
    class Launch:
        argv: tuple[str, ...]
        env: dict[str, str]
        note: str

    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {"HF_TOKEN": "abc"}, mask=mask, clock=Ticks().clock())
    recorder.record(
        "launch",
        Launch(
            ("ds4-server", "--api-key", "abc", "-c", "9"),
            {"HF_TOKEN": "abc", "A": "b"},
            "sk-secret!",
        ),
    )
    recorder.log(b"0101 10:00:00 ds4-server: sk-sec")
    recorder.log(b"ret\nand sk-secret\xff\n")
    recorder.close()
    whole = path.read_bytes()
    assert b"abc" not in whole
    header, launch, *logs = lines_of(path)
    assert header["host"] == {"HF_TOKEN": "***"}
    assert launch["data"]["argv"] == ["ds4-server", "--api-key", "***", "-c", "9"]
    assert launch["data"]["env"] == {"HF_TOKEN": "***", "A": "b"}
    assert launch["data"]["note"] == "***!"
    assert [sorted(line["data"]) for line in logs] == [["base64"]]
    assert b"".join(log_bytes(path)) == b"0101 10:00:00 ds4-server: ***\nand ***\xff\n"


def log_bytes(path: Path) -> list[bytes]:
    track = RecordTrack(read_recording(str(path)))
    return [frame.log for _, frame in track.frames(0, len(track.times)) if frame.log]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_the_log_comes_back_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, blocks):
    path = tmp_path_factory.mktemp("r") / "r.jsonl"
    recorder = Recorder(str(path), {}, clock=Ticks().clock())
    for block in blocks:
        recorder.log(block)
    recorder.close()
    assert b"".join(log_bytes(path)) == b"".join(blocks)


def test_the_log_is_cut_at_line_ends_and_a_break_closes_a_line(tmp_path: Path):
    ticks = Ticks()
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {}, clock=ticks.clock())
    recorder.record("log", LogEvents((), 1, 1.0, 9.0, 0, False, b"a\nb"))
    recorder.record("log", HistoryProgress(0, 1, "reading", 1.0))
    recorder.record("log", LogBreak("missing", 0, 1.0, "/l"))
    recorder.record("log", LogEvents((), 0, 1.0, 9.0, 0, True, b"c"))
    recorder.record("log", LogBreak("rotated", 1, 1.0, "/l"))
    recorder.close()
    assert [(line["source"], line["data"]) for line in lines_of(path)[1:]] == [
        ("log", {"text": "a\n", "live": False}),
        ("log", {"break": "missing", "generation": 0}),
        ("log", {"text": "bc"}),
        ("log", {"break": "rotated", "generation": 1}),
    ]


def test_progress_without_line_ends_does_not_wait_for_ever(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {}, clock=Ticks().clock())
    recorder.log(b"1/43\r2/43")
    recorder.log(b"x" * 70_000)
    recorder.close()
    assert [len(line["data"]["text"]) for line in lines_of(path)[1:]] == [5, 70_004]


def test_lines_reach_the_disk_once_a_second(tmp_path: Path):
    ticks = Ticks()
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {}, clock=ticks.clock())
    recorder.log(b"a\n")
    ticks.now += 0.9
    assert recorder.flush() is None
    assert len(lines_of(path)) == 1
    ticks.now += 0.2
    recorder.flush()
    assert len(lines_of(path)) == 2
    recorder.log(b"b" * 300_000 + b"\n")
    recorder.flush()
    assert len(lines_of(path)) == 3


def test_nothing_is_replaced_unless_asked(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    path.write_text("mine")
    with pytest.raises(RecordingExistsError, match="exists already"):
        Recorder(str(path), {})
    assert path.read_text() == "mine"
    held = path.open()
    recorder = Recorder(str(path), {}, replace=True)
    recorder.log(b"a\n")
    recorder.close()
    assert held.read() == "mine"
    held.close()
    assert len(read_recording(str(path))) == 1
    assert os.listdir(tmp_path) == ["r.jsonl"]


def test_a_full_disk_is_said_once_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ticks = Ticks()
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {}, clock=ticks.clock())
    recorder.log(b"first\n")
    ticks.now += 1
    assert recorder.flush() is None
    size = path.stat().st_size
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if path.stat().st_size < size + 10:
            return real(fd, bytes(data[:10]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record.os, "write", full)
    recorder.log(b"second\n")
    ticks.now += 1
    error = recorder.flush()
    assert error == SourceError(
        "record",
        "error",
        f"recording to {path} ended after {size} bytes: No space left on device",
        52.0,
    )
    recorder.log(b"third\n")
    ticks.now += 1
    assert recorder.flush() is None
    assert recorder.close() is None
    assert recorder.failed
    assert path.stat().st_size == size
    assert [sample.data for sample in read_recording(str(path))] == [{"text": "first\n"}]


def test_a_header_that_does_not_fit_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(record.os, "write", full)
    with pytest.raises(OSError, match="full"):
        Recorder(str(tmp_path / "r.jsonl"), {})
    assert os.listdir(tmp_path) == []


HEAD = '{"schema":"ds4top.record/1","version":"1","host":{}}\n'
GOOD = '{"t":1,"wall":2,"source":"a","data":{}}\n'


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "the file is empty"),
        ("1202 10:00:00 ds4-server: x\n", 1, "not JSON"),
        ("[]\n", 1, "not a JSON object"),
        ('{"schema":"other"}\n', 1, '"schema" is \'other\', not "ds4top.record/1"'),
        ('{"schema":"ds4top.record/1"}\n', 1, '"host" is missing or not an object'),
        (HEAD + GOOD + "nonsense\n", 3, "not JSON"),
        (HEAD + '{"wall":2,"source":"a","data":{}}\n', 2, '"t" is missing or not a number'),
        (HEAD + '{"t":true,"wall":2,"source":"a","data":{}}\n', 2, '"t" is missing or not a'),
        (HEAD + '{"t":1,"wall":2,"source":3,"data":{}}\n', 2, '"source" is missing or not a st'),
        (HEAD + GOOD + GOOD.replace("1", "0.5"), 3, '"t" goes back from 1 to 0.5'),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, text: str, line: int, says: str):
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(RecordingError) as caught:
        read_recording(str(path))
    assert str(caught.value).startswith(f"{path}:{line}: {says}")


def test_a_torn_last_line_is_left_out(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    path.write_text(HEAD + GOOD + GOOD[:12])
    recording = read_recording(str(path))
    assert (len(recording), recording.torn, recording.wall_start) == (1, True, 1.0)


def test_any_part_of_a_recording_can_be_read(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {"os": "Linux"}, "2.0", clock=Ticks().clock())
    for number in range(5):
        recorder.log(f"{number}ü\n".encode())
    recorder.close()
    recording = read_recording(str(path))
    assert (recording.version, recording.host) == ("2.0", {"os": "Linux"})
    assert [s.data["text"] for s in recording.read(2, 4)] == ["2ü\n", "3ü\n"]
    assert len(list(recording)) == 5
