"""The simulated machine under the demo: whose memory it is, in the kernel's own formats.

Figures are those of DGX Sparks that their owners published; nothing here was read from one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from gb10_kit import GIB, MODEL_GIB, PID, Box
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.meminfo import (
    parse_buddyinfo,
    parse_meminfo,
    parse_vmstat,
)
from ds4top.core.memory import Residency, residency_of
from ds4top.sources.host import HostMemory
from ds4top.standin import gb10_files
from ds4top.standin.gb10 import KINDS, TOTAL_BYTES, Doing
from ds4top.standin.gb10_files import FILES, buddyinfo


@pytest.fixture
def box() -> Box:
    return Box()


def test_an_idle_box_has_113_gib_available(box: Box) -> None:
    assert box.sample().total_bytes == TOTAL_BYTES == 127_600_748 * 1024
    assert box.available_gib() == pytest.approx(113.1, abs=0.2)
    assert box.gb10.processes() == []


def test_the_worked_example_of_a_copy(box: Box) -> None:
    box.does("idle", copied=True, context_bytes=3110 * 1024**2)
    assert box.held_gib() == pytest.approx(MODEL_GIB + 5.2 + 3.04, abs=0.01)
    assert box.available_gib() == pytest.approx(24.1, abs=0.3)
    assert box.gb10.model_cached_bytes("model.gguf") == 0


def test_the_worked_example_of_mapped_weights(box: Box) -> None:
    box.does("idle", copied=False, context_bytes=3110 * 1024**2)
    assert box.held_gib() == pytest.approx(4.0, abs=0.1)
    assert box.available_gib() == pytest.approx(109.1, abs=0.3)
    cached = box.gb10.model_cached_bytes("model.gguf")
    assert cached / GIB == pytest.approx(MODEL_GIB, abs=0.01)
    assert box.available_gib() - cached / GIB == pytest.approx(28.3, abs=0.3)
    assert 20 <= box.sample().free_bytes / GIB <= 28


@pytest.mark.parametrize("copied", [True, False])
def test_residency_is_seen_by_where_the_bytes_are(box: Box, copied: bool) -> None:
    box.does("idle", copied=copied)
    held, cached = int(box.held_gib() * GIB), box.gb10.model_cached_bytes("")
    found = residency_of(int(MODEL_GIB * GIB), held, cached)[0]
    assert found is (Residency.COPY if copied else Residency.MMAP)


def test_a_copying_load_grows_on_the_gpu(box: Box) -> None:
    seen = []
    for step in range(11):
        box.doing = Doing(PID, "loading", loaded=step / 10)
        box.pass_s(5.7)
        seen.append((box.held_gib(), box.available_gib()))
    assert [held for held, _ in seen] == pytest.approx([8.596 * at for at in range(11)], abs=0.01)
    assert [held + available for held, available in seen] == pytest.approx([113.05] * 11, abs=0.1)
    box.does("idle")
    assert box.held_gib() == pytest.approx(MODEL_GIB + 5.2 + 2.37, abs=0.01)


def test_a_mapped_load_grows_in_page_cache(box: Box) -> None:
    for step in range(1, 5):
        box.doing = Doing(PID, "loading", copied=False, loaded=step / 4)
        box.pass_s(30)
        assert box.gb10.model_cached_bytes("") == pytest.approx(
            MODEL_GIB * step / 4 * GIB, rel=0.01
        )
        assert box.held_gib() == pytest.approx(step / 4)
        assert box.available_gib() > 111


def test_a_large_prefill_of_the_agent_build_takes_14_gb_and_gives_them_back(box: Box) -> None:
    box.does("idle")
    before = box.available_gib()
    box.does("prefill", prompt_tokens=56_000, done_share=1.0)
    assert before - box.available_gib() == pytest.approx(14e9 / GIB, abs=0.1)
    box.does("decode")
    assert box.available_gib() == pytest.approx(before, abs=0.2)
    box.does("prefill", prompt_tokens=56_000, done_share=1.0, agent=False)
    assert box.available_gib() == pytest.approx(before, abs=0.2)


def test_memory_comes_back_over_seconds_once_the_server_has_gone(box: Box) -> None:
    box.does("idle")
    low = box.available_gib()
    box.doing = Doing()
    box.pass_s(1)
    assert box.gb10.processes() == []
    assert low <= box.available_gib() < 60
    box.pass_s(10)
    assert box.available_gib() == pytest.approx(113.1, abs=0.2)


def test_the_next_server_waits_for_what_the_last_one_held(box: Box) -> None:
    box.does("idle")
    box.doing = Doing(PID + 1, "loading", loaded=0.0)
    box.pass_s(0.5)
    assert box.held_gib() == 0
    assert box.available_gib() < 60
    box.pass_s(10)
    assert box.available_gib() == pytest.approx(113.1, abs=0.2)


PHASES = st.sampled_from(["loading", "idle", "prefill", "decode", "draining"])


@given(
    st.lists(
        st.tuples(PHASES, st.booleans(), st.floats(0, 1), st.integers(0, 131_072),
                  st.sampled_from(KINDS)),
        min_size=1, max_size=12,
    ),
    st.integers(0, 99),
)  # fmt: skip
def test_the_account_adds_up_whatever_happens(
    steps: list[tuple[str, bool, float, int, str]], seed: int
) -> None:
    box = Box(seed)
    for at, (phase, copied, share, tokens, kind) in enumerate(steps):
        box.doing = Doing(PID + at % 3, phase, copied, share, tokens, share)
        if kind != "nvml-hang":
            box.gb10.drive(kind)
        box.pass_s(7, step_s=3.5)
        m = parse_meminfo(box.gb10.text("meminfo"))
        assert all(value >= 0 for value in m.values())
        assert m["MemFree"] <= m["MemTotal"]
        assert m["MemAvailable"] <= m["MemTotal"]
        assert m["SwapFree"] <= m["SwapTotal"]
        free = m["MemFree"] / GIB
        # What is in no counter is the GPU's, what has not come back yet, and the base of a box.
        held = sum(gib for _, gib in box.gb10.processes())
        if free > 0.6:
            assert box.dark_gib() >= held + 1.0
        assert box.gb10.model_cached_bytes("") >= 0


def test_counters_only_grow(box: Box) -> None:
    last = parse_vmstat(box.gb10.text("vmstat"))
    levels = {name for name in last if name.startswith("nr_")}
    for kind in KINDS:
        if kind != "nvml-hang":
            box.gb10.drive(kind)
        box.does("decode")
        now = parse_vmstat(box.gb10.text("vmstat"))
        assert {name for name in now if now[name] < last[name]} <= levels
        assert now["pgfault"] > last["pgfault"]
        last = now
    assert last["pgfault"] > 1 << 32


def test_the_texts_are_the_kernel_s_own_formats(box: Box) -> None:
    box.does("idle")
    meminfo = box.gb10.text("meminfo").splitlines()
    assert meminfo[0] == "MemTotal:       127600748 kB"
    assert {len(line) for line in meminfo if line.startswith(("Mem", "Cached", "Slab"))} == {
        len("MemFree:        20123456 kB"), len(meminfo[0]),
    }  # fmt: skip
    assert "HugePages_Total:       0" in meminfo
    assert "Hugepagesize:       2048 kB" in meminfo
    assert len(meminfo) >= 50
    lines = box.gb10.text("pressure/memory").splitlines()
    assert [line.split()[0] for line in lines] == ["some", "full"]
    assert lines[0].startswith("some avg10=0.00 avg60=0.00 avg300=0.00 total=")
    zones = box.gb10.text("buddyinfo").splitlines()
    assert [zone[:22] for zone in zones] == ["Node 0, zone      DMA ", "Node 0, zone   Normal "]
    assert all(" " in zone[-1] for zone in zones)


@given(
    st.floats(0.0, 121.0), st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([4096, 16384, 65536])
)
def test_blocks_add_up_to_what_is_free(free: float, share: float, page: int) -> None:
    text = buddyinfo(free, share, page)
    pages = 0
    for line in text.splitlines():
        counts = [int(word) for word in line.partition("zone")[2].split()[1:]]
        assert page << (len(counts) - 1) == 32 << 20
        pages += sum(count << at for at, count in enumerate(counts))
    assert pages == int(free * GIB) // page
    blocks = parse_buddyinfo(text, page)
    assert blocks is not None
    assert (blocks.big > 0) == (share > 0 and free > 1) or free <= 1


def test_files_are_written_whole_and_read_as_a_machine_s(box: Box, tmp_path: Path) -> None:
    box.does("decode")
    for phase in ("decode", "prefill"):
        box.does(phase, prompt_tokens=50_000, done_share=1.0)
        gb10_files.write(tmp_path, box.gb10.text)
        assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == (
            sorted(FILES)
        )
        source = HostMemory(tmp_path)
        source.open()
        sample = source.read(1.0)[0]
        source.close()
        told = box.sample()
        assert (sample.total_bytes, sample.oom_kills) == (TOTAL_BYTES, 0)
        assert (sample.free_bytes, sample.available_bytes) == (
            told.free_bytes,
            told.available_bytes,
        )
        assert sample.blocks == told.blocks
