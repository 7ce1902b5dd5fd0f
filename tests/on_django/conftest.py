"""Fixtures for the tests of the Django adapter: a project on a server of the tests' own. No plugin is needed."""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING, Any

import django
import pytest
from asgiref.sync import SyncToAsync

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.on_django.project.settings"
django.setup()
del os.environ["DJANGO_SETTINGS_MODULE"]  # other tests start processes, with pytest-django in them

from django.core.management import call_command
from django.db import connections
from django.test.utils import (
    override_settings,
    setup_databases,
    setup_test_environment,
    teardown_databases,
    teardown_test_environment,
)
from django.urls import set_urlconf

from sync_kit import SyncKit
from sync_kit.jobs import outlet
from sync_kit.kit import default_kit, provide_default
from sync_kit_django import _registry

# the tests beside these have a default kit of their own, and threads
provide_default(SyncKit)
threads, outlet.threads = outlet.threads, None

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server

SyncToAsync.single_thread_executor.submit(int).result()  # a thread of asgiref's that stays: no test leaves it behind


@pytest.fixture(scope="session", autouse=True)
def databases() -> Iterator[None]:
    """Empty tables in every database of the project."""
    setup_test_environment(debug=False)
    old = setup_databases(verbosity=0, interactive=False)
    yield
    for connection in connections.all():
        connection.close()
    teardown_databases(old, verbosity=0)
    teardown_test_environment()


@pytest.fixture(scope="session", autouse=True)
def thread_of_asgiref() -> None:
    """The one thread of a process on which `sync_to_async` runs what nobody else takes: it stays, so it is no leak."""
    SyncToAsync.single_thread_executor.submit(int).result()


@pytest.fixture(autouse=True)
def site(server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The project, on the shared server, in a namespace of the test's own; gives the default kit."""
    monkeypatch.setattr(outlet, "threads", threads)
    before = [*_registry._queues]
    with override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace}):
        yield default_kit()
        default_kit().close_all()
    provide_default(SyncKit)
    _registry._queues[:] = [known for known in _registry._queues if known in before or is_of_tasks(known())]


def is_of_tasks(queue: Any) -> bool:
    """Whether a queue is one of the setting `TASKS`; the others are forgotten with the test that made them."""
    return queue is not None and queue.name.startswith("tasks.")


@pytest.fixture
def kit(site: SyncKit) -> SyncKit:
    """The default kit of the project."""
    return site


@pytest.fixture
def tables() -> Iterator[None]:
    """For a test that writes to the databases, in any thread: afterwards they are empty again."""
    yield
    for alias in connections:
        call_command("flush", database=alias, interactive=False, verbosity=0)
        connections[alias].close()


@pytest.fixture(autouse=True)
def threads_of_asgiref_end(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asgiref leaves its threads to the garbage collector, which a record of an error may keep from them."""
    yield
    if sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate()) > 1:
        caplog.get_records("call").clear()
        set_urlconf(None)
        gc.collect()
