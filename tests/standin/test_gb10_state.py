"""What the stand-in tells of itself, and the machine that follows it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gb10_kit import GIB, MODEL_GIB
from hypothesis import given
from hypothesis import strategies as st
from standin_kit import DEADLINE_S, Running, Start, eventually, words

from ds4top.standin.demo import DemoServer
from ds4top.standin.gb10 import Doing, SimulatedGb10
from ds4top.standin.state import STATE_ENV, StateReader, StateWriter


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[StateWriter, StateReader]]:
    path = tmp_path / "state"
    reader = StateReader(path)
    yield StateWriter({STATE_ENV: str(path)}, agent=True), reader
    reader.close()


def test_what_is_written_is_read(pair: tuple[StateWriter, StateReader]) -> None:
    writer, read = pair
    assert read() == Doing()
    size = int(MODEL_GIB * GIB)
    writer.loading(0.25, copied=False, model_bytes=size)
    loading = Doing(os.getpid(), "loading", False, 0.25, model_bytes=size)
    assert read() == loading
    writer.context(2 * GIB)
    idle = replace(loading, phase="idle", loaded=1.0, context_bytes=2 * GIB)
    assert read() == idle
    writer.works(0, "prefill", 50_000, 0.5)
    assert read() == replace(idle, phase="prefill", prompt_tokens=50_000, done_share=0.5)
    writer.works(0, "decode")
    assert read() == replace(idle, phase="decode")
    writer.rests(0)
    assert read() == idle
    writer.drains()
    assert read().phase == "draining"


def test_of_several_sessions_a_prefill_comes_first(pair: tuple[StateWriter, StateReader]) -> None:
    writer, read = pair
    writer.context(GIB)
    writer.works(0, "decode")
    writer.works(1, "prefill", 9000, 0.1)
    writer.works(2, "decode")
    assert (read().phase, read().prompt_tokens) == ("prefill", 9000)
    writer.rests(1)
    assert read().phase == "decode"
    writer.rests(0)
    writer.rests(2)
    assert read().phase == "idle"


def test_half_a_record_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state"
    writer = StateWriter({STATE_ENV: str(path)}, agent=True)
    writer.context(GIB)
    whole = path.read_bytes()
    read = StateReader(path)
    known = read()
    assert known.phase == "idle"
    for broken in (b"", whole[:20], whole.replace(b"1 ", b"2 ", 1), b"\xff" * 192, b"a " * 12):
        path.write_bytes(broken)
        assert read() == known
    read.close()
    assert StateReader(tmp_path / "none")() == Doing()


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        reader = StateReader(file.name)
        assert reader() == Doing()
        reader.close()


def test_a_process_that_began_at_another_time_is_not_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    StateWriter({STATE_ENV: str(path)}, agent=True).context(GIB)
    proc = tmp_path / "proc"
    (proc / str(os.getpid())).mkdir(parents=True)
    stat = proc / str(os.getpid()) / "stat"
    real = Path("/proc/self/stat").read_text()
    head, _, tail = real.rpartition(")")
    fields = tail.split()
    read = StateReader(path, proc)
    for state, ticks, seen in (
        ("S", fields[19], True),
        ("Z", fields[19], False),
        ("S", "7", False),
    ):
        stat.write_text(f"{head}) {' '.join([state, *fields[1:19], ticks, *fields[20:]])}\n")
        assert (read().pid is not None) == seen


def phases(server: Running, reader: Callable[[], Doing], until: Callable[[], bool]) -> list[Doing]:
    """Every state seen until something holds."""
    seen: list[Doing] = []

    def look() -> bool:
        doing = reader()
        if not seen or seen[-1] != doing:
            seen.append(doing)
        return until()

    eventually(look, "its end")
    return seen


@pytest.mark.parametrize(
    ("profile", "arguments", "copied"),
    [
        ("daily-agent", ("--no-mmap",), True),
        ("daily-agent", (), False),
        ("stock-2026-08", (), True),
    ],
)
def test_a_real_server_tells_its_phases(
    start: Start, tmp_path: Path, profile: str, arguments: tuple[str, ...], copied: bool
) -> None:
    read = StateReader(tmp_path / "state")
    server = start(
        *arguments, "--standin-model-gib", MODEL_GIB, profile=profile,
        speed=200.0 if copied else 1000.0,
        **{STATE_ENV: str(tmp_path / "state")},
    )  # fmt: skip
    loading = phases(server, read, lambda: "listening on" in server.log)
    shares = [doing.loaded for doing in loading if doing.phase == "loading"]
    assert shares == sorted(shares)
    assert len(shares) > 5
    assert {doing.copied for doing in loading if doing.phase == "loading"} == {copied}
    idle = read()
    assert (idle.pid, idle.phase, idle.loaded) == (server.process.pid, "idle", 1.0)
    assert idle.agent == (profile == "daily-agent")
    assert idle.context_bytes == pytest.approx(0.9 * GIB, rel=0.2)
    sock = server.open("/v1/completions", prompt=words(9000) + "[[plan gen=300]]", max_tokens=400)
    busy = phases(server, read, lambda: "finish=" in server.log)
    seen = [doing.phase for doing in busy]
    assert "prefill" in seen
    assert "decode" in seen
    assert seen.index("prefill") < seen.index("decode")
    done = [doing.done_share for doing in busy if doing.phase == "prefill"]
    assert done == sorted(done)
    assert {d.prompt_tokens for d in busy if d.phase == "prefill"} == {9027}
    sock.close()
    eventually(lambda: read().phase == "idle", "rest")
    server.process.send_signal(signal.SIGKILL)
    eventually(lambda: read() == Doing(), "its end")
    read.close()


def test_a_refused_second_server_says_nothing(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state"
    first = start(speed=20_000.0, **{STATE_ENV: str(path)}).ready()
    second = start(speed=20_000.0, **{STATE_ENV: str(path)})
    assert second.process.wait(DEADLINE_S) == 2
    assert StateReader(path)().pid == first.process.pid


def test_a_demo_s_machine_follows_its_server() -> None:
    with DemoServer(speed=100.0, drive=False, restart_after_s=None) as demo:
        read = StateReader(demo.state_path)
        clock = [0.0]
        gb10 = SimulatedGb10(read, lambda: clock[0], fail=demo.fail)

        def held(least: float) -> bool:
            clock[0] += 1.0
            return any(pid == demo.server_pid() and g >= least for pid, g in gb10.processes())

        eventually(lambda: held(10.0), "weights on the GPU")
        eventually(lambda: held(88.0), "all of them")
        assert demo.wait_ready()
        pid = demo.server_pid()
        gb10.drive("oom")
        assert f"Killed process {pid} " in "\n".join(gb10.kernel_lines())
        eventually(lambda: read().pid is None, "the server's end")
        clock[0] += 60.0
        assert gb10.processes() == []
        read.close()
