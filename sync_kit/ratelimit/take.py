"""The call of `take.lua`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_kit._io.flow import Eval
from sync_kit._io.scripts import Script

if TYPE_CHECKING:
    from sync_kit.ratelimit.rules import Rules

TAKE = Script.load(__name__, "take")


class Take(Eval):
    """The call of `take.lua`, and what is needed to read its answer."""

    __slots__ = ("age", "asked", "cost", "counter", "key", "rules", "spend")

    def __init__(
        self, counter: str, key: str, rules: Rules, cost: int, spend: bool, deadline: float, asked: float, age: int
    ) -> None:
        self.script, self.keys, self.args = TAKE, (counter,), rules.call(cost, spend)
        self.deadline, self.repeat = deadline, False
        self.counter = counter
        self.key = key
        self.rules = rules
        self.cost = cost
        self.spend = spend
        self.asked = asked
        self.age = age
