"""Controls of a comparison: a plain backbone, scaled until its cost matches the cost of a network with attention."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from foveal.networks.factory import create_model
from foveal.networks.scaling import LEAST, scaling_options
from foveal.profiling.costs import count_parameters

UNIT = 1000  # widths are searched in steps of 1/1000
MOST = 1 << 16  # upper limit of the search: a width of 65, or 65,536 blocks


def scale_to_cost(
    backbone: str,
    how: Literal["wider", "deeper"],
    budget: float,
    cost: Callable[[nn.Module], float] = count_parameters,
    device: str = "meta",
    **options: Any,
) -> str:
    """Scale a backbone so that its cost is as close as possible to a budget, and return the name of the scaled network.

    "wider" multiplies the width of every stage. If the budget is above the cost of the plain network, the result is at
    least one step wider, even where the plain network is closer to the budget. "deeper" first adds the number of blocks
    that comes closest, at least one, and then changes the width to meet the budget, since one block can cost many times
    as much as attention. For a small budget, such a network is deeper and slightly narrower.

    Args:
        backbone: A name for `foveal.create_model`, without attention.
        how: "wider" or "deeper".
        budget: The target cost, in the unit of `cost`.
        cost: A function from a network to its cost, which must not decrease when the network grows. The default is the
            number of parameters; `partial(count_macs, shape=(3, 224, 224))` matches MACs; a measured cost needs a
            `device` other than "meta". The function is called once for each network.
        device: The device on which networks are built; "meta" is enough to count.
        options: Arguments of `foveal.create_model`: `num_classes`, `in_chans`.

    Returns:
        A name for `foveal.create_model`, such as "resnet18:width=1.013" or "resnet18:extra_blocks=1,width=0.998".

    Raises:
        ValueError: If `how` is unknown, the backbone cannot be scaled, or no scale meets the budget.

    Examples:
        >>> from foveal.networks.match_cost import scale_to_cost
        >>> scale_to_cost("resnet50", "wider", 28_088_024)  # parameters of seresnet50
        'resnet50:width=1.047'
    """
    if how not in ("wider", "deeper"):
        raise ValueError(f"how={how!r}: must be 'wider' or 'deeper'")
    with torch.device("meta"):
        plain_network = create_model(backbone, **options)
    known: dict[str, float] = {}

    def cost_at(width: int, extra: int) -> float:
        scale = scaling_options(plain_network, width / UNIT, extra)  # the same for many widths
        if str(scale) not in known:
            with torch.device(device):
                known[str(scale)] = cost(create_model(backbone, **{**options, **scale}))
        return known[str(scale)]

    plain = cost_at(UNIT, 0)
    least = int(LEAST * UNIT)
    extra = nearest(partial(cost_at, UNIT), budget, 1) if how == "deeper" else 0
    width = nearest(partial(cost_at, extra=extra), budget, least, UNIT)
    if how == "wider" and cost_at(width, 0) == plain < budget:
        width = last_within(partial(cost_at, extra=0), plain, least, UNIT) + 1
    if width == least and cost_at(width, extra) > budget:
        smallest = f"{backbone!r} costs {cost_at(width, extra):g} at the smallest width, {LEAST}"
        raise ValueError(f"budget={budget:g} is too small: {smallest}")
    return scaled_name(backbone, width, extra)


def scaled_name(backbone: str, width: int, extra: int) -> str:
    """Return the name of a scaled backbone, without options that have their defaults; `width` is in thousandths."""
    scale = [f"extra_blocks={extra}"] if extra else []
    scale += [f"width={width / UNIT}"] if width != UNIT else []
    colon = "," if ":" in backbone.removeprefix("timm:") else ":"
    return backbone + colon + ",".join(scale) if scale else backbone


def nearest(cost: Callable[[int], float], budget: float, least: int, start: int = 1) -> int:
    """Return the number, `least` or more, with the cost closest to a budget. `cost` must not decrease."""
    below = last_within(cost, budget, least, start)
    return below + 1 if below < least or cost(below + 1) - budget < budget - cost(below) else below


def last_within(cost: Callable[[int], float], budget: float, least: int, start: int = 1) -> int:
    """Return the largest number with a cost within a budget, searched from `start`; `least` - 1 if there is none."""
    low, high = least - 1, start
    while cost(high) <= budget:
        low, high = high, 2 * high
        if high > MOST:
            raise ValueError(f"budget={budget:g} is too large: no width or number of blocks reaches it")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low
