"""For tests of code that sends jobs: keep them, run them at once, or work a real queue off. See README.md here."""

from sync_kit.testing.asserting import assert_not_sent, assert_sent
from sync_kit.testing.draining import Drained, drain, drain_blocking
from sync_kit.testing.errors import FailedJobsError, NestedTooDeepError, NotDrainedError
from sync_kit.testing.inlining import inline
from sync_kit.testing.mode import recorded
from sync_kit.testing.sent import Sent, SentJob

__all__ = [
    "Drained",
    "FailedJobsError",
    "NestedTooDeepError",
    "NotDrainedError",
    "Sent",
    "SentJob",
    "assert_not_sent",
    "assert_sent",
    "drain",
    "drain_blocking",
    "inline",
    "recorded",
]
