"""JSON of a server that may be hostile or another version: read key by key, nothing trusted.

An absent key is ``None``. A value of another type is ``None`` too, and is named in ``odd``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

MOST_TEXT = 512
MOST_COUNT = 1 << 63
MOST_ITEMS = 256


def parse_json(body: bytes) -> object:
    """JSON of an answer. Raises ``ValueError`` that shows how the answer begins."""
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"no JSON but {described(text)}") from None


def described(text: str) -> str:
    """What came instead, in a few words."""
    start = " ".join(text[:200].split())
    if not start:
        return "an empty answer"
    if start.lower().startswith(("<!doctype html", "<html")):
        return f"an HTML page ({start[:40]!r}…)"
    return f"{start[:40]!r}…" if len(start) > 40 else repr(start)


def writable(text: str) -> str:
    """At most ``MOST_TEXT`` characters, without the lone surrogates that JSON can hold."""
    return text[:MOST_TEXT].encode("utf-8", "replace").decode()


class Fields:
    """An object of a JSON answer, read key by key; what has another type is noted in ``odd``."""

    def __init__(self, values: Mapping[str, object], where: str, odd: list[str]) -> None:
        self._values = values
        self._where = where
        self.odd = odd

    @classmethod
    def of(cls, value: object, where: str, odd: list[str] | None = None) -> Fields:
        """Raises ``ValueError`` for anything but an object."""
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {type_of(value)}, not an object")
        return cls(value, "" if where == "the answer" else where, [] if odd is None else odd)

    def text(self, key: str) -> str | None:
        """A text, cut at ``MOST_TEXT`` characters."""
        value = self._values.get(key)
        if isinstance(value, str):
            return writable(value)
        self._note(key, value, "a text")
        return None

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value = self._values.get(key)
        if isinstance(value, bool):
            return value
        self._note(key, value, "true or false")
        return None

    def count(self, key: str, *, least: int = 0) -> int | None:
        """A whole number of 63 bits, not below ``least``."""
        value = self._values.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value < MOST_COUNT:
            return value
        self._note(key, value, "a count")
        return None

    def need_text(self, key: str) -> str:
        """Raises ``ValueError`` where there is none."""
        value = self.text(key)
        if value is None:
            raise ValueError(f"{self._path(key)} is {type_of(self._values.get(key))}, not a text")
        return value

    def need_count(self, key: str) -> int:
        """Raises ``ValueError`` where there is none."""
        value = self.count(key)
        if value is None:
            raise ValueError(f"{self._path(key)} is {type_of(self._values.get(key))}, not a count")
        return value

    def inner(self, key: str) -> Fields:
        """An object inside; an empty one where there is none."""
        value = self._values.get(key)
        if isinstance(value, dict):
            return Fields(value, self._path(key), self.odd)
        if not isinstance(value, list):
            self._note(key, value, "an object")
        return Fields({}, self._path(key), self.odd)

    def items(self, key: str) -> list[Fields]:
        """The objects of a list; none where there is no list. Raises ``ValueError``."""
        value = self._values.get(key)
        return self.need_items(key) if isinstance(value, list) else []

    def need_items(self, key: str) -> list[Fields]:
        """The objects of a list. Raises ``ValueError`` for anything else."""
        value = self._values.get(key)
        if not isinstance(value, list):
            raise ValueError(f"{self._path(key)} is {type_of(value)}, not a list")
        return [
            Fields.of(item, f"{self._path(key)}[{index}]", self.odd)
            for index, item in enumerate(value[:MOST_ITEMS])
        ]

    def _path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def _note(self, key: str, value: object, wanted: str) -> None:
        if value is not None and len(self.odd) < MOST_ITEMS:
            self.odd.append(f"{self._path(key)} is {type_of(value)}, not {wanted}")


_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "an object"),
)


def type_of(value: object) -> str:
    """The type of a JSON value in words."""
    return next((words for kind, words in _TYPES if isinstance(value, kind)), "missing")
