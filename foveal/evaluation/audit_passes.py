"""Forward and backward passes of an audit: statistics over all images, gradients, times."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foveal.core.answers import run_model
from foveal.core.record import GEOMETRIC, Tap
from foveal.core.validation import has_inference_weights
from foveal.evaluation.findings import Finding
from foveal.inspection.gradient_obstacles import INFERENCE, NO_GRADIENT, REENTRANT, obstacles
from foveal.inspection.hooks import Hooks
from foveal.inspection.module_paths import nearest, unwrapped_modules
from foveal.inspection.recording import Recording
from foveal.inspection.tap_points import BY_CLASS, TapPoint
from foveal.inspection.watch import watch
from foveal.mechanisms.zero_init_gate import ZeroInitGate
from foveal.profiling.timing import now, using_threads

GRADIENT = 4  # images of the backward pass; BatchNorm needs more than one


ROUNDS = 5  # timed passes, after one warm-up pass


def owners_of(model: nn.Module, watching: watch) -> dict[str, nn.Module]:
    """Map each place to the module with its attention (for a Tap, the parent), in the order of the model's modules."""
    modules = unwrapped_modules(model)
    names = {module: name for name, module in modules.items()}
    taps = {path: place.module for path, place in watching.places.items() if place.spec is None}
    owners = {path: modules[names[tap].rpartition(".")[0]] for path, tap in taps.items()}
    owners |= {path: place.module for path, place in watching.places.items() if place.spec is not None}
    owners |= {path: modules[nearest(path, modules)] for path in watching.reasons}
    order = {module: index for index, module in enumerate(modules.values())}
    return dict(sorted(owners.items(), key=lambda item: order[item[1]]))


class AuditState:
    """Observations of an audit over all images: statistics, sizes of feature maps, values of geometric attention."""

    def __init__(self, seen: Recording, untrained: set[str]) -> None:
        self.untrained = untrained  # places that are still the identity of their initialization
        self.seen, self.count, self.first = seen, 0, torch.empty(0)
        self.sizes: dict[nn.Module, tuple[int, int] | None] = {}
        self.collapsed: set[nn.Module] = set()
        self.received_nonzero_input: set[nn.Module] = set()
        self.values: dict[str, list[Tensor]] = defaultdict(list)

    def on_input(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Record whether the input has non-zero values, and its height and width."""
        x = args[0] if args else None
        if not isinstance(x, Tensor) or x.any():
            self.received_nonzero_input.add(module)
        self.sizes[module] = (int(x.shape[2]), int(x.shape[3])) if isinstance(x, Tensor) and x.ndim == 4 else None

    def on_convolution(self, owner: nn.Module, conv: nn.Conv2d, args: tuple[Any, ...], out: Tensor) -> None:
        """Record a padded convolution of stride 1 with one output position although its input has several."""
        if out.shape[-2:] == (1, 1) != args[0].shape[-2:] and keeps_size(conv):
            self.collapsed.add(owner)

    def keep_values(self, path: str, weights: Tensor) -> None:
        """Store the weights of one batch."""
        self.values[path].append(weights.detach().cpu())


def keeps_size(conv: nn.Conv2d) -> bool:
    """Return True for a padded convolution of stride 1."""
    return max(conv.stride) == 1 and conv.padding not in ("valid", (0, 0))


def run_over_images(
    model: nn.Module, batches: Iterator[Tensor], watching: watch, owners: Mapping[str, nn.Module]
) -> AuditState:
    """Run the model once over all images, and collect the observations."""
    with torch.no_grad(), watching as seen, hooks_on(model) as hooks:
        fresh = {path for path, owner in owners.items() if any(map(is_untrained, parts_above(model, path, owner)))}
        state = AuditState(seen, fresh)
        for module in set(owners.values()):
            hooks.add(module, state.on_input, pre=True)
        shown = {path for path, place in watching.places.items() if place.how == BY_CLASS}  # judged by their own maps
        for module in {module for path, module in owners.items() if path not in shown}:
            for conv in (each for each in module.modules() if isinstance(each, nn.Conv2d)):
                hooks.add(conv, partial(state.on_convolution, module))
        for path, place in watching.places.items():
            if place.facts.kind in GEOMETRIC:
                hooks.attach_to(place, partial(state.keep_values, path))
        for images in batches:
            run_model(model, images)
            state.first = state.first if state.count else images
            state.count += len(images)
    if not state.count:
        raise ValueError("loader: contains no images; at least one batch is needed")
    return state


@contextmanager
def hooks_on(model: nn.Module) -> Iterator[Hooks]:
    """Provide hooks on a model, removed at the end of the context."""
    hooks = Hooks(model, lambda path, reason: None)
    try:
        yield hooks
    finally:
        hooks.close()


def unreached_by_gradient(
    model: nn.Module, images: Tensor, owners: Mapping[str, nn.Module], places: Mapping[str, TapPoint]
) -> dict[str, Finding]:
    """Return the finding at each place that the output's gradient does not reach, or where that cannot be tested.

    The gradient is taken at the weights of a Tap, else at the module's parameters, or at its output if it has none.
    """
    if has_inference_weights(model):
        return untested(owners, INFERENCE)
    met: dict[str, list[Tensor]] = defaultdict(list)
    plain = model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else model
    weights = [weight for module in owners.values() for weight in module.parameters() if weight.is_floating_point()]
    with torch.inference_mode(False), torch.enable_grad(), requiring_grad(weights), hooks_on(plain) as hooks:
        pixels = images.detach().clone().requires_grad_(images.is_floating_point())
        for path, module in owners.items():
            tap = places[path].module if path in places and isinstance(places[path].module, Tap) else None
            if tap is None:
                met[path] += module.parameters()
            if not met[path]:
                hooks.add(tap or module, lambda _, __, out, path=path: met[path].extend(tensors(out)))
        total = sum((each.float().sum() for each in tensors(plain(pixels.clone()))), torch.zeros(()))
        differentiable = {path: [each for each in found if each.requires_grad] for path, found in met.items()}
        flat = [each for found in differentiable.values() for each in found]
        hidden = obstacles(total)
        if REENTRANT in hidden or NO_GRADIENT in hidden:
            return untested(owners, hidden[0])
        gradients = torch.autograd.grad(total, flat, allow_unused=True) if flat else ()
    reached = {id(each) for each, gradient in zip(flat, gradients, strict=True) if gradient is not None}
    missed = [path for path in owners if not any(id(each) in reached for each in differentiable[path])]
    return untested(missed, hidden[0]) if hidden else {path: Finding(path, "not in the graph") for path in missed}


def untested(paths: Iterable[str], why: str) -> dict[str, Finding]:
    """Return the finding, at each of these places, that its gradient was not tested."""
    return {path: Finding(path, "gradient not tested", note=why) for path in paths}


def tensors(out: Any) -> list[Tensor]:
    """List the floating-point tensors in a nested output, which may have a gradient."""
    return [each for each in tree_leaves(out) if isinstance(each, Tensor) and each.is_floating_point()]


@contextmanager
def requiring_grad(weights: Sequence[Tensor]) -> Iterator[None]:
    """Make frozen parameters require gradients inside the context."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


@torch.no_grad()
def time_shares(model: nn.Module, images: Tensor, owners: Mapping[str, nn.Module]) -> dict[str, float]:
    """Measure the median share of the forward pass's time in each place's module, on one thread."""
    passes: list[dict[nn.Module, float]] = []
    with using_threads(1), hooks_on(model) as hooks:
        for module in {*owners.values(), model}:
            hooks.add(module, lambda module, _: add_time(passes[-1], module, -now(images.device)), pre=True)
            hooks.add(module, lambda module, _, __: add_time(passes[-1], module, now(images.device)))
        for _ in range(ROUNDS + 1):
            passes.append(defaultdict(float))
            model(images)
    return {path: median(each[module] / each[model] for each in passes[1:]) for path, module in owners.items()}


def add_time(spent: dict[nn.Module, float], module: nn.Module, seconds: float) -> None:
    """Add seconds to the time of a module."""
    spent[module] += seconds


def narrow_widths(module: nn.Module) -> Iterator[int]:
    """Yield hidden widths of 0 and 1 of a module's layers."""
    layers = [each for each in module.modules() if isinstance(each, nn.Linear | nn.modules.conv._ConvNd)]
    if any(layer.weight.numel() == 0 for layer in layers):
        yield 0
    widths = [in_and_out(layer) for layer in layers]
    if any(a[0] > a[1] == b[0] == 1 < b[1] for a, b in pairwise(widths)):
        yield 1


def in_and_out(layer: nn.Linear | nn.modules.conv._ConvNd) -> tuple[int, int]:
    """Return the numbers of input and output channels of a layer."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def parts_above(model: nn.Module, path: str, owner: nn.Module) -> list[nn.Module]:
    """List the owner of a place and, if it is a part of an attached mechanism, that mechanism."""
    modules = unwrapped_modules(model)
    above = [modules.get(path[:end]) for end in range(len(path)) if path[end] == "."]
    return [owner, *(module for module in above if module is not None and hasattr(module, "attaches"))]


def is_untrained(module: nn.Module) -> bool:
    """Return True if a module is still the identity of its initialization: its strength or its last layer is 0."""
    strengths = [each.s for each in module.children() if isinstance(each, ZeroInitGate) and each.s is not None]
    if strengths:
        return not any(bool(s.any()) for s in strengths)
    weights = [weight for name, weight in module.named_parameters() if name.endswith("weight")]
    starts_as_identity = getattr(module, "starts_as_identity", False) or getattr(module, "hard", False)
    return starts_as_identity and any(weight.numel() > 0 and not weight.any() for weight in weights)
