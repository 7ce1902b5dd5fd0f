"""Payloads: validated by a pydantic schema before they are sent and again before they are run."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_json

from sync_kit.errors import ConfigurationError, InvalidPayloadError
from sync_kit.options import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

MOST_BYTES = 128 * 1024
HUGE = 64 * 1024 * 1024


def read_most(max_payload: object) -> int:
    """Bytes that a payload may have. Raises `ConfigurationError`."""
    return whole("max_payload", max_payload, least=1, most=HUGE)


MASK = "**********"
"""What is shown of secrets, by pydantic and by us."""


def plain(payload: bytes, *, secret: bool) -> Any:
    """A payload as plain JSON values, or masked if there are secrets in it; None if it is no JSON."""
    try:
        return MASK if secret else json.loads(payload)
    except ValueError:
        return None


class Schema(Generic[T]):
    """What payloads look like: a pydantic model, a dataclass, or any type pydantic knows. `where` is whose they are.
    `most` is how many bytes one may have.

    Attributes:
        has_secrets: whether it has fields (`SecretStr` and the like) that must not be shown; they are sent as they
            are. Also true as soon as a payload had one in a field of any type.

    Raises:
        ConfigurationError: pydantic cannot use the type.
    """

    def __init__(self, where: str, kind: Any, most: int = MOST_BYTES) -> None:
        self._where = where
        self._most = most
        self._kind = kind
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        except PydanticUserError as error:
            raise ConfigurationError(f"the schema of {where} cannot be used: {error.message}") from error
        self.has_secrets = self._is_secret()

    @property
    def kind(self) -> Any:
        """The type itself."""
        return self._kind

    def make(self, args: Sequence[Any], fields: Mapping[str, Any]) -> T:
        """The payload of a `send(...)` call. Raises `InvalidPayloadError`."""
        if len(args) == 1 and not fields:
            return self.check(args[0])
        if not args:
            return self.check(dict(fields))
        try:
            return self.check(self._kind(*args, **fields))
        except ValidationError as error:
            raise self._invalid(error) from None
        except (TypeError, ValueError) as error:
            raise InvalidPayloadError(self._where, [], str(error)) from None

    def check(self, payload: Any) -> T:
        """Validate a payload. Raises `InvalidPayloadError`; the error repeats none of the values."""
        try:
            return self._adapter.validate_python(payload)
        except ValidationError as error:
            raise self._invalid(error) from None

    def dump(self, payload: T) -> bytes:
        """The bytes of a payload. Raises `InvalidPayloadError` when they are too many, or cannot be read back."""
        data = self._written(payload)
        if len(data) > self._most:
            detail = (
                f"{len(data)} bytes are more than the {self._most} of max_payload=: "
                "store the data elsewhere and send its key"
            )
            raise InvalidPayloadError(self._where, [], detail)
        return data

    def _written(self, payload: T) -> bytes:
        """JSON that a worker can read: an accepted job must not fail for how it was written (NaN, for example)."""
        try:
            data = None if self.has_secrets else self._plainly(payload)
            if data is None:
                return self._written_secrets(payload)
            self._adapter.validate_json(data)
        except ValidationError as error:
            raise self._invalid(error, "it does not survive the trip as JSON, ") from None
        except ValueError as error:
            raise InvalidPayloadError(self._where, [], f"it cannot be written as JSON, {error}") from None
        return data

    def _plainly(self, payload: T) -> bytes | None:
        """What pydantic makes of it; None if it holds secrets, which are masked then, or refused by older versions."""
        try:
            data = self._adapter.dump_json(payload, by_alias=True)
        except ValueError as error:
            if "Secret" not in str(error):
                raise
            self.has_secrets = True
            return None
        if MASK.encode() in data:  # a secret, or a text that looks like one
            plainly = to_json(_revealed(self._adapter.dump_python(payload, by_alias=True)))
            self.has_secrets = json.loads(plainly) != json.loads(data)
        return None if self.has_secrets else data

    def _written_secrets(self, payload: T) -> bytes:
        """The same with what is in the secrets, for pydantic would mask it."""
        revealed = _revealed(self._adapter.dump_python(payload, by_alias=True))
        data = to_json(revealed)
        again = self._adapter.validate_json(data)
        if _revealed(self._adapter.dump_python(again, by_alias=True)) != revealed:
            raise ValueError("its secrets would arrive as something else")
        return data

    def identity(self, payload: T) -> bytes:
        """The same bytes for the same payload, whenever and wherever: without what was not given, and in order."""
        given = _revealed(self._adapter.dump_python(payload, by_alias=True, exclude_unset=True))
        return _ordered(given)

    def load(self, data: bytes) -> T:
        """Read a payload back. Raises `InvalidPayloadError`."""
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise self._invalid(error) from None

    def _invalid(self, error: ValidationError, why: str = "") -> InvalidPayloadError:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        detail = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'payload'}: {e['msg']}" for e in errors[:5])
        return InvalidPayloadError(self._where, errors, why + detail)

    def _is_secret(self) -> bool:
        try:
            return '"writeOnly": true' in json.dumps(self._adapter.json_schema())
        except PydanticUserError:
            return False  # a type without a JSON schema cannot be looked into


def _revealed(value: Any) -> Any:
    """What pydantic made of a payload in Python, with what is in its secrets."""
    if isinstance(value, Mapping):
        return {_revealed(name): _revealed(inner) for name, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_revealed, value), key=_ordered)
    if isinstance(value, (list, tuple, deque)):
        return [_revealed(inner) for inner in value]
    if isinstance(value, BaseModel):
        return _revealed(value.model_dump(by_alias=True))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _revealed(getattr(value, field.name)) for field in fields(value)}
    reveal = getattr(value, "get_secret_value", None)
    return value if reveal is None else _revealed(reveal())


def _ordered(value: Any) -> bytes:
    """JSON with its names in order."""
    return json.dumps(json.loads(to_json(value)), sort_keys=True).encode()
