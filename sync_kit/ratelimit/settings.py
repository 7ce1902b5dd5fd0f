"""The settings of a limiter, checked once."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable
from typing import TYPE_CHECKING, Any

from sync_kit.errors import ConfigurationError
from sync_kit.options import Seconds, choice, label, seconds, shown, whole
from sync_kit.ratelimit.decision import decide
from sync_kit.ratelimit.local import LocalCounters
from sync_kit.ratelimit.rules import Rules, read_rules

if TYPE_CHECKING:
    from sync_kit.ratelimit.decision import DecidedBy, Decision
    from sync_kit.ratelimit.events import Event
    from sync_kit.ratelimit.rule import Rule

    Given = str | Rule | Iterable[str | Rule]
    RulesOf = Given | Callable[[str], Given]
    Exempt = Callable[[str], bool] | Container[str]

POLICIES = ("raise", "allow", "deny", "local")
_REMEMBERED = 1000


class Settings:
    """What a limiter was told. Raises `ConfigurationError` when something is wrong."""

    def __init__(
        self,
        name: str,
        rules: Rules | RulesOf,
        *,
        on_error: str,
        replicas: int,
        deadline: Seconds,
        deny_cache: bool,
        shadow: bool,
        exempt: Exempt | None,
        observers: Iterable[Callable[[Event], object]],
    ) -> None:
        self.name = label("the name of a limiter", name)
        self._rules_of = rules if callable(rules) else None
        self.fixed = None if callable(rules) else rules if isinstance(rules, Rules) else read_rules(rules)
        self._read: dict[object, Rules] = {}
        self.on_error = choice("on_error", on_error, POLICIES)
        self.local = LocalCounters(whole("replicas", replicas, least=1)) if on_error == "local" else None
        if self.local is None and replicas != 1:
            raise ConfigurationError(f'replicas={shown(replicas)} belongs to on_error="local": leave it out')
        self.deadline = seconds("deadline", deadline, above=0, most=60)
        self.deny_cache = bool(deny_cache)
        self.shadow = bool(shadow)
        self.exempt = _exempt(exempt)
        self.observers = _observers(observers)

    def __str__(self) -> str:
        return str(self.fixed or "rules of the key")

    def rules_for(self, key: str | int) -> Rules:
        """The rules of `key`."""
        return self.fixed or self._dynamic(str(key))

    def decide(
        self, reply: list[Any], rules: Rules, key: str, cost: int, by: DecidedBy, *, spent: bool = False
    ) -> Decision:
        """Read a reply for a call that this limiter made."""
        return decide(reply, rules, self.name, key, cost, spent=spent, by=by, shadow=self.shadow)

    def _dynamic(self, key: str) -> Rules:
        assert self._rules_of is not None
        given: Any = self._rules_of(key)
        if isinstance(given, Iterable) and not isinstance(given, str):
            given = tuple(given)
        if not isinstance(given, Hashable):
            return read_rules(given)
        known = self._read.get(given)
        if known is None:
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
            known = self._read[given] = read_rules(given)
        return known


def _exempt(given: Exempt | None) -> Callable[[str], bool] | None:
    if given is None or callable(given):
        return given
    if isinstance(given, (str, bytes)) or not isinstance(given, Container):
        raise ConfigurationError(f"exempt must be a function of the key or a collection of keys, not {shown(given)}")
    if isinstance(given, Iterable) and (strange := [key for key in given if not isinstance(key, str)]):
        raise ConfigurationError(
            f"exempt keys are compared as text: write {str(strange[0])!r}, not {shown(strange[0])}"
        )
    return given.__contains__


def _observers(given: Any) -> tuple[Callable[[Event], object], ...] | None:
    observers = (given,) if callable(given) else tuple(given)
    for observer in observers:
        if not callable(observer):
            raise ConfigurationError(f"observers must be functions of an Event, not {shown(observer)}")
    return observers or None
