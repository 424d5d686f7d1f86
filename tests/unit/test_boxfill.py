"""What of a machine and its log goes into one record of the black box."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ds4top.core.boxfill import record_of
from ds4top.core.boxrecord import PHASES, RESIDENCIES, BoxRecord
from ds4top.core.derive import ServerState, status_of
from ds4top.core.gpu import GpuProcess, GpuSample
from ds4top.core.logread import LogReader
from ds4top.core.machine import Machine
from ds4top.core.meminfo import Blocks, MemorySample
from ds4top.core.memory import Residency
from ds4top.core.plan import Target
from ds4top.core.process import ServerProcess
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState

GIB = 1 << 30
NOW = datetime(2026, 11, 24, 18, 0, 20, tzinfo=UTC).timestamp()
SERVER = ServerProcess(
    Target(914_871, 42, "boot", "ds4-server"), NOW - 900, "ds4", 1000, "a",
    argv=("ds4-server",), model_bytes=int(80.76 * GIB),
)  # fmt: skip
READY = (
    "context buffers 3109.74 MiB (ctx=131072, backend=cuda, prefill_chunk=4096, raw_kv_rows=4352,"
    " compressed_kv_rows=32768)",
    "listening on http://127.0.0.1:8000",
)
SPAN = "chat ctx=2048..48113:46065"
STOPPING = "shutdown requested, draining requests"


def log(*messages: str) -> LogState:
    text = "".join(f"1124 18:00:00 ds4-server: {m}\n" for m in (*READY, *messages))
    state, reader = LogState(), LogReader(StampClock(NOW, UTC))
    Reducer(state).apply([*reader.feed(text.encode()), *reader.close()])
    return state


def machine(state: LogState) -> Machine:
    found = Machine()
    found.seen((SERVER,), SERVER)
    processes = (GpuProcess(914_871, 89 * GIB, "ds4-server"), GpuProcess(7, 12 * GIB, "comfyui"))
    found.take_gpu(
        GpuSample(
            0, 1.0, NOW, unified=True, utilisation_pct=96, sm_clock_mhz=2223, power_w=37.5,
            temperature_c=81, processes=processes,
        ),
        0,
        decoding=False,
    )  # fmt: skip
    for step in range(5):
        available = (24 - step) * GIB
        found.take_memory(
            MemorySample(
                100.0 + step / 2, NOW + step / 2, 121 * GIB, 2 * GIB, available, oom_kills=3,
                blocks=Blocks(27, 5),
            ),
            state,
            ServerState.IDLE,
        )  # fmt: skip
    return found


def test_a_prefill_under_way_constructed():
    state = log(f"{SPAN} prompt start", f"{SPAN} prompt done 152.800s")
    found = record_of(machine(state), state, status_of(state, NOW), NOW + 3)
    assert found == BoxRecord(
        wall=NOW + 2, t=102.0, level="ok", phase="decode", residency="copy", ended="",
        free_bytes=2 * GIB, available_bytes=20 * GIB, headroom_bytes=20 * GIB,
        slope_bytes_per_s=-2 * GIB, gpu_held_bytes=101 * GIB, oom_kills=3, big_blocks=27,
        power_w=37.5, sm_clock_mhz=2223, temperature_c=81, utilisation_pct=96, request_number=1,
        request_started_wall=NOW - 20, context_tokens=48_113, prompt_tokens=48_113,
        decode_tps=None, context_limit_tokens=131_072, pid=914_871, start_ticks=42, other_pid=7,
        other_bytes=12 * GIB, other_comm="comfyui", told_wall=NOW + 3,
    )  # fmt: skip


def test_nothing_known_is_unknown():
    found = record_of(Machine(), LogState(), status_of(LogState(), NOW), NOW)
    assert found == BoxRecord(NOW, 0.0, phase="absent", told_wall=NOW)


@pytest.mark.parametrize(
    ("messages", "ended"),
    [
        ((), "died"),
        ((f"{SPAN} prompt start",), "died"),
        ((STOPPING,), "clean"),
        ((f"{SPAN} prompt start", STOPPING), "died"),
    ],
)
def test_how_a_server_that_is_gone_went_constructed(messages, ended):
    state = log(*messages)
    found = machine(state)
    found.ended(SERVER.target, NOW)
    record = record_of(found, state, status_of(state, NOW), NOW)
    assert (record.ended, record.phase, record.pid) == (ended, "stopped", None)


def test_how_it_went_is_not_known_without_a_log_constructed():
    found = machine(LogState())
    found.ended(SERVER.target, NOW)
    record = record_of(found, LogState(), status_of(LogState(), NOW), NOW)
    assert (record.ended, record.phase) == ("", "stopped")


def test_every_state_and_residency_has_a_place_in_the_ring():
    assert {state.value for state in ServerState} <= set(PHASES)
    assert {residency.value for residency in Residency} <= set(RESIDENCIES)
