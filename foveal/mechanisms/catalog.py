"""Catalog of mechanisms, stored in `catalog.json` so that listing them needs no torch; a test checks the file."""

import json
from dataclasses import dataclass
from importlib.resources import files

CHANNELS = 256  # channels at which parameters are counted


@dataclass(frozen=True)
class ListedMechanism:
    """Row of the catalog, as `foveal list` prints it.

    Attributes:
        name: short name, as `foveal.attach` takes it.
        long_name: name of the class in small letters.
        domain: "channel", "spatial" or "mixed".
        kind: "soft" or "hard".
        attaches: "after", "before", "between", "instead" or "network".
        parameters: number of parameters at `CHANNELS` channels.
        paper: authors and year.
    """

    name: str
    long_name: str
    domain: str
    kind: str
    attaches: str
    parameters: int
    paper: str


def list_mechanisms() -> list[ListedMechanism]:
    """List every mechanism with its names, domain, kind, number of parameters at 256 channels, and paper.

    Returns:
        list[ListedMechanism]: one row for each mechanism, in the order of `foveal list`.

    >>> import foveal
    >>> next(row for row in foveal.list_mechanisms() if row.name == "se").paper
    'Hu et al., 2018'
    >>> [row.name for row in foveal.list_mechanisms() if row.kind == "hard"]
    ['glimpse', 'hard_crop']
    """
    rows = json.loads(files("foveal.mechanisms").joinpath("catalog.json").read_text())
    return [ListedMechanism(**facts) for facts in rows]
