"""What the chaos tests share. Each has a short form, and with `--long` a long one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.chores import chores
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import Ledger
from tests.chaos.worker import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def size(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """`size(short, long)` is the one that is asked for."""
    return lambda short, long: long if pytestconfig.getoption("long") else short


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    """Where all runs of all processes are written down."""
    with Ledger(tmp_path / "ledger") as made:
        yield made


@pytest.fixture
def fleet(tmp_path) -> Iterator[Fleet]:
    """Starts worker processes; none is left after the test."""
    with Fleet(tmp_path) as made:
        yield made


@pytest.fixture
def settings(server, namespace, ledger) -> Callable[..., Settings]:
    """`settings(lease=2)` is for a worker process on the shared server; a `url=` leads it through a proxy."""
    return partial(Settings, url=server.url, namespace=namespace, ledger=ledger.path)


@pytest.fixture
def queue(kit, ledger) -> tuple[Any, Any]:
    """The jobs and the task, to send and to look."""
    return chores(kit, ledger)
