"""The control of a comparison: a plain network, made larger until it costs what the attention costs."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from foveal.networks.factory import create_model
from foveal.networks.scaling import LEAST, scaling_options
from foveal.profiling.costs import count_parameters

UNIT = 1000  # widths are searched in steps of a thousandth
MOST = 1 << 16  # a width of 65, or as many blocks: no budget of a control lies there


def scale_to_cost(
    backbone: str,
    how: Literal["wider", "deeper"],
    budget: float,
    cost: Callable[[nn.Module], float] = count_parameters,
    device: str = "meta",
    **options: Any,
) -> str:
    """The name of the backbone that is scaled so that its cost comes closest to a budget.

    "wider" multiplies the width of every stage. Where the budget is above the plain network's cost the network really
    is wider, also where the plain one would be closer: by one step. "deeper" adds the number of blocks that comes
    closest, one at least, and then sets the width so that the budget is met: one block alone may cost many times as
    much as attention. Such a network is deeper and, for a small budget, a little narrower.

    Args:
        backbone: a name for `foveal.create_model`, without attention.
        how: "wider" or "deeper".
        budget: in the unit of `cost`.
        cost: what is matched, of a network: it must not fall where a network grows. Parameters if left out;
            `partial(count_macs, shape=(3, 224, 224))` for MACs; anything that is measured, with a device. Each network
            is asked for once.
        device: on which a network is built to be asked: "meta" to count.
        options: for `foveal.create_model`: `num_classes`, `in_chans`.

    Returns:
        A name that `foveal.create_model` takes, as "resnet18:width=1.013" or "resnet18:extra_blocks=1,width=0.998".

    Raises:
        ValueError: another `how`; a backbone that cannot be scaled; a budget that no scale reaches.

    >>> scale_to_cost("resnet50", "wider", 28_088_024)  # the weights of seresnet50
    'resnet50:width=1.047'
    """
    if how not in ("wider", "deeper"):
        raise ValueError(f"how={how!r}: wider or deeper")
    with torch.device("meta"):
        sketch = create_model(backbone, **options)
    asked: dict[str, float] = {}

    def price(width: int, extra: int) -> float:
        scale = scaling_options(sketch, width / UNIT, extra)  # the same for many widths
        if str(scale) not in asked:
            with torch.device(device):
                asked[str(scale)] = cost(create_model(backbone, **{**options, **scale}))
        return asked[str(scale)]

    plain = price(UNIT, 0)
    least = int(LEAST * UNIT)
    extra = nearest(partial(price, UNIT), budget, 1) if how == "deeper" else 0
    width = nearest(partial(price, extra=extra), budget, least, UNIT)
    if how == "wider" and price(width, 0) == plain < budget:
        width = last_within(partial(price, extra=0), plain, least, UNIT) + 1
    if width == least and price(width, extra) > budget:
        raise ValueError(f"budget={budget:g}: {backbone!r} costs {price(width, extra):g} at a width of {LEAST}")
    return scaled_name(backbone, width, extra)


def scaled_name(backbone: str, width: int, extra: int) -> str:
    """The name of a backbone with its scale, which is left out where it is the plain one; width in thousandths."""
    scale = [f"extra_blocks={extra}"] if extra else []
    scale += [f"width={width / UNIT}"] if width != UNIT else []
    colon = "," if ":" in backbone.removeprefix("timm:") else ":"
    return backbone + colon + ",".join(scale) if scale else backbone


def nearest(cost: Callable[[int], float], budget: float, least: int, start: int = 1) -> int:
    """The number from `least` up whose cost is closest to a budget; of a rising cost."""
    below = last_within(cost, budget, least, start)
    return below + 1 if below < least or cost(below + 1) - budget < budget - cost(below) else below


def last_within(cost: Callable[[int], float], budget: float, least: int, start: int = 1) -> int:
    """The largest number whose cost is not above a budget, sought from a start; `least` - 1 where there is none."""
    low, high = least - 1, start
    while cost(high) <= budget:
        low, high = high, 2 * high
        if high > MOST:
            raise ValueError(f"budget={budget:g}: no scale reaches it")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low
