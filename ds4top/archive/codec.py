"""Frozen samples to plain JSON values and back.

``encode`` takes any dataclass or named tuple; ``decode`` needs the classes by name. Fields that a
recording has and a class does not are dropped, fields with a default may be missing, so that
recordings outlive small changes.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from enum import Enum
from functools import cache
from typing import Any

TYPE = "type"
_KEPT = "_bytes"
_CONTAINERS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    tuple: tuple,
    list: list,
    set: set,
    frozenset: frozenset,
    Sequence: tuple,
    Iterable: tuple,
    Set: frozenset,
}


def encode(sample: object) -> dict[str, Any]:
    """A sample as a JSON object: its class's name under ``type``, and its fields.

    Raises ``TypeError`` for what is neither a dataclass nor a named tuple, or holds anything that
    is not a value. Floats that are not finite become ``null``.
    """
    fields = _fields_of(sample)
    if fields is None:
        raise TypeError(f"{type(sample).__name__} is not a sample")
    return {TYPE: type(sample).__name__, **{name: plain(value) for name, value in fields}}


def plain(value: object) -> Any:
    """Any value made of values, as JSON would have it. Raises ``TypeError`` for the rest."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return {_KEPT: base64.b64encode(value).decode()}
    fields = _fields_of(value)
    if fields is not None:
        return {TYPE: type(value).__name__, **{name: plain(item) for name, item in fields}}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not a value")


def decode(data: Mapping[str, Any], classes: Mapping[str, type], **over: object) -> Any:
    """The sample that ``encode`` made ``data`` of; ``over`` replaces fields that it has.

    Raises ``ValueError`` naming the class and the field for what does not fit.
    """
    name = data.get(TYPE)
    found = classes.get(str(name))
    if found is None:
        raise ValueError(f"no sample type is called {name}")
    return _build(found, data, classes, over)


def _fields_of(value: object) -> list[tuple[str, object]] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    names = getattr(value, "_fields", None)
    if isinstance(value, tuple) and names is not None:
        return list(zip(names, value, strict=True))
    return None


@cache
def _hints(of: type) -> dict[str, Any]:
    hints = typing.get_type_hints(of)
    if dataclasses.is_dataclass(of):
        return {field.name: hints[field.name] for field in dataclasses.fields(of) if field.init}
    names = getattr(of, "_fields", ())
    return {name: hints.get(name, Any) for name in names}


def _build(
    of: type, data: Mapping[str, Any], classes: Mapping[str, type], over: Mapping[str, object]
) -> Any:
    values: dict[str, Any] = {}
    for name, hint in _hints(of).items():
        if name in over:
            values[name] = over[name]
        elif name in data:
            try:
                values[name] = _value(data[name], hint, classes)
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise ValueError(f"{of.__name__}.{name}: {error}") from error
    try:
        return of(**values)
    except TypeError as error:
        raise ValueError(f"{of.__name__}: {error}") from error


def _value(value: Any, hint: Any, classes: Mapping[str, type]) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping) and TYPE in value and str(value[TYPE]) in classes:
        return _build(classes[str(value[TYPE])], value, classes, {})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_fit(value, arguments, classes)
    if origin in _CONTAINERS or hint in _CONTAINERS:
        return _container(value, origin or hint, arguments, classes)
    if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        item = arguments[1] if len(arguments) == 2 else Any
        return {key: _value(one, item, classes) for key, one in value.items()}
    if hint is bytes:
        return base64.b64decode(value[_KEPT])
    if isinstance(hint, type):
        return _plain_value(value, hint, classes)
    return value


def _plain_value(value: Any, hint: type, classes: Mapping[str, type]) -> Any:
    if issubclass(hint, Enum):
        return hint(value)
    if isinstance(value, Mapping) and _hints_or_none(hint):
        return _build(hint, value, classes, {})
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, str, bool, float) and type(value) is not hint:
        raise TypeError(f"{value!r} is not {hint.__name__}")
    return value


def _hints_or_none(of: type) -> bool:
    return dataclasses.is_dataclass(of) or hasattr(of, "_fields")


def _first_fit(value: Any, hints: tuple[Any, ...], classes: Mapping[str, type]) -> Any:
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _value(value, hint, classes)
        except (TypeError, ValueError, KeyError, AttributeError):
            continue
    raise TypeError(f"{value!r} fits no kind of this field")


def _container(
    value: Any, origin: Any, arguments: tuple[Any, ...], classes: Mapping[str, type]
) -> Any:
    make = _CONTAINERS[origin]
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return tuple(_value(one, of, classes) for one, of in zip(value, arguments, strict=True))
    item = arguments[0] if arguments else Any
    return make(_value(one, item, classes) for one in value)
