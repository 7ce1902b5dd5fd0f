"""`@exclusive` on commands and functions: what is called without a request."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import anyio
import pytest
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from sync_kit import ConfigurationError, LockError, Mutex, SyncKit
from sync_kit_django import exclusive


@pytest.fixture
def mutex(kit):
    return Mutex("exclusive", kit=kit).blocking


@contextlib.contextmanager
def held(mutex, resource):
    """Somebody else has it: a block of our own would be one that the function is in."""
    lease = mutex.acquire(resource)
    yield
    lease.release()


def command(**options) -> Any:
    class Nightly(BaseCommand):
        def add_arguments(self, parser):
            parser.add_argument("number", type=int)

        @exclusive("report:<number>", **options)
        def handle(self, *args, **options):
            self.stdout.write(f"built {options['number']}")

    return Nightly()


def test_a_command_runs_inside_and_its_options_name_the_resource(mutex):
    out = io.StringIO()
    with held(mutex, "report:8"):
        call_command(command(), "7", stdout=out)
    assert out.getvalue() == "built 7\n"
    assert mutex.holder("report:7") is None


def test_a_busy_command_says_so_and_ends_with_a_code_of_its_own(mutex):
    with held(mutex, "report:7"), pytest.raises(CommandError, match="'report:7' of .* is held by") as caught:
        call_command(command(), "7")
    assert caught.value.returncode == 75


def test_a_busy_command_may_be_skipped(mutex):
    out = io.StringIO()
    with held(mutex, "report:7"):
        call_command(command(on_conflict="skip"), "7", stdout=out)
    assert out.getvalue() == ""


def test_a_command_waits_its_turn_and_gives_up(mutex):
    with held(mutex, "report:7"), pytest.raises(CommandError):
        call_command(command(on_conflict="wait", wait=0.05), "7")
    call_command(command(on_conflict="wait"), "7", stdout=io.StringIO())


def test_a_command_without_redis_says_so(own_server):
    server = own_server()
    kit = SyncKit(server.url)
    server.stop()
    with pytest.raises(CommandError) as caught:
        call_command(command(kit=kit), "7")
    assert caught.value.returncode == 69
    kit.close()


def test_errors_of_a_command_are_its_own(mutex):
    class Broken(BaseCommand):
        @exclusive("one")
        def handle(self, *args, **options):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call_command(Broken())
    assert mutex.holder("one") is None


@pytest.mark.parametrize("is_async", [False, True])
def test_functions_are_named_by_their_parameters(mutex, is_async):
    @exclusive("report:<number>")
    def build(number, lang="en"):
        return f"{number} {lang} {mutex.holder('report:7') is not None}"

    @exclusive("report:<number>")
    async def build_later(number, lang="en"):
        return f"{number} {lang} {await anyio.to_thread.run_sync(mutex.holder, 'report:7') is not None}"

    def call(*args):
        return anyio.run(build_later, *args) if is_async else build(*args)

    assert call(7) == "7 en True"
    with held(mutex, "report:7"), pytest.raises(LockError):
        call(7)


def test_a_busy_function_may_be_skipped_or_waited_for(mutex):
    skipped = exclusive("one", on_conflict="skip")(lambda: "done")
    with held(mutex, "one"):
        assert skipped() is None
        with pytest.raises(LockError):
            exclusive("one", on_conflict="wait", wait=0.05)(lambda: "done")()
    assert skipped() == "done"


def test_a_functions_own_lock_error_is_its_own(mutex):
    error = LockError("mutex 'other'", "b", "host", 1.0)

    @exclusive("one", on_conflict="skip")
    def work():
        raise error

    with pytest.raises(LockError) as caught:
        work()
    assert caught.value is error


def test_placeholders_of_requests_are_refused_without_one(mutex):
    with pytest.raises(ConfigurationError, match=r"<query.page> .* is not a placeholder"):
        exclusive("report:<query.page>")(lambda *args: None)(7)


def test_an_unknown_parameter_is_refused_where_it_is_written():
    with pytest.raises(ConfigurationError, match="<ident> .*use one of number"):

        @exclusive("report:<ident>")
        def build(number): ...


def test_generators_are_refused():
    with pytest.raises(ConfigurationError, match="a generator"):

        @exclusive("one")
        def parts():
            yield ""
