"""The GPU's figures: unified or not, reasons in words, and faults that look normal when idle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.archive.codec import decode, encode
from ds4top.core.gpu import (
    REASONS,
    GpuProcess,
    GpuSample,
    GpuTrack,
    is_unified,
    low_look,
    merged,
    server_bytes,
    throttle_words,
)
from ds4top.core.gputrack import GAP_S, LowPower, Slowed
from ds4top.core.model import Model
from ds4top.core.state import LogState
from ds4top.view.gpu import gpu_items, gpu_row
from ds4top.view.text import row_text
from tests.fakes.nvml import DATA, SCENARIOS

MEM_TOTAL = 127_600_748 * 1024
NOON = 1_764_072_000.0


def sample_of(scenario: str, t: float = 0.0, **over: Any) -> GpuSample:
    """A sample with the figures of a scenario."""
    of = SCENARIOS[scenario]
    plain = GpuSample(
        index=0,
        t=t,
        wall=NOON + t,
        utilisation_pct=of["gpu_util"],
        sm_clock_mhz=of["sm_mhz"],
        power_w=of["power_mw"] / 1000,
        temperature_c=of["temp_c"],
        reasons=of["reasons"],
    )
    return replace(plain, **over)


def fed(*stretches: tuple[str, int], track: GpuTrack | None = None) -> GpuTrack:
    """A track over scenarios, each for so many seconds, one sample a second."""
    track = track or GpuTrack()
    begin = 0.0 if track.sample is None else track.sample.t + 1
    for scenario, seconds in stretches:
        for second in range(seconds):
            track.take(sample_of(scenario, begin + second))
        begin += seconds
    return track


# Unified memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "bus_bits", "name", "unified"),
    [
        (None, None, None, True),
        (0, None, None, True),
        (130_663_165_952, None, None, True),
        (8_522_825_728, None, "an N1X", True),
        (8_522_825_728, 128, "NVIDIA RTX 4060", False),
        (24 << 30, None, "NVIDIA L4", False),
        (24 << 30, 384, "NVIDIA L4", False),
        (MEM_TOTAL, 5120, "NVIDIA H100", False),
        (24 << 30, None, "NVIDIA GB10", True),
        (None, 5120, "NVIDIA H100", False),
    ],
)
def test_unified_or_not(
    total: int | None, bus_bits: int | None, name: str | None, unified: bool
) -> None:
    assert is_unified(total, MEM_TOTAL, bus_bits=bus_bits, name=name) is unified


def test_a_size_alone_tells_nothing_while_the_machine_s_own_is_unknown() -> None:
    assert not is_unified(8 << 30, None, bus_bits=None, name="NVIDIA L4")
    assert is_unified(None, None, bus_bits=None, name=None)


def test_a_process_in_two_lists_counts_once() -> None:
    assert merged([[(1, 5), (2, None)], [(1, 5), (2, 7), (3, None)]]) == {1: 5, 2: 7, 3: None}
    sample = GpuSample(0, 0.0, 0.0, processes=(GpuProcess(1, 5), GpuProcess(2, None)))
    assert (sample.held_bytes(1), sample.held_bytes(2), sample.held_bytes(9)) == (5, None, 0)
    assert replace(sample, processes=None).held_bytes(1) is None
    assert server_bytes([sample, sample], 1) == 10
    assert server_bytes([], 1) is None


FIGURE = st.none() | st.integers(0, 1 << 40)


@given(st.lists(st.lists(st.tuples(st.integers(1, 5), FIGURE))))
def test_no_process_counts_for_more_than_its_largest_figure(
    lists: list[list[tuple[int, int | None]]],
) -> None:
    found = merged(lists)
    for pid, used in found.items():
        told = [each for one in lists for which, each in one if which == pid and each is not None]
        assert used == (max(told) if told else None)


# Reasons --------------------------------------------------------------------------------------


def test_the_bits_are_those_of_the_driver() -> None:
    assert [bit for bit, _, _ in REASONS] == sorted(DATA["clock_event_bits"].values())


def test_reasons_in_words() -> None:
    assert throttle_words(0x1) == ()
    assert throttle_words(0x1 | 0x20 | 0x80) == ("software thermal", "power brake")
    assert throttle_words(0x2) == ()
    assert sample_of("sw_thermal").throttle == ("software thermal",)


def test_slowed_time_belongs_to_the_time_between_readings() -> None:
    # Counters are read each ten seconds, samples come each second with the last reading in them.
    track = GpuTrack()
    for second in range(31):
        read_t = float(second - second % 10)
        us = (("power brake", int(read_t) * 50_000), ("sync boost", 7))
        track.take(sample_of("decode", float(second), slowed_us=us, slowed_t=read_t))
        assert track.slowed == ({} if second < 10 else {"power brake": pytest.approx(0.05)})


def test_a_driver_loaded_anew_is_no_growth_and_silence_is_no_slowing() -> None:
    slow = Slowed()
    slow.take(0.0, 0.0, (("power brake", 100),))
    slow.take(10.0, 10.0, (("power brake", 5_000_100),))
    assert slow.share == {"power brake": 0.5}
    slow.take(20.0, 20.0, (("power brake", 0),))
    assert slow.share == {}
    slow.take(30.0, 30.0, (("power brake", 20_000_000),))
    # More than all of the time is a rounding of the driver's.
    assert slow.share == {"power brake": 1.0}
    slow.take(50.0, 40.0, ())
    assert slow.share == {"power brake": 1.0}
    slow.take(61.0, 40.0, ())
    assert slow.share == {}


# The low-power fault --------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_low_power_fault_and_nothing_else(scenario: str) -> None:
    words = fed((scenario, 60)).low_power_words(NOON + 60, NOON)
    assert (words is not None) == (scenario == "low_power_fault")


def test_a_network_that_is_waited_for_is_none() -> None:
    waits = sample_of("waiting_on_network")
    assert (waits.utilisation_pct, waits.sm_clock_mhz, waits.power_w) == (96, 2405, 15.0)
    assert low_look(waits) is False


@pytest.mark.parametrize(
    ("change", "low"),
    [
        ({}, True),
        ({"utilisation_pct": 90, "sm_clock_mhz": 1399, "temperature_c": 79}, True),
        ({"power_w": None, "temperature_c": None, "reasons": None}, True),
        ({"sm_clock_mhz": 1400}, False),
        ({"temperature_c": 80}, False),
        ({"reasons": 0x2}, False),
        ({"reasons": 0x20}, False),
        ({"reasons": 0x40}, False),
        ({"reasons": 0x4}, True),
        ({"utilisation_pct": 89}, None),
        ({"utilisation_pct": None}, None),
        ({"sm_clock_mhz": None}, None),
    ],
)
def test_the_marks_of_the_fault(change: dict[str, Any], low: bool | None) -> None:
    assert low_look(sample_of("low_power_fault", **change)) is low


def test_eight_of_ten_looks_make_the_fault() -> None:
    looks = LowPower()
    for second, low in enumerate([True] * 7 + [None, None]):
        looks.take(second, second, low)
    assert not looks.there
    looks.take(9.0, 9.0, True)
    assert looks.there
    assert (looks.spells[0].begin_wall, looks.spells[0].last_wall) == (0.0, 9.0)


def test_looks_far_apart_make_none() -> None:
    looks = LowPower()
    for turn in range(20):
        looks.take(turn * (GAP_S + 1), turn * (GAP_S + 1), True)
    assert not looks.there


def test_the_fault_in_words() -> None:
    track = fed(("low_power_fault", 421))
    said = "low-power fault for 7 m 00 s"
    assert track.low_power_words(NOON + 421, NOON) == said
    # It is not there once the GPU has been well for a while.
    assert fed(("decode", 7), track=track).low_power_words(NOON + 428, NOON) == said
    assert fed(("decode", 1), track=track).low_power_words(NOON + 429, NOON) is None


def test_an_idle_gpu_neither_ends_nor_repeats_a_spell() -> None:
    # Requests of 20 s each in one long fault, a minute of idling between them: one spell.
    track = fed(*([("low_power_fault", 20), ("low_power_fault_idle", 60)] * 5))
    assert track.low_power.count(0.0) == 1
    # Idle it looks well: by which figures it was known goes with it.
    assert track.low_power_words(NOON + 400, NOON) == (
        "low-power fault for 5 m 30 s, last seen 1 m 00 s ago (96 % at 695 MHz, 15 W)"
    )
    gone = fed(("idle_p8", 560), track=track)
    assert gone.low_power_words(NOON + 960, NOON) is None


def test_intermittent_spells_are_counted() -> None:
    # 7 minutes of it in each half hour, as three machines had it.
    track = fed(*([("low_power_fault", 421), ("decode", 1379)] * 2), ("low_power_fault", 421))
    now = track.low_power.spells[-1].last_wall
    said = "low-power fault for 7 m 00 s"
    assert track.low_power_words(now, NOON - 3600) == f"{said}, 3rd time today"
    # Two of them were seen after a midnight that fell between the first and the second.
    assert track.low_power_words(now, NOON + 1000) == f"{said}, 2nd time today"


def test_the_row_says_it_in_words_beside_the_figures() -> None:
    model = Model(LogState(), NOON + 60, tz=UTC)
    for second in range(60):
        sample = sample_of("low_power_fault", float(second))
        model.machine.take_gpu(replace(sample, wall=NOON + second), 0, decoding=False)
    words = [row_text(each) for each in gpu_items(model)]
    assert words[:5] == [
        " 96 %", "  695 MHz", " 15 W", " 45 °C", "low-power fault for 55 s",
    ]  # fmt: skip
    assert "low-power fault" in row_text(gpu_row(model, 100))


def test_spells_less_than_half_a_minute_apart_are_one() -> None:
    track = fed(("low_power_fault", 12), ("decode", 12), ("low_power_fault", 12))
    assert track.low_power.count(0.0) == 1
    track = fed(("low_power_fault", 12), ("decode", 31), ("low_power_fault", 12))
    assert track.low_power.count(0.0) == 2


def test_a_lost_driver_forgets_the_sample_and_not_the_day() -> None:
    track = fed(("low_power_fault", 20))
    track.lose()
    assert track.sample is None
    assert track.low_power.count(0.0) == 1


@given(st.lists(st.sampled_from([True, False, None]), max_size=120))
def test_spells_are_in_order_and_made_of_looks(looks: list[bool | None]) -> None:
    seen = LowPower()
    for second, low in enumerate(looks):
        seen.take(second, second, low)
    for spell in seen.spells:
        assert looks[int(spell.begin_wall)] is True
        assert spell.begin_wall <= spell.last_wall < len(looks)
    ends = [spell.last_wall for spell in seen.spells]
    assert ends == sorted(ends)
    assert not seen.spells or looks.count(True) >= 8


# Energy ---------------------------------------------------------------------------------------


def test_joules_per_token_by_the_energy_counter() -> None:
    track = GpuTrack()
    for second in range(11):
        track.take(
            sample_of("decode", float(second), energy_j=1000.0 + 37.0 * second), 14 * second, True
        )
    assert track.joules_per_token() == pytest.approx(37.0 / 14)


def test_joules_per_token_by_power_where_energy_is_not_told() -> None:
    track = GpuTrack()
    for second in range(11):
        track.take(sample_of("decode", float(second)), 14 * second)
    assert track.joules_per_token() == pytest.approx(37.0 / 14)


def test_the_energy_of_a_prefill_is_no_token_s() -> None:
    track = GpuTrack()
    for second in range(60):
        track.take(sample_of("prefill", float(second)), 0, False)
    for second in range(60, 71):
        track.take(sample_of("decode", float(second)), 14 * (second - 59), True)
    # The first second of decode is half of one and half of the other: 58.5 J.
    assert track.joules_per_token() == pytest.approx((58.5 + 10 * 37.0) / (14 * 11))


def test_no_quotient_of_few_tokens_nor_over_a_gap() -> None:
    track = GpuTrack()
    assert track.joules_per_token() is None
    for second in range(4):
        track.take(sample_of("decode", float(second)), 14 * second, True)
    assert track.joules_per_token() is None
    # The tokens of a minute in which the driver was silent have no energy known.
    track.take(sample_of("decode", 70.0), 1000, True)
    assert track.joules_per_token() is None
    track.take(sample_of("decode", 75.0, energy_j=5.0), 1100, True)
    assert track.joules_per_token() == pytest.approx(5 * 37.0 / 100)
    # A counter that went back, and a server that began anew.
    track.take(sample_of("decode", 76.0, energy_j=1.0), 1200, True)
    track.take(sample_of("decode", 77.0, energy_j=38.0), 3, True)
    assert track.joules_per_token() is None


# The sample ----------------------------------------------------------------------------------


def test_a_silent_driver_makes_old_figures() -> None:
    sample = sample_of("decode")
    assert not sample.stale(NOON + 2.0)
    assert sample.stale(NOON + 2.1)


def test_a_sample_survives_a_recording() -> None:
    sample = sample_of(
        "decode",
        1.5,
        capability=(12, 1),
        slowed_us=(("software thermal", 903_158),),
        slowed_t=1.0,
        processes=(GpuProcess(1, None), GpuProcess(2, 92_266_299_392, "ds4-server")),
        missing=(("nvmlDeviceGetMemoryInfo", "not supported"),),
    )
    assert decode(encode(sample), {"GpuSample": GpuSample, "GpuProcess": GpuProcess}) == sample
