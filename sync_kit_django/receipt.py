"""The answer to a send, also to one that waits for the end of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_kit import ConfigurationError

if TYPE_CHECKING:
    import sync_kit
    from sync_kit import SyncKit
    from sync_kit.options import Seconds


class Receipt:
    """The answer to a `send`: the job will run, or it will once the transaction has committed.

    It learns after the commit what became of the job: ask it again then.
    """

    __slots__ = ("_core", "_is_sent", "_is_unique", "_kit")

    def __init__(self, core: sync_kit.Receipt, kit: SyncKit, *, is_sent: bool = True, is_unique: bool = False) -> None:
        self._core = core
        self._kit = kit
        self._is_sent = is_sent
        self._is_unique = is_unique

    def __repr__(self) -> str:
        waits = "" if self._is_sent else ", not sent yet"
        return f"<Receipt {self.id} of task {self.task!r}{waits}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and (self.id, self.task) == (other.id, other.task)

    def __hash__(self) -> int:
        return hash(self.task)  # the id of a job that has a unique key may turn out to be another one

    @property
    def id(self) -> str:
        """The job's id, a UUID version 7, known at once; of a schedule its name.

        Of a job with a unique key that waits for a commit it is the id that the job has if no older one has its key;
        after the commit it is that of the job that has it.
        """
        return self._core.id

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._core.task

    @property
    def sent(self) -> bool:
        """Whether the job is stored in Redis. False until the commit, and for ever after a rollback."""
        return self._is_sent

    @property
    def duplicate(self) -> bool | None:
        """Whether this is an older job that has the same unique key; None while that is not known."""
        return self._core.duplicate if self._is_sent or not self._is_unique else None

    @property
    def schedule(self) -> bool:
        """Whether a schedule was made or changed: `id` is its name, and jobs are sent when it is due."""
        return self._core.schedule

    def result(self, timeout: Seconds | None = None) -> Any:
        """Wait until the job has ended, and return what its handler made; one is called when it has, and does not poll.

        Args:
            timeout: seconds to wait at most; for ever if not given. The job goes on either way.

        Returns:
            The result as plain JSON values; None if the task has no `result_ttl=`.

        Raises:
            JobError: it has failed, was cancelled, or its result could not be stored or is not kept any longer.
            TimeoutError: it has not ended in time.
            ConfigurationError: it was not sent, since its transaction has not committed.
            Unavailable: Redis cannot be reached.
        """
        self._refuse_waiting()
        self._kit.refuse_in_loop("receipt.aresult(...)")
        return self._core.blocking.result(timeout)

    async def aresult(self, timeout: Seconds | None = None) -> Any:
        """See `result`."""
        self._refuse_waiting()
        return await self._core.result(timeout)

    def learn(self, core: sync_kit.Receipt) -> None:
        """The job is stored; for the rooms of sync_kit_django itself."""
        self._core = core
        self._is_sent = True

    def _refuse_waiting(self) -> None:
        if not self._is_sent:
            raise ConfigurationError(
                f"job {self.id} of task {self.task!r} is sent when its transaction commits, and has no result before: "
                "ask for it after the `with transaction.atomic():` block"
            )
