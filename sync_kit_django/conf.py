"""The setting `SYNC_KIT`, read once and checked."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from django.apps import apps
from django.conf import settings

from sync_kit import ConfigurationError, SyncKit
from sync_kit.kit import provide_default
from sync_kit.options import choice, label, refuse_unknown, seconds, shown, whole
from sync_kit.queue.worker import DRAIN_TIMEOUT, POLL_INTERVAL
from sync_kit.ratelimit import TrustedProxies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

Section = TypeVar("Section")

APP = "sync_kit_django"
ON_ERROR = ("raise", "allow", "deny", "local")
MODES = ("redis", "record", "inline")


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {shown(value)}")
    return value


def _list(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(f"{name} must be a list of texts, not {shown(value)}")
    return tuple(label(f"each of {name}", one) for one in value)


def _proxies(name: str, value: object) -> TrustedProxies | None:
    if value is None or isinstance(value, TrustedProxies):
        return value
    return TrustedProxies(_list(name, value))


def _span(**bounds: Any) -> Callable[[str, object], float]:
    return lambda name, value: seconds(name, value, **bounds)


def _count(**bounds: Any) -> Callable[[str, object], int]:
    return lambda name, value: whole(name, value, **bounds)


def _word(choices: tuple[str, ...]) -> Callable[[str, object], str]:
    return lambda name, value: choice(name, value, choices)


def setting(default: Any, read: Callable[[str, object], Any]) -> Any:
    """A setting: what it is if not given, and what reads and checks it."""
    return field(default=default, metadata={"read": read})


NO_PROXIES: TrustedProxies | None = setting(None, _proxies)


@dataclass(frozen=True, kw_only=True)
class RateLimitSettings:
    """`SYNC_KIT["RATE_LIMIT"]`: what limits do unless they say otherwise, and the limit of `RateLimitMiddleware`.

    Attributes:
        limit, window: of the middleware: requests, and seconds.
        exempt: of the middleware: paths that are not counted, such as `"/health"`, or `"/static/*"` for all below.
        trusted_proxies: whose word on the client's address is believed: addresses and networks.
        on_error: what to do when Redis cannot be asked: `"allow"` (logged), `"deny"`, `"raise"` or `"local"`.
        headers: whether responses carry `RateLimit` and `RateLimit-Policy`.
    """

    limit: int = setting(100, _count(least=1))
    window: float = setting(60.0, _span(above=0))
    exempt: tuple[str, ...] = setting((), _list)
    trusted_proxies: TrustedProxies | None = NO_PROXIES
    on_error: Literal["raise", "allow", "deny", "local"] = setting("allow", _word(ON_ERROR))
    headers: bool = setting(True, _flag)


@dataclass(frozen=True, kw_only=True)
class MutexSettings:
    """`SYNC_KIT["MUTEX"]`: what `@exclusive` does unless it says otherwise.

    Attributes:
        ttl: seconds that a lease lives without renewal.
    """

    ttl: float = setting(10.0, _span(above=0))


@dataclass(frozen=True, kw_only=True)
class JobsSettings:
    """`SYNC_KIT["JOBS"]`: what `Jobs` do unless they say otherwise.

    Attributes:
        on_commit: whether `.send()` waits for the end of a transaction that is open.
        database: the alias of the database whose transactions are meant.
        mode: where jobs go: `"redis"`; for tests `"record"` (kept, see `sync_kit_django.testing`) or `"inline"` (run
            at once).
    """

    on_commit: bool = setting(True, _flag)
    database: str = setting("default", label)
    mode: Literal["redis", "record", "inline"] = setting("redis", _word(MODES))


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """`SYNC_KIT["WORKER"]`: what `manage.py runworker` does unless it is told otherwise.

    Attributes:
        concurrency: jobs that run at the same time.
        queues: the queues that it runs; all if empty.
        drain_timeout: seconds that running jobs have to end after SIGINT or SIGTERM.
        poll_interval: seconds that it waits for a wake-up at most.
    """

    concurrency: int = setting(10, _count(least=1, most=10_000))
    queues: tuple[str, ...] = setting((), _list)
    drain_timeout: float = setting(DRAIN_TIMEOUT, _span())
    poll_interval: float = setting(POLL_INTERVAL, _span(least=0.01, most=60))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`SYNC_KIT` as values. Its keys are these names in capitals.

    Attributes:
        url: where Redis or Valkey is; `REDIS_URL`, then `VALKEY_URL` of the environment if not given.
        namespace: the first part of every key; separates projects that share a server.
        rate_limit, mutex, jobs, worker: what the parts do unless they are told otherwise.
    """

    url: str | None = None
    namespace: str = "sync-kit"
    rate_limit: RateLimitSettings = RateLimitSettings()
    mutex: MutexSettings = MutexSettings()
    jobs: JobsSettings = JobsSettings()
    worker: WorkerSettings = WorkerSettings()


SECTIONS: dict[str, type[Any]] = {
    name: kind for name, kind in get_type_hints(Settings).items() if name not in ("url", "namespace")
}


@lru_cache(maxsize=1)
def current() -> Settings:
    """The settings of this project, as they are now.

    Raises:
        ConfigurationError: something in `SYNC_KIT` is wrong; the message says what would be right. Or the app is not
            installed: then nobody would follow the settings.
    """
    if apps.ready and not apps.is_installed(APP):
        raise ConfigurationError(f'add "{APP}" to INSTALLED_APPS: without it SYNC_KIT is not followed')
    return read(getattr(settings, "SYNC_KIT", {}))


def read(given: Mapping[str, Any]) -> Settings:
    """Read what `SYNC_KIT` may be. Raises `ConfigurationError`."""
    if not isinstance(given, dict):
        raise ConfigurationError(f"SYNC_KIT must be a dict, not {_kind(given)}")
    _refuse_unknown("SYNC_KIT", given, [name.upper() for name in ("url", "namespace", *SECTIONS)])
    values: dict[str, Any] = {
        name: _section(name.upper(), kind, given[name.upper()])
        for name, kind in SECTIONS.items()
        if name.upper() in given
    }
    if given.get("URL") is not None:
        values["url"] = _url('SYNC_KIT["URL"]', given["URL"])
    if "NAMESPACE" in given:
        values["namespace"] = label('SYNC_KIT["NAMESPACE"]', given["NAMESPACE"])
    return Settings(**values)


def _url(name: str, value: object) -> str:
    """An error does not repeat what it is: there may be a password in it."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a non-empty str, not {_kind(value)}")
    return label(name, value)


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _refuse_unknown(where: str, given: Mapping[Any, object], known: Collection[str]) -> None:
    refuse_unknown(where, {str(key): value for key, value in given.items() if key not in known}, known)


def _section(name: str, kind: type[Section], given: object) -> Section:
    where = f'SYNC_KIT["{name}"]'
    if not isinstance(given, dict):
        raise ConfigurationError(f"{where} must be a dict, not {shown(given)}")
    known = {each.name.upper(): each for each in fields(kind)}  # type: ignore[arg-type]
    _refuse_unknown(where, given, known)
    return kind(
        **{known[key].name: known[key].metadata["read"](f'{where}["{key}"]', value) for key, value in given.items()}
    )


def install_kit() -> None:
    """Let the default kit, that of every object without `kit=`, be the one of the settings; made on first use.

    A mistake in the settings is raised there, and shown by the system checks before.
    """
    replaced = provide_default(_make_kit)
    if replaced is not None:
        replaced.close()


def _make_kit() -> SyncKit:
    wanted = current()
    try:
        return SyncKit(wanted.url, namespace=wanted.namespace)
    except ConfigurationError as error:
        where = "REDIS_URL or VALKEY_URL" if wanted.url is None else 'SYNC_KIT["URL"]'
        raise ConfigurationError(f"{where}: {error}") from None


def on_setting_changed(*, setting: str, **_: Any) -> None:
    """Follow `override_settings` and the `settings` fixture of pytest-django."""
    if setting == "SYNC_KIT":
        from sync_kit_django import _mode

        current.cache_clear()
        install_kit()
        _mode.follow()
