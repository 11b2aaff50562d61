"""Pruning: channel gates that are the same for every image, folded into the layer before or after them.

A gate g that does not depend on the image turns conv(x) g into one convolution with scaled weights, and norm(x) g into
one norm. Between the two may stand what commutes with a scale from 0: a ReLU, a pooling. Where the layer before cannot
take it over (a SiLU stands between), a convolution that alone reads what is weighed does. A gate is left where it is if
anything else reads the same map, if no layer is there, or if the answers would change.
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

Scalable = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.modules.batchnorm._BatchNorm | nn.GroupNorm
Commuting = nn.Identity | nn.ReLU | nn.LeakyReLU | nn.PReLU | nn.MaxPool2d | nn.AvgPool2d | nn.Dropout | nn.Dropout2d
TRACED = 4  # images for the pass that shows what feeds what


@dataclass(frozen=True)
class Pruned:
    """A copy of a network without its constant gates.

    Attributes:
        model: the copy.
        folded: by gate, the layer that took it over.
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
        lines = [f"{path}: folded into {layer}" for path, layer in self.folded.items()]
        lines += [f"{path}: stays, {reason}" for path, reason in self.refused.items()]
        before, after = self.milliseconds
        told = f"answers change by {self.change:.1e} of the largest at most; {before:.2f} ms before, {after:.2f} after"
        return "\n".join([*lines, told] if lines else ["no gate is constant"])


class Refused(Exception):  # noqa: N818 (no error)
    """Why a gate stays; never leaves this file."""


@torch.no_grad()
def prune_constant(
    model: nn.Module, loader: Iterable[Any], *, tolerance: float = 1e-3, extra: Extra | None = None
) -> Pruned:
    """Fold channel gates that do not depend on the image into the layers beside them, in a copy of the network.

    The copy is one to run, in evaluation mode: foveal knows no longer how it was made, and saves no checkpoint of it.
    A gate that did not learn yet counts as constant, too.

    Args:
        model: as for `foveal.watch`. It is left as it is.
        loader: batches as for `foveal.audit`; all images are kept in memory, and every one's answer is compared.
        tolerance: the largest change of an answer, as a share of the largest answer, up to which a gate is folded.

    Raises:
        TypeError: `model` is no module.
        ValueError: a model without attention; a loader without images.

    >>> print(foveal.prune_constant(network, loader))
    """
    check_model(model)
    batches = list(iter_images(loader, model))
    if not batches:
        raise ValueError("loader: no image came of it")
    watching = watch(model, "statistics", extra=extra)
    owners = owners_of(model, watching)
    paths = {module: path for path, module in model.named_modules()}
    with eval_mode(model), watching as seen:
        wanted = answers(model, batches)
    pruned = copy.deepcopy(model).eval()
    folded, refused, change = {}, {}, 0.0
    for path in seen.paths():
        statistics = seen[path]
        if statistics.kind != "gate" or statistics.axes != "B C" or not list(judge_constant(statistics)):
            continue
        try:
            fold = Fold(pruned, paths[owners[statistics.path]], statistics, batches[0][:TRACED])
            change = fold.checked(batches, wanted, tolerance)
            folded[path] = fold.path
        except Refused as reason:
            refused[path] = str(reason)
    for name in ("made_as", "attachments") if folded else ():
        pruned.__dict__.pop(name, None)
    times = time_inference({"before": model, "after": pruned}, batches[0])
    return Pruned(pruned, folded, refused, change, (times["before"], times["after"]))


def answers(model: nn.Module, batches: list[Tensor]) -> list[Tensor]:
    """Every output of a model over all batches, each as one row of numbers."""
    outputs = [[each.clone() for each in tree_leaves(model(images)) if isinstance(each, Tensor)] for images in batches]
    return [torch.cat([each.flatten() for each in parts]) for parts in zip(*outputs, strict=True)]


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
        self.gate = told.across_images.mean
        trace = Flow(self.owner, model)
        trace.run(images)
        if told.call or len(trace.owner_calls) != 1:
            raise Refused("it is not called just once, on a tensor and for a tensor")
        given, out = trace.owner_calls[0]
        scaled = given * self.gate.to(given.dtype).view(-1, *[1] * (given.ndim - 2))
        if given.shape != out.shape or not torch.allclose(scaled, out, rtol=1e-2, atol=1e-2 * float(out.abs().max())):
            raise Refused("it does more than to scale the channels of what it is given")
        self.layer, self.dim = trace.layer_beside(bool((self.gate >= 0).all()))
        if self.layer.weight is None or self.layer.weight.shape[self.dim] != len(self.gate):
            raise Refused(f"{type(self.layer).__name__} beside it has no weight for each channel")
        self.path = next(name for name, module in model.named_modules() if module is self.layer)

    def checked(self, batches: list[Tensor], wanted: list[Tensor], tolerance: float) -> float:
        """Fold, and take it back if the answers change."""
        given_out = [self.layer.weight, self.layer.bias]
        scaled = [self.layer.weight] if self.dim else [weight for weight in given_out if weight is not None]
        held = [weight.clone() for weight in scaled]
        for weight in scaled:
            weight.mul_(self.gate.to(weight).view(-1, *[1] * (weight.ndim - 1 - self.dim)))
        self.put(nn.Identity())
        change = largest_difference(wanted, answers(self.model, batches))
        if not change <= tolerance:
            self.put(self.owner)
            for weight, values in zip(scaled, held, strict=True):
                weight.copy_(values)
            raise Refused(f"the answers would change by {change:.1e} of the largest")
        return change

    def put(self, module: nn.Module) -> None:
        parent, _, name = self.site.rpartition(".")
        setattr(self.model.get_submodule(parent), name, module)


class Flow(TorchFunctionMode):
    """One pass: which module gave out which tensor, and who read it. Of nested modules only the outermost counts."""

    def __init__(self, owner: nn.Module, model: nn.Module):
        super().__init__()
        self.owner, self.model = owner, model
        self.steps: list[tuple[nn.Module, Any, Any]] = []  # module, what it was given, what it gave out
        self.readers: dict[int, set[nn.Module | None]] = defaultdict(set)
        self.given: Tensor | None = None  # to the owner, before anybody changes it
        self.owner_calls: list[tuple[Tensor, Tensor]] = []
        self.running: list[nn.Module] = []
        self.held: list[Any] = []  # so that no tensor's id serves a second one

    def run(self, images: Tensor) -> None:
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
            self.given = args[0].clone() if args and isinstance(args[0], Tensor) else None

    def end(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        self.held.append((args, out))
        if module is self.owner and self.given is not None and isinstance(out, Tensor):
            self.owner_calls.append((self.given, out.clone()))
        self.running.pop()
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

    def layer_beside(self, positive: bool) -> tuple[Scalable, int]:
        """The layer that can take the gate over, and the dimension of its weight that does."""
        try:
            return self.layer_before(positive), 0
        except Refused:
            after = self.layer_after()
            if after is None:
                raise
            return after, 1

    def layer_before(self, positive: bool) -> Scalable:
        """The layer whose output the gate weighs; Refused where there is none, or others read what it gives out."""
        chain: list[nn.Module] = []
        links: list[Any] = []
        for module, given, out in reversed(self.steps):
            if module is self.owner:
                chain, links = [module], [given]
            elif links and out is links[-1]:
                for part in (module, *module.children()):  # timm's norms hold their activation
                    if not (isinstance(part, Scalable) or (positive and isinstance(part, Commuting))):
                        raise Refused(f"{type(part).__name__} before it takes no scale{'' if positive else ' below 0'}")
                chain.append(module)
                if isinstance(module, Scalable):
                    self.check(chain, links)
                    return module
                links.append(given)
        raise Refused("no module gives out what it weighs")

    def layer_after(self) -> nn.Conv2d | None:
        """The one convolution that reads what the gate gives out, where nothing else does."""
        out = next(out for module, _, out in self.steps if module is self.owner)
        conv = next((module for module, given, _ in self.steps if given is out and module is not self.owner), None)
        if not isinstance(conv, nn.Conv2d) or conv.groups > 1:
            return None
        self.check([self.owner, conv], [out])
        return conv

    def check(self, chain: list[nn.Module], links: list[Any]) -> None:
        """Whether the tensors between modules are read by these alone, and the layer at their end is called once."""
        if set().union(*(self.readers[id(link)] for link in links)) - {*chain}:
            raise Refused("what it shares with its neighbour feeds something else, too")
        if sum(module is chain[-1] for module, _, _ in self.steps) > 1:
            raise Refused("the layer beside it is called several times in a pass")
