"""Databases of tests: SQLite in a file, or PostgreSQL, both behind the alias `default` of this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.management import call_command
from django.db import connection, connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.postgres import Postgres


@contextmanager
def default_database(**settings: Any) -> Iterator[None]:
    """The alias `default` has other settings for a while. No thread may have a connection that it keeps."""
    before = connections.settings["default"]
    _replace(before | settings)
    try:
        yield
    finally:
        _replace(before)


@contextmanager
def on_postgres(postgres: Postgres, **settings: Any) -> Iterator[None]:
    """The alias `default` is PostgreSQL, with the tables of the project."""
    host, port, name, user = postgres.settings.split()
    place = {"ENGINE": "django.db.backends.postgresql", "HOST": host, "PORT": port, "NAME": name, "USER": user}
    with default_database(**place, OPTIONS={}, **settings):
        call_command("migrate", database="default", run_syncdb=True, interactive=False, verbosity=0)
        connection.close()
        yield
        call_command("flush", database="default", interactive=False, verbosity=0)


def _replace(settings: dict[str, Any]) -> None:
    connection.close()
    connections.settings["default"] = settings
    del connections["default"]


def ask(question: str) -> list[Any]:
    """The first column of what the database answers to some SQL, on a connection of its own."""
    own = connections["default"].copy()
    try:
        with own.cursor() as cursor:
            cursor.execute(question)
            return [row[0] for row in cursor.fetchall()]
    finally:
        own.close()
