"""The rules of one limiter, which one script call decides together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_kit._io.scripts import Packed
from sync_kit.errors import ConfigurationError
from sync_kit.options import Seconds, shown
from sync_kit.ratelimit.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync_kit.ratelimit.rule import Algorithm

MOST = 10
REMEMBERED = 100


class Rules:
    """Rules that are decided at once, shortest window first.

    Attributes:
        all: the rules.
        shape: the part of a counter's key that says how it is laid out.
        args: the rules as scripts take them.

    Raises:
        ConfigurationError: there is none, there are more than 10, or two have the same window and algorithm.
    """

    __slots__ = ("_packed", "all", "args", "shape")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.all = tuple(sorted(rules, key=lambda rule: (rule.window, rule.shape)))
        shapes = [rule.shape for rule in self.all]
        if not 1 <= len(shapes) <= MOST:
            raise ConfigurationError(f"a limiter takes from 1 to {MOST} rules, not {len(shapes)}")
        for one, other in zip(self.all, self.all[1:], strict=False):
            if one.shape == other.shape:
                raise ConfigurationError(f"the rules {str(one)!r} and {str(other)!r} have the same window: keep one")
        if len({rule.name for rule in self.all}) < len(self.all):
            raise ConfigurationError(f"two of the rules {self} have the same name: give each one of its own")
        self.shape = "-".join(shapes)
        self.args = tuple(number for rule in self.all for number in rule.numbers)
        self._packed: dict[tuple[int, bool], Packed] = {}

    def call(self, cost: int, spend: bool) -> Packed:
        """The arguments of `take.lua`, encoded once for each cost."""
        packed = self._packed.get((cost, spend))
        if packed is None:
            packed = Packed((cost, int(spend), *self.args))
            if len(self._packed) < REMEMBERED:
                self._packed[cost, spend] = packed
        return packed

    def at_the_higher_rate(self, others: Rules) -> tuple[int, ...]:
        """`args`, each token bucket with the rate of `others` if those are laid out alike and leak faster."""
        if others.shape != self.shape:
            return self.args
        paired = enumerate(zip(self.args, others.args, strict=True))
        return tuple(max(one, other) if i % 4 == 3 else one for i, (one, other) in paired)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and self.all == other.all

    def __hash__(self) -> int:
        return hash(self.all)

    def __str__(self) -> str:
        return ", ".join(map(str, self.all))


def read_rules(given: object) -> Rules:
    """Rules from a text, a `Rule`, or an iterable of them. Raises `ConfigurationError`."""
    if isinstance(given, (str, Rule)):
        given = (given,)
    try:
        items = list(given)  # type: ignore[call-overload]
    except TypeError:
        raise ConfigurationError(f'{shown(given)} is not a rate limit: write a text such as "100/minute"') from None
    return Rules(item if isinstance(item, Rule) else Rule.parse(item) for item in items)


def read_options(
    rules: tuple[str | Rule, ...],
    limit: int | None,
    window: Seconds | None,
    algorithm: Algorithm | None,
    burst: int | None,
    precision: int | None,
) -> Rules:
    """The rules of a limiter's arguments: texts and values, or `limit=` and `window=`. Raises `ConfigurationError`."""
    details = {"algorithm": algorithm, "burst": burst, "precision": precision}
    if rules:
        extra = {"limit": limit, "window": window, **details}
        if clash := [f"{name}=" for name, value in extra.items() if value is not None]:
            raise ConfigurationError(
                f"give rate limits as text or as limit= and window=, not both: {', '.join(clash)} can be written "
                'in the text, as in "100/minute/burst=20"'
            )
        return read_rules(rules)
    if limit is None or window is None:
        raise ConfigurationError('a rate limit needs limit= and window=, or a text such as "100/minute"')
    return Rules([Rule(limit, window, algorithm=algorithm, burst=burst, precision=precision)])
