"""Records of attention weights: the type that mechanisms, recording, drawing and scoring share.

A mechanism shows its attention weights through a `Tap`; `foveal.watch` makes `Record`s of them; drawing and scoring
need nothing else. The weights are the effective ones, as they are applied.

Axes: B batch, C channel, H W map, K branch or crop, T glimpse, P control point, G head, N window, Q query. "B 2 3" and
"B 3 3" are transforms, "B K 2 3" several of one image, "B P 2" positions of a spline's control points, "B T 2" a path.
An affinity is weights of queries over keys: on maps "B H W Y X" and "B G H W Y X" (Y X the map of keys), else "B G Q K"
and "B N G Q K" (K the keys), whose queries and keys are channels where the domain is channel.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from foveal.core.layout import Tokens

Kind = Literal["gate", "mask", "selection", "transform", "crop", "glimpse", "affinity"]
Domain = Literal["spatial", "channel", "mixed"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """Properties of a mechanism's attention weights that do not depend on an image."""

    mechanism: str
    kind: Kind
    domain: Domain
    axes: str  # the dimensions of the values, as "B C"
    value_range: tuple[float, float]  # their smallest and largest possible value
    hard: bool = False  # stochastic and not differentiable
    size: tuple[int, int] | None = (
        None  # height, width of the output of a transform, crop or glimpse; None: its input's
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Record(Facts):
    """Attention weights of one place, with their meaning.

    `foveal.watch` makes Records; `foveal.draw` and `foveal.score` accept them. Quantized values are dequantized.

    Args:
        mechanism: long name, such as "squeeze_excite".
        kind: "gate", "mask", "selection", "transform", "crop", "glimpse" or "affinity".
        domain: "spatial", "channel" or "mixed".
        axes: dimensions of the values, such as "B C" (letters: see `foveal.core.record`).
        value_range: smallest and largest possible value.
        hard: True if stochastic and not differentiable.
        size: height and width of the output of a transform, crop or glimpse; None for those of its input.
        path: path of the module, without `module.` or `_orig_mod.`.
        values: the weights, one dimension for each letter of `axes`.
        forward: index of the pass over the model; of the first where several were joined on B.
        call: index of the call of the place within that pass.
        tokens: layouts of an affinity's queries and keys on the image, as the pass showed them; None if no pass did.

    Example:
        >>> import foveal, torch
        >>> record = foveal.Record(mechanism="squeeze_excite", kind="gate", domain="channel", axes="B C",
        ...                        value_range=(0, 1), path="layer1.0.se", values=torch.full((2, 64), 0.5))
        >>> record.kind, tuple(record.values.shape), record.values.mean().item()
        ('gate', (2, 64), 0.5)
    """

    path: str
    values: Tensor
    forward: int = 0
    call: int = 0
    tokens: Tokens | None = None

    def __post_init__(self) -> None:
        if self.values.is_quantized:
            object.__setattr__(self, "values", self.values.dequantize())


class Tap(nn.Module):
    """An identity module through which a mechanism shows its attention weights.

    It costs nothing and leaves no trace in an exported graph; `foveal.watch` hooks it.

    Args:
        facts: properties of the weights, `foveal.core.record.Facts`.

    Example:
        >>> import foveal, torch
        >>> from foveal.core.record import Facts
        >>> class Gate(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.tap = foveal.Tap(Facts(mechanism="mine", kind="gate", domain="channel", axes="B C",
        ...                                     value_range=(0, 1)))
        ...     def forward(self, x):
        ...         return x * self.tap(x.mean((2, 3)).sigmoid())[..., None, None]
        >>> model = torch.nn.Sequential(Gate())
        >>> with foveal.watch(model) as seen:
        ...     y = model(torch.zeros(2, 3, 4, 4))
        >>> seen["0"].values
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.5000, 0.5000]])
    """

    def __init__(self, facts: Facts):
        super().__init__()
        self.facts = facts

    def forward(self, weights: Tensor) -> Tensor:
        return weights

    @property
    def watched(self) -> bool:
        """Return True if a hook acts in this thread; a mechanism that need not compute its weights checks it."""
        return bool(self._forward_hooks) and any(acts_here(hook) for hook in list(self._forward_hooks.values()))

    def __prepare_scriptable__(self) -> nn.Module:
        """Refuse `torch.jit.script`, which cannot compile a call that asks whether it is watched."""
        raise TypeError(
            f"torch.jit.script: {self.facts.mechanism} cannot be scripted; use torch.jit.trace or foveal.export"
        )

    def extra_repr(self) -> str:
        return f"{self.facts.kind}, {self.facts.axes}"


def acts_here(hook: object) -> bool:
    """Return False for a hook of foveal that belongs to another thread."""
    decide = getattr(hook, "acts_here", None)
    return True if decide is None else bool(decide())


GEOMETRIC = ("transform", "crop", "glimpse")  # a few numbers for each image, which are kept
