"""What lies in the KV directory that the server cannot use, in words."""

from __future__ import annotations

from ds4top.core.kvfile import Refusal, Refused
from ds4top.core.units import fmt_mib
from ds4top.view.text import Row, row

KIND_WORDS: dict[Refusal, str] = {
    Refusal.TORN: "torn",
    Refusal.INVALID: "invalid",
    Refusal.TEMPORARY: "temporary",
    Refusal.OLD_ABI: "old ABI",
    Refusal.FOREIGN: "foreign",
    Refusal.MAGIC: "foreign",
    Refusal.SPECIAL: "no plain file",
    Refusal.VERSION: "other version",
    Refusal.DENIED: "not readable",
}
_MEANS: dict[Refusal, str] = {
    Refusal.TORN: "shorter than its header says; the server never deletes it",
    Refusal.INVALID: "a header that the server rejects",
    Refusal.TEMPORARY: "a save in progress, or what a crash left for ever",
    Refusal.OLD_ABI: "of another build: invisible to this one, never deleted",
    Refusal.FOREIGN: "no name of the cache's; the server ignores it",
    Refusal.MAGIC: "no cache file by its first bytes",
    Refusal.SPECIAL: "never opened",
    Refusal.VERSION: "a version that this ds4top does not know",
    Refusal.DENIED: "its rights do not let ds4top read it",
}


def kind_row(kind: Refusal, files: int, size: int) -> Row:
    """How many files there are of a kind, their bytes, and what that means."""
    return row(
        f"  {files:>6,}  ",
        (f"{KIND_WORDS[kind]:<14}", "value"),
        f" {fmt_mib(size, width=9)} MiB",
        (f"   {_MEANS[kind]}", "dim"),
    )


def refused_row(one: Refused) -> Row:
    """One of them by name."""
    return row(
        (f"          {KIND_WORDS[one.kind]:<14}", "dim"),
        f" {fmt_mib(one.file_bytes, width=9)} MiB   {one.name}",
        (f"   {one.detail}" if one.detail else "", "dim"),
    )
