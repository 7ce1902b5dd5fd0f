"""How a decorator stands around a view: functions, methods and classes, async or not."""

from __future__ import annotations

import functools
import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest

from sync_kit import ConfigurationError
from sync_kit_django._steps import Do, Steps, run, run_async
from sync_kit_django._values import USER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sync_kit_django._values import RequestTemplate

    StepsOf = Callable[["Visit"], Steps[Any]]

View = TypeVar("View", bound="Callable[..., Any]")
"""A decorated view looks as it did."""

NEEDS = "_sync_kit_needs"
"""Where a view remembers what it needs of its URL. Other decorators carry that along (`functools.wraps`)."""


class Visit(NamedTuple):
    """One call of a decorated view.

    Attributes:
        request: the request as the view gets it: Django's, or that of Django REST framework.
        values: what the view is called with, and the values of the URL, by name.
        call: runs the view, with the arguments that it was called with.
    """

    request: Any
    values: Mapping[str, Any]
    call: Do


def around(
    view: Any,
    steps_of: StepsOf,
    decorator: str,
    *,
    otherwise: Callable[..., Any] | None = None,
    inside: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """A view that does the steps of `steps_of(visit)`, in which `yield visit.call` runs the view.

    Args:
        decorator: who says so when it cannot be.
        otherwise: gets the arguments of a call without a request; such a call is an error if not given.
        inside: given the view and the decorated one, makes what `visit.call` runs; that is the view if not given.

    Raises:
        ConfigurationError: it is a generator, or neither a view nor a class of views.
    """
    if inspect.isclass(view):
        return _around_class(view, steps_of, decorator, inside=inside)
    refuse_generators(view, decorator)
    calls = _Calls(view, steps_of, decorator)

    async def later(*args: Any, **kwargs: Any) -> Any:
        if otherwise is not None and request_in(args, kwargs) is None:
            return await otherwise(*args, **kwargs)
        return await run_async(calls.steps(args, kwargs))

    def plain(*args: Any, **kwargs: Any) -> Any:
        if otherwise is not None and request_in(args, kwargs) is None:
            return otherwise(*args, **kwargs)
        # the `dispatch` of an async class is a plain function, and returns what is to be awaited
        return later(*args, **kwargs) if is_of_async_class(view, args) else run(calls.steps(args, kwargs))

    decorated = functools.wraps(view)(later if is_async(view) else plain)
    if inside is not None:
        calls.run = inside(view, decorated)
    return decorated


class _Calls:
    """How the calls of a decorated view go; `run` is what they run in the end."""

    def __init__(self, view: Any, steps_of: StepsOf, decorator: str) -> None:
        self.run = self._view = view
        self._steps_of = steps_of
        self._decorator = decorator
        self._parameters = parameters_of(view)

    def steps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Any]:
        """The steps of one call. Raises `ConfigurationError` if it comes without a request."""
        request = request_in(args, kwargs)
        if request is None:
            where = f"{name_of(self._view)} has {self._decorator}"
            raise ConfigurationError(f"{where}, which is for requests, and was called without")
        call = functools.partial(self.run, *args, **kwargs)
        return self._steps_of(Visit(request, values_of(request, args, kwargs, self._parameters), Do(call, call)))


def _around_class(kind: Any, steps_of: StepsOf, decorator: str, **more: Any) -> Any:
    """A subclass: a class of somebody else's, such as Django's LoginView, stays as it is."""
    if not (hasattr(kind, "as_view") and callable(getattr(kind, "dispatch", None))):
        raise ConfigurationError(f"{decorator} decorates views and classes of views, and {kind.__name__} is none")
    dispatch = around(kind.dispatch, steps_of, decorator, **more)
    made = type(kind)(kind.__name__, (kind,), {"dispatch": dispatch, "__module__": kind.__module__})
    made.__doc__, made.__qualname__ = kind.__doc__, kind.__qualname__
    return made


def is_async(view: Any) -> bool:
    """Whether Django would await the view."""
    return bool(iscoroutinefunction(view) or iscoroutinefunction(type(view).__call__))


def is_of_async_class(view: Any, args: tuple[Any, ...]) -> bool:
    """Whether a plain function, called with these arguments, is a method of a class whose views are async."""
    owner = getattr(_function_of(view), "__self__", args[0] if args else None)
    return bool(getattr(owner, "view_is_async", False))


def _function_of(view: Any) -> Any:
    while isinstance(view, functools.partial):
        view = view.func
    return view


def request_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The request that a view is called with: first, after `self`, or by name; None if there is none."""
    for value in (*args[:2], kwargs.get("request")):
        if isinstance(value, HttpRequest) or isinstance(getattr(value, "_request", None), HttpRequest):
            return value
    return None


def base_of(request: Any) -> HttpRequest:
    """Django's own request, also inside of one of Django REST framework."""
    base: HttpRequest = getattr(request, "_request", request)
    return base


class Parameters(NamedTuple):
    """What is known of the parameters of a view: the names of those that take a position, and what is left out."""

    in_order: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = MappingProxyType({})


def parameters_of(view: Any) -> Parameters:
    """The parameters of a view; none if nobody knows them."""
    if isinstance(view, functools.partial) and hasattr(view, "__wrapped__"):
        view = _function_of(view)  # a bound method, which `method_decorator` gives the signature of an unbound one
    try:
        parameters = inspect.signature(view).parameters.values()
    except (TypeError, ValueError):
        return Parameters()
    return Parameters(
        tuple(each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)),
        {each.name: each.default for each in parameters if each.default is not each.empty and each.name != USER},
    )


def values_of(request: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], parameters: Parameters) -> dict[str, Any]:
    """What a view is called with, by name; what it does not take is that of the URL.

    Whoever calls a view by hand, and groups of a `re_path` without names, give it values by position.
    """
    match = getattr(base_of(request), "resolver_match", None)
    behind = next((index + 1 for index, value in enumerate(args) if value is request), 0)
    placed = dict(zip(parameters.in_order[behind:], args[behind:], strict=False))
    return {**(match.kwargs if match is not None else {}), **parameters.defaults, **placed, **kwargs}


def class_of(view: Any) -> Any:
    """The class that an `as_view()` is of; a ViewSet of Django REST framework calls it differently."""
    return getattr(view, "view_class", None) or getattr(view, "cls", None)


def name_of(view: Any) -> str:
    """Module and name of a view, the same in every process. A class gives its name to its `as_view()`."""
    view = _function_of(view)
    kind, owner, suffix = getattr(view, "view_class", view), getattr(view, "__self__", None), ""
    if owner is not None and not inspect.isclass(owner):  # a bound method: `method_decorator` passes such
        kind, suffix = type(owner), f".{view.__name__}"
    elif not hasattr(kind, "__qualname__"):
        kind = type(kind)
    around_it = kind.__qualname__.rpartition(".")[0]
    return f"{kind.__module__}.{around_it + '.' if around_it else ''}{kind.__name__}{suffix}"


def refuse_generators(view: Any, decorator: str) -> None:
    """Raise `ConfigurationError` for what no decorator can hold."""
    if not callable(view):
        raise ConfigurationError(f"{decorator} decorates views, not {view!r}")
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in (view, type(view).__call__)):
        raise ConfigurationError(
            f"{decorator} cannot stand around {name_of(view)}, a generator: return a StreamingHttpResponse"
        )


class Need(NamedTuple):
    """A template of a view, and the placeholders that the URL has to fill: the view has no value for them itself."""

    text: str
    path_names: tuple[str, ...]


def remember(decorated: Any, view: Any, template: RequestTemplate) -> None:
    """Note what a view needs of its URL, for the system check."""
    own = parameters_of(view).defaults
    need = Need(template.keys.text, tuple(name for name in template.path_names if name not in own))
    setattr(decorated, NEEDS, (*getattr(decorated, NEEDS, ()), need))


def check_parameters(view: Any, template: RequestTemplate) -> None:
    """Raise `ConfigurationError` if a view names its parameters, and a placeholder is not among them.

    What stands below another decorator may be called with more than its signature tells.
    """
    if inspect.isclass(view) or hasattr(view, "__wrapped__"):
        return
    try:
        parameters = inspect.signature(view).parameters
    except (TypeError, ValueError):
        return
    kinds = {parameter.kind for parameter in parameters.values()}
    if not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
        template.keys.require([*template.other_names, *parameters])


def needs_of(view: Any) -> Iterator[Need]:
    """What the decorators of a view need of its URL: of a function, of `as_view()`, and of the methods of its class."""
    kind = class_of(view)
    names = () if kind is None else (*kind.http_method_names, *(getattr(view, "actions", None) or {}).values())
    methods = [getattr(kind, name, None) for name in names]
    noted = [need for one in (view, kind, *methods) for need in getattr(one, NEEDS, ())]
    yield from dict.fromkeys(noted)
