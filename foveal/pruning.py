"""Pruning: channel gates that are the same for every image, folded into the layer whose output they weigh.

A gate g that does not depend on the image turns conv(x) g into one convolution with scaled weights, and norm(x) g into
one norm. Between the two may stand what commutes with a scale from 0: a ReLU, a pooling. A gate is left where it is
if anything else reads the same map, if no layer is there to take it over, or if the answers would change.
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

from foveal.auditing import images_of, owners_of
from foveal.costs import interleaved
from foveal.findings import judge_constant
from foveal.hooks import Extra
from foveal.recording import watch
from foveal.shapes import evaluating
from foveal.tally import Statistics

Scalable = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.modules.batchnorm._BatchNorm | nn.GroupNorm
Commuting = nn.Identity | nn.ReLU | nn.LeakyReLU | nn.PReLU | nn.MaxPool2d | nn.AvgPool2d | nn.Dropout | nn.Dropout2d
TRACED = 4  # images for the pass that shows what feeds what


@dataclass(frozen=True)
class Pruned:
    """A copy of a network without its constant gates.

    Attributes:
        model: the copy.
        folded: the layer that took each gate over.
        refused: constant gates that stay, with the reason.
        change: the largest change of an answer on the given images, as a share of the largest answer.
        milliseconds: of a pass over the first batch, before and after; one thread, medians, measured in turn.
    """

    model: nn.Module
    folded: dict[str, str]
    refused: dict[str, str]
    change: float
    milliseconds: tuple[float, float]

    def __str__(self) -> str:
        lines = [f"{where}: folded into {layer}" for where, layer in self.folded.items()]
        lines += [f"{where}: stays, {reason}" for where, reason in self.refused.items()]
        before, after = self.milliseconds
        told = f"answers change by {self.change:.1e} of the largest at most; {before:.2f} ms before, {after:.2f} after"
        return "\n".join([*lines, told] if lines else ["no gate is constant"])


class Refused(Exception):  # noqa: N818 (no error)
    """Why a gate stays; never leaves this file."""


@torch.no_grad()
def prune_constant(
    model: nn.Module, loader: Iterable[Any], *, tolerance: float = 1e-3, extra: Extra | None = None
) -> Pruned:
    """Fold channel gates that do not depend on the image into the layers before them, in a copy of the network.

    The copy is one to run, in evaluation mode: foveal knows no longer how it was made, and saves no checkpoint of it.
    A gate that did not learn yet counts as constant, too.

    Args:
        model: as for `foveal.watch`. It is left as it is.
        loader: batches as for `foveal.audit`; all images are kept in memory, and every one's answer is compared.
        tolerance: the largest change of an answer, as a share of the largest answer, up to which a gate is folded.

    Raises:
        ValueError: a model without attention; a loader without images.

    >>> print(foveal.prune_constant(network, loader))
    """
    batches = list(images_of(loader, model))
    if not batches:
        raise ValueError("loader: no image came of it")
    watching = watch(model, "statistics", extra=extra)
    owners = owners_of(model, watching)
    paths = {module: path for path, module in model.named_modules()}
    with evaluating(model), watching as seen:
        wanted = [answer(model, images) for images in batches]
    pruned = copy.deepcopy(model).eval()
    folded, refused, change = {}, {}, 0.0
    for where in seen.paths():
        told = seen[where]
        if told.kind != "gate" or told.axes != "B C" or not list(judge_constant(told)):
            continue
        try:
            fold = Fold(pruned, paths[owners[told.where]], told, batches[0][:TRACED])
            change = fold.checked(batches, wanted, tolerance)
            folded[where] = fold.path
        except Refused as reason:
            refused[where] = str(reason)
    for name in ("made_as", "attachments") if folded else ():
        pruned.__dict__.pop(name, None)
    times = interleaved({"before": model, "after": pruned}, batches[0])
    return Pruned(pruned, folded, refused, change, (times["before"], times["after"]))


def answer(model: nn.Module, images: Tensor) -> list[Tensor]:
    return [each.clone() for each in tree_leaves(model(images)) if isinstance(each, Tensor)]


def largest_change(model: nn.Module, batches: list[Tensor], wanted: list[list[Tensor]]) -> float:
    """Of all answers, as a share of the largest."""
    pairs = [
        pair
        for images, held in zip(batches, wanted, strict=True)
        for pair in zip(answer(model, images), held, strict=True)
    ]
    largest = max(float(held.abs().max()) for _, held in pairs)
    return max(float((new - held).abs().max()) for new, held in pairs) / (largest or 1.0)


class Fold:
    """One gate, folded into one layer of a network.

    Args:
        model: the network.
        path: of the module whose gate it is.
        told: the gate.
        images: for a pass that shows what feeds it.

    Raises:
        Refused: nothing was changed then.
    """

    def __init__(self, model: nn.Module, path: str, told: Statistics, images: Tensor):
        self.model, self.site = model, path
        self.owner = model.get_submodule(path)
        self.gate = told.between.mean
        trace = Trace(self.owner, model)
        trace.run(images)
        if told.call or len(trace.owner_calls) != 1:
            raise Refused("it is called several times in a pass")
        given, out = trace.owner_calls[0]
        scaled = given * self.gate.to(given.dtype).view(-1, *[1] * (given.ndim - 2))
        if given.shape != out.shape or not torch.allclose(scaled, out, rtol=1e-2, atol=1e-2 * float(out.abs().max())):
            raise Refused("it does more than to scale the channels of what it is given")
        self.layer = trace.layer_behind(bool((self.gate >= 0).all()))
        if len(self.layer.weight if self.layer.weight is not None else ()) != len(self.gate):
            raise Refused(f"{type(self.layer).__name__} before it has no weight for each channel")
        self.path = next(name for name, module in model.named_modules() if module is self.layer)

    def checked(self, batches: list[Tensor], wanted: list[list[Tensor]], tolerance: float) -> float:
        """Fold, and take it back if the answers change."""
        scaled = [weight for weight in (self.layer.weight, self.layer.bias) if weight is not None]
        held = [weight.clone() for weight in scaled]
        for weight in scaled:
            weight.mul_(self.gate.to(weight).view(-1, *[1] * (weight.ndim - 1)))
        self.put(nn.Identity())
        change = largest_change(self.model, batches, wanted)
        if not change <= tolerance:
            self.put(self.owner)
            for weight, values in zip(scaled, held, strict=True):
                weight.copy_(values)
            raise Refused(f"the answers would change by {change:.1e} of the largest")
        return change

    def put(self, module: nn.Module) -> None:
        parent, _, name = self.site.rpartition(".")
        setattr(self.model.get_submodule(parent), name, module)


class Trace(TorchFunctionMode):
    """One pass: which module gave out which tensor, and who read it. Of nested modules only the outermost counts."""

    def __init__(self, owner: nn.Module, model: nn.Module):
        super().__init__()
        self.owner, self.model = owner, model
        self.steps: list[tuple[nn.Module, Any, Any]] = []  # module, what it was given, what it gave out
        self.readers: dict[int, set[nn.Module | None]] = defaultdict(set)
        self.owner_calls: list[tuple[Tensor, Tensor]] = []
        self.running: list[nn.Module] = []
        self.held: list[Any] = []  # so that no tensor's id serves a second one

    def run(self, images: Tensor) -> None:
        leaves = [module for module in self.model.modules() if module is self.owner or not [*module.children()]]
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
            self.given = args[0].clone()

    def end(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        self.running.pop()
        self.held.append((args, out))
        if module is self.owner:
            self.owner_calls.append((self.given, out.clone()))
        if not self.running:
            self.steps.append((module, args[0] if args else None, out))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(each, Tensor) for each in tree_leaves(out)):
            for each in tree_leaves((args, kwargs)):
                if isinstance(each, Tensor):
                    self.held.append(each)
                    self.readers[id(each)].add(self.running[0] if self.running else None)
        return out

    def layer_behind(self, positive: bool) -> Scalable:
        """The layer whose output the gate weighs; Refused where there is none, or others read what it gives out."""
        chain: list[nn.Module] = []
        looked_for: Any = None
        for module, given, out in reversed(self.steps):
            if module is not self.owner and (not chain or out is not looked_for):
                continue
            if chain and not isinstance(module, Scalable | Commuting):
                raise Refused(f"{type(module).__name__} before it takes no scale")
            others = self.readers[id(out)] - {*chain, module} if chain else set()
            if others:
                raise Refused("what feeds it feeds something else, too")
            if chain and isinstance(module, Scalable):
                if sum(step is module for step, _, _ in self.steps) > 1:
                    raise Refused("the layer before it is called several times in a pass")
                return module
            if chain and not positive:
                raise Refused(f"{type(module).__name__} before it takes no scale below 0")
            chain.append(module)
            looked_for = given
        raise Refused("no module gives out what it weighs")
