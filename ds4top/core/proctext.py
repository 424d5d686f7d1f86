"""Parsers of the texts under /proc: one process, its sockets, the locks of the machine.

Sources: proc_pid_stat(5), proc_pid_status(5), proc_locks(5), the kernel's proc_net_tcp.rst and
fib_trie. Addresses are of this machine's byte order (little-endian).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from ds4top.core.target import Env

_KERNEL_THREAD = 0x00200000
"""``PF_KTHREAD`` of the kernel's sched.h, in the flags of a stat line."""
LISTEN, ESTABLISHED, CLOSE_WAIT = 10, 1, 8
_ACCEPTS = 0x00010000
"""``__SO_ACCEPTCON``: a unix socket that is listened on."""


@dataclass(frozen=True, slots=True)
class Stat:
    """Fields of /proc/PID/stat; times in clock ticks."""

    comm: str
    state: str
    ppid: int
    minor_faults: int
    major_faults: int
    cpu_ticks: int
    threads: int
    start_ticks: int
    kernel_thread: bool = False


def parse_stat(text: str) -> Stat:
    """Raises ``ValueError`` for anything else. The name may hold blanks and brackets."""
    head, bracket, tail = text.rpartition(")")
    fields = tail.split()
    if not bracket or len(fields) < 20 or "(" not in head:
        raise ValueError("no stat line")
    return Stat(
        comm=head.partition("(")[2],
        state=fields[0],
        ppid=int(fields[1]),
        minor_faults=int(fields[7]),
        major_faults=int(fields[9]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
        kernel_thread=bool(int(fields[6]) & _KERNEL_THREAD),
    )


def parse_status(text: str) -> dict[str, str]:
    """Names and values of /proc/PID/status."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def status_bytes(status: Mapping[str, str], name: str) -> int | None:
    """A size of /proc/PID/status in bytes."""
    words = status.get(name, "").split()
    return int(words[0]) * 1024 if words[:1] and words[0].isdecimal() else None


def parse_environment(text: str) -> Env:
    """Names and values, in their order."""
    pairs = (word.partition("=") for word in text.split("\0") if word)
    return tuple((name, value) for name, equal, value in pairs if equal and name)


def parse_command_line(text: str) -> tuple[str, ...]:
    """The arguments of /proc/PID/cmdline, empty ones among them."""
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


@dataclass(frozen=True, slots=True)
class Socket:
    """A line of /proc/net/tcp. ``queued``: connections not yet accepted, of a listening one.

    ``inode`` is 0 for a connection that nobody has accepted yet.
    """

    host: str
    port: int
    peer_host: str
    peer_port: int
    state: int
    queued: int
    uid: int
    inode: int


@lru_cache(maxsize=256)
def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    # The kernel prints each 32-bit word as the machine holds it.
    parts = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    if len(parts) == 4:
        return str(IPv4Address(parts))
    address = IPv6Address(parts)
    return str(address.ipv4_mapped or address)


def parse_sockets(text: str) -> list[Socket]:
    """The sockets of /proc/net/tcp or tcp6; lines that are none are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10:
            continue
        (host, _, port), (peer, _, peer_port) = words[1].rpartition(":"), words[2].rpartition(":")
        try:
            found.append(
                Socket(
                    _address(host),
                    int(port, 16),
                    _address(peer),
                    int(peer_port, 16),
                    int(words[3], 16),
                    int(words[4].partition(":")[2], 16),
                    int(words[7]),
                    int(words[9]),
                )
            )
        except ValueError:
            continue
    return found


def parse_unix_listeners(text: str) -> dict[int, str]:
    """Inode → path of the sockets of /proc/net/unix that are listened on."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        words = line.split(maxsplit=7)
        if len(words) == 8:
            try:
                if int(words[3], 16) & _ACCEPTS:
                    found[int(words[6])] = words[7]
            except ValueError:
                continue
    return found


def parse_addresses(text: str) -> tuple[str, ...]:
    """The addresses of a network namespace itself, loopback aside (/proc/PID/net/fib_trie)."""
    found: list[str] = []
    last = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["|--"] and len(words) == 2:
            last = words[1]
        elif words == ["/32", "host", "LOCAL"] and not last.startswith("127."):
            found.append(last)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Lock:
    """A line of /proc/locks that is held. ``device`` is that of the file system, as it says it."""

    kind: str
    pid: int
    device: tuple[int, int]
    inode: int


def parse_locks(text: str) -> list[Lock]:
    """Held locks; who waits for one (``->``) holds none."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 6 or words[1] == "->":
            continue
        try:
            major, minor, inode = words[5].split(":")
            device = (int(major, 16), int(minor, 16))
            found.append(Lock(words[1], int(words[4]), device, int(inode)))
        except ValueError:
            continue
    return found


def holder_of(locks: Sequence[Lock], device: tuple[int, int], inode: int) -> int | None:
    """Who holds the flock on a file; ``None`` for nobody that is seen.

    Btrfs and overlay file systems give stat(2) another device than the kernel keeps, so one lock of
    the same inode number counts where none is of the same device.
    """
    same = [lock for lock in locks if lock.inode == inode and lock.kind == "FLOCK"]
    exact = [lock for lock in same if lock.device == device]
    pids = {lock.pid for lock in exact or same if lock.pid > 0}
    return pids.pop() if len(pids) == 1 else None
