"""The part of the reducer that tells one life of the server from the next."""

from __future__ import annotations

from ds4top.core import events as ev
from ds4top.core.state import End, Life, LogState, Request

_RANKS = {"oom_score_adj": 1, "warming": 2, "cuda_init": 3, "buffers": 4}
_POISON = (
    "illegal memory access",
    "unspecified launch failure",
    "misaligned address",
    "device-side assert",
)


class LifeReducer:
    """Start-up, shutdown and notes. ``Reducer`` adds lookups, requests and the disk cache."""

    def __init__(self, state: LogState) -> None:
        self.state = state
        self._heard: float | None = None

    def _end(self, request: Request, end: End, at: float | None) -> None:
        raise TypeError("requests are ended by Reducer")

    def _clear_lookup(self) -> None:
        raise TypeError("lookups belong to Reducer")

    def _heard_of(self, at: float | None) -> float | None:
        return (
            self._heard
            if self._heard is not None
            else (at if at is not None else self.state.last_at)
        )

    def _life(self) -> Life:
        life = self.state.life
        return life if life is not None else self._new_life(None, start_seen=False)

    def _new_life(self, at: float | None, *, start_seen: bool) -> Life:
        state = self.state
        for request in list(state.open):
            self._end(request, End.INTERRUPTED, None)
            if state.lives:
                state.lives[-1].open_at_end = True
        if start_seen:
            self._clear_lookup()
        life = Life(
            state.lives_dropped + len(state.lives) + 1,
            at if at is not None else state.last_at,
            start_seen,
        )
        life.stage_heard_at = self._heard
        state.lives.append(life)
        return life

    def _starting(self, what: str, at: float | None, *, again: bool) -> Life:
        """The life that a start-up line belongs to.

        A start-up line after one of its successors, or the same once more, means that the life
        before died in silence while loading (an OOM kill leaves no line).
        """
        rank = _RANKS[what]
        life = self.state.life
        if life is None or life.over or rank < life.rank or (rank == life.rank and again):
            life = self._new_life(at, start_seen=True)
        elif not life.start_seen:
            # What stood before it in the log belongs to a life whose start is not in it.
            self._clear_lookup()
        life.start_seen = True
        life.rank = max(rank, life.rank)
        return life

    def _life_begin(self, e: ev.LifeBegin) -> None:
        again = e.what == "oom_score_adj" or (e.what == "cuda_init" and not e.device_index)
        life = self._starting(e.what, e.at, again=again)
        if e.what == "cuda_init":
            life.device, life.sm = life.device or e.device, life.sm or e.sm
        elif e.what == "oom_score_adj" and e.value is not None:
            life.oom_score_adj = int(e.value)
        elif e.what == "warming":
            life.stages.append(ev.LoadProgress(e.at, "warm", None, e.value))
        life.stage_heard_at = self._heard_of(e.at)
        if life.engine_at is None:
            life.engine_at = e.at if e.at is not None else self._heard

    def _context_buffers(self, e: ev.ContextBuffers) -> None:
        life = self._starting("buffers", e.at, again=True)
        life.buffers = e
        if life.begun_at is None:
            life.begun_at = e.at
        life.stages.append(ev.LoadProgress(e.at, "buffers"))
        life.stage_heard_at = self._heard_of(e.at)

    def _load_progress(self, e: ev.LoadProgress) -> None:
        life = self._life()
        stages = life.stages
        if stages and stages[-1].stage == e.stage and not stages[-1].finished:
            total = e.total_gib if e.total_gib is not None else stages[-1].total_gib
            done = e.done_gib if e.done_gib is not None else stages[-1].done_gib
            stages[-1] = e._replace(total_gib=total, done_gib=done)
        elif len(stages) < 200:
            stages.append(e)
        life.stage_heard_at = self._heard_of(e.at)

    def _disk_cache(self, e: ev.KvDiskCache) -> None:
        life = self._life()
        life.disk = e
        life.stages.append(ev.LoadProgress(e.at, "disk-cache", finished=True))

    def _listening(self, e: ev.Listening) -> None:
        life = self._life()
        if life.listened:
            return
        life.listened = life.start_seen = True
        life.listening_at, life.url = e.at, e.url

    def _batched(self, e: ev.BatchedMode) -> None:
        self._life().sessions = max(1, e.sessions)

    def _shutdown(self, e: ev.ShutdownRequested) -> None:
        life = self._life()
        life.shutdown, life.shutdown_at = True, e.at

    def _fatal(self, e: ev.StartFatal) -> None:
        life = self.state.life
        if e.reason == "out_of_memory" and life is not None and life.over:
            life.died = e.text
            return
        if life is None or life.over:
            life = self._new_life(e.at, start_seen=True)
        life.start_seen = True
        life.fatal = e

    def _refused(self, e: ev.AlreadyRunning) -> None:
        self.state.refused_starts.append(self.state.last_at)

    def _persisting(self, e: ev.Persisting) -> None:
        life = self._life()
        for request in list(self.state.open):
            self._end(request, End.FAILED, e.at)
        life.persist_lost = life.persist_lost or life.persist_open
        life.persist_open = True

    def _persist_outcome(self, e: ev.Event) -> None:
        life = self._life()
        if life.persist_open:
            life.persist_open, life.persisted = False, True
        if isinstance(e, ev.KvStoreFailed):
            self.state.store_failed = e

    def _ignored(self, e: ev.Event) -> None:
        """A known line that says nothing of the state."""

    def _note(self, e: ev.Note) -> None:
        life = self._life()
        if e.name == "memory-plan":
            life.plan.update(e.fields)
        if e.level in ("warning", "error"):
            life.warnings[e.name] = life.warnings.get(e.name, 0) + 1
        if e.name == "cuda-error" and any(sign in e.text for sign in _POISON):
            life.poisoned = e.text

    def _unrecognised(self, e: ev.Unrecognised) -> None:
        self.state.unrecognised_count += 1
        self.state.unrecognised.append(e)
