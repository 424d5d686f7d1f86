"""The status document against its JSON Schema, as strictly as the package knows it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA: dict[str, Any] = json.loads((files("ds4top.data") / "status.schema.json").read_text())


def closed(schema: Any) -> Any:
    """The same schema without room for fields that it does not name."""
    if isinstance(schema, dict):
        inner = {name: closed(value) for name, value in schema.items()}
        return inner | {"additionalProperties": False} if "properties" in inner else inner
    return [closed(each) for each in schema] if isinstance(schema, list) else schema


_CHECK = Draft202012Validator(closed(SCHEMA), format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(document: Any) -> list[str]:
    """What is wrong with a document: field and why; empty for a good one."""
    return [f"{fault.json_path}: {fault.message}" for fault in _CHECK.iter_errors(document)]
