"""Checks that a run can continue from its checkpoints, before any of them is loaded."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from foveal.core.functions import names_function
from foveal.core.names import one_line
from foveal.data.parts import Data
from foveal.data.preprocessing import Preprocessing
from foveal.networks.factory import create_model
from foveal.networks.spec import parse_options
from foveal.surgery.attachments import plain_state_dict
from foveal.training.checkpoint import Checkpoint, read_checkpoint
from foveal.training.config import RunConfig
from foveal.training.optimizer_state import OPTIMIZER
from foveal.training.precision import check_stored_scaler
from foveal.training.recreate import MODULES, MODULES_PER_TENSOR, at_most, check_sizes, typed
from foveal.training.run_figures import is_number

MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")  # tensors of the shape of their weight


def check_resumable(
    path: str,
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: Optimizer,
    scaler: GradScaler,
    average: str | None,
) -> None:
    """Check that a checkpoint holds the weights and the optimizer's state of a run.

    Args:
        path: of the checkpoint, for the message.
        checkpoint: its content.
        model: the run's network.
        optimizer: its optimizer.
        scaler: scale of its loss.
        average: prefix of the weights of the moving average; None if the run has none.

    Raises:
        ValueError: a fact that is missing, or of another run; a tensor of another name or shape.
    """
    facts = checkpoint.facts
    try:
        for key, kind in (("lines", list), ("parameter_groups", list), ("optimizer", dict)):
            typed(facts, key, kind)
        check_weights(checkpoint.weights, model)
        if average is not None:
            check_weights(checkpoint.part(average), model)
        check_groups(facts["parameter_groups"], optimizer)
        check_stored_scaler(facts, scaler)
        check_state({**checkpoint.part(OPTIMIZER), **facts["optimizer"]}, optimizer)
    except ValueError as error:
        raise ValueError(f"checkpoint {path!r} {error}; it cannot be continued, so train anew") from error


def check_preprocessed(path: str, checkpoint: Checkpoint, data: Data) -> None:
    """Check that the images of a run get the preprocessing of its earlier epochs.

    Their range of values is found on them, so that files of the same names with other values have another.

    Raises:
        ValueError: another preprocessing, or none that is stated.
    """
    stored = asdict(Preprocessing.from_facts(typed(checkpoint.facts, "preprocessing", dict)))
    now = asdict(data.preprocessing)
    other = next((name for name in now if now[name] != stored[name]), None)
    if other is not None:
        raise ValueError(
            f"checkpoint {path!r} states {other}={stored[other]!r} of its images, and those of data {data.name!r} have "
            f"now {now[other]!r}: restore them, or train anew"
        )


def check_network(folder: Path, config: RunConfig) -> None:
    """Check that a run's settings name the network of its `last.safetensors`, before it is built in its size.

    The network of a function of the caller is built as it is, and its weights are checked before any is loaded.

    Raises:
        ValueError: they do not, or the file is broken.
    """
    path = folder / "last.safetensors"
    if not path.is_file() or names_function(config.model.partition("+")[0]):
        return
    checkpoint = read_checkpoint(path)
    facts, weights = checkpoint.facts, checkpoint.weights
    parts = config.model.removeprefix("timm:").split("+")
    try:
        check_sizes([parse_options(part, part.partition(":")[2]) for part in parts], weights)
        classes = typed(facts, "classes", list)
        channels = typed(typed(facts, "preprocessing", dict), "shape", list)[0]
        with torch.device("meta"), at_most(MODULES + MODULES_PER_TENSOR * len(weights)):
            outline = create_model(config.model, num_classes=len(classes), in_chans=channels)
        check_weights(weights, outline)
    except NotImplementedError:  # by an operation without a form for the meta device
        return
    except Exception as error:  # as networks refuse values
        raise ValueError(
            f"checkpoint {str(path)!r} {one_line(error):.300}; the settings name the network {config.model!r:.80}"
        ) from error


def check_tested(path: str, checkpoint: Checkpoint, model: nn.Module) -> None:
    """Check that the best weights of a run are those of its network.

    Raises:
        ValueError: they are not, or a fact is missing.
    """
    try:
        typed(checkpoint.facts, "lines", list)
        check_weights(checkpoint.weights, model)
    except ValueError as error:
        raise ValueError(f"checkpoint {path!r} {error}") from error


def check_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Compare names and shapes of weights with those of the network."""
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    needed = {name: tuple(tensor.shape) for name, tensor in plain_state_dict(model).items()}
    wrong = next((name for name in sorted(needed.keys() | found) if needed.get(name) != found.get(name)), None)
    if wrong is not None:
        there, here = (shapes.get(wrong, "missing") for shapes in (found, needed))
        raise ValueError(f"holds another network: {wrong!r:.80} is {there}, and {here} in that of the run")


def check_groups(stated: list[Any], optimizer: Optimizer) -> None:
    """Check the numbers of each parameter group."""
    count = len(optimizer.param_groups)
    if len(stated) != count:
        raise ValueError(f"states {len(stated)} parameter groups, and the run's optimizer has {count}")
    for numbers in stated:
        if not isinstance(numbers, dict):
            raise ValueError(f"states a parameter group {numbers!r:.80}; numbers by name are needed")
        for name, value in numbers.items():
            if name == "params" or not (isinstance(value, bool) or is_number(value)):
                raise ValueError(f"states {name}={value!r:.80} of a parameter group; a number is needed")


def check_state(state: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Check the optimizer's state: values by the number of a weight, the same names for each."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    names: dict[int, set[str]] = {}
    for key, value in state.items():
        parts = re.fullmatch(r"(\d{1,9})\.(.+)", key, re.DOTALL)
        if parts is None or int(parts[1]) >= len(weights):
            raise ValueError(f"states {key!r:.80} of the optimizer; names from 0. to {len(weights) - 1}. are needed")
        index, name = int(parts[1]), parts[2]
        if name in MOMENTS and (not isinstance(value, Tensor) or value.shape != weights[index].shape):
            raise ValueError(f"holds {key!r} of the optimizer, which has not the shape of its weight")
        names.setdefault(index, set()).add(name)
    lacking = next((index for index in names if names[index] != names[min(names)]), None)
    if lacking is not None:
        raise ValueError(f"holds other values of the optimizer for weight {lacking} than for weight {min(names)}")
