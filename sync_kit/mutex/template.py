"""Resource names with placeholders, for decorators: `"report:<id>"`."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from sync_kit._io.keys import encode_part
from sync_kit.errors import ConfigurationError
from sync_kit.options import label

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_PLACEHOLDER = re.compile(r"<([^<>]*)>")
_OF_OTHERS = re.compile(r"{(\w+)[^{}]*}")
"""What other libraries, and routes of ASGI frameworks, take for a placeholder: here it would be one name for all."""


class KeyTemplate:
    """A resource name whose `<name>` parts are filled in for each call.

    Values are encoded, so that a value such as `a:b` cannot pose as two parts.

    Args:
        text: the name, as in `"report:<id>"`.
        sources: words that may stand before a dot, as `query` in `<query.page>`; none if not given.

    Attributes:
        text: as given.
        names: the placeholders, without their brackets.

    Raises:
        ConfigurationError: the text is empty, a bracket is not closed, or a placeholder is not a plain name or stands
            in braces.
    """

    def __init__(self, text: str, *, sources: Collection[str] = ()) -> None:
        self.text = label("a resource", text)
        self.names = tuple(_PLACEHOLDER.findall(text))
        if found := _OF_OTHERS.search(text):
            raise ConfigurationError(f"{found[0]} in {text!r} would not be filled in: write <{found[1]}>")
        for name in self.names:
            source, _, rest = name.partition(".")
            if not (name.isidentifier() or (source in sources and rest and not rest.isspace())):
                raise ConfigurationError(
                    f"<{name}> in {text!r} is not a placeholder: write a plain name, as in <id>. There are no "
                    "converters: values come from the call, which has converted them already"
                )
        if "<" in _PLACEHOLDER.sub("", text) or ">" in _PLACEHOLDER.sub("", text):
            raise ConfigurationError(f"{text!r} has a bracket without its partner: placeholders are written <name>")

    def require(self, known: Collection[str]) -> None:
        """Raise `ConfigurationError` if a placeholder is not among the `known` names."""
        for name in self.names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                advice = f"did you mean <{close[0]}>?" if close else f"use one of {', '.join(sorted(known)) or 'none'}"
                raise ConfigurationError(f"<{name}> in {self.text!r} is not known here: {advice}")

    def fill(self, values: Mapping[str, object]) -> str:
        """The resource for `values`. Raises `ConfigurationError` for a placeholder without a value, or whose
        value is None or an object without a text of its own."""
        self.require(values.keys())
        return _PLACEHOLDER.sub(lambda match: encode_part(self._text(match[1], values[match[1]])), self.text)

    def _text(self, name: str, value: object) -> str:
        kind = type(value)
        if value is None or (kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__):
            raise ConfigurationError(
                f"<{name}> in {self.text!r} is {kind.__name__} in this call, which says nothing: each call would be a "
                "resource of its own, or all of them one; use a parameter that is text or a number"
            )
        if not str(value):
            raise ConfigurationError(f"<{name}> in {self.text!r} is empty in this call: each part needs a value")
        return str(value)
