"""KV files: header and sizes as the server writes them, the budget, and who goes first."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin_kit import DATA, Start, words

from ds4top.standin import kvfile
from ds4top.standin.clock import Pace
from ds4top.standin.faults import Faults
from ds4top.standin.grammar import Log
from ds4top.standin.kvfile import Entry, Header
from ds4top.standin.kvstore import CacheOptions, KvStore
from ds4top.standin.options import ServerOptions
from ds4top.standin.profiles import PROFILES
from ds4top.standin.sizes import context_buffers, payload_bytes

REAL = json.loads((DATA / "kv-headers.json").read_text())
MIB = 1024 * 1024


@pytest.mark.parametrize("real", REAL, ids=lambda real: real["sha"][:8])
def test_a_real_header_is_read_and_written_byte_by_byte(real: dict) -> None:
    raw = bytes.fromhex(real["header48_hex"])
    header = Header.unpack(raw + b"\0\0\0\0")
    assert header is not None
    assert header.pack()[:48] == raw
    assert header.payload_bytes == payload_bytes(header.tokens)
    if real["text_bytes"] is not None:
        rest = real["size_bytes"] - 52 - real["text_bytes"] - header.payload_bytes
        assert (rest > 0) is bool(header.flags & kvfile.FLAG_TOOL_MAP)


@pytest.mark.parametrize(("tokens", "size"), [(4096, 80_373_132), (512, 31_042_956)])
def test_payload_sizes_that_were_measured(tokens: int, size: int) -> None:
    assert payload_bytes(tokens) == size


@given(st.integers(1, 2000))
def test_payload_of_whole_windows_is_a_straight_line(windows: int) -> None:
    tokens = 128 * windows
    assert payload_bytes(tokens) == 23_995_788 + 13_764 * tokens


@pytest.mark.parametrize(
    ("context", "chunk", "mib"),
    [
        (131072, 2048, "2425.71"), (131072, 4096, "3109.74"), (65665, 2048, "1311.89"),
        (1_000_000, 4096, "21300.78"), (131072, 0, "1731.21"), (32768, 0, "441.00"),
    ],
)  # fmt: skip
def test_context_buffers_that_were_logged(context: int, chunk: int, mib: str) -> None:
    assert f"{context_buffers(context, chunk).total_bytes / MIB:.2f}" == mib


def test_files_on_disk(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--ctx", 65536).ready()
    before = int(time.time())
    server.post("/v1/completions", prompt=words(5000), max_tokens=10)
    server.post("/v1/completions", prompt="other", max_tokens=4)
    directory = server.directory / "kv"
    assert directory.stat().st_mode & 0o777 == 0o700
    found = {}
    for path in directory.iterdir():
        raw = path.read_bytes()[: 60 + 4 * 6000]
        header = Header.unpack(raw)
        assert header is not None
        found[header.reason] = header
        text = raw[52 : 52 + header.text_bytes]
        assert kvfile.sha1_hex(text) + ".kv" == path.name
        assert path.stat().st_size == 52 + len(text) + payload_bytes(header.tokens)
        assert path.stat().st_blocks * 512 < 200_000
        assert text.startswith("<\uff5cbegin\u2581of".encode())
        assert raw[52 + header.text_bytes :][:4] == b"DSV4"
        assert (header.context_tokens, header.quant, header.hits, header.abi) == (65536, 2, 0, 0)
        assert before <= header.created_s <= time.time()
    assert {reason: header.tokens for reason, header in found.items()} == {
        "cold": 4096, "evict": 5033,
    }  # fmt: skip


def test_a_hit_counts_and_the_newer_build_marks_its_format(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", profile="stock-2026-08").ready()
    for prompt in (words(3000), "other", words(3000)):
        server.post("/v1/completions", prompt=prompt, max_tokens=4)
    hits = []
    for path in (server.directory / "kv").iterdir():
        header = Header.unpack(path.read_bytes()[:52])
        assert header is not None
        assert header.abi == 2
        hits.append((header.reason, header.hits))
    assert sorted(hits) == [("cold", 1), ("evict", 0)]


def test_the_budget_is_kept_and_other_files_are_left(start: Start) -> None:
    kv = "kv"
    server = start("--kv-disk-dir", kv, "--kv-disk-space-mb", 120).ready()
    directory = server.directory / kv
    (directory / "notes.txt").write_text("mine")
    for number in range(4):
        server.post("/v1/completions", prompt=f"{number} {words(2300)}", max_tokens=4)
        total = sum(path.stat().st_size for path in directory.glob("*.kv"))
        assert total <= 120 * MIB
    assert (directory / "notes.txt").exists()
    assert server.log.count("kv cache evicted reason=disk-cache-full") >= 3


def test_a_smaller_budget_deletes_at_the_start(start: Start) -> None:
    first = start("--kv-disk-dir", "kv").ready()
    first.post("/v1/completions", prompt=words(3000), max_tokens=4)
    first.stop()
    second = start("--kv-disk-dir", "kv", "--kv-disk-space-mb", 100).ready()
    lines = [line for line in second.lines() if "kv cache evicted" in line or "KV disk" in line]
    assert [line.split()[3] for line in lines] == ["evicted", "cache"]


def test_a_snapshot_beyond_the_budget_is_skipped(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--kv-disk-space-mb", 40).ready()
    server.post("/v1/completions", prompt=words(2300), max_tokens=4)
    assert (
        "ds4-server: kv cache skipped tokens=2048 reason=cold because estimated file size "
        "49.77 MiB (50.27 MiB with safety) exceeds budget 40.00 MiB"
    ) in server.lines()
    assert list((server.directory / "kv").iterdir()) == []


def test_after_a_restart_the_conversation_is_loaded_from_disk(start: Start) -> None:
    first = start("--kv-disk-dir", "kv").ready()
    prompt = words(3000)
    answer = first.post("/v1/completions", prompt=prompt, max_tokens=8).json
    assert first.stop() == 0
    second = start("--kv-disk-dir", "kv").ready()
    again = second.post("/v1/completions", prompt=prompt, max_tokens=8).json
    assert again["choices"] == answer["choices"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 2048
    assert "live kv cache miss" not in second.log


class Directory:
    """A directory of files with chosen reasons, tokens, hits and ages."""

    def __init__(self, path: Path, profile: str, budget_mib: int) -> None:
        self.path = path
        self.profile = PROFILES[profile]
        read, write = os.pipe()
        self._read = os.fdopen(read, "rb")
        options = CacheOptions.of(ServerOptions({"kv-disk-space-mb": str(budget_mib)}))
        self.store = KvStore(str(path), options, self.profile, 32768, Log(write), Faults(1000.0))
        self._write = write

    def add(self, text: bytes, tokens: int, reason: str, hits: int = 0, age_s: int = 0) -> str:
        now = int(time.time()) - age_s
        header = Header(
            reason,
            tokens,
            32768,
            now,
            payload_bytes(tokens),
            len(text),
            hits,
            now,
            abi=self.profile.kv_abi,
        )
        sha = kvfile.sha1_hex(text)
        kvfile.write(str(self.path / f"{sha}.kv"), header, text, b"")
        return sha

    def victims(self, text: bytes, tokens: int) -> list[str]:
        """Who has to go when this state is stored."""
        assert self.store.store(text, tokens, "evict", Pace(1000.0, 1))
        os.close(self._write)
        with self._read:
            log = self._read.read().decode()
        return re.findall(r"evicted .*/(\w{40})\.kv", log)


OLD, NEW = "stock-2026-05", "stock-2026-08"


@pytest.mark.parametrize("profile", [OLD, NEW])
def test_the_least_tokens_for_its_bytes_goes_first(tmp_path: Path, profile: str) -> None:
    directory = Directory(tmp_path, profile, 220)
    short = directory.add(b"short", 600, "evict")
    directory.add(b"long", 6000, "evict")
    assert directory.victims(b"incoming", 6000) == [short]


@pytest.mark.parametrize("profile", [OLD, NEW])
def test_hits_protect_and_fade_with_a_half_life_of_six_hours(tmp_path: Path, profile: str) -> None:
    directory = Directory(tmp_path, profile, 230)
    fresh = directory.add(b"fresh", 4000, "evict", hits=1)
    faded = directory.add(b"faded", 4000, "evict", hits=1, age_s=6 * 3600)
    never = directory.add(b"never", 4000, "evict", age_s=60)
    assert directory.victims(b"incoming", 8000) == [never, faded]
    assert (tmp_path / f"{fresh}.kv").exists()


def test_of_equals_the_longest_unused_goes(tmp_path: Path) -> None:
    directory = Directory(tmp_path, OLD, 160)
    directory.add(b"newer", 4000, "evict", age_s=10)
    older = directory.add(b"older", 4000, "evict", age_s=20)
    assert directory.victims(b"third", 4000) == [older]


def test_the_builds_differ_over_anchors_and_passed_frontiers(tmp_path: Path) -> None:
    """A short anchor against a longer continued file that the incoming state goes beyond."""
    expected = {OLD: b"anchor", NEW: b"incoming, begun"}
    for profile, victim in expected.items():
        path = tmp_path / profile
        path.mkdir()
        directory = Directory(path, profile, 250)
        directory.add(b"anchor", 2048, "cold")
        directory.add(b"incoming, begun", 4096, "continued")
        gone = directory.victims(b"incoming, begun and gone on", 8000)
        assert gone[0] == kvfile.sha1_hex(victim)


def test_a_truncated_file_and_one_of_another_format_are_invisible(tmp_path: Path) -> None:
    directory = Directory(tmp_path, NEW, 1000)
    whole = directory.add(b"a prompt", 600, "cold")
    torn = directory.add(b"a prompt, longer", 700, "cold")
    path = tmp_path / f"{torn}.kv"
    os.truncate(path, path.stat().st_size // 2)
    old = Directory(tmp_path, OLD, 1000).add(b"a prompt, longer still", 800, "cold")
    visible = {entry.sha for entry in kvfile.scan(str(tmp_path), 2)}
    assert visible == {whole}
    assert {entry.sha for entry in kvfile.scan(str(tmp_path), 0)} == {whole, old}
    assert all(isinstance(entry, Entry) for entry in kvfile.scan(str(tmp_path), 0))


def test_a_full_disk_is_logged_and_leaves_nothing(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--standin-fail", "disk-full").ready()
    server.post("/v1/completions", prompt=words(3000), max_tokens=4)
    assert re.search(
        r"(?m)^ds4-server: kv cache store failed \(cold\): No space left on device save=[\d.]+ ms$",
        "\n".join(server.lines()),
    )
    assert list((server.directory / "kv").iterdir()) == []
