"""The receipts of jobs that Redis knows nothing of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from sync_kit.errors import ConfigurationError, JobError
from sync_kit.jobs.receipt import BlockingReceipt, Receipt
from sync_kit.jobs.results import read_result
from sync_kit.queue.records import TRACEBACK, Outcome

if TYPE_CHECKING:
    from sync_kit.options import Seconds


@dataclass(frozen=True, slots=True)
class KeptReceipt(Receipt):
    """The receipt of a job that was recorded, or has ended inline."""

    ending: Outcome | None = field(default=None, repr=False, compare=False)

    @property
    def blocking(self) -> BlockingReceipt:
        """The same verbs for code without an event loop."""
        return BlockingKeptReceipt(self)

    async def result(self, timeout: Seconds | None = None) -> Any:  # noqa: ARG002
        """What the handler made. Raises `ConfigurationError` if it did not run, `JobError` if it failed."""
        await anyio.lowlevel.checkpoint()
        return self.made()

    def made(self) -> Any:
        """See `result`."""
        if self.ending is None:
            raise ConfigurationError(
                f"job {self.id} of task {self.task!r} has no result, since it did not run: use inline() or drain(...)"
            )
        if self.ending.word == "done":
            return read_result(self.id, self.ending.text.encode()) if self.ending.text else None
        message, _, traceback = self.ending.text.partition(TRACEBACK)
        raise JobError(self.id, "failed", message, traceback)


class BlockingKeptReceipt(BlockingReceipt):
    """The verbs of a receipt, without await."""

    _receipt: KeptReceipt

    def result(self, timeout: Seconds | None = None) -> Any:  # noqa: ARG002
        """See `KeptReceipt.result`."""
        return self._receipt.made()
