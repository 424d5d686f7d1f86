"""The KV cache view over a real server's directory and log: order, next save, findings, rows."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest

from ds4top.core.helptext import names_of, parse_help
from ds4top.core.kvaccount import account, budget_of, loads_of, rewritten, save_size
from ds4top.core.kvfile import AUGUST_2026, Filesystem, KvDirSample, KvEntry, Refusal, Refused
from ds4top.core.kvpolicy import build_by_flags, order
from ds4top.core.logread import LogReader
from ds4top.core.machine import Machine
from ds4top.core.model import Model, SourceHealth
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.view import table
from ds4top.view.kv import KvBook, compact, kv_budget, story, summary
from ds4top.view.kventry import COLUMNS, entry_rows
from ds4top.view.look import Look
from ds4top.view.rates import RateBook
from ds4top.view.text import row_text, row_width
from ds4top.view.today import TodayBook
from tests.unit.kv_tools import NOW_S, entry, recorded
from tests.unit.test_reduce import LISTENING, MISS, START, run

DATA = Path(__file__).parents[1] / "data"
MIB = 1 << 20


def told() -> LogState:
    """The log of the recorded server."""
    path = DATA / "ds4" / "h200-copy" / "server.log"
    state = LogState()
    reader = LogReader(StampClock(NOW_S + 86_400.0, UTC))
    Reducer(state).apply([*reader.feed(path.read_bytes()), *reader.close()])
    return state


def sample(*refused: tuple[Refusal, int, int], **fields: object) -> KvDirSample:
    """Its directory at the end, with what is not the cache's beside it."""
    entries = tuple(
        one for one in recorded("h200-copy", "end").values() if isinstance(one, KvEntry)
    )
    base: dict[str, object] = {
        "t": 1.0, "wall": float(NOW_S), "path": "/var/cache/ds4-kv", "entries": entries,
        "used_bytes": sum(one.file_bytes for one in entries), "refused": refused,
        "foreign_bytes": sum(size for _, _, size in refused),
        "disk_free_bytes": 80 << 30, "disk_total_bytes": 900 << 30,
    }  # fmt: skip
    return KvDirSample(**{**base, **fields})  # type: ignore[arg-type]


def model(kv: KvDirSample | None, log: LogState | None = None) -> Model:
    """The server a minute after its log's end."""
    machine = Machine()
    machine.kv = kv
    log = told() if log is None else log
    return Model(log, (log.last_at or NOW_S) + 60.0, machine, tz=UTC)


def words(seen: Model, width: int = 120, *, small: bool = False) -> list[str]:
    book = KvBook()
    today = TodayBook().today(seen, RateBook())
    rows = (compact if small else summary)(seen, today, book, width, Look())
    assert all(row_width(each) <= width for each in rows) or small
    return [row_text(each).strip() for each in rows]


def test_entries_in_the_order_in_which_the_server_deletes_them() -> None:
    seen = model(sample())
    found = KvBook().account(seen)
    assert found is not None
    kv = seen.machine.kv
    assert kv is not None
    ranked = order(kv.entries, seen.now, kv.build)
    assert [line.entry.key for line in found.lines] == [one.entry.key for one in ranked]
    assert [line.rank for line in found.lines] == list(range(1, len(kv.entries) + 1))
    assert found.lines[-1].freed_bytes == kv.used_bytes
    assert found.hits == sum(one.hits for one in kv.entries)
    assert sum(line.hit_share or 0 for line in found.lines) == pytest.approx(1.0)


@pytest.mark.parametrize("tokens", [2_048, 10_240, 40_960])
def test_what_the_next_save_deletes_is_what_the_policy_says(tokens: int) -> None:
    kv = sample()
    budget = 1_024 * MIB
    found = account(kv, NOW_S, budget, tokens, {})
    # One after the other, until it fits.
    ranked, gone, left = order(kv.entries, NOW_S, kv.build), [], kv.used_bytes
    while left + save_size(tokens) > budget:
        gone.append(ranked[len(gone)])
        left -= gone[-1].entry.file_bytes
    assert [line.entry.key for line in found.lines if line.goes] == [one.entry.key for one in gone]
    assert found.going == len(gone)
    assert found.going_bytes == gone[-1].freed_bytes


def test_a_save_beyond_the_budget_deletes_nothing() -> None:
    found = account(sample(), NOW_S, 1_024 * MIB, 80_000, {})
    assert (found.too_big, found.going) == (True, 0)
    small = sample(used_bytes=10 * MIB, entries=(entry(1, tokens=512),))
    assert account(small, NOW_S, 1_024 * MIB, 2_048, {}).going == 0


def test_without_a_budget_nothing_is_foretold() -> None:
    found = account(sample(), NOW_S, None, 4_096, {})
    assert (found.going, found.left_bytes, found.short_bytes) == (0, None, None)
    assert "not known without the budget" in " ".join(words(model(sample(), LogState())))


def test_the_budget_is_the_one_that_was_printed() -> None:
    log = told()
    assert budget_of(None, log, 4_096 * MIB) == 1_024 * MIB
    assert budget_of(None, LogState(), 4_096 * MIB) == 4_096 * MIB
    assert budget_of(sample(budget_bytes=7), LogState(), None) == 7
    assert kv_budget(model(None)) == 1_024 * MIB


def test_loads_of_the_log_go_to_their_files() -> None:
    log = told()
    loads = loads_of(log.disk_hits)
    assert sum(count for count, _ in loads.values()) == len(log.disk_hits) == 8
    found = KvBook().account(model(sample()))
    assert found is not None
    by_name = {line.entry.name: line for line in found.lines}
    loaded = {name for name in loads if name in by_name}
    assert loaded
    for name in loaded:
        assert (by_name[name].loads, by_name[name].load_ms) == loads[name]


def test_the_summary_of_a_real_server() -> None:
    said = words(model(sample((Refusal.TORN, 3, 12 * MIB), (Refusal.TEMPORARY, 1, 80 * MIB))))
    assert said[0].startswith("KV CACHE")
    assert said[1].startswith("used      1.00 of 1.00 GiB")
    assert said[1].endswith("100 %   6 entries")
    assert said[3] == "disk      80.0 of 900 GiB free   /var/cache/ds4-kv"
    assert said[4] == (
        "beside it 92 MiB that the server neither counts nor deletes:  3 torn  1 temporary"
    )
    assert "order: May 2026 builds, by its newest file" in said[5]
    assert next(line for line in said if line.startswith("written")).startswith(
        "written   3.43 GiB in 29 files   evict 15, cold 9, continued 3, shutdown 2"
    )


def test_a_disk_too_small_for_the_budget_is_said_even_on_a_small_screen() -> None:
    kv = sample(disk_free_bytes=10 * MIB, used_bytes=40 * MIB, entries=(entry(1, tokens=512),))
    said = words(model(kv), 60, small=True)
    assert len(said) == 3
    assert "less than the budget allows" in said[2]


def test_memory_and_network_are_no_disks() -> None:
    said = words(model(sample(filesystem=Filesystem("memory", "tmpfs", "/run", "tmpfs"))))
    assert "tmpfs: it takes memory" in said[3]


def test_where_there_is_no_directory_it_says_why() -> None:
    seen = model(None, LogState())
    seen.health = (SourceHealth("KV directory", "denied", "/kv may not be read"),)
    assert words(seen)[1] == "disk      /kv may not be read"
    seen = model(None, run(LISTENING))
    assert "start the server with --kv-disk-dir DIR" in words(seen)[1]


def test_prompts_that_diverge_at_one_place_are_a_finding() -> None:
    miss = MISS.replace("prompt=12 common=3", "prompt=48113 common={}")
    start = START.replace("0..9:9", "0..48113:48113")
    log = run(LISTENING, *(line for at in (1_204, 1_230) for line in (miss.format(at), start)))
    found = rewritten(log.requests)
    assert found is not None
    assert (found.place.from_tokens, found.place.to_tokens, found.place.count) == (1_204, 1_230, 2)
    line = next(each for each in words(model(None, log)) if each.startswith("diverges"))
    assert line == (
        "diverges  2 turns differ after token 1,204 of 48,113: "
        "something early in the prompt changes each turn"
    )
    assert rewritten(log.requests[:1]) is None


def test_sorting_and_filtering_act_on_entries() -> None:
    found = KvBook().account(model(sample()))
    assert found is not None
    by_tokens = table.select(found.lines, COLUMNS, "TOKENS", True, "", NOW_S)
    tokens = [line.entry.tokens for line in by_tokens]
    assert tokens == sorted(tokens, reverse=True)
    cold = table.select(found.lines, COLUMNS, "GOES", False, "cold", NOW_S)
    assert [line.entry.reason for line in cold] == ["cold"] * 2
    assert [line.rank for line in cold] == sorted(line.rank for line in cold)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_rows_fit_and_the_most_needed_columns_stay(width: int) -> None:
    chosen = table.fitting(COLUMNS, width)
    found = KvBook().account(model(sample()))
    assert found is not None
    assert {"GOES", "TOKENS", "MiB", "HITS", "USED"} <= {column.head for column in chosen}
    rows = [table.item_row(line, chosen, NOW_S) for line in found.lines]
    assert {row_width(each) for each in rows} == {row_width(table.heads(chosen, "GOES", False))}
    assert max(row_width(each) for each in rows) <= width


def test_an_entry_in_full_names_no_text() -> None:
    seen = model(sample())
    found = KvBook().account(seen)
    assert found is not None
    said = "\n".join(row_text(each) for each in entry_rows(found.lines[0], seen))
    assert f"{found.lines[0].entry.key}.kv" in said
    assert "ds4top does not read it" in said
    assert "1 in the order of the May 2026 builds" in said


def test_below_the_entries_stands_the_log_and_what_is_beside_the_cache() -> None:
    bad = Refused("notes\x1b[2J.txt", Refusal.FOREIGN, 5 * MIB)
    seen = model(sample((Refusal.FOREIGN, 1, 5 * MIB), examples=(bad,)))
    rows = [row_text(each) for _, each in story(seen)]
    titles = [
        text.split("   ")[0].strip()
        for text in rows
        if text.startswith(" ") and text[1:2].isupper()
    ]
    assert titles == [
        "BESIDE THE CACHE", "MISSES IN MEMORY", "LOADS FROM DISK", "SAVED TO DISK", "EVICTED",
    ]  # fmt: skip
    assert not any("\x1b" in text for text in rows)
    assert sum("ms per 1K" in text for text in rows) == 8


def test_the_account_is_kept_until_something_changes() -> None:
    book, seen = KvBook(), model(sample())
    first = book.account(seen)
    assert book.account(seen) is first
    seen.machine.kv = sample(entries=(entry(1),))
    assert book.account(seen) is not first


def test_the_help_tells_the_build() -> None:
    text = (DATA / "help" / "standin-stock-2026-08.txt").read_text()
    assert build_by_flags(names_of(parse_help(text))) is AUGUST_2026
    assert build_by_flags(frozenset({"--ctx", "--kv-disk-dir"})) is None
