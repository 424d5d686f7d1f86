"""A history whose newest items stay as they are, while older ones are packed by the block.

A day of requests and cache events as objects is 2 KiB a request; packed it is a twentieth of that,
and a table or a sum over all of them unpacks a thousand in a few milliseconds.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar, overload

Item = TypeVar("Item")
Kind = TypeVar("Kind", bound=NamedTuple)
Rows = Iterable[tuple[Any, ...]]

BLOCK = 64
"""Items that are packed together."""
_LEVEL, _WINDOW, _MEMORY = 6, -13, 6
"""Of zlib: a block is some 10 KiB, and the usual window would take 256 KiB to pack it."""


class Packing(Generic[Item]):
    """How items become rows of plain values, and are made of them again."""

    def __init__(
        self, rows: Callable[[Sequence[Item]], Rows], items: Callable[[Rows], list[Item]]
    ) -> None:
        self._rows = rows
        self._items = items

    def pack(self, items: Sequence[Item]) -> bytes:
        """A block of them; by columns, in which values resemble each other."""
        packer = zlib.compressobj(_LEVEL, wbits=_WINDOW, memLevel=_MEMORY)
        columns = tuple(zip(*self._rows(items), strict=True))
        return packer.compress(marshal.dumps(columns)) + packer.flush()

    def unpack(self, block: bytes) -> list[Item]:
        """The items of a block."""
        columns = marshal.loads(zlib.decompress(block, _WINDOW))
        return self._items(zip(*columns, strict=True))


class Shelf(Sequence[Item]):
    """Items in the order in which they were appended; ``dropped`` is how many went before them.

    Nothing is packed but by ``settle``. What was packed comes back equal, not the same.
    """

    __slots__ = ("_blocks", "_near", "_opened", "_packing", "dropped")

    def __init__(self, packing: Packing[Item]) -> None:
        self._packing = packing
        self._blocks: list[bytes] = []
        self._near: list[Item] = []
        self._opened: tuple[bytes, list[Item]] | None = None
        self.dropped = 0

    def append(self, item: Item) -> None:
        """One more, the newest."""
        self._near.append(item)

    def settle(self, near: int, is_over: Callable[[Item], bool] = lambda item: True) -> None:
        """Pack what lies before the newest ``near`` and can no longer change."""
        while len(self._near) >= near + BLOCK and all(map(is_over, self._near[:BLOCK])):
            self._blocks.append(self._packing.pack(self._near[:BLOCK]))
            del self._near[:BLOCK]

    def drop(self, count: int) -> None:
        """Let the oldest go: so many, or the few less that make whole blocks."""
        blocks = min(count // BLOCK, len(self._blocks))
        self.dropped += blocks * BLOCK
        del self._blocks[:blocks]
        if not self._blocks:
            count = min(count - blocks * BLOCK, len(self._near))
            self.dropped += count
            del self._near[:count]

    def clear(self) -> None:
        """Let all of them go."""
        self.dropped += len(self)
        self._blocks, self._near, self._opened = [], [], None

    @property
    def total(self) -> int:
        """How many were ever appended."""
        return self.dropped + len(self)

    def after(self, number: int) -> Iterator[Item]:
        """Those that came after the first ``number`` of all, as far as they are kept."""
        begin = max(number - self.dropped, 0)
        first, skip = divmod(begin, BLOCK)
        near = self._near[max(begin - BLOCK * len(self._blocks), 0) :]
        for block in self._blocks[first:]:
            yield from islice(self._packing.unpack(block), skip, None)
            skip = 0
        yield from near

    def newest(self, limit: int | None = None, *, first: bool = True) -> Sequence[Item]:
        """Those of now, or the newest ``limit`` of them, the newest ``first`` or last; unpacked
        where one is looked at.
        """
        found = Shelf(self._packing)
        found._blocks, found._near = self._blocks.copy(), self._near.copy()
        places = range(len(found))[-limit if limit else None :]
        return _Ordered(found, places[::-1] if first else places)

    def __len__(self) -> int:
        return BLOCK * len(self._blocks) + len(self._near)

    def _block(self, number: int) -> list[Item]:
        block = self._blocks[number]
        if self._opened is None or self._opened[0] is not block:
            self._opened = block, self._packing.unpack(block)
        return self._opened[1]

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> list[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | list[Item]:
        packed = BLOCK * len(self._blocks)
        if isinstance(at, slice):
            begin, end, step = at.indices(len(self))
            if begin >= packed and step > 0:
                return self._near[begin - packed : max(end - packed, 0) : step]
            return [self[index] for index in range(begin, end, step)]
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError("no such item")
        if at >= packed:
            return self._near[at - packed]
        return self._block(at // BLOCK)[at % BLOCK]

    def __iter__(self) -> Iterator[Item]:
        return self.after(0)

    def __reversed__(self) -> Iterator[Item]:
        yield from reversed(self._near.copy())
        for block in reversed(self._blocks.copy()):
            yield from reversed(self._packing.unpack(block))


class _Ordered(Sequence[Item]):
    """Items of a shelf that is not changed, by their places."""

    def __init__(self, shelf: Shelf[Item], places: range) -> None:
        self._shelf = shelf
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> list[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | list[Item]:
        if isinstance(at, slice):
            return [self._shelf[place] for place in self._places[at]]
        return self._shelf[self._places[at]]

    def __iter__(self) -> Iterator[Item]:
        if self._places.step < 0:
            return islice(reversed(self._shelf), len(self))
        return self._shelf.after(len(self._shelf) - len(self))


def shelf_of(kind: type[Kind]) -> Shelf[Kind]:
    """For named tuples of plain values, which are rows already."""
    make: Callable[[Any], Kind] = kind._make
    return Shelf(Packing(lambda items: items, lambda rows: [make(row) for row in rows]))
