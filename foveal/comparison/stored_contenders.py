"""Contenders that the file of a comparison states: checked, since it may come from another person."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveal.networks.match_cost import MOST, UNIT
from foveal.networks.spec import parse_options

BLOCKS, LONGEST = 1000, 1000  # of a stored control at most: more blocks take long to build; characters of a name


def check_contenders(path: Path, stated: Any, backbone: str) -> dict[str, str]:
    """Check the contenders in a file: to each name that of a network, the backbone scaled or with attention.

    Raises:
        ValueError: another value.
    """
    if not isinstance(stated, dict):
        raise ValueError(f"{path}: contenders={stated!r:.80}; networks by name are needed")
    for name, model in stated.items():
        if not isinstance(model, str) or len(model) > LONGEST or not is_made_of(model, backbone):
            raise ValueError(
                f"{path}: contenders, {name}={model!r:.80}; the backbone {backbone!r:.80} is needed, scaled or with "
                "attention"
            )
    return stated


def is_made_of(model: str, backbone: str) -> bool:
    """Return True for the name of a backbone, alone, with attention, or scaled as `scale_to_cost` does at most.

    A backbone may have parallel transformers, too.
    """
    rest = model.removeprefix(backbone)
    if not model.startswith(backbone) or rest[:1] not in ("", "+", ":", ","):
        return False
    try:
        scale = parse_options(model, rest[1:]) if rest[:1] in (":", ",") else {}
    except ValueError:
        return False
    most = {"width": MOST / UNIT, "extra_blocks": BLOCKS, "transformers": 99}
    return all(isinstance(value, int | float) and 0 <= value <= most.get(key, -1) for key, value in scale.items())


def check_controls(path: Path, stated: Any) -> dict[str, str]:
    """Check the controls in a file: to each name how it was matched, see `foveal.comparison.contenders.matches_of`.

    Raises:
        ValueError: another value.
    """
    if not isinstance(stated, dict) or not all(isinstance(each, str) for each in stated.values()):
        raise ValueError(f"{path}: controls={stated!r:.80}; texts by name are needed")
    return stated


def kept_controls(stored: Mapping[str, Any], matches: Mapping[str, str]) -> dict[str, str]:
    """Return the networks of the controls that were matched before, in the same way to the same networks.

    Others are matched again. A match by milliseconds would not find the same network twice.
    """
    before, models = stored.get("controls", {}), stored.get("contenders", {})
    return {name: models[name] for name, how in matches.items() if name in models and before.get(name) == how}
