"""What observers of a limiter are told."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    from sync_kit.ratelimit.decision import Decision

log = logging.getLogger("sync_kit")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a limiter.

    Attributes:
        kind: `"decision"`, `"error"` (Redis could not be asked) or `"breaker"` (it is away, or back).
        labels: few words with few values, fit for metrics; never a key.
            decision: limiter, outcome (`allowed`, `limited`, `shadow`), rule, decided_by;
            error: limiter, error (its class), on_error; breaker: limiter, state (`open`, `closed`).
        decision: of a decision.
        error: of an error, and of a breaker that opens.
    """

    kind: Literal["decision", "error", "breaker"]
    labels: Mapping[str, str]
    decision: Decision | None = field(default=None, repr=False)
    error: Exception | None = field(default=None, repr=False)


def tell(observers: tuple[Callable[[Event], object], ...], event: Event) -> None:
    """Call every observer; what one raises is logged, and never changes a decision."""
    for observer in observers:
        try:
            observer(event)
        except Exception:
            log.exception("limiter %r: an observer failed on %s", event.labels["limiter"], event.kind)


def of_decision(decision: Decision) -> Event:
    """The event of a decision."""
    outcome = "shadow" if decision.shadow else "allowed" if decision.allowed else "limited"
    labels = {
        "limiter": decision.limiter,
        "outcome": outcome,
        "rule": decision.rule.name,
        "decided_by": decision.decided_by,
    }
    return Event("decision", labels, decision=decision)
