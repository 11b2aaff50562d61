"""Parse the specifications of networks and mechanisms: `ram:glimpses=8`, `sk:groups=8,dilations=(1,3)`."""

import inspect
import re
from ast import literal_eval
from typing import Any

from foveal.core.names import lookup
from foveal.mechanisms.registry import MECHANISMS, short_name


def parse_mechanism(spec: str) -> tuple[str, dict[str, Any]]:
    """`sk:groups=8,dilations=(1,3)` as the mechanism's short name and its options.

    Raises:
        ValueError: an unknown mechanism or option, or one that is not NAME=VALUE.
    """
    name, _, given = spec.partition(":")
    mechanism = short_name(name)
    options = parse_options(spec, given)
    for key in options:
        lookup(f"option of {name}", key, dict.fromkeys(named_options(mechanism)))
    return mechanism, options


def parse_network(spec: str) -> tuple[str, dict[str, Any]]:
    """`ram:glimpses=8` as the network's name and its options."""
    timms = "timm:" if spec.startswith("timm:") else ""
    name, _, given = spec.removeprefix("timm:").partition(":")
    return timms + name, parse_options(spec, given)


def parse_options(spec: str, given: str) -> dict[str, Any]:
    """`groups=8,dilations=(1,3)` as options; ValueError for one that is not NAME=VALUE."""
    options: dict[str, Any] = {}
    for pair in re.split(r",(?![^(]*\))", given) if given else ():  # not at a comma within parentheses
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{spec!r}: {pair!r} is not an option, NAME=VALUE")
        try:
            options[key] = literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options


def named_options(mechanism: str) -> list[str]:
    """The options that somebody may give for a mechanism: where it stands, and its arguments after the channels."""
    names = list(inspect.signature(MECHANISMS[mechanism]).parameters)[1:]
    return ["at", "position", *(name for name in names if name != "identity")]
