"""The first and the last lines of every screen: state, sources, keys."""

from __future__ import annotations

from datetime import datetime

from ds4top.core.alerts import Alert
from ds4top.core.derive import ServerState, Status
from ds4top.core.keymap import DEFAULT_KEYS, Keys
from ds4top.core.model import Model
from ds4top.core.units import count_of, fmt_age, fmt_duration, fmt_pct
from ds4top.view.acting import acting_words
from ds4top.view.look import Look
from ds4top.view.mend import mend_of
from ds4top.view.text import Row, fit, pack, row, row_width

_NARROW = 100
"""Columns below which there is no room for an alert and all about the sources."""

STATE_STYLES: dict[ServerState, str] = {
    ServerState.LOADING: "state-load",
    ServerState.IDLE: "state-idle",
    ServerState.LOOKUP: "state-prefill",
    ServerState.PREFILL: "state-prefill",
    ServerState.DECODE: "state-decode",
    ServerState.DRAINING: "state-stopped",
    ServerState.STOPPED: "state-stopped",
    ServerState.FAILED: "state-fault",
    ServerState.POISONED: "state-fault",
    ServerState.UNKNOWN: "state-unknown",
}


def badge(status: Status) -> Row:
    """The state in its filled word; what is only last known is not filled, and says so."""
    word = status.state.value.upper()
    if status.last_known:
        return row((f"last known: {word}", "stale"))
    return row((f" {word} ", STATE_STYLES[status.state]))


def clock_text(model: Model, seconds: bool) -> str:
    """Local time of the model: of the machine, or of the replay."""
    form = "%H:%M:%S" if seconds else "%H:%M"
    return datetime.fromtimestamp(model.now, model.tz).strftime(form)


def residency_words(model: Model) -> str:
    """How the weights are held; by the log alone it says so."""
    found, why = model.machine.residency(model.log)
    if found == "unknown":
        return ""
    server = model.machine.server
    if "start-up lines" in why:
        return f"{found} (by its log)"
    argv = server.argv or () if server is not None else ()
    return f"{found} (--no-mmap)" if "--no-mmap" in argv else str(found)


def header_row(model: Model, status: Status, look: Look, width: int) -> Row:
    """State, what runs, since when, where; at the right the clock and what is special."""
    life = model.log.life
    right: list[str] = []
    replay = model.replay
    if replay is not None:
        how = "paused" if replay.paused else "ended" if replay.ended else f"×{replay.speed:g}"
        right.append(f"replay {how} {fmt_pct(_part(replay.position_s, replay.total_s), width=5)}")
    if model.demo:
        right.append(model.demo)
    if look.frozen:
        right.append("FROZEN")
    if model.history is not None:
        share = _part(model.history.done_bytes, model.history.total_bytes)
        right.append(f"reading history {fmt_pct(share)}")
    right.append(clock_text(model, replay is not None))
    word = badge(status)
    # The state is never what is cut: what is special at the right gives way first.
    while len(right) > 1 and row_width(word) + len("  ".join(right)) + 4 > width:
        right.pop(0)
    tail = row("  ".join(right), style="dim")
    if words := acting_words(model.acting):
        style = "now" if model.acting is not None and model.acting.goes_on else "crit"
        tail = row((words, style), "  ", tail)
    elif model.read_only and replay is None:
        tail = row(("read-only", "warn"), "  ", tail)
    parts: list[Row] = [word]
    if status.last_known or (status.state is ServerState.STOPPED and status.quiet_s is not None):
        parts.append(row((f"{fmt_age(status.quiet_s)} ago", "stale")))
    server = model.machine.server
    if server is not None:
        parts.append(row((f"{server.target.comm} {server.target.pid}", "title")))
        parts.append(_up(model.now - server.started_wall))
    elif life is not None:
        parts.append(row(("ds4-server", "title")))
        if life.listening_at is not None and status.state is not ServerState.STOPPED:
            parts.append(_up(model.now - life.listening_at))
    if residency := residency_words(model):
        parts.append(row(residency))
    if server is not None:
        parts.append(row(server.started_by))
    waiting = model.machine.waiting(model.log)
    if waiting is not None:
        parts.append(row(("waiting ", "label"), (str(waiting), "warn" if waiting else "text")))
    if life is not None and life.url and server is None:
        parts.append(row((life.url.removeprefix("http://"), "label")))
    missing = mend_of(model) if status.state is ServerState.UNKNOWN else None
    why = missing.what.lower() if missing is not None else status.why
    if why and not status.last_known:
        parts.insert(1, row((why, "warn")))
    room = width - row_width(tail) - 4
    left = pack(parts, max(room, 10), gap=3)
    return row(" ", fit(left, max(room, 0), "<", look.charset), "  ", tail)


def _up(seconds: float) -> Row:
    # Minutes are enough here: seconds would repaint the line for nothing.
    minutes = int(max(seconds, 0.0)) // 60
    return row(
        ("up ", "label"),
        fmt_duration(minutes * 60.0) if minutes >= 60 else f"{minutes or '<1':>2} m",
    )


def _part(done: float, total: float) -> float | None:
    return done / total if total > 0 else None


def alert_row(
    alerts: tuple[Alert, ...], model: Model, width: int, look: Look, hurting: int = 0
) -> Row:
    """The worst alert, how many more, how the sources are, and how many settings hurt."""
    ok = sum(1 for source in model.health if source.state == "ok")
    missing = len(model.health) - ok
    main = model.health[0] if model.health else None
    unknown = model.log.unrecognised_count
    words: list[Row] = []
    if main is not None and main.state != "ok":
        words.append(row((f"log {main.state}", "crit")))
    else:
        age = main.age_s if main is not None else None
        last = "" if alerts else "last line "
        words.append(row(("log ok", "ok"), (f", {last}{fmt_age(age, width=4)} ago", "dim")))
    if hurting:
        many = "setting hurts" if hurting == 1 else "settings hurt"
        words.append(row((f"{hurting} {many} ({model.keys['view.launch']})", "warn")))
    if unknown:
        words.append(row((f"{count_of(unknown, 'line')} not known", "warn")))
    if missing:
        key = model.keys["view.sources"]
        words.append(row((f"{count_of(missing, 'source')} not read ({key})", "dim")))
    if not alerts:
        return row(" ", pack(words, width - 2, gap=2))
    worst = alerts[0]
    mark = "!! " if worst.level == "critical" else "! "
    more = f"  (+{len(alerts) - 1})" if len(alerts) > 1 else ""
    said = row((mark + worst.text + more, worst.style))
    room = width * 11 // 20
    if width < _NARROW:
        # There the alert goes first; that the log is not read stays.
        bad = main is not None and main.state != "ok"
        room = min(room, max(width - 3 - row_width(said), row_width(words[0]) if bad else 0))
    right = pack(words, room, gap=2)
    left = fit(said, width - row_width(right) - 3, "<", look.charset)
    return row(" ", left, " ", right)


VIEW_NAMES: tuple[str, ...] = (
    "live",
    "requests",
    "kv",
    "memory",
    "launch",
    "log",
    "day",
    "sources",
)


def footer_row(
    active: str, hints: tuple[tuple[str, str], ...], width: int, keys: Keys = DEFAULT_KEYS
) -> Row:
    """The views by number, the one that is on marked, and keys that matter here."""
    labels = [keys[f"view.{name}"] for name in VIEW_NAMES]
    views: list[Row] = []
    for key, name in zip(labels, VIEW_NAMES, strict=True):
        style = "title" if name == active else "label"
        views.append(row((key, "key"), " ", (name, style)))
    short = width < 100
    if short:
        numbered = "".join(labels) == "12345678"
        views = [
            row(("1-8" if numbered else keys["view.next"], "key"), " views"),
            row((active, "title")),
        ]
    gap = 3 if short else 2
    found = [row((key, "key"), " " if key else "", (name, "label")) for key, name in hints]
    # Help and quit are never what is left out.
    always = pack(found[-2:], width - 2, gap=gap)
    room = width - 2 - row_width(always) - gap
    return row(" ", pack([*views, *found[:-2]], room, gap=gap), " " * gap, always)
