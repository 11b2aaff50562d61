"""Parse the specifications of networks and mechanisms: `ram:glimpses=8`, `sk:groups=8,dilations=(1,3)`."""

import inspect
import re
from ast import literal_eval
from typing import Any

from foveal.core.names import lookup
from foveal.mechanisms.registry import MECHANISMS, short_name


def parse_mechanism(spec: str) -> tuple[str, dict[str, Any]]:
    """Parse `sk:groups=8,dilations=(1,3)` into the short name of the mechanism and its options.

    Raises:
        ValueError: an unknown mechanism or option; an option that is not NAME=VALUE.
    """
    name, _, text = spec.partition(":")
    mechanism = short_name(name)
    options = parse_options(spec, text)
    for key in options:
        lookup(f"option of {name}", key, dict.fromkeys(named_options(mechanism)))
    return mechanism, options


def parse_network(spec: str) -> tuple[str, dict[str, Any]]:
    """Parse `ram:glimpses=8` into the name of the network and its options, which `check_options` has yet to check."""
    prefix = "timm:" if spec.startswith("timm:") else ""
    name, _, text = spec.removeprefix("timm:").partition(":")
    return prefix + name, parse_options(spec, text)


def parse_options(spec: str, text: str) -> dict[str, Any]:
    """Parse `groups=8,dilations=(1,3)` into options.

    Raises:
        ValueError: a part that is not NAME=VALUE; a name that is given twice.
    """
    options: dict[str, Any] = {}
    for pair in re.split(r",(?![^(]*\))", text) if text else ():  # not at a comma within parentheses
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{spec!r}: {pair!r} is not an option, NAME=VALUE")
        if key in options:
            raise ValueError(f"{spec!r}: option {key!r} is given twice")
        try:
            options[key] = literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two where brackets are too deep
            options[key] = value
    return options


def named_options(mechanism: str) -> list[str]:
    """List the options of a mechanism that a caller may pass: its place, and its arguments after the channel count."""
    names = list(inspect.signature(MECHANISMS[mechanism]).parameters)[1:]
    return ["at", "position", *(name for name in names if name != "identity")]
