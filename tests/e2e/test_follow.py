"""Live follow of a log that is written line by line, on a real terminal."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from terminal import Terminal, ds4top

STARTING = (
    "ds4: CUDA backend initialized on NVIDIA GB10 (sm_121)",
    "ds4: CUDA copying 80.76 GiB model to device memory",
)
LISTENING = (
    "context buffers 2425.71 MiB (ctx=131072, backend=cuda, prefill_chunk=2048,"
    " raw_kv_rows=2304, compressed_kv_rows=32770)",
    "KV disk cache /var/cache/ds4-kv (budget=1024 MiB, cross-quant=accept, min=512,"
    " cold_max=30000, continued=10000, trim=32, align=2048, hit_half_life=21600s)",
    "listening on http://127.0.0.1:8000",
)
MISS = "live kv cache miss live=11358 prompt=5816 common=1 reason=token-mismatch"
SPAN = "chat ctx=0..5816:5816"
PREFILL = (
    f"{SPAN} TOOLS prompt start",
    f"{SPAN} TOOLS prefill chunk 0/5816 (0.0%) chunk=0.00 t/s avg=0.00 t/s 0.000s",
    f"{SPAN} TOOLS prefill chunk 2048/5816 (35.2%) chunk=361.67 t/s avg=361.46 t/s 5.544s",
)
PROMPT_DONE = (
    f"{SPAN} TOOLS prefill chunk 5816/5816 (100.0%) chunk=341.77 t/s avg=345.66 t/s 16.562s",
    f"{SPAN} TOOLS prompt done 16.563s",
)
DECODE = (
    "chat ctx=5816..5866:50 gen=50 TOOLS decoding chunk=10.56 t/s avg=10.56 t/s 4.735s",
    "chat ctx=5866..5916:50 gen=100 TOOLS decoding chunk=10.53 t/s avg=10.55 t/s 9.072s",
)
FINISH = f"{SPAN} gen=100 TOOLS finish=length 25.635s"
SHUTDOWN = "shutdown requested, draining requests"
PERSISTED = (
    "persisting current KV cache before shutdown tokens=5916",
    "kv cache stored tokens=5916 trimmed=0 reason=shutdown key=token-text size=98.67 MiB"
    " save=100.5 ms",
)
FAILED = "failed to listen on 127.0.0.1:8000: Address already in use"


def stamped(*bodies: str, stamp: str | None = None) -> bytes:
    """Lines of the log; those of the server itself with a stamp, by default of now."""
    stamp = stamp or datetime.now().strftime("%m%d %H:%M:%S")
    lines = [b if b.startswith("ds4:") else f"{stamp} ds4-server: {b}" for b in bodies]
    return "".join(f"{line}\n" for line in lines).encode()


class Log:
    """A server log that a test writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, *bodies: str) -> None:
        """Append whole lines."""
        self.add_bytes(stamped(*bodies))

    def add_bytes(self, data: bytes) -> None:
        """Append bytes."""
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A log that does not exist yet."""
    return Log(tmp_path / "server.log")


@contextmanager
def following(path: object, **options: object) -> Iterator[Terminal]:
    """A terminal that follows; it must quit with 0 and leave nothing."""
    argv = ds4top("--log", path, "--interval", "0.25")
    with Terminal(argv, **options) as terminal:  # type: ignore[arg-type]
        yield terminal
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.left() == []


def test_every_state_in_its_turn(log: Log) -> None:
    log.add(*STARTING)
    with following(log.path) as terminal:
        terminal.wait_state("LOADING")
        log.add(*LISTENING)
        terminal.wait_state("IDLE")
        log.add(MISS)
        terminal.wait_state("LOOKUP")
        log.add(*PREFILL)
        terminal.wait_state("PREFILL")
        terminal.wait_for(r"35 ?%")
        log.add(*PROMPT_DONE, *DECODE)
        terminal.wait_state("DECODE")
        terminal.wait_for(r"10\.5 tok/s")
        # The request in flight is finished first, then the cache is saved.
        log.add(SHUTDOWN)
        terminal.wait_state("DRAINING")
        log.add(FINISH)
        terminal.settle(0.3)
        assert "DRAINING" in terminal.header
        log.add(*PERSISTED)
        terminal.wait_state("STOPPED")
        log.add(LISTENING[0], FAILED)
        terminal.wait_state("FAILED")
        terminal.wait_for("port in use")


def test_a_file_that_is_not_there_yet(log: Log) -> None:
    with following(log.path) as terminal:
        terminal.wait_for("waiting for it|missing")
        terminal.wait_state("UNKNOWN")
        log.add(*LISTENING)
        terminal.wait_state("IDLE")
        terminal.wait_for("log ok")


def test_rotation_by_rename(log: Log) -> None:
    log.add(*LISTENING, *PREFILL)
    with following(log.path) as terminal:
        terminal.wait_state("PREFILL")
        log.path.rename(log.path.with_suffix(".log.1"))
        # What the server still writes to the renamed file counts.
        Log(log.path.with_suffix(".log.1")).add(*PROMPT_DONE, DECODE[0])
        terminal.wait_state("DECODE")
        log.add(DECODE[1], FINISH)
        terminal.wait_state("IDLE")
        terminal.press("2")
        terminal.wait_for(r"0\.\.5,816 .*\b100\b.*length")
        assert "not known" not in terminal.lines[-2]


def test_copytruncate(log: Log) -> None:
    log.add(*LISTENING, *PREFILL, *PROMPT_DONE, DECODE[0])
    with following(log.path) as terminal:
        terminal.wait_state("DECODE")
        log.path.with_suffix(".1").write_bytes(log.path.read_bytes())
        os.truncate(log.path, 0)
        log.add(DECODE[1], FINISH)
        terminal.wait_state("IDLE")
        terminal.press("2")
        terminal.wait_for(r"0\.\.5,816 .*\b100\b.*length")


def test_a_torn_line(log: Log) -> None:
    log.add(*LISTENING)
    with following(log.path) as terminal:
        terminal.wait_state("IDLE")
        line = stamped(PREFILL[0])
        log.add_bytes(line[:31])
        terminal.press("8")
        # The sources view counts whole lines: the torn one is not among them.
        terminal.wait_for(r"\b3 lines")
        assert "PREFILL" not in terminal.text
        log.add_bytes(line[31:])
        terminal.wait_state("PREFILL")
        terminal.wait_for(r"\b4 lines")
        assert "lines not known" not in terminal.text
        # One that is cut for good is told.
        log.add_bytes(b"1124 18:28:05 ds4-server: chat ctx=0..58\n")
        terminal.wait_for(r"\b1 lines? not known")


def test_an_old_log_with_an_open_request(log: Log) -> None:
    log.add_bytes(stamped(*LISTENING, *PREFILL, *PROMPT_DONE, *DECODE, stamp="0302 14:05:07"))
    old = datetime(2026, 3, 2, 14, 5, 9).timestamp()
    os.utime(log.path, (old, old))
    with following(log.path) as terminal:
        terminal.wait_state("last known: DECODE")
        terminal.wait_for(r"\d+ d .*ago")
        for view in "2345678":
            before = terminal.cells()
            terminal.press(view)
            terminal.wait_change(before, view)
        assert not any(re.match(r"\W*DECODE", header) for header in terminal.headers)
        # New lines of it make it alive again.
        log.add("chat ctx=5916..5966:50 gen=150 TOOLS decoding chunk=10.50 t/s avg=10.53 t/s 13.9s")
        terminal.wait_state("DECODE")


def test_a_request_that_falls_silent_is_last_known(log: Log) -> None:
    minute_ago = datetime.fromtimestamp(time.time() - 60).strftime("%m%d %H:%M:%S")
    log.add_bytes(stamped(*LISTENING, *PREFILL, *PROMPT_DONE, *DECODE, stamp=minute_ago))
    with following(log.path) as terminal:
        terminal.wait_state("last known: DECODE")


def test_standard_input_with_keys_from_the_terminal() -> None:
    reader, writer = os.pipe()
    with following("-", stdin=reader) as terminal:
        os.close(reader)
        os.write(writer, stamped(*LISTENING))
        terminal.wait_state("IDLE")
        terminal.press("6")
        terminal.wait_for(r"listening on http")
        os.write(writer, stamped(*PREFILL, *PROMPT_DONE, *DECODE))
        terminal.wait_state("DECODE")
        terminal.press("1")
        terminal.wait_for(r"10\.5 tok/s")
        os.write(writer, stamped(FINISH))
        terminal.wait_state("IDLE")
        os.close(writer)
        terminal.wait_for("has ended|log missing|ended")
        terminal.press("8")
        terminal.wait_for("SOURCES")


def test_a_silent_pipe_does_not_hold_back_the_end() -> None:
    reader, writer = os.pipe()
    with Terminal(ds4top("--log", "-"), stdin=reader) as terminal:
        os.close(reader)
        terminal.wait_state("UNKNOWN")
        begun = time.monotonic()
        terminal.signal(signal.SIGTERM)
        assert terminal.wait_exit() == 143
        assert time.monotonic() - begun < 3
        assert terminal.left() == []
    os.close(writer)


def test_resize_while_following(log: Log) -> None:
    log.add(*LISTENING, *PREFILL, *PROMPT_DONE, *DECODE)
    with following(log.path) as terminal:
        terminal.wait_state("DECODE")
        for columns, rows in ((200, 50), (80, 24), (60, 12), (120, 30)):
            terminal.settle()
            terminal.resize(columns, rows)
            # The last row holds the footer again: the whole screen is in use, and no more.
            terminal.wait_until(
                lambda: re.search(r"views|1 live", terminal.lines[-1]), f"{columns}×{rows}"
            )
            terminal.wait_for(r"10\.5 tok/s")
            terminal.wait_state("DECODE")


def test_a_recording_replays_to_the_same_screen(log: Log, tmp_path: Path) -> None:
    recording = tmp_path / "kept.ds4rec"
    log.add(*LISTENING)
    argv = ds4top("--log", log.path, "--interval", "0.25", "--record", recording)
    with Terminal(argv) as terminal:
        terminal.wait_state("IDLE")
        log.add(MISS, *PREFILL, *PROMPT_DONE, *DECODE)
        terminal.wait_state("DECODE")
        log.add(FINISH)
        terminal.wait_state("IDLE")
        terminal.press("2")
        seen = terminal.wait_for(r"chat +0\.\.5,816 .*\b100\b.*length.*")[0].split()
        terminal.press("q")
        assert terminal.wait_exit() == 0
    assert recording.stat().st_mode & 0o777 == 0o600
    with Terminal(ds4top("--replay", recording, "--speed", "1000")) as terminal:
        terminal.wait_for("replay ended")
        terminal.press("2")
        again = terminal.wait_for(r"chat +0\.\.5,816 .*\b100\b.*length.*")[0].split()
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.left() == []
    assert again == seen


def test_a_recording_is_never_written_over(log: Log, tmp_path: Path) -> None:
    kept = tmp_path / "kept.ds4rec"
    kept.write_text("mine\n")
    log.add(*LISTENING)
    with Terminal(ds4top("--log", log.path, "--record", kept)) as terminal:
        assert terminal.wait_exit() == 64
        assert "kept.ds4rec" in terminal.text
    assert kept.read_text() == "mine\n"
