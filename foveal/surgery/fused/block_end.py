"""End of a residual block, in its fused and in its plain form."""

from torch import Tensor, nn

from foveal.core.names import class_names
from foveal.surgery.fused.conditions import bypassable, eager, fusible
from foveal.surgery.fused.gated_residual import gated_residual
from foveal.surgery.fused.gates import gate_of
from foveal.surgery.fused.norms import taken
from foveal.surgery.wrapper import Attached


def fuses(x: Tensor, norm: nn.Module, se: nn.Module | None, act: nn.Module, drop: nn.Module | None = None) -> bool:
    """Return True if norm, gate, stochastic depth, addition and activation of a block can be one fused operation."""
    dropping = drop is None or (bypassable(drop, type(drop)) and class_names(drop)[0] == "timm.layers.drop.DropPath")
    return eager(x) and fusible(norm) and bypassable(act, nn.ReLU) and gate_of(se) is not None and dropping


def fused(c: Tensor, norm: nn.Module, se: nn.Module | None, shortcut: Tensor, drop: nn.Module | None = None) -> Tensor:
    """Return act(drop(se(norm(c))) + shortcut), where `fuses` is True."""
    gate = gate_of(se)
    if gate is None or not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"no fused form of a {type(norm).__name__} and a {type(se).__name__}")
    mask = None if drop is None else drop(c.new_ones(len(c), 1, 1, 1))[:, :, 0, 0]  # (B, 1): 0 for a dropped branch
    weigh = gate if mask is None else lambda z: gate(z) * mask
    numbers, means = taken(norm, c)
    return gated_residual(c, numbers, means, weigh, shortcut.to(c.dtype).expand_as(c))


def attached(norm: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Return a norm and the one mechanism attached after it; the module itself and None in any other case."""
    parts = dict(norm.named_children())
    if not bypassable(norm, Attached) or len(parts) != 2 or next(iter(parts)) != "host":
        return norm, None
    host, mechanism = parts.values()
    return host, mechanism
