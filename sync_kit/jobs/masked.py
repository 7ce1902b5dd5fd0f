"""What jobs carry, as plain JSON values in which every secret is masked."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from sync_kit.queue.schema import MASK


def masked(value: Any) -> Any:
    """A value for JSON. It goes by fields and runs no serializer of theirs, for such a one may reveal a secret."""
    if hasattr(value, "get_secret_value"):
        return MASK
    if isinstance(value, Mapping):
        return {_name(name): masked(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [masked(inner) for inner in value]
    if isinstance(value, BaseModel):
        return _of_model(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: masked(getattr(value, each.name, None)) for each in fields(value)}
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode(errors="backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)  # JSON has no such number
    return to_jsonable_python(value, fallback=repr)


def _of_model(model: BaseModel) -> Any:
    known = type(model).model_fields
    if set(known) == {"root"}:
        return masked(getattr(model, "root", None))
    shown = {name: getattr(model, name, None) for name, each in known.items() if not each.exclude}
    return masked(shown | (model.model_extra or {}))


def _name(name: Any) -> str:
    return name if isinstance(name, str) else str(masked(name))
