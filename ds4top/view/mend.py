"""What stands where figures would: what is missing, why, and the one command that mends it."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import NamedTuple

from ds4top.core.logplace import COPY_PANE
from ds4top.core.model import Model, SourceHealth
from ds4top.view.text import Row, row

NO_SERVER = "no ds4-server or llama-server runs here"
_RUNS = ("docker", "podman")
_START = "ds4top run -- ds4-server -m MODEL --ctx 131072"
_READ = re.compile(r"(?P<why>.*?)(?:; let \S+ (?:read it|in): |: mend: |; mend: )(?P<command>.+)")


class Mend(NamedTuple):
    """``what`` is a title, ``does`` what the command does."""

    what: str
    why: str
    command: str
    does: str = ""


def mend_of(model: Model) -> Mend | None:
    """What keeps the log from being read, if anything does; of a replay nothing."""
    log = _health(model, "log")
    if model.replay is not None or log is None or log.state == "ok":
        return None
    machine = model.machine
    if log.state == "denied":
        return _denied(log.detail)
    if log.state == "error":
        return Mend("LOG NOT READ", log.detail, model.keys["view.sources"], "shows every source")
    if model.source:
        # Named, and not there.
        name = model.source
        return Mend("WAITING", log.detail, f"ds4-server ... 2>> {name}", "writes it")
    if machine.server is not None:
        return _unread(model)
    if len(machine.servers) > 1:
        pids = ", ".join(str(each.target.pid) for each in machine.servers)
        first = machine.servers[0].target.pid
        return Mend(
            "WHICH SERVER",
            f"{len(machine.servers)} run here: {pids}",
            model.keys["server.choose"],
            f"chooses one, as does ds4top --pid {first}",
        )
    if model.inside:
        return Mend(
            "NO SERVER",
            f"{NO_SERVER}; this is a container ({model.inside}): the host's processes are not seen",
            f"{model.inside} run --pid=host ..." if model.inside in _RUNS else "ds4top",
            "lets it see them" if model.inside in _RUNS else "on the host sees them",
        )
    if machine.demos:
        pids = ", ".join(map(str, machine.demos))
        return Mend("NO SERVER", f"{NO_SERVER} but a demo's ({pids})",
                    f"ds4top --pid {machine.demos[0]}", "looks at it")  # fmt: skip
    return Mend("NO SERVER", NO_SERVER, _START, "starts one, its log kept")


def poison_of(why: str) -> Mend:
    """What there is to do about a server that is alive and serves only errors."""
    return Mend("POISONED", f"{why}: every request fails until a restart", "ds4top restart",
                "restarts it as it was")  # fmt: skip


def _denied(detail: str) -> Mend:
    found = _READ.fullmatch(detail)
    if found is None:
        return Mend("LOG NOT READABLE", detail, "sudo ds4top", "may read it")
    return Mend("LOG NOT READABLE", found["why"], found["command"], "lets you read it")


def _unread(model: Model) -> Mend:
    server = model.machine.server
    assert server is not None
    place = server.log
    what = "ITS LOG IS ON A TERMINAL" if place.kind in ("terminal", "tmux") else "NO LOG"
    mine = place.mend.removeprefix("start it with ")
    if place.mend.startswith("start it with "):
        return Mend(what, place.detail, f"{server.target.comm} ... {mine}", "at its next start")
    if place.mend == COPY_PANE:
        return Mend(what, place.detail, model.keys["log.copy_pane"], place.mend)
    if server.denied:
        return Mend(
            what if place.kind != "unknown" else "ANOTHER USER'S SERVER",
            f"{server.target.comm} {server.target.pid} belongs to {server.user};"
            f" not readable: {', '.join(server.denied)}",
            f"sudo ds4top --pid {server.target.pid}",
            "may read it",
        )
    return Mend(what, place.detail, place.mend or "ds4top --log FILE", "reads it")


def gpu_mend(model: Model) -> Mend | None:
    """Why there is no figure of the GPU, and what brings it."""
    health = _health(model, "GPU (NVML)")
    if model.machine.gpu is not None or health is None or model.replay is not None:
        return None
    detail = health.detail or "not known"
    if "not installed" in detail:
        return Mend("GPU", detail, "pip install nvidia-ml-py", "brings it")
    if model.inside in _RUNS and health.state == "missing":
        return Mend("GPU", detail, f"{model.inside} run --gpus all ...", "lets it in")
    why, _, command = detail.partition("; mend: ")
    return Mend("GPU", why, command or "nvidia-smi", "" if command else "says more")


def _health(model: Model, name: str) -> SourceHealth | None:
    return next((each for each in model.health if each.name == name), None)


def mend_rows(found: Mend, width: int, indent: int = 11) -> list[Row]:
    """Title, reason, command: in this order, nothing cut but what is too long for a line."""
    room = max(width - indent - 1, 16)
    blank = " " * indent
    mend = f" {'mend':<{indent - 1}}" if indent > 5 else " " * indent
    does = found.does and f"   {found.does}"
    rows = [row((f" {found.what}", "title"))]
    rows += [row(blank, line) for line in wrap(found.why, room)[:3]]
    if len(found.command) + len(does) <= room:
        rows.append(row((mend, "label"), (found.command, "key"), (does, "dim")))
    else:
        lines = wrap(found.command, room, break_on_hyphens=False)[:3]
        rows.append(row((mend, "label"), (lines[0], "key")))
        rows += [row(blank, (line, "key")) for line in lines[1:]]
        if found.does:
            rows.append(row(blank, (found.does, "dim")))
    return rows


def empty_log_rows(model: Model, text: str, width: int) -> list[Row]:
    """What stands where there are no lines."""
    if text:
        return [row("  no line matches; ", (model.keys["app.cancel"], "key"), " clears the filter")]
    found = mend_of(model)
    if found is not None:
        return mend_rows(found, width)
    return [row(("  no line of the log yet", "dim"))]


def mend_short(found: Mend, width: int) -> list[Row]:
    """The same where there are few lines: reason and command."""
    rows = [row(" ", (line, "warn")) for line in wrap(found.why, max(width - 2, 16))[:2]]
    lines = wrap(found.command, max(width - 2, 16), break_on_hyphens=False)[:2]
    rows += [row(" ", (line, "key")) for line in lines]
    if found.does and len(lines) == 1 and len(lines[0]) + len(found.does) + 4 <= width:
        rows[-1] += row((f"  {found.does}", "dim"))
    return rows
