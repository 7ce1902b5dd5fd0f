"""Targets: `app.tasks:jobs` is the attribute `jobs` of the module `app.tasks`, found from the current folder."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sync_kit.errors import ConfigurationError
from sync_kit.jobs import Jobs
from sync_kit.queue import Queue
from sync_kit.queue.base import QueueBase
from sync_kit.queue.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

Kind = TypeVar("Kind", bound=QueueBase)

One = Annotated[str, typer.Argument(metavar="TARGET", help="What to look at, as module:attribute.", show_default=False)]
Several = Annotated[
    list[str],
    typer.Argument(metavar="TARGET", help="What to look at, as module:attribute.", show_default=False),
]

_PATH = re.compile(r"\w+(\.\w+)*")
_WANTED: dict[type, str] = {
    QueueBase: "Jobs or a Queue",
    Source: "Jobs or what queue.processing(...) gives",
    Jobs: "Jobs",
}


def load_queues(targets: Sequence[str]) -> dict[str, QueueBase]:
    """What each target names. Raises `ConfigurationError`."""
    return {target: _load(target, QueueBase) for target in targets}


def load_sources(targets: Sequence[str]) -> list[Source]:
    """The same for what a worker can run."""
    return [_load(target, Source) for target in targets]  # type: ignore[type-abstract]


def load_jobs(target: str) -> Jobs:
    """The same for one target that must be `Jobs`."""
    return _load(target, Jobs)


def refuse_misshapen(targets: Sequence[str]) -> None:
    """Raise `ConfigurationError` for what can be no target, whatever code there is."""
    for target in targets:
        name, _, path = target.partition(":")
        _refuse_no_module(name, path or "jobs")
        if not _PATH.fullmatch(path):
            raise ConfigurationError(f"{target!r} names no attribute: write module:attribute, as in 'app.tasks:jobs'")


def _load(target: str, kind: type[Kind]) -> Kind:
    name, _, path = target.partition(":")
    module = _module(name, path or "jobs")
    if not _PATH.fullmatch(path):
        raise ConfigurationError(f"{target!r} names no attribute: {_advice(module, '', kind)}")
    found: object = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(f"module {name!r} has no {path!r}: {_advice(module, path, kind)}") from None
        except (Exception, SystemExit) as error:  # a property of the app's
            raise ConfigurationError(f"{target} cannot be had: {_told(error)}") from error
    if not isinstance(found, kind):
        raise ConfigurationError(f"{target} {_mistaken(found, kind)}: {_advice(module, path, kind)}")
    return found


def _mistaken(found: object, kind: type) -> str:
    if isinstance(found, Queue) and kind is Source:
        return "is a Queue without a handler (name what `queue.processing(handle)` gives)"
    return f"is of type {type(found).__name__}, and {_WANTED[kind]} is wanted here"


def _advice(module: ModuleType, path: str, kind: type) -> str:
    fitting = [name for name, value in vars(module).items() if isinstance(value, kind)]
    if len(fitting) == 1:
        return f"did you mean '{module.__name__}:{fitting[0]}'?"
    close = _closest(path, fitting)
    if close is not None:
        return f"did you mean '{module.__name__}:{close}'?"
    return (
        f"it has {', '.join(fitting)}" if fitting else f"write module:attribute, where the attribute is {_WANTED[kind]}"
    )


def _refuse_no_module(name: str, attribute: str) -> None:
    if not _PATH.fullmatch(name) or name.endswith(".py"):
        dotted = re.sub(r"\W+", ".", name.removesuffix(".py")).strip(".") or "app.tasks"
        raise ConfigurationError(f"{name!r} is not the name of a module: did you mean '{dotted}:{attribute}'?")


def _module(name: str, attribute: str) -> ModuleType:
    _refuse_no_module(name, attribute)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"no module {name!r}, seen from {os.getcwd()}: {_other_module(name, error.name)}"
            ) from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:  # whatever code of the app raises; one that exits is not well
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> ConfigurationError:
    return ConfigurationError(f"module {name!r} cannot be imported: {_told(error)}")


def _told(error: BaseException) -> str:
    """What an error of the app's says, and where it was raised."""
    if isinstance(error, SyntaxError):
        where = f" (line {error.lineno} of {error.filename})" if error.lineno else ""
        return f"{type(error).__name__}: {error.msg}{where}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    where = f" (line {own[-1].lineno} of {own[-1].filename})" if own else ""
    return f"{type(error).__name__}: {error}{where}"


def _other_module(name: str, missing: str) -> str:
    """A guess at what was meant by `name`, of which the part up to the end of `missing` is not there."""
    parent, _, last = missing.rpartition(".")
    try:
        spec = importlib.util.find_spec(parent) if parent else None
    except Exception:  # the parent is missing or broken: there is nothing to guess
        spec = None
    places = (spec.submodule_search_locations if spec else None) or ([] if parent else [os.getcwd()])
    close = _closest(last, [module.name for module in pkgutil.iter_modules(list(places))])
    if close is None:
        return "go to the folder of your app, or install it"
    meant = (f"{parent}." if parent else "") + close + name.removeprefix(missing)
    return f"did you mean {meant!r}?"


def _closest(name: str, names: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(name, list(names), n=1)
    return close[0] if close else None
