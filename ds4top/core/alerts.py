"""Alerts that come and go with hysteresis, each with the figure that proves it.

``AlertBook`` is the one mutable thing here: it is given facts and a time, and remembers what
stands. ``alerts_now`` is the same for one look alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ds4top.core.alert_facts import CLEAR, AlertFacts, AlertRule, Level, Said, XidSeen
from ds4top.core.alert_rules import RULES, slow_cause
from ds4top.core.derive import ServerState, Status, repeated_divergence
from ds4top.core.state import LogState

__all__ = [
    "CLEAR",
    "RULES",
    "Alert",
    "AlertBook",
    "AlertFacts",
    "AlertRule",
    "Level",
    "Said",
    "XidSeen",
    "alerts_now",
    "facts_of_log",
    "slow_cause",
]

UNKNOWN_S = 60.0
"""How long an alert is kept when what it was judged by is not known any more."""
DAY_S = 86_400.0
_RANK: dict[Level | None, int] = {None: 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to act on, since ``since`` (in the clock of the updates).

    ``times``: how often it came in the last 24 hours. ``stale``: its figure is of before, what it
    is judged by is not known now.
    """

    rule: str
    level: Level
    what: str
    figure: str
    fix: str
    since: float
    times: int = 1
    stale: bool = False

    @property
    def text(self) -> str:
        """In one line: what is wrong, the figure, and what to do."""
        again = f" ({self.times} times in 24 h)" if self.times > 1 else ""
        known = " (last known)" if self.stale else ""
        return f"{self.what}: {self.figure}{known}{again}; {self.fix}"

    @property
    def style(self) -> Literal["warn", "crit"]:
        """The name of its colour."""
        return "crit" if self.level == "critical" else "warn"


@dataclass(slots=True)
class _Standing:
    said: Said = CLEAR
    since: float = 0.0
    looks: int = 0
    rising_from: float = 0.0
    clear_from: float | None = None
    unknown_from: float | None = None
    lapsed: bool = False
    entered: deque[float] = field(default_factory=lambda: deque(maxlen=64))


class AlertBook:
    """Which alerts stand. One book a server: ``reset`` it when another one is watched."""

    def __init__(self, rules: Iterable[AlertRule] = RULES) -> None:
        self._rules = tuple(rules)
        self._standing = {rule.id: _Standing() for rule in self._rules}

    def reset(self) -> None:
        """Forget everything."""
        self._standing = {rule.id: _Standing() for rule in self._rules}

    def recall(self, begins: Iterable[tuple[str, float]]) -> None:
        """Count what an earlier run of ds4top saw begin: rules and times."""
        for rule, at in begins:
            if (kept := self._standing.get(rule)) is not None:
                kept.entered = deque(sorted((*kept.entered, at)), kept.entered.maxlen)

    def update(self, facts: AlertFacts, now: float) -> tuple[Alert, ...]:
        """Take one look at time ``now`` (seconds, any clock that goes forward); worst first.

        A rule's looks count once for each call, so call it once for each new sample.
        """
        for rule in self._rules:
            _look(self._standing[rule.id], rule, facts, now)
        return self.standing(now)

    def standing(self, now: float) -> tuple[Alert, ...]:
        """What stands, the worst first, those of one level in the order of the table."""
        found: list[Alert] = []
        for rule in self._rules:
            kept = self._standing[rule.id]
            if kept.said.level is None:
                continue
            times = sum(1 for at in kept.entered if at > now - DAY_S)
            found.append(_alert(rule, kept.said, kept.since, times, kept.unknown_from is not None))
        return _sorted(found)


def _look(kept: _Standing, rule: AlertRule, facts: AlertFacts, now: float) -> None:
    entering = rule.check(facts, False)
    lasting = rule.check(facts, True) if kept.said.level is not None else entering
    if entering is None and lasting is None:
        kept.looks = 0
        if kept.said.level is not None:
            kept.unknown_from = now if kept.unknown_from is None else kept.unknown_from
            if now - kept.unknown_from >= UNKNOWN_S:
                _leave(kept, CLEAR)
                # Nobody saw it go: what comes next may be the same one.
                kept.lapsed = True
        return
    kept.unknown_from = None
    entering = entering or CLEAR
    lasting = lasting or CLEAR
    held = _RANK[kept.said.level]
    if _RANK[entering.level] > held:
        _rise(kept, rule, entering, now)
        if _RANK[kept.said.level] > held:
            return
    else:
        kept.looks = 0
    if held and _RANK[lasting.level] >= held:
        # The same alert with today's figure, in the words of its own level.
        kept.clear_from = None
        if lasting.level == kept.said.level:
            kept.said = lasting
        return
    if not held:
        kept.lapsed = kept.lapsed and entering.level is not None
        return
    kept.clear_from = now if kept.clear_from is None else kept.clear_from
    if now - kept.clear_from >= rule.leave_s:
        _leave(kept, lasting)
    elif lasting.level is not None:
        kept.said = Said(kept.said.level, lasting.what, lasting.figure, lasting.fix)


def _rise(kept: _Standing, rule: AlertRule, said: Said, now: float) -> None:
    if kept.looks == 0:
        kept.rising_from = now
    kept.looks += 1
    if kept.looks < rule.enter_looks or now - kept.rising_from < rule.enter_s:
        return
    if kept.said.level is None:
        kept.since = kept.rising_from
        if not kept.lapsed:
            kept.entered.append(kept.rising_from)
        kept.lapsed = False
    kept.said, kept.looks, kept.clear_from = said, 0, None


def _leave(kept: _Standing, said: Said) -> None:
    kept.said, kept.clear_from, kept.unknown_from, kept.looks = said, None, None, 0


def _alert(rule: AlertRule, said: Said, since: float, times: int, stale: bool) -> Alert:
    assert said.level is not None
    return Alert(rule.id, said.level, said.what, said.figure, said.fix, since, max(times, 1), stale)


def _sorted(alerts: list[Alert]) -> tuple[Alert, ...]:
    return tuple(sorted(alerts, key=lambda alert: -_RANK[alert.level]))


def alerts_now(
    facts: AlertFacts, now: float, rules: Iterable[AlertRule] = RULES
) -> tuple[Alert, ...]:
    """What one look alone says, for a command that looks once; worst first."""
    found = [(rule, rule.check(facts, False)) for rule in rules]
    return _sorted(
        [_alert(rule, said, now, 1, False) for rule, said in found if said and said.level]
    )


_BUSY = frozenset({ServerState.LOOKUP, ServerState.PREFILL, ServerState.DECODE})


def facts_of_log(log: LogState, status: Status) -> AlertFacts:
    """What the log alone tells; ``dataclasses.replace`` adds the machine's figures."""
    life = log.life
    state = None if status.state is ServerState.UNKNOWN else str(status.state)
    newest = log.running or log.last_request
    if newest is not None and (life is None or newest.life != life.number):
        newest = None
    return AlertFacts(
        state=state,
        state_why=status.why,
        busy=None if state is None or status.last_known else status.state in _BUSY,
        loading=status.state is ServerState.LOADING,
        quiet_s=status.quiet_s,
        last_known=None if state is None else status.last_known,
        log_warnings=dict(life.warnings) if life is not None else {},
        poisoned=life.poisoned if life is not None else None,
        divergence=repeated_divergence(log),
        store_failed=_store_failed(log),
        context_tokens=max(newest.context_tokens, newest.prompt_tokens) if newest else None,
        context_limit_tokens=life.buffers.ctx_tokens if life and life.buffers else None,
        gone=None if life is None else bool(life.died),
        gone_why=(life.died or "") if life is not None else "",
    )


def _store_failed(log: LogState) -> str | None:
    """The error of the last save, where it failed and none was saved since."""
    failed = log.store_failed
    if failed is None:
        return None
    begun = log.life.begun_at if log.life is not None else None
    if begun is not None and failed.at is not None and failed.at < begun:
        return None
    saved = log.stores[-1].at if log.stores else None
    if saved is not None and (failed.at is None or saved > failed.at):
        return None
    return f"{failed.what}: {failed.error}"
