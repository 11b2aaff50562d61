"""Values compared with the annotations of the arguments that they are for: `bias: bool` takes no "false"."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def check_arguments(what: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse an argument of another type than its parameter is annotated with, or a number that is not finite.

    Annotations of other types than booleans, numbers, strings, None and sequences of these take everything.

    Raises:
        ValueError: the message names the argument, its value and the annotation.
    """
    function = inspect.unwrap(function)
    function = function.func if isinstance(function, partial) else function
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    for name, value in arguments.items():
        if name in hints and not fits(value, hints[name]):
            raise ValueError(f"{what}: {name}={value!r:.80}; {inspect.formatannotation(hints[name])} is needed")


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin in (tuple, Sequence):
        fixed = origin is tuple and inner[-1] is not Ellipsis
        kinds = inner if fixed else inner[:1] * (len(value) if isinstance(value, tuple | list) else 0)
        return isinstance(value, tuple | list) and len(value) == len(kinds) and all(map(fits, value, kinds))
    if hint in (int, float):
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool) and isfinite(value)
    return not isinstance(hint, type) or hint not in (bool, str, type(None)) or isinstance(value, hint)
