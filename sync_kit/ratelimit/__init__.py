"""Rate limiting: at most N units in any window-long span, on all processes together. See README.md here."""

from sync_kit.ratelimit.addresses import TrustedProxies, client_address, group_address, hashed
from sync_kit.ratelimit.blocking import BlockingRateLimiter
from sync_kit.ratelimit.decision import Decision, RuleState
from sync_kit.ratelimit.events import Event
from sync_kit.ratelimit.headers import header_fields, problem_body
from sync_kit.ratelimit.limiter import RateLimiter
from sync_kit.ratelimit.rule import Rule

__all__ = [
    "BlockingRateLimiter",
    "Decision",
    "Event",
    "RateLimiter",
    "Rule",
    "RuleState",
    "TrustedProxies",
    "client_address",
    "group_address",
    "hashed",
    "header_fields",
    "problem_body",
]
