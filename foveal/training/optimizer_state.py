"""Parameter groups of an optimizer, and its state as named tensors."""

from typing import Any

from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim import Optimizer

from foveal.core.names import one_line
from foveal.training.checkpoint import Checkpoint
from foveal.training.config import TrainConfig

OPTIMIZER = "optimizer."  # prefix of its tensors in last.safetensors


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters by learning-rate scale and weight decay.

    Vectors (biases, norms) have no weight decay. A module's `lr_scale` applies to all parameters below it.
    """
    scales: dict[nn.Parameter, float] = {}
    for module in model.modules():
        scale = getattr(module, "lr_scale", None)
        if isinstance(scale, float):
            scales.update(dict.fromkeys(module.parameters(), scale))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            decay = weight_decay if weight.ndim > 1 else 0.0
            groups.setdefault((scales.get(weight, 1.0), decay), []).append(weight)
    return [{"params": weights, "lr_scale": scale, "weight_decay": decay} for (scale, decay), weights in groups.items()]


def create_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Create the optimizer of a run by timm's name.

    Raises:
        ValueError: an unknown optimizer, or one that does not work on this machine.
    """
    try:
        return create_optimizer_v2(parameter_groups(model, config.weight_decay), opt=config.opt, lr=config.lr)
    except Exception as error:  # as timm and optimizers refuse names and values
        raise ValueError(f"opt={config.opt!r:.80}: {one_line(error):.300}") from error


def numbers_of(group: dict[str, Any]) -> dict[str, float]:
    """Return the numeric settings of a parameter group; some optimizers store their step there as a scalar tensor."""
    single = {
        name: value.item() if isinstance(value, Tensor) else value for name, value in group.items() if name != "params"
    }
    return {name: value for name, value in single.items() if isinstance(value, int | float)}


def flatten(state: dict[int, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into named tensors and other named values."""
    pairs = {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}
    tensors = {OPTIMIZER + key: value for key, value in pairs.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in pairs.items() if not isinstance(value, Tensor)}


def unflatten(checkpoint: Checkpoint) -> dict[int, dict[str, Any]]:
    """Restore an optimizer's state from a checkpoint; the inverse of `flatten`."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**checkpoint.part(OPTIMIZER), **checkpoint.facts["optimizer"]}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return state
