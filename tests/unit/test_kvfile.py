"""Files of the KV disk cache: real headers to exact values, and everything that is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.kvfile import (
    AUGUST_2026,
    MAY_2026,
    Filesystem,
    KvEntry,
    Refusal,
    Refused,
    Tally,
    filesystem_of,
    key_of,
    parse_head,
    payload_bytes,
)
from tests.unit.kv_tools import HEADERS, NOW_S, entry, head, key, recorded

NAME = f"{key(1)}.kv"
GOOD = head()
SIZE = 52 + 100 + payload_bytes(4_096)


def refusal(data: bytes, size: int = SIZE, name: str = NAME) -> tuple[Refusal, str]:
    found = parse_head(name, data, size)
    assert isinstance(found, Refused)
    assert (found.name, found.file_bytes) == (name, size)
    return found.kind, found.detail


def test_a_real_header_is_read_to_its_exact_values() -> None:
    assert recorded("h200-copy", "end")["20f34e52"] == KvEntry(
        key="20f34e52ad3d191e90287f417c9d03aef17c5044",
        tokens=12_288,
        hits=1,
        ctx_size=131_072,
        quant_bits=2,
        reason="cold",
        file_bytes=193_183_479,
        text_bytes=55_607,
        payload_bytes=193_127_820,
        created_at=1_795_545_006,
        last_used_at=1_795_545_026,
        flags=(),
        model=0,
        abi=0,
        version=1,
    )


def test_a_real_header_with_a_tool_map_is_read_to_its_exact_values() -> None:
    found = recorded("sim-short", "end")["252889a6"]
    assert found == KvEntry(
        key="252889a642be17f54f875f6a4065043428165d08",
        tokens=11_358,
        hits=1,
        ctx_size=131_072,
        quant_bits=2,
        reason="evict",
        file_bytes=180_318_497,
        text_bytes=47_174,
        payload_bytes=180_270_340,
        created_at=1_795_544_763,
        last_used_at=1_795_544_764,
        flags=("tool-map",),
        model=0,
        abi=0,
        version=1,
    )
    assert found.trailer_bytes == 931
    assert found.name == "252889a642be17f54f875f6a4065043428165d08.kv"
    assert found.text_kind == "token-text"


def test_the_directories_at_the_end_of_both_recordings() -> None:
    for recording, entries, used, reasons in (
        ("h200-copy", 6, 1_072_237_337, "cold cold evict evict evict shutdown"),
        ("sim-short", 5, 998_996_274, "evict evict evict evict shutdown"),
    ):
        found = recorded(recording, "end")
        whole = [one for one in found.values() if isinstance(one, KvEntry)]
        assert len(whole) == entries
        assert sum(one.file_bytes for one in whole) == used
        assert " ".join(sorted(one.reason for one in whole)) == reasons
        assert {one.kind for one in found.values() if isinstance(one, Refused)} == {
            Refusal.TORN,
            Refusal.FOREIGN,
        }


def test_the_file_cut_by_hand_is_torn() -> None:
    found = recorded("h200-copy", "end")["aeef1c21"]
    assert isinstance(found, Refused)
    assert (found.kind, found.file_bytes) == (Refusal.TORN, 103_991_057)
    assert found.detail == "103991057 of 207982115 bytes"


def test_payloads_of_every_recorded_file_have_the_size_of_the_formula() -> None:
    seen = 0
    for moment in json.loads(HEADERS.read_text()):
        for file in moment["files"]:
            header = bytes.fromhex(file["header48_hex"])
            if header.startswith(b"KVC"):
                seen += 1
                tokens, payload = (
                    int.from_bytes(header[a:b], "little") for a, b in ((8, 12), (40, 48))
                )
                assert payload_bytes(tokens) == payload
    assert seen == 95


def test_payload_of_the_benchmark_and_of_a_short_one() -> None:
    assert payload_bytes(4_096) == 80_373_132
    assert payload_bytes(100) == 23_995_788 + 400 + 53_760 * 25 - 28 * 88_064


def test_every_field_of_a_constructed_header() -> None:
    data = head(777, hits=3, reason=2, quant=4, flags=2 + 8, model=5, ctx=9, abi=2, created=1)
    found = parse_head(NAME, data, SIZE)
    assert isinstance(found, KvEntry)
    assert (found.tokens, found.hits, found.ctx_size, found.quant_bits) == (777, 3, 9, 4)
    assert (found.reason, found.flags) == ("continued", ("responses-visible", "title"))
    assert (found.model, found.abi, found.version, found.created_at) == (5, 2, 1, 1)
    assert found.text_kind == "responses-visible"


def test_reasons_by_number_and_one_that_is_not_known_constructed() -> None:
    reasons = [entry(n, reason=n).reason for n in range(8)]
    assert reasons[1:5] == ["cold", "continued", "evict", "shutdown"]
    assert reasons[5:] == ["agent-system", "agent-session", "unknown"]


@pytest.mark.parametrize(
    ("data", "size", "kind", "detail"),
    [
        (b"", 0, Refusal.TORN, "0 of at least 52 bytes"),
        (GOOD[:51], 51, Refusal.TORN, "51 of at least 52 bytes"),
        (b"no", 2, Refusal.MAGIC, "b'no'"),
        (GOOD, SIZE - 1, Refusal.TORN, f"{SIZE - 1} of {SIZE} bytes"),
        (head(magic=b"GGU"), SIZE, Refusal.MAGIC, "b'GGU\\x01'"),
        (head(version=2), SIZE, Refusal.VERSION, "version 2"),
        (head(tokens=0, payload=0), SIZE, Refusal.INVALID, "0 tokens, 2 quant bits"),
        (head(quant=3), SIZE, Refusal.INVALID, "4096 tokens, 3 quant bits"),
        (head(payload=2**64 - 1, text=2**32 - 1), SIZE, Refusal.TORN, None),
    ],
)
def test_what_the_server_rejects_constructed(
    data: bytes, size: int, kind: Refusal, detail: str | None
) -> None:
    found = refusal(data, size)
    assert found[0] is kind
    assert detail is None or found[1] == detail


def test_a_file_of_exactly_its_size_and_a_bigger_one_are_whole_constructed() -> None:
    for more in (0, 1, 10_000):
        found = parse_head(NAME, GOOD, SIZE + more)
        assert isinstance(found, KvEntry)
        assert found.trailer_bytes == more


def test_times_that_cannot_be_are_unknown_constructed() -> None:
    assert entry(1, created=0, used=2**64 - 1).created_at is None
    assert entry(1, created=0, used=2**64 - 1).last_used_at is None
    assert entry(1, used=NOW_S).last_used_at == NOW_S


def test_names() -> None:
    assert key_of(NAME) == key(1)
    assert key_of("AB" * 20 + ".kv") == "ab" * 20
    for name in ("", ".kv", "ab" * 20, "ab" * 20 + ".kv.bak", "ag" * 20 + ".kv", NAME + "\n"):
        assert key_of(name) is None
    assert refusal(GOOD, SIZE, f"{NAME}.tmp.4711")[0] is Refusal.TEMPORARY
    assert refusal(GOOD, SIZE, f"{NAME}.tmp.")[0] is Refusal.FOREIGN
    assert refusal(GOOD, SIZE, "x" * 255)[0] is Refusal.FOREIGN


def test_who_sees_which_abi() -> None:
    old, new = entry(1, abi=0), entry(2, abi=2)
    assert [MAY_2026.sees(old), MAY_2026.sees(new)] == [True, True]
    assert [AUGUST_2026.sees(old), AUGUST_2026.sees(new)] == [False, True]


@given(st.binary(max_size=80), st.integers(0, 2**63), st.sampled_from([NAME, "x", f"{NAME}.tmp.1"]))
def test_any_bytes_are_an_entry_or_a_refusal(data: bytes, size: int, name: str) -> None:
    found = parse_head(name, data[:52], size)
    assert isinstance(found, Refused) or (
        found.trailer_bytes >= 0 and found.tokens > 0 and found.quant_bits in (2, 4)
    )


@given(
    st.integers(1, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.integers(0, 2**32),
    st.integers(0, 2**32 - 1),
)
def test_what_is_written_is_read(tokens: int, hits: int, abi: int, payload: int, text: int) -> None:
    data = head(tokens, hits=hits, abi=abi, payload=payload, text=text)
    found = parse_head(NAME, data, 52 + payload + text + 7)
    assert isinstance(found, KvEntry)
    assert (found.tokens, found.hits, found.abi) == (tokens, hits, abi)
    assert (found.payload_bytes, found.text_bytes, found.trailer_bytes) == (payload, text, 7)


def test_tally_counts_by_kind_and_keeps_a_few() -> None:
    tally = Tally()
    for number in range(30):
        kind = Refusal.TORN if number % 3 else Refusal.FOREIGN
        tally.add(Refused(str(number), kind, number))
    more = tally.copy()
    more.add(Refused("x", Refusal.MAGIC, 5))
    assert tally.result() == ((Refusal.FOREIGN, 10, 135), (Refusal.TORN, 20, 300))
    assert more.result()[-1] == (Refusal.MAGIC, 1, 5)
    assert [one.name for one in tally.examples] == [str(number) for number in range(20)]


MOUNTS = r"""
sysfs /sys sysfs rw 0 0
/dev/nvme0n1p2 / ext4 rw,relatime 0 0
tmpfs /tmp tmpfs rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
nas:/kv /mnt/kv nfs4 rw 0 0
/dev/sdb1 /mnt/kv/disk xfs rw 0 0
me@host: /mnt/my\040kv fuse.sshfs rw 0 0
/dev/sdc1 /mnt/kvx ext4 rw 0 0
tmpfs /mnt/kvx tmpfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/cache/ds4-kv", Filesystem("disk", "ext4", "/", "/dev/nvme0n1p2")),
        ("/tmp/kv", Filesystem("memory", "tmpfs", "/tmp", "tmpfs")),
        ("/tmpkv", Filesystem("disk", "ext4", "/", "/dev/nvme0n1p2")),
        ("/mnt/kv", Filesystem("network", "nfs4", "/mnt/kv", "nas:/kv")),
        ("/mnt/kv/disk/a", Filesystem("disk", "xfs", "/mnt/kv/disk", "/dev/sdb1")),
        ("/mnt/my kv/a", Filesystem("network", "fuse.sshfs", "/mnt/my kv", "me@host:")),
        ("/mnt/kvx/a", Filesystem("memory", "tmpfs", "/mnt/kvx", "tmpfs")),
    ],
)
def test_filesystem_by_the_longest_mount_constructed(path: str, place: Filesystem) -> None:
    assert filesystem_of(MOUNTS, path) == place


def test_no_mounts_is_an_unknown_filesystem_constructed() -> None:
    assert filesystem_of("", "/var") is None
