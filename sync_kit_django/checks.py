"""System checks: what is wrong with the setup of a project, before a request finds out. `manage.py check --deploy`."""

from __future__ import annotations

import inspect
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004
from django.core.exceptions import ViewDoesNotExist
from django.core.management import get_commands
from django.urls import URLResolver, get_callable, get_resolver

import sync_kit
from sync_kit import ConfigurationError, SyncKitError
from sync_kit.cli.server_checks import check_server
from sync_kit.kit import default_kit
from sync_kit_django import conf
from sync_kit_django._registry import all_queues, choose, doubled_tasks
from sync_kit_django._views import name_of, needs_of
from sync_kit_django.commit import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    Route = tuple[str, frozenset[str], Callable[..., Any]]

TAG = "sync_kit"
COMMAND = "runworker"
BEHIND_A_PROXY = ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")
NAMED_BY = ("REDIS_URL", "VALKEY_URL")
SERVER_IDS = {"eviction": "sync_kit.W021", "persistence": "sync_kit.W022"}
OTHER_OF_SERVER = "sync_kit.W023"
HANDLED = (401, 409, 429, 503)
"""What we refuse with; of 400 Django itself looks at the handler."""
HANDLER_HINT = "name a function that takes request and exception, or its path"


@register(TAG)
def check_settings(**_: Any) -> list[CheckMessage]:
    """`SYNC_KIT` can be read, and what it names is there."""
    try:
        wanted = conf.current()
        default_kit()
        Rule().connection()
        if wanted.worker.queues:
            choose(wanted.worker.queues)
    except ConfigurationError as error:
        return [Error(str(error), hint="see the table of settings in sync_kit_django/README.md", id="sync_kit.E001")]
    return []


@register(TAG)
def check_queue_names(**_: Any) -> list[CheckMessage]:
    """No two `Jobs` have one name."""
    count = Counter(queue.name for queue in all_queues())
    return [
        Error(
            f"{number} Jobs are named {name!r}: a worker cannot tell which tasks it has",
            hint="make one, and import it where it is needed",
            id="sync_kit.E002",
        )
        for name, number in count.items()
        if number > 1
    ]


@register(TAG)
def check_task_names(**_: Any) -> list[CheckMessage]:
    """No task was replaced by another one of its name. (In another module that is refused when it is made.)"""
    return [
        Error(
            f"two tasks of queue {queue.name!r} are named {task!r} ({where}): the first one never runs",
            hint="rename one of the functions, or give it a name=",
            id="sync_kit.E007",
        )
        for queue, task, where in doubled_tasks()
    ]


@register(TAG)
def check_plain_jobs(**_: Any) -> list[CheckMessage]:
    """Nobody uses the core's `Jobs`, whose `send` in a plain view makes a coroutine that never runs."""
    return [
        Error(
            f"{module}.{name} is a sync_kit.Jobs: its .send() must be awaited, and without that the job is lost",
            hint="from sync_kit_django import Jobs",
            obj=f"{module}.{name}",
            id="sync_kit.E003",
        )
        for module, name in _plain_jobs()
    ]


def _plain_jobs() -> Iterator[tuple[str, str]]:
    """Names in the modules of the project's apps that stand for `sync_kit.Jobs`, other than the `core` of ours."""
    ours = all_queues()
    places = tuple(f"{config.name}." for config in apps.get_app_configs() if config.name != conf.APP)
    for module in [name for name in sys.modules if f"{name}.".startswith(places)]:
        for name, value in list(vars(sys.modules[module]).items()):
            if isinstance(value, sync_kit.Jobs) and value not in ours:
                yield module, name


@register(TAG)
def check_command(**_: Any) -> list[CheckMessage]:
    """`manage.py runworker` is ours."""
    owner = get_commands().get(COMMAND, conf.APP)
    if owner == conf.APP or not isinstance(owner, str):
        return []
    return [
        Warning(
            f"`manage.py {COMMAND}` is the one of {owner}, which stands before {conf.APP} in INSTALLED_APPS",
            hint=f"use `manage.py synckit_worker`, which is the same as ours, or put {conf.APP!r} before {owner!r}",
            id="sync_kit.W004",
        )
    ]


@register(TAG)
def check_proxies(**_: Any) -> list[CheckMessage]:
    """The addresses that limits count are those of clients."""
    said = [name for name in BEHIND_A_PROXY if getattr(settings, name, None)]
    if not said or not _readable() or conf.current().rate_limit.trusted_proxies is not None:
        return []
    return [
        Warning(
            f"{said[0]} says that a proxy stands before this project, and limits by address trust none: "
            "all clients of the proxy share one budget",
            hint='SYNC_KIT["RATE_LIMIT"]["TRUSTED_PROXIES"] = ["10.0.0.0/8"], the addresses of your proxies; '
            "[] if limits by address are not used",
            id="sync_kit.W005",
        )
    ]


@register(TAG)
def check_placeholders(**_: Any) -> list[CheckMessage]:
    """Placeholders of `@exclusive` and `key=` are values of the URLs that their views stand on."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    return [
        Error(
            f"<{name}> in {need.text!r} is no value of the URL {route!r}: {_listed(known)}",
            hint="write one of them, or <user>, <query.x> or <header.x>",
            obj=name_of(view),
            id="sync_kit.E006",
        )
        for route, known, view in _routes(get_resolver())
        for need in needs_of(view)
        for name in need.path_names
        if name not in known
    ]


def _listed(names: Collection[str]) -> str:
    return f"it has {', '.join(sorted(names))}" if names else "it has none"


def _routes(resolver: URLResolver, above: str = "", known: frozenset[str] = frozenset()) -> Iterator[Route]:
    """Each view below: its URL, the names of the values that this gives it, and the view."""
    for each in resolver.url_patterns:
        route = f"{above}{each.pattern}"
        regex = each.pattern.regex
        names = known | regex.groupindex.keys()
        if isinstance(each, URLResolver):
            yield from _routes(each, route, names | each.default_kwargs.keys())
        elif regex.groupindex or not regex.groups:  # groups without names are told by position
            yield route, names | each.default_args.keys(), each.callback


@register(TAG)
def check_handlers(**_: Any) -> list[CheckMessage]:
    """What the root URLconf names for our refusals can be called, as Django sees to it for its own."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    words = (f"handler{status}" for status in HANDLED)
    return [
        Error(f"{word} of the root URLconf {trouble}", hint=HANDLER_HINT, id="sync_kit.E008")
        for word in words
        if (trouble := _trouble_with(getattr(get_resolver().urlconf_module, word, None)))
    ]


def _trouble_with(handler: Any) -> str:
    if handler is None:
        return ""
    try:
        inspect.signature(get_callable(handler)).bind(None, exception=None)
    except (ImportError, ViewDoesNotExist) as error:
        return f"is {handler!r}, which cannot be imported: {error}"
    except TypeError as error:
        return f"is {handler!r}, which does not fit: {error}"
    return ""


@register(TAG, deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """The server is named, there, and keeps what it is given."""
    if not _readable():
        return []
    return [*_check_mode(), *_check_url(), *_check_server()]


def _readable() -> bool:
    return not check_settings()


def _check_mode() -> Iterator[CheckMessage]:
    mode = conf.current().jobs.mode
    if mode != "redis":
        yield Warning(
            f'SYNC_KIT["JOBS"]["MODE"] is {mode!r}, which is for tests: jobs do not reach a worker',
            hint="leave it out",
            id="sync_kit.W010",
        )


def _check_url() -> Iterator[CheckMessage]:
    if conf.current().url is None and not any(map(os.environ.get, NAMED_BY)):
        yield Warning(
            f"no server is named, so it is looked for at {default_kit().label}",
            hint='SYNC_KIT["URL"] = "redis://...", or the environment variable REDIS_URL',
            id="sync_kit.W011",
        )


def _check_server() -> Iterator[CheckMessage]:
    try:
        findings = check_server(default_kit())
    except SyncKitError as error:
        yield Error(str(error), hint='is SYNC_KIT["URL"] right, and the server up?', id="sync_kit.E020")
        return
    for finding in findings:
        if finding.level != "ok":
            where = f"the server at {default_kit().label}: {finding.about}: {finding.says}"
            yield Warning(where, hint=finding.advice or None, id=SERVER_IDS.get(finding.about, OTHER_OF_SERVER))
