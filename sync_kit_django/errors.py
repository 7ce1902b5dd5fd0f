"""What the core's errors do not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_kit import SyncKitError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit_django.commit import Letter
    from sync_kit_django.receipt import Receipt

MOST_NAMED = 20


class NotSentError(Unavailable):
    """A transaction has committed, and jobs that were to be sent then could not be; the cause is chained.

    What was written to the database stays. The jobs are kept on the error: `error.send()` sends them, and may be
    repeated, since their ids stay the same. Who lets the error go, lets the jobs go.

    Attributes:
        receipts: of all jobs of the transaction that were not sent, in order.
    """

    def __init__(self, letters: Sequence[Letter]) -> None:
        self.letters = [*letters]
        named = [f"{receipt.task} {receipt.id}" for receipt in self.receipts]
        super().__init__(
            f"the transaction is committed, but jobs of it could not be sent: {listed(named)}. The error keeps them: "
            "error.send() sends them"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _bare, (type(self), self.args)  # the jobs stay with the process that has their tasks

    @property
    def receipts(self) -> list[Receipt]:
        """See above."""
        return [receipt for letter in self.letters for receipt in letter.receipts]

    def send(self) -> list[Receipt]:
        """Send them now. A job that was stored after all is not sent again, as long as its queue keeps it.

        Returns:
            Their receipts.

        Raises:
            NotSentError: it failed again; that error has those that are left.
            DuplicateJobError: an older job has the unique key of one of them, and `on_duplicate="raise"`.
        """
        from sync_kit_django.commit import send_letters

        for letter in self.letters[:1]:
            letter.parcel.sender.jobs.kit.refuse_in_loop("error.asend()")
        send_letters(self.letters)
        return self.receipts

    async def asend(self) -> list[Receipt]:
        """See `send`."""
        from sync_kit_django.commit import asend_letters

        await asend_letters(self.letters)
        return self.receipts


class ReturnValueError(SyncKitError, TypeError, ValueError):
    """What a task of django.tasks returned cannot be stored. It has failed, and is not run again: it did its work."""


def _bare(kind: type[NotSentError], args: tuple[Any, ...]) -> NotSentError:
    error = kind.__new__(kind, *args)
    error.args, error.letters = args, []
    return error


def listed(names: Sequence[str]) -> str:
    """Some of them, for an error."""
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])
