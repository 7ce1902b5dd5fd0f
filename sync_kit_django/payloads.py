"""Model instances do not travel: what is sent is their key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from inspect import isclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from django.db.models import Manager, Model, QuerySet
from django.utils.functional import Promise
from pydantic import BaseModel
from typing_extensions import is_typeddict

from sync_kit import ConfigurationError, InvalidPayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = (Model, QuerySet, Manager)
DEPTH = 20


def refuse_models(where: str, schema: Any) -> None:
    """Raise `ConfigurationError` if a schema names a class of models."""
    for kind in _named(schema, set()):
        raise ConfigurationError(
            f"the schema of {where} has a {kind.__module__}.{kind.__qualname__}, which does not travel in a payload: "
            "take its key, as in `order_id: int`, send order.pk, and let the handler read the order anew"
        )


def advised(error: InvalidPayloadError, given: Any) -> InvalidPayloadError:
    """The error of a payload, with advice if a model instance or a lazy text was in it."""
    found = next(_held(given, DEPTH), None)
    return error if found is None else InvalidPayloadError(error.where, error.errors, _advice(found))


def _advice(found: Any) -> str:
    if isinstance(found, Promise):
        return "it holds a lazy text, as of gettext_lazy or reverse_lazy, which does not travel: send str(text)"
    kind = type(found)
    what = f"an instance of {kind.__module__}.{kind.__qualname__}" if isinstance(found, Model) else "a QuerySet"
    return f"it holds {what}, which does not travel: send its key, as in order.pk, and let the handler read it anew"


def _held(value: Any, depth: int) -> Iterator[Any]:
    """Model instances and lazy texts in a payload that was refused."""
    if isinstance(value, (*KINDS, Promise)):
        yield value
    elif depth:
        for inner in _inside(value):
            yield from _held(inner, depth - 1)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, BaseModel):
        yield from dict(value).values()
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name) for field in fields(value))


def _named(schema: Any, seen: set[Any]) -> Iterator[type[Any]]:
    """Classes of models in a schema. One with annotations of its own has been thought about."""
    if get_origin(schema) is Annotated:
        return
    if _is_class(schema) and issubclass(schema, KINDS):
        yield schema
    for part in (*get_args(schema), *_fields(schema, seen)):
        yield from _named(part, seen)


def _fields(schema: Any, seen: set[Any]) -> tuple[Any, ...]:
    is_made_of_fields = _is_class(schema) and (is_dataclass(schema) or is_typeddict(schema) or _has_fields(schema))
    if not is_made_of_fields or schema in seen:
        return ()
    seen.add(schema)
    try:
        return tuple(get_type_hints(schema, include_extras=True).values())
    except Exception:  # pydantic says better what is wrong with it
        return ()


def _is_class(schema: Any) -> bool:
    """Python 3.10 takes `dict[str, int]` for a class, too."""
    return isclass(schema) and get_origin(schema) is None


def _has_fields(schema: type[Any]) -> bool:
    return issubclass(schema, BaseModel) or (issubclass(schema, tuple) and hasattr(schema, "_fields"))
