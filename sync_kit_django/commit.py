"""Jobs that are sent when a transaction commits, and not at all when it does not."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from django.db import connections, transaction

from sync_kit import ConfigurationError, DuplicateJobError, SyncKitError
from sync_kit.jobs import outlet
from sync_kit.jobs.parcel import deliver, deliver_blocking
from sync_kit_django import conf
from sync_kit_django.errors import NotSentError, listed
from sync_kit_django.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

    import sync_kit
    from sync_kit.jobs.parcel import Parcel

    Arrived = Callable[[Sequence[sync_kit.Receipt]], None]

log = logging.getLogger("sync_kit")

NO_ENGINE = "django.db.backends.dummy"
"""That of an alias without settings: there are no transactions, and nobody to ask."""


@dataclass(frozen=True)
class Rule:
    """Whether jobs wait for a commit, and in which database; what is None is as the settings say."""

    database: str | None = None
    on_commit: bool | None = None

    def waits(self) -> bool:
        """Whether a plain `send` waits for the end of a transaction."""
        return conf.current().jobs.on_commit if self.on_commit is None else self.on_commit

    def connection(self) -> BaseDatabaseWrapper:
        """Whose transactions are meant, in this thread. Raises `ConfigurationError`."""
        alias = self.database or conf.current().jobs.database
        real = [name for name, said in connections.settings.items() if said["ENGINE"] != NO_ENGINE]
        if alias not in real and (real or alias not in connections.settings):
            what = "is empty in DATABASES" if alias in connections.settings else "DATABASES does not have"
            raise ConfigurationError(
                f"jobs are to wait for the transactions of database {alias!r}, which {what}: "
                f'database= and SYNC_KIT["JOBS"]["DATABASE"] name one of {", ".join(map(repr, real or connections))}'
            )
        return connections[alias]


class Letter:
    """Jobs that wait for a commit: what Django calls then. Nobody else may hold on to one before, see `_following`.

    Attributes:
        is_due: their transaction has committed: they are sent now, or kept by an error.
    """

    def __init__(self, parcel: Parcel, connection: BaseDatabaseWrapper, arrived: Arrived | None = None) -> None:
        self.parcel = parcel
        self.receipts = receipts_of(parcel, parcel.receipts(), is_sent=False)
        self.is_due = False
        self._arrived = arrived
        self._connection = ref(connection)

    def __call__(self) -> None:
        """The transaction has committed. Raises `NotSentError`, and `DuplicateJobError` when all others are sent."""
        self.is_due = True
        if all(receipt.sent for receipt in self.receipts):
            return  # of captures in a capture, in a test, each calls what the inner ones have called
        try:
            send_letters([self], self._following)
        except NotSentError as error:
            _log(error)
            raise

    def arrived(self, receipts: Sequence[sync_kit.Receipt]) -> None:
        """The jobs are stored."""
        for receipt, core in zip(self.receipts, receipts, strict=True):
            receipt.learn(core)
        if self._arrived is not None:
            self._arrived(receipts)
            self._arrived = None  # who sends once more is not told once more

    def _following(self) -> list[Letter]:
        """Those that have been committed, and that Django will not call any more if this one raises.

        Django keeps what it still has to call to itself, and lets go of what belongs to a savepoint that is rolled
        back: so what is still there is to be called. A TestCase never commits: there they are those behind this one.
        """
        connection = self._connection()
        if connection is None:
            return []
        found = _behind(self, connection) if connection.in_atomic_block else _alive(connection)
        for letter in found:
            letter.is_due = True
        return found


_posted: WeakKeyDictionary[BaseDatabaseWrapper, list[ref[Letter]]] = WeakKeyDictionary()


def send(parcel: Parcel, rule: Rule, verb: str, *, waits: bool, arrived: Arrived | None = None) -> list[Receipt]:
    """Send now or, if it `waits`, at the end of the transaction that is open. Raises what `Sender.send` does.

    `arrived` is called with the core's receipts when the jobs are stored.
    """
    parcel.sender.jobs.kit.refuse_in_loop(verb)
    if not waits or not _is_in_transaction(connection := rule.connection()):
        cores = deliver_blocking(parcel, verb)
        if arrived is not None:
            arrived(cores)
        return receipts_of(parcel, cores)
    letter = Letter(parcel, connection, arrived)
    receipts = letter.receipts
    if not connection.run_on_commit:  # a new transaction, perhaps in a callback of the one before
        _posted[connection] = [ref(each) for each in _alive(connection)]
    _posted.setdefault(connection, []).append(ref(letter))
    transaction.on_commit(letter, using=connection.alias)
    return receipts


def _alive(connection: BaseDatabaseWrapper) -> list[Letter]:
    """The letters that Django still has to call. Those that are due already may be kept by an error."""
    letters = [letter for each in _posted.get(connection, ()) if (letter := each()) is not None]
    return [letter for letter in letters if not letter.is_due]


def _behind(letter: Letter, connection: BaseDatabaseWrapper) -> list[Letter]:
    """The letters that `captureOnCommitCallbacks` has still to call after this one."""
    callbacks = [entry[1] for entry in connection.run_on_commit]
    behind = callbacks[callbacks.index(letter) + 1 :] if letter in callbacks else []
    return [each for each in behind if isinstance(each, Letter) and not each.is_due]


def receipts_of(parcel: Parcel, cores: Sequence[sync_kit.Receipt], *, is_sent: bool = True) -> list[Receipt]:
    """The receipts of a parcel."""
    kit, is_unique = parcel.sender.jobs.kit, parcel.keys is not None
    return [Receipt(core, kit, is_sent=is_sent, is_unique=is_unique) for core in cores]


def waiting() -> int:
    """How many jobs of this thread wait for a commit. `captureOnCommitCallbacks` leaves those that it has called."""
    callbacks = [entry[1] for each in connections.all(initialized_only=True) for entry in each.run_on_commit]
    letters = [letter for letter in callbacks if isinstance(letter, Letter) and not letter.is_due]
    return sum(len(letter.receipts) for letter in letters)


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Also of a connection that is not made yet, which then is not made. Raises `ConfigurationError`."""
    if connection.in_atomic_block:
        return True
    is_made = connection.connection is not None
    if not (connection.autocommit if is_made else connection.settings_dict["AUTOCOMMIT"]):
        raise ConfigurationError(
            f"autocommit of database {connection.alias!r} is off, so Django does not tell when a transaction commits: "
            "use `with transaction.atomic():`, or send after your commit() with .using(on_commit=False)"
        )
    return False


def send_letters(letters: Sequence[Letter], following: Callable[[], Sequence[Letter]] = tuple) -> None:
    """Send one after the other; `following` ones are sent, or kept, where Django drops them for an error."""
    walk = Walk(letters, following)
    for letter in walk:
        with walk.seen():
            letter.arrived(deliver_blocking(letter.parcel, "error.asend()"))


async def asend_letters(letters: Sequence[Letter]) -> None:
    """See `send_letters`."""
    walk = Walk(letters)
    for letter in walk:
        with walk.seen():
            letter.arrived(await deliver(letter.parcel))


class Walk:
    """Goes from letter to letter until Redis fails. A duplicate is raised in the end, after the others are sent."""

    def __init__(self, letters: Sequence[Letter], following: Callable[[], Sequence[Letter]] = tuple) -> None:
        self._left = [*letters]
        self._following = following
        self._refused: DuplicateJobError | None = None

    def __iter__(self) -> Iterator[Letter]:
        while self._left:
            yield self._left[0]
            del self._left[0]
        if self._refused is not None:
            raise self._refused

    @contextmanager
    def seen(self) -> Iterator[None]:
        """Around the sending of each."""
        try:
            yield
        except DuplicateJobError as error:
            if outlet.current is None:  # else it may be one that a handler raised
                self._left[0].arrived(error.receipts)
            if self._refused is None:
                self._left += self._following()
            self._refused = self._refused or error
        except SyncKitError as error:
            if outlet.current is not None:  # what a handler raised that ran inline, in a test
                raise
            more = () if self._refused is not None else self._following()
            raise NotSentError([*self._left, *more]) from error


def _log(error: NotSentError) -> None:
    for letter in error.letters:
        sender, ids = letter.parcel.sender, [receipt.id for receipt in letter.receipts]
        log.error(
            "not sent to queue %r, although their transaction is committed: %d jobs of task %r (%s): %s. "
            "Catch the NotSentError and repeat error.send(), or send them anew",
            *(sender.jobs.name, len(ids), sender.name, listed(ids), error.__cause__),
        )
