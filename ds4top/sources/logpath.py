"""Opens a log file for following, or says in words what is in the way and what mends it."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Callable

from ds4top.sources.base import SourceFault

_STANDARD_INPUT = frozenset(("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"))
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def _fifo(path: str) -> str:
    return f"{path} is a FIFO; read it as a stream: ds4top --log - < {shlex.quote(path)}"


def _directory(path: str) -> str:
    inside = shlex.quote(os.path.join(path, "FILE"))
    return f"{path} is a directory; name the file in it: ds4top --log {inside}"


def _device(path: str) -> str:
    return (
        f"{path} is a device, not a log; send the log to a file: "
        "ds4-server ... 2>>ds4.log; ds4top --log ds4.log"
    )


def _socket(path: str) -> str:
    return f"{path} is a socket; pipe what it carries: COMMAND | ds4top --log -"


_NOT_A_FILE: tuple[tuple[Callable[[int], bool], Callable[[str], str]], ...] = (
    (stat.S_ISDIR, _directory),
    (stat.S_ISFIFO, _fifo),
    (stat.S_ISCHR, _device),
    (stat.S_ISBLK, _device),
    (stat.S_ISSOCK, _socket),
)


def _check_kind(path: str, mode: int) -> None:
    for is_kind, message in _NOT_A_FILE:
        if is_kind(mode):
            raise SourceFault("unsupported", message(path))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def denied(path: str) -> SourceFault:
    """The fault for a path that this user may not read, with the command that lets it."""
    me = _user(os.geteuid())
    place = os.path.dirname(os.path.abspath(path))
    closed = None
    while True:
        if not os.access(place, os.X_OK):
            closed = place
        if place == os.path.dirname(place):
            break
        place = os.path.dirname(place)
    if closed is not None:
        mend = f"sudo setfacl -m u:{me}:x {shlex.quote(closed)}"
        return SourceFault(
            "permission", f"cannot enter {closed} to read {path}; let {me} in: {mend}"
        )
    try:
        info = os.stat(path)
        whose = f"{_user(info.st_uid)}:{_group(info.st_gid)}, mode {stat.S_IMODE(info.st_mode):04o}"
        owner = f" (it belongs to {whose})"
    except OSError:
        owner = ""
    mend = f"sudo setfacl -m u:{me}:r {shlex.quote(path)}"
    return SourceFault("permission", f"cannot read {path}{owner}; let {me} read it: {mend}")


def check_name(path: str) -> None:
    """Raises ``SourceFault`` for a path that is never followed, whatever is there."""
    if path in _STANDARD_INPUT:
        raise SourceFault("unsupported", f"{path} is this program's input; use ds4top --log -")
    if path.endswith(".gz"):
        mend = f"ds4top report {shlex.quote(path)}"
        raise SourceFault("unsupported", f"{path} is compressed and does not grow; try {mend}")


def open_log(path: str) -> int:
    """A descriptor of the regular file at ``path``.

    Raises ``FileNotFoundError`` or ``NotADirectoryError`` while it does not exist, ``SourceFault``
    for what is not a file or may not be read, ``OSError`` for the rest.
    """
    check_name(path)
    try:
        # Looked at before it is opened: opening a FIFO or a device can do things to it.
        _check_kind(path, os.stat(path).st_mode)
        fd = os.open(path, _FLAGS)
    except PermissionError:
        raise denied(path) from None
    try:
        _check_kind(path, os.fstat(fd).st_mode)
    except BaseException:
        os.close(fd)
        raise
    return fd
