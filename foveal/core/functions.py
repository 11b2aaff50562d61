"""Functions of the caller for a network or a data set, by name: `package.module:function`.

A name is imported where the caller gave it, never because a file states it.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from foveal.core.names import one_line, unknown_name_error

DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
NAME = re.compile(rf"(?!(?:folder|timm):){DOTTED}:{DOTTED}")  # not folder:PATH, nor timm:NETWORK

Function = Callable[..., Any]
Functions = Mapping[str, Function]  # by name


def names_function(text: str) -> bool:
    """Return True for a text of the form `package.module:function`."""
    return NAME.fullmatch(text) is not None


def name_of(function: Function) -> str:
    """Return the name of a function or class, `module:name`.

    Raises:
        TypeError: an object without a name, as a lambda or a partial has none.
    """
    within, path = (getattr(function, key, "") for key in ("__module__", "__qualname__"))
    name = f"{within}:{path.rpartition('<locals>.')[2]}"
    if not callable(function) or not names_function(name):
        raise TypeError(f"{function!r:.80}: a function with a name (`def`) or a class is needed")
    return name


def named_functions(functions: Iterable[Function]) -> dict[str, Function]:
    """Map functions by their names.

    Raises:
        ValueError: two functions of one name.
    """
    named: dict[str, Function] = {}
    for each in functions:
        if named.setdefault(name_of(each), each) is not each:
            raise ValueError(f"two functions have the name {name_of(each)!r}; give one of them another name")
    return named


def import_functions(names: Iterable[str], known: Functions) -> dict[str, Function]:
    """Map the names of functions among `names` to those in `known`, or import them."""
    return {name: known.get(name) or import_function(name) for name in names if names_function(name)}


def import_function(name: str) -> Function:
    """Import `package.module:function`, also from the current folder, as `python -m` does.

    Raises:
        ValueError: no such module, one that cannot be imported, or no such function in it.
        TypeError: an object that is no function with a name.
    """
    module, _, path = name.partition(":")
    folder = os.getcwd()
    if not {"", folder} & set(sys.path):
        sys.path.insert(0, folder)
    try:
        found: Any = import_module(module)
    except Exception as error:  # any exception: it is raised by the caller's module
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(
                f"function {name!r}: there is no module {error.name!r} here; the form is package.module:function"
            ) from error
        raise ValueError(f"function {name!r}: its module fails, {type(error).__name__}: {one_line(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise unknown_name_error(f"function in {name!r}:", part, [each for each in dir(found) if each[:1] != "_"])
        found = getattr(found, part)
    try:
        name_of(found)
    except TypeError as error:
        raise TypeError(f"function {name!r}: {error}") from error
    return found
