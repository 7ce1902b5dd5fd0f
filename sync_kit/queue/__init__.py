"""The engine under the jobs: one queue in Redis, with leases. See README.md here."""

from sync_kit.queue.engine import Claim, Engine, Entry, Keep, Outcome, Turn

__all__ = ["Claim", "Engine", "Entry", "Keep", "Outcome", "Turn"]
