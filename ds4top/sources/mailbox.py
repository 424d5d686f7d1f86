"""The one place where threads meet: latest-per-key gauges and a bounded queue, one lock.

Setting a gauge never waits. The queue never drops: where it is full the caller waits or is told
so and keeps its bytes where they came from.
"""

from __future__ import annotations

from collections import deque
from threading import Condition, Event

DEFAULT_CAPACITY = 256


class Mailbox:
    """Samples of all sources on their way to the one thread that reduces them."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        """``capacity`` is how many queued samples may wait. Raises ``ValueError`` below 1."""
        if capacity < 1:
            raise ValueError(f"a mailbox needs room for at least one sample, not {capacity}")
        self.capacity = capacity
        self._room = Condition()
        self._gauges: dict[str, object] = {}
        self._queue: deque[object] = deque()
        self._arrived = Event()

    def set(self, key: str, sample: object) -> None:
        """Make ``sample`` the latest of ``key``; one that nobody took yet is overwritten."""
        with self._room:
            # Taken out first, so that gauges drain in the order of their latest setting.
            self._gauges.pop(key, None)
            self._gauges[key] = sample
        self._arrived.set()

    def put(self, sample: object, wait_s: float = 0.0) -> bool:
        """Queue ``sample``; ``False`` if there was no room within ``wait_s`` seconds."""
        with self._room:
            if len(self._queue) >= self.capacity and (
                wait_s <= 0 or not self._room.wait_for(self._has_room, wait_s)
            ):
                return False
            self._queue.append(sample)
        self._arrived.set()
        return True

    def wait(self, most_s: float) -> bool:
        """Whether something came since the last ``drain``; waits for it so long."""
        return self._arrived.wait(most_s)

    def drain(self, limit: int | None = None) -> list[object]:
        """Everything that waits: queued samples in their order, then the gauges.

        ``limit`` bounds how many queued samples are taken, so that one tick stays short.
        """
        self._arrived.clear()
        with self._room:
            if limit is None or limit >= len(self._queue):
                queued, self._queue = list(self._queue), deque()
            else:
                queued = [self._queue.popleft() for _ in range(limit)]
            gauges, self._gauges = self._gauges, {}
            if queued:
                self._room.notify_all()
        queued.extend(gauges.values())
        return queued

    @property
    def waiting(self) -> int:
        """Queued samples that nobody took yet."""
        with self._room:
            return len(self._queue)

    def _has_room(self) -> bool:
        return len(self._queue) < self.capacity
