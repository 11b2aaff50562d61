"""The one small type in which mechanisms, recording, drawing and scoring meet.

A mechanism shows its attention weights through a `Tap`; who watches gets `Record`s; who draws or scores needs nothing
else. The weights are the effective ones, as they are applied.

Axes: B batch, C channel, H W map, K branch or crop, T glimpse, P control point, G head, N window, Q query. "B 2 3" and
"B 3 3" are transforms, "B K 2 3" several of one image, "B P 2" is where a spline's control points look, "B T 2" a path.
An affinity is weights of queries over keys: on maps "B H W Y X" and "B G H W Y X" (Y X the map of keys), else "B G Q K"
and "B N G Q K" (K the keys), whose queries and keys are channels where the domain is channel.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Kind = Literal["gate", "mask", "selection", "transform", "crop", "glimpse", "affinity"]
Domain = Literal["spatial", "channel", "mixed"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """What a mechanism says of its attention weights before it has any."""

    mechanism: str
    kind: Kind
    domain: Domain
    axes: str  # the dimensions of the values, as "B C"
    value_range: tuple[float, float]  # their smallest and largest possible value
    hard: bool = False  # stochastic and not differentiable
    size: tuple[int, int] | None = None  # height and width a transform, crop or glimpse gives out; None: its input's


@dataclass(frozen=True, kw_only=True, eq=False)
class Record(Facts):
    """The attention weights of one place, with what they mean."""

    path: str  # the module's path, without `module.` or `_orig_mod.`
    values: Tensor
    forward: int = 0  # which pass over the model; the first, where several were joined on B
    call: int = 0  # which call of the place within that pass


class Tap(nn.Module):
    """An identity through which a mechanism shows its attention weights.

    It costs nothing and leaves no trace in an exported graph; `foveal.watch` hooks it.
    """

    def __init__(self, facts: Facts):
        super().__init__()
        self.facts = facts

    def forward(self, weights: Tensor) -> Tensor:
        return weights

    @property
    def watched(self) -> bool:
        """Whether somebody hooks it: where the weights need not exist, a mechanism makes them only then."""
        return bool(self._forward_hooks)

    def extra_repr(self) -> str:
        return f"{self.facts.kind}, {self.facts.axes}"


GEOMETRIC = ("transform", "crop", "glimpse")  # of a few numbers an image, which are kept
