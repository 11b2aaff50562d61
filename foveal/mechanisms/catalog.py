"""Facts of every mechanism, kept in `catalog.json` so that listing them imports no torch; a test compares them."""

import json
from dataclasses import dataclass
from importlib.resources import files

CHANNELS = 256  # for which parameters are counted


@dataclass(frozen=True)
class ListedMechanism:
    """Facts of a mechanism, as `foveal list` prints them."""

    name: str
    long_name: str
    domain: str
    kind: str  # soft or hard
    attaches: str  # after, before, between, instead or network
    parameters: int  # at `CHANNELS` channels
    paper: str


def list_mechanisms() -> list[ListedMechanism]:
    """List every mechanism with its names, domain, kind, parameters at 256 channels, and paper."""
    kept = json.loads(files("foveal.mechanisms").joinpath("catalog.json").read_text())
    return [ListedMechanism(**facts) for facts in kept]
