"""The model that is not there: a live state of text and tokens, and the time its work takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ds4top.standin.clock import Pace
from ds4top.standin.faults import Faults
from ds4top.standin.profiles import Profile
from ds4top.standin.state import StateWriter
from ds4top.standin.text import TOKEN_BYTES

_SMALLEST_PREFILL = 4


class CancelledError(Exception):
    """A batched prefill stopped between quanta because the server ends."""


@dataclass(frozen=True)
class Binding:
    """What a later request must show to go on from hidden state: a visible text, or call ids."""

    tokens: int
    visible: bytes = b""
    ids: tuple[str, ...] = ()


@dataclass
class Session:
    """One resident state: the text it stands for and how many tokens that is."""

    text: bytearray = field(default_factory=bytearray)
    tokens: int = 0
    continued_last: int = 0
    responses: Binding | None = None
    anthropic: Binding | None = None
    thinking: Binding | None = None

    def reset(self) -> None:
        """Forget the state."""
        self.text = bytearray()
        self.tokens = 0

    def restore(self, text: bytes, tokens: int) -> None:
        """Take over a state from disk."""
        self.text = bytearray(text)
        self.tokens = tokens

    def waits_for(self, api: str, identifier: str) -> bool:
        """Whether a tool output with this id would be expected."""
        binding = self.responses if api == "responses" else self.anthropic
        return binding is not None and identifier in binding.ids


@dataclass(frozen=True)
class Limits:
    """Sizes that decide how work is cut, and how fast it may run."""

    context_tokens: int
    prefill_chunk: int
    mixed_quantum: int
    power: float = 1.0


class Engine:
    """Runs one session's work at the profile's speed; several share the GPU by turns."""

    def __init__(
        self,
        profile: Profile,
        limits: Limits,
        pace: Pace,
        faults: Faults,
        active: Callable[[], int],
        cancelled: Callable[[], bool],
        state: StateWriter,
        slot: int,
    ) -> None:
        """`active` tells how many sessions work now, `cancelled` whether to stop between quanta.

        `state` hears what this session does, `slot` is its number.
        """
        self.pace = pace
        self.limits = limits
        self._profile = profile
        self._faults = faults
        self._active = active
        self._cancelled = cancelled
        self._state = state
        self._slot = slot
        self._interval_jitter = 1.0

    def prefill(
        self, session: Session, target: bytes, tokens: int, progress: Callable[[int], None]
    ) -> None:
        """Bring the session to `tokens` tokens of `target`, whose beginning it already holds.

        `progress` hears positions as the real engine reports them: none for a cold prompt that
        fits into one chunk, none for a handful of tokens. Raises CudaError, CancelledError.
        """
        start, start_bytes = session.tokens, len(session.text)
        self.pace.begin()
        if tokens <= start:
            return

        def reach(position: int) -> None:
            end = start_bytes + TOKEN_BYTES * (position - start)
            session.text = bytearray(target[:end])
            session.tokens = position
            self._prefilling(tokens - start, (position - start) / (tokens - start))

        self._prefilling(tokens - start, 0.0)
        chunk_size = self.limits.prefill_chunk
        if start == 0 and tokens <= chunk_size:
            self._work(0, tokens)
            reach(tokens)
            return
        if tokens - start < _SMALLEST_PREFILL:
            for position in range(start, tokens):
                self.token(position)
            reach(tokens)
            return
        progress(start)
        position = start
        while position < tokens:
            size = chunk_size - position % chunk_size
            if self._active() > 1:
                size = min(size, self.limits.mixed_quantum)
            size = min(size, tokens - position)
            self._work(position, size)
            position += size
            reach(position)
            progress(position)
            if self._cancelled():
                raise CancelledError

    def token(self, context_tokens: int) -> None:
        """Let one decode step pass. Raises CudaError."""
        factor = self._faults.step() * self._active()
        each = self._profile.decode.seconds_per_token(context_tokens)
        self.pace.wait(each * factor * self._interval_jitter / self.limits.power)

    def begin_decode(self) -> None:
        """The first token is about to be computed."""
        self._state.works(self._slot, "decode")
        self.pace.begin()
        self.next_interval()

    def next_interval(self) -> None:
        """Draw the jitter of the next decode interval."""
        self._interval_jitter = self.pace.jitter()

    def _prefilling(self, tokens: int, share: float) -> None:
        self._state.works(self._slot, "prefill", tokens, share)

    def _work(self, position: int, size: int) -> None:
        factor = self._faults.step() * self._active() * self.pace.jitter()
        each = self._profile.prefill.seconds_per_token(position + size // 2)
        self.pace.wait(each * size * factor / self.limits.power)
        self._faults.step()
