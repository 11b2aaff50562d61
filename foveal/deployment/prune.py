"""Pruning: folding of channel gates that are the same for every image into the layer before or after them.

If a gate g does not depend on the image, conv(x) g is one convolution with scaled weights, and norm(x) g is one norm.
Operations that commute with a non-negative scale, such as ReLU and pooling, may lie between layer and gate. If the
layer before cannot absorb the gate (for instance, because a SiLU lies between them), it is folded into the convolution
after it, if that is the only reader of the gate's output. A gate is kept if another module reads the same feature map,
if there is no such layer, or if the outputs would change.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from foveal.core.trial_pass import eval_mode
from foveal.core.validation import check_model, iter_images
from foveal.deployment.compare_outputs import largest_difference
from foveal.evaluation.audit_passes import owners_of
from foveal.evaluation.findings import judge_constant
from foveal.inspection.record_statistics import Statistics
from foveal.inspection.tap_points import Extra
from foveal.inspection.watch import watch
from foveal.profiling.timing import time_inference
from foveal.surgery.wrapper import unwrapped

Scalable = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.modules.batchnorm._BatchNorm | nn.GroupNorm
Commuting = nn.Identity | nn.ReLU | nn.LeakyReLU | nn.PReLU | nn.MaxPool2d | nn.AvgPool2d | nn.Dropout | nn.Dropout2d
TRACED = 4  # images of the pass that traces the data flow


@dataclass(frozen=True)
class Pruned:
    """A copy of a network without its constant gates, and its measurements.

    Attributes:
        model: The copy.
        folded: Path of each folded gate to the path of the layer that absorbed it.
        refused: Path of each constant gate that was kept to the reason.
        change: Largest change of an output on the given images, relative to the largest output.
        milliseconds: Forward pass over the first batch, before and after: medians of interleaved runs on one thread.
    """

    model: nn.Module
    folded: dict[str, str]
    refused: dict[str, str]
    change: float
    milliseconds: tuple[float, float]

    def __str__(self) -> str:
        lines = [f"{path}: folded into {layer}" for path, layer in self.folded.items()]
        lines += [f"{path}: kept, {reason}" for path, reason in self.refused.items()]
        before, after = self.milliseconds
        figures = (
            f"largest change of an output: {self.change:.1e} of the largest output; "
            f"{before:.2f} ms before, {after:.2f} ms after"
        )
        return "\n".join([*lines, figures] if lines else ["no gate is constant"])


class Refused(Exception):  # noqa: N818 (no error)
    """Reason for which a gate is kept; raised and caught only in this file."""


@torch.no_grad()
def prune_constant(
    model: nn.Module, loader: Iterable[Any], *, tolerance: float = 1e-3, extra: Extra | None = None
) -> Pruned:
    """Fold channel gates that do not depend on the image into the adjacent layers, in a copy of the network.

    The copy is for inference, in evaluation mode. It has no record of its construction, so foveal cannot save it as a
    checkpoint. A gate that is still untrained counts as constant.

    Args:
        model (torch.nn.Module): A model as for `foveal.watch`. It is not changed.
        loader (Iterable): Batches as for `foveal.audit`: images (B, C, H, W), alone or first in a tuple. All images are
            kept in memory, and their outputs are compared.
        tolerance (float): Largest accepted change of an output, relative to the largest output.
        extra (dict | None): Additional classes with attention, as for `foveal.watch`.

    Returns:
        A `Pruned`: the copy (`model`), the `folded` and the `refused` gates, `change` and `milliseconds`.

    Raises:
        TypeError: If `model` is not a module.
        ValueError: If the model has no attention, or the loader has no images.

    Examples:
        >>> import foveal, torch
        >>> model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1, identity=True)
        >>> foveal.prune_constant(model, [torch.rand(4, 1, 32, 32)]).folded["features.0.attention"]
        'features.0.norm'
    """
    check_model(model)
    batches = list(iter_images(loader, model))
    if not batches:
        raise ValueError("loader: contains no images; at least one batch is needed")
    watching = watch(model, "statistics", extra=extra)
    owners = owners_of(model, watching)
    paths = {module: path for path, module in model.named_modules()}
    with eval_mode(model), watching as seen:
        expected = outputs_of(model, batches)
    pruned = copy.deepcopy(model).eval()
    folded, refused, change = {}, {}, 0.0
    for path in seen.paths():
        statistics = seen[path]
        if statistics.kind != "gate" or statistics.axes != "B C" or not list(judge_constant(statistics)):
            continue
        try:
            fold = Fold(pruned, paths[unwrapped(owners[statistics.path])], statistics, batches[0][:TRACED])
            change = fold.checked(batches, expected, tolerance)
            folded[path] = fold.path
        except Refused as reason:
            refused[path] = str(reason)
    for name in ("made_as", "attachments") if folded else ():
        pruned.__dict__.pop(name, None)
    times = time_inference({"before": model, "after": pruned}, batches[0])
    return Pruned(pruned, folded, refused, change, (times["before"], times["after"]))


def outputs_of(model: nn.Module, batches: list[Tensor]) -> list[Tensor]:
    """Compute each output tensor of a model over all batches, flattened."""
    outputs = [[each.clone() for each in tree_leaves(model(images)) if isinstance(each, Tensor)] for images in batches]
    return [torch.cat([each.flatten() for each in parts]) for parts in zip(*outputs, strict=True)]


class Fold:
    """Folding of one gate into one layer of a network.

    Args:
        model: The network.
        path: Path of the module with the gate.
        statistics: Statistics of the gate.
        images: Inputs of the pass that traces the data flow.

    Raises:
        Refused: If the gate cannot be folded; the network is unchanged.
    """

    def __init__(self, model: nn.Module, path: str, statistics: Statistics, images: Tensor):
        self.model, self.site = model, path
        self.owner = model.get_submodule(path)
        self.gate = statistics.across_images.mean
        trace = Flow(self.owner, model)
        trace.run(images)
        if statistics.call or len(trace.owner_calls) != 1:
            raise Refused("its module is not called exactly once with a tensor as input and output")
        x, out = trace.owner_calls[0]
        scaled = x * self.gate.to(x.dtype).view(-1, *[1] * (x.ndim - 2))
        if x.shape != out.shape or not torch.allclose(scaled, out, rtol=1e-2, atol=1e-2 * float(out.abs().max())):
            raise Refused("its module does more than scale the channels of its input")
        self.layer, self.dim = trace.layer_beside(bool((self.gate >= 0).all()))
        if self.layer.weight is None or self.layer.weight.shape[self.dim] != len(self.gate):
            raise Refused(f"the adjacent {type(self.layer).__name__} has no weight for each channel")
        self.path = next(name for name, module in model.named_modules() if module is self.layer)

    def checked(self, batches: list[Tensor], expected: list[Tensor], tolerance: float) -> float:
        """Fold the gate and return the change of the outputs; undo it and raise `Refused` if they change too much."""
        parameters = [self.layer.weight, self.layer.bias]
        scaled = [self.layer.weight] if self.dim else [weight for weight in parameters if weight is not None]
        stored = [weight.clone() for weight in scaled]
        for weight in scaled:
            weight.mul_(self.gate.to(weight).view(-1, *[1] * (weight.ndim - 1 - self.dim)))
        self.put(nn.Identity())
        change = largest_difference(expected, outputs_of(self.model, batches))
        if not change <= tolerance:
            self.put(self.owner)
            for weight, values in zip(scaled, stored, strict=True):
                weight.copy_(values)
            raise Refused(f"the outputs would change by {change:.1e} of the largest output")
        return change

    def put(self, module: nn.Module) -> None:
        """Put a module in place of the gate's module."""
        parent, _, name = self.site.rpartition(".")
        setattr(self.model.get_submodule(parent), name, module)


class Flow(TorchFunctionMode):
    """Trace of one forward pass: the module that returned each tensor, and its readers; outermost modules only."""

    def __init__(self, owner: nn.Module, model: nn.Module):
        super().__init__()
        self.owner, self.model = owner, model
        self.steps: list[tuple[nn.Module, Any, Any]] = []  # module, its first input, its output
        self.readers: dict[int, set[nn.Module | None]] = defaultdict(set)
        self.owner_input: Tensor | None = None  # copied before any operation in place
        self.owner_calls: list[tuple[Tensor, Tensor]] = []
        self.running: list[nn.Module] = []
        self.alive: list[Any] = []  # keeps tensors alive so that their ids stay unique

    def run(self, images: Tensor) -> None:
        """Run the model and record its data flow."""
        leaves = [each for each in self.model.modules() if isinstance(each, Scalable) or not [*each.children()]]
        leaves += [] if self.owner in leaves else [self.owner]
        handles = [module.register_forward_pre_hook(self.begin) for module in leaves]
        handles += [module.register_forward_hook(self.end) for module in leaves]
        try:
            with self:
                out = self.model(images)
        finally:
            for handle in handles:
                handle.remove()
        for each in tree_leaves(out):
            self.readers[id(each)].add(None)

    def begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.running.append(module)
        if module is self.owner:
            self.owner_input = args[0].clone() if args and isinstance(args[0], Tensor) else None

    def end(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        self.alive.append((args, out))
        if module is self.owner and self.owner_input is not None and isinstance(out, Tensor):
            self.owner_calls.append((self.owner_input, out.clone()))
        self.running.pop()
        if not self.running:
            self.steps.append((module, args[0] if args else None, out))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(each, Tensor) for each in tree_leaves(out)):
            for each in tree_leaves((args, kwargs)):
                if isinstance(each, Tensor):
                    self.alive.append(each)
                    self.readers[id(each)].add(self.running[0] if self.running else None)
        return out

    def layer_beside(self, positive: bool) -> tuple[Scalable, int]:
        """Return the layer that can absorb the gate, and the dimension of its weight to scale."""
        try:
            return self.layer_before(positive), 0
        except Refused:
            after = self.layer_after()
            if after is None:
                raise
            return after, 1

    def layer_before(self, positive: bool) -> Scalable:
        """Return the layer before the gate; raise Refused if there is none or its output has other readers."""
        chain: list[nn.Module] = []
        links: list[Any] = []
        for module, x, out in reversed(self.steps):
            if module is self.owner:
                chain, links = [module], [x]
            elif links and out is links[-1]:
                for part in (module, *module.children()):  # timm's norms contain their activation
                    if not (isinstance(part, Scalable) or (positive and isinstance(part, Commuting))):
                        kind = "scale" if positive else "negative scale"
                        raise Refused(f"the {type(part).__name__} before it does not commute with a {kind}")
                chain.append(module)
                if isinstance(module, Scalable):
                    self.check(chain, links)
                    return module
                links.append(x)
        raise Refused("no module returns the tensor that it scales")

    def layer_after(self) -> nn.Conv2d | None:
        """Return the convolution that is the only reader of the gate's output, or None."""
        out = next(out for module, _, out in self.steps if module is self.owner)
        conv = next((module for module, x, _ in self.steps if x is out and module is not self.owner), None)
        if not isinstance(conv, nn.Conv2d) or conv.groups > 1:
            return None
        self.check([self.owner, conv], [out])
        return conv

    def check(self, chain: list[nn.Module], links: list[Any]) -> None:
        """Raise Refused if the tensors between the modules have other readers, or the layer is called repeatedly."""
        if set().union(*(self.readers[id(link)] for link in links)) - {*chain}:
            raise Refused("the tensor between it and the adjacent layer has another reader")
        if sum(module is chain[-1] for module, _, _ in self.steps) > 1:
            raise Refused("the adjacent layer is called several times in one pass")
