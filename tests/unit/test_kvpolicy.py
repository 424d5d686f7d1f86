"""Who is evicted next: the formula, a real server's own choices, and the stand-in's."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.kvfile import AUGUST_2026, MAY_2026, Build, KvEntry, payload_bytes
from ds4top.core.kvpolicy import build_of, live_hits, order, score
from ds4top.sources.kvdir import KvDirectory
from ds4top.standin.clock import Pace
from ds4top.standin.faults import Faults
from ds4top.standin.grammar import Log
from ds4top.standin.kvstore import CacheOptions, KvStore
from ds4top.standin.options import ServerOptions
from ds4top.standin.profiles import PROFILES
from tests.unit.kv_tools import NOW_S, entry, head, key, recorded, victims_of_save, write

MIB = 1 << 20
BUDGET = 1_024 * MIB
BUILDS = {"stock-2026-05": MAY_2026, "stock-2026-08": AUGUST_2026}


def whole(recording: str, label: str) -> list[KvEntry]:
    return [one for one in recorded(recording, label).values() if isinstance(one, KvEntry)]


def keys(victims: object) -> list[str]:
    return [victim.entry.key[:8] for victim in victims]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("recording", "saved", "saved_bytes", "gone"),
    [
        # The last lines of each log: `evicted` while the shutdown save was stored.
        ("h200-copy", "a1381eaa", 208_890_807, ["197eabd9"]),
        ("sim-short", "3bae4379", 215_995_605, ["ddc95885"]),
    ],
)
def test_the_real_server_evicted_what_is_foretold(
    recording: str, saved: str, saved_bytes: int, gone: list[str]
) -> None:
    before, after = whole(recording, "last"), whole(recording, "end")
    assert {one.key[:8] for one in after} - {one.key[:8] for one in before} == {saved}
    at = next(one.created_at for one in after if one.key.startswith(saved))
    assert at is not None
    victims = victims_of_save(before, at, MAY_2026, budget_bytes=BUDGET, incoming_bytes=saved_bytes)
    assert keys(victims) == gone
    left = {one.key[:8] for one in before} - set(gone) | {saved}
    assert {one.key[:8] for one in after} == left


def test_scores_by_hand() -> None:
    one = replace(entry(1, tokens=1_000, hits=4, used=NOW_S), file_bytes=1_000_000)
    assert score(one, NOW_S, MAY_2026) == 5 * 1_000 / 1_000_000
    assert score(one, NOW_S + 21_600, MAY_2026) == 3 * 1_000 / 1_000_000
    assert score(one, NOW_S + 43_200, AUGUST_2026) == 2 * 2 * 1_000 / 1_000_000
    assert score(one, NOW_S - 100, MAY_2026) == 5 * 1_000 / 1_000_000
    kept = replace(one, reason="continued")
    assert score(kept, NOW_S, AUGUST_2026) == 5 * 1_000 / 1_000_000
    found = score(kept, NOW_S, AUGUST_2026, superseded=True)
    assert found == pytest.approx(0.005 * (0.05 + 0.45 * 4 / 5), rel=1e-12)
    assert score(replace(kept, hits=0), NOW_S, AUGUST_2026, superseded=True) == pytest.approx(5e-5)
    assert score(kept, NOW_S, MAY_2026, superseded=True) == 0.005
    assert score(one, NOW_S, AUGUST_2026, superseded=True) == 0.01


def test_hits_fade_to_nothing_and_age_from_the_last_use() -> None:
    one = entry(1, hits=1, created=NOW_S, used=0)
    assert live_hits(one, NOW_S + 21_600) == 0.5
    assert live_hits(one, NOW_S + 6 * 21_600) == 1 / 64
    assert live_hits(one, NOW_S + 7 * 21_600) == 0.0
    assert live_hits(replace(one, created_at=None), NOW_S) == 0.0
    assert live_hits(one, 1e15) == 0.0


def test_equal_scores_go_by_the_last_use_then_by_the_directory() -> None:
    twins = [entry(n, used=NOW_S - (n == 2), created=NOW_S) for n in (1, 2, 3)]
    assert keys(order(twins, NOW_S, MAY_2026)) == [key(n)[:8] for n in (2, 1, 3)]


def test_what_a_build_does_not_see_it_does_not_evict_constructed() -> None:
    mixed = [entry(1, abi=0), entry(2, abi=2)]
    assert keys(order(mixed, NOW_S, AUGUST_2026)) == [key(2)[:8]]
    assert len(order(mixed, NOW_S, MAY_2026)) == 2


def test_a_save_that_does_not_fit_evicts_nothing_constructed() -> None:
    files = [entry(n, abi=2) for n in range(3)]
    total = sum(one.file_bytes for one in files)
    for build in BUILDS.values():
        fits = (total * 100) // 101
        assert len(victims_of_save(files, NOW_S, build, budget_bytes=total)) == 0
        save = {"budget_bytes": total, "incoming_bytes": fits}
        assert len(victims_of_save(files, NOW_S, build, **save)) == 3
        save = {"budget_bytes": total, "incoming_bytes": fits + 1}
        assert victims_of_save(files, NOW_S, build, **save) == ()
        assert len(victims_of_save(files, NOW_S, build, budget_bytes=total - 1)) == 1
        assert victims_of_save([], NOW_S, build, budget_bytes=1) == ()


def test_the_build_by_its_newest_file() -> None:
    assert build_of([]) is None
    assert build_of([entry(1, created=0)]) is None
    assert build_of(whole("h200-copy", "end")) is MAY_2026
    assert build_of([entry(1, abi=0, created=5), entry(2, abi=2, created=6)]) is AUGUST_2026
    assert build_of([entry(1, abi=0, created=7), entry(2, abi=2, created=6)]) is MAY_2026


def by_search(entries: list[KvEntry], build: Build, excess: int, superseded: set[str]) -> list[str]:
    """As the server does it: look for the lowest again and again, and take it out."""
    left, gone = [one for one in entries if build.sees(one)], []
    while excess > 0 and left:
        best = 0
        for index in range(1, len(left)):
            worth, least = (
                score(one, NOW_S, build, superseded=one.key in superseded)
                for one in (left[index], left[best])
            )
            used, earliest = (one.last_used_at or 0 for one in (left[index], left[best]))
            if worth < least or (worth == least and used < earliest):
                best = index
        victim = left.pop(best)
        gone.append(victim.key[:8])
        excess -= victim.file_bytes
    return gone


@given(st.randoms(use_true_random=False), st.integers(0, 12), st.sampled_from(list(BUILDS)))
def test_one_sort_is_the_servers_repeated_search(rng: random.Random, count: int, name: str) -> None:
    build = BUILDS[name]
    files = [
        entry(
            n,
            tokens=rng.choice((600, 2_048, 4_096)),
            hits=rng.choice((0, 0, 1, 5)),
            reason=rng.choice(("cold", "continued", "evict", "unknown")),
            used=NOW_S - rng.choice((0, 60, 21_600, 300_000)),
            abi=rng.choice((0, 2)),
        )
        for n in range(count)
    ]
    superseded = {one.key for one in files if rng.random() < 0.3}
    used = sum(one.file_bytes for one in files if build.sees(one))
    budget = rng.randint(0, used + 1)
    incoming = rng.randint(0, budget * 100 // 101)
    foretold = victims_of_save(
        files,
        NOW_S,
        build,
        budget_bytes=budget,
        incoming_bytes=incoming,
        superseded=superseded,
    )
    excess = used + incoming - budget
    fits = incoming + -(-incoming // 100) <= budget
    assert keys(foretold) == (by_search(files, build, excess, superseded) if fits else [])


class Server:
    """The stand-in's cache over a directory, of a build and a budget, its log thrown away."""

    def __init__(self, folder: Path, profile: str, budget_mib: int) -> None:
        self.profile = PROFILES[profile]
        self._out = os.open(os.devnull, os.O_WRONLY)
        options = CacheOptions.of(ServerOptions({"kv-disk-space-mb": str(budget_mib)}))
        log, faults = Log(self._out), Faults(1e6)
        self.store = KvStore(str(folder), options, self.profile, 131_072, log, faults)

    def close(self) -> None:
        os.close(self._out)


def constructed_directory(folder: Path, profile: str, seed: int, count: int = 24) -> int:
    """Files of all reasons, ages and hits; no two alike, so that nothing hangs on their order."""
    rng = random.Random(seed)
    now = int(time.time())
    for number in range(count):
        age = rng.randrange(0, 200_000) + number
        data = head(
            512 + 37 * number + rng.randrange(30),
            hits=rng.choice((0, 0, 0, 1, 2, 9)),
            reason=rng.choice(("cold", "continued", "evict", "shutdown", "unknown")),
            used=now - age,
            created=now - age - rng.randrange(10_000),
            abi=rng.choice((PROFILES[profile].kv_abi, 0, 2)),
            text=rng.randrange(10, 5_000),
        )
        write(folder, f"{seed}/{number}", data)
    return sum(item.stat().st_size for item in folder.iterdir())


def seen(folder: Path, build: Build) -> tuple[KvEntry, ...]:
    source = KvDirectory(folder, build=build, slice_s=600.0)
    source.open()
    (sample,) = source.read(0.0)
    assert not sample.scanning
    return sample.entries


def names(folder: Path) -> set[str]:
    return {path.name.removesuffix(".kv") for path in folder.iterdir()}


@pytest.mark.parametrize("profile", list(BUILDS))
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_a_start_under_a_smaller_budget_evicts_what_is_foretold_constructed(
    tmp_path: Path, profile: str, seed: int, share: float
) -> None:
    constructed_directory(tmp_path, profile, seed)
    entries = seen(tmp_path, BUILDS[profile])
    budget_mib = int(sum(one.file_bytes for one in entries) * share) // MIB
    victims = victims_of_save(entries, time.time(), BUILDS[profile], budget_bytes=budget_mib * MIB)
    before = names(tmp_path)
    server = Server(tmp_path, profile, budget_mib)
    server.store.open()
    server.close()
    assert before - names(tmp_path) == {victim.entry.key for victim in victims}
    assert victims


@pytest.mark.parametrize("profile", list(BUILDS))
def test_a_save_evicts_what_is_foretold_constructed(tmp_path: Path, profile: str) -> None:
    """One after the other, so that the order is the same too, and not only the choice."""
    build = BUILDS[profile]
    constructed_directory(tmp_path, profile, 77)
    used = sum(one.file_bytes for one in seen(tmp_path, build))
    budget_mib = used // MIB + 1
    server = Server(tmp_path, profile, budget_mib)
    evicted = 0
    for number in range(12):
        text = f"conversation {number}".encode()
        tokens = 700 + 64 * number
        before = names(tmp_path)
        victims = victims_of_save(
            seen(tmp_path, build),
            time.time(),
            build,
            budget_bytes=budget_mib * MIB,
            incoming_bytes=52 + len(text) + payload_bytes(tokens),
        )
        assert server.store.store(text, tokens, "continued", Pace(1e6, 1))
        assert before - names(tmp_path) == {victim.entry.key for victim in victims}
        evicted += len(victims)
    server.close()
    assert evicted >= 10


def test_a_continued_file_that_the_save_continues_goes_first_constructed(tmp_path: Path) -> None:
    server = Server(tmp_path, "stock-2026-08", 100)
    texts = [b"a" * 100, b"b" * 90, b"a" * 300]
    pace = Pace(1e6, 1)
    assert server.store.store(texts[0], 600, "continued", pace)
    assert server.store.store(texts[1], 513, "continued", pace)
    entries = seen(tmp_path, AUGUST_2026)
    incoming = 52 + 300 + payload_bytes(2_048)
    first = next(one for one in entries if one.text_bytes == 100)
    save = {"budget_bytes": 100 * MIB, "incoming_bytes": incoming}
    plain = victims_of_save(entries, time.time(), AUGUST_2026, **save)
    aware = victims_of_save(entries, time.time(), AUGUST_2026, superseded={first.key}, **save)
    assert [victim.entry.text_bytes for victim in plain] == [90]
    assert [victim.entry.text_bytes for victim in aware] == [100]
    assert server.store.store(texts[2], 2_048, "continued", pace)
    server.close()
    assert {one.text_bytes for one in seen(tmp_path, AUGUST_2026)} == {90, 300}
