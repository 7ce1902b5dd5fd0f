"""Rate limiting: at most N units in any window-long span, on all processes together. See README.md here."""

from sync_kit.ratelimit.decision import Decision
from sync_kit.ratelimit.limiter import BlockingRateLimiter, RateLimiter
from sync_kit.ratelimit.rule import Rule

__all__ = ["BlockingRateLimiter", "Decision", "RateLimiter", "Rule"]
