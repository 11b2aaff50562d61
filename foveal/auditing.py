"""Auditing: does the attention of a network work at all? Its places over a data set, each with what is wrong there.

Three looks, all in evaluation mode, none of which leaves anything behind: the loader's images pass once, and of each
place statistics are kept (of transforms, crops and glimpses, which are small, the values); a few images pass once more
for the gradient of the answer; the first batch passes some times more, on one thread, for the time that each place
takes. Modules that only look like attention by their names are asked what can be asked of anybody: are they called,
does the answer depend on them, have their layers a width, do their maps collapse?

What this file does not know: when a figure is a fault. That is in `foveal.findings`.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foveal.findings import Finding, findings_of
from foveal.hooks import Hooks
from foveal.inputs import images_of
from foveal.meanings import MEANINGS
from foveal.mechanisms.strength import Strength
from foveal.record import Record, Tap
from foveal.recording import Seen, watch
from foveal.shapes import evaluating
from foveal.showing import Extra, Place, plain_paths

GEOMETRIC = ("transform", "crop", "glimpse")  # of a few numbers an image, which are kept
GRADIENT = 4  # images for the backward pass: one would do, but for a norm over the batch
STARVED = "all that it is given is 0"
ROUNDS = 5  # timed passes, after one to warm up


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        places: the share of the network's time that the forward pass of each place's module takes; a module that states
            several places counts at each.
        findings: in the model's order.
        images: how many were looked at.
    """

    places: dict[str, float]
    findings: list[Finding]
    images: int

    @property
    def faults(self) -> list[Finding]:
        return [each for each in self.findings if each.fault]

    def to_json(self) -> str:
        findings = [
            {**asdict(each), "fault": each.fault, "means": each.meaning.means, "do": each.meaning.do}
            for each in self.findings
        ]
        return json.dumps({"images": self.images, "places": self.places, "findings": findings}, indent=2)

    def __str__(self) -> str:
        rows = [("place", "time", "found"), *self.rows()]
        width = max(len(where) for where, _, _ in rows)
        lines = [f"{where:{width}}  {share:>6}  {found}".rstrip() for where, share, found in rows]
        for what in dict.fromkeys(each.what for each in self.findings):
            lines += ["", f"{what}: {MEANINGS[what].means}", f"  {MEANINGS[what].do}"]
        counts = {"fault": len(self.faults), "place": len(self.places), "image": self.images}
        told = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
        return "\n".join([*lines, "", ", ".join(told)])

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Place, time and finding; further findings of a place without its name."""
        for where, share in self.places.items():
            found = [f"{'! ' if each.fault else ''}{each}" for each in self.findings if belongs(each.where, where)]
            first, *more = found or ["-"]
            yield where, f"{share:.1%}", first
            yield from (("", "", each) for each in more)


def belongs(found: str, place: str) -> bool:
    return found == place or found.startswith(f"{place}#")


def audit(model: nn.Module, loader: Iterable[Any], *, extra: Extra | None = None) -> Audit:
    """Find out whether the attention of a network does anything: `print(foveal.audit(model, loader))`.

    Faults are attention that is never called, gets no gradient, is the same for every image, is at an end of its range,
    has lost its map, shows what is outside the image, and the like: `foveal.meanings` has them all. Modules
    whose names look like attention are audited also where foveal does not know their classes.

    The model runs in evaluation mode, on its own device. Its hooks, modes, buffers and gradients are afterwards what
    they were.

    Args:
        model: as for `foveal.watch`.
        loader: batches whose first element is images, as the model wants them; or batches of images alone. It is read
            once.
        extra: as for `foveal.watch`.

    Raises:
        ValueError: a model without attention; a loader without images, or with such as the model does not take.
        TypeError: `model` is no module; a batch whose first element is no tensor.

    >>> print(foveal.audit(foveal.create_model("small_cnn+se"), loader))
    """
    watching = watch(model, "statistics", extra=extra)
    owners = owners_of(model, watching)
    with evaluating(model):
        look = survey(model, images_of(loader, model), watching, owners)
        look.fresh = {where for where, owner in owners.items() if any(map(untrained, parts_above(model, where, owner)))}
        live = in_graph(model, look.first[:GRADIENT], owners, watching.places)
        shares = time_shares(model, look.first, owners)
    findings = [
        each
        for where, module in owners.items()
        for each in judged(where, module, watching.places.get(where), look, live[where])
    ]
    return Audit(shares, findings, look.count)


def owners_of(model: nn.Module, watching: watch) -> dict[str, nn.Module]:
    """The module whose attention a place is, for a Tap the one that holds it; all in the model's order."""
    modules = plain_paths(model)
    paths = {module: path for path, module in modules.items()}
    taps = {where: place.module for where, place in watching.places.items() if place.shown is None}
    owners = {where: modules[paths[tap].rpartition(".")[0]] for where, tap in taps.items()}
    owners |= {where: place.module for where, place in watching.places.items() if place.shown is not None}
    owners |= {where: modules[where] for where in watching.reasons}
    order = {module: index for index, module in enumerate(modules.values())}
    return dict(sorted(owners.items(), key=lambda item: order[item[1]]))


class Look:
    """What all images showed. Beside statistics: the sizes of maps, and values of what is a few numbers an image."""

    def __init__(self, seen: Seen) -> None:
        self.seen, self.count, self.first = seen, 0, torch.empty(0)
        self.sizes: dict[nn.Module, tuple[int, int] | None] = {}
        self.collapsed: set[nn.Module] = set()
        self.fed: set[nn.Module] = set()  # given more than zeros
        self.fresh: set[str] = set()  # places that change nothing yet
        self.values: dict[str, list[Tensor]] = defaultdict(list)

    def given(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0] if args else None
        if not isinstance(x, Tensor) or x.any():
            self.fed.add(module)
        self.sizes[module] = (int(x.shape[2]), int(x.shape[3])) if isinstance(x, Tensor) and x.ndim == 4 else None

    def collapse(self, owner: nn.Module, conv: nn.Conv2d, args: tuple[Any, ...], out: Tensor) -> None:
        """A convolution that pads, so as to keep the map, and gives out one position of several."""
        if out.shape[-2:] == (1, 1) != args[0].shape[-2:] and keeps_size(conv):
            self.collapsed.add(owner)

    def keep(self, where: str, weights: Tensor) -> None:
        self.values[where].append(weights.detach().cpu())


def keeps_size(conv: nn.Conv2d) -> bool:
    return max(conv.stride) == 1 and conv.padding not in ("valid", (0, 0))


def survey(model: nn.Module, batches: Iterator[Tensor], watching: watch, owners: Mapping[str, nn.Module]) -> Look:
    """All images once."""
    with torch.no_grad(), watching as seen, listening(model) as hooks:
        look = Look(seen)
        for module in set(owners.values()):
            hooks.add(module, look.given, pre=True)
        for module in {owners[where] for where in watching.reasons}:
            for conv in (each for each in module.modules() if isinstance(each, nn.Conv2d)):
                hooks.add(conv, partial(look.collapse, module))
        for where, place in watching.places.items():
            if place.facts.kind in GEOMETRIC:
                hooks.listen(place, partial(look.keep, where))
        for images in batches:
            try:
                model(images)
            except (RuntimeError, AssertionError) as error:
                raise ValueError(f"loader: images {tuple(images.shape)} stop the model: {error}") from error
            look.first = look.first if look.count else images
            look.count += len(images)
    if not look.count:
        raise ValueError("loader: no image came of it")
    return look


@contextmanager
def listening(model: nn.Module) -> Iterator[Hooks]:
    hooks = Hooks(model, lambda where, reason: None)
    try:
        yield hooks
    finally:
        hooks.close()


def in_graph(
    model: nn.Module, images: Tensor, owners: Mapping[str, nn.Module], places: Mapping[str, Place]
) -> dict[str, bool]:
    """Whether the answer's gradient reaches a place: the weights at a Tap; else the module's parameters, or what it
    gives out where it has none.
    """
    met: dict[str, list[Tensor]] = defaultdict(list)
    images = images.detach().clone().requires_grad_(images.is_floating_point())
    plain = model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else model
    weights = [weight for module in owners.values() for weight in module.parameters() if weight.is_floating_point()]
    with requiring_grad(weights), torch.enable_grad(), listening(plain) as hooks:
        for where, module in owners.items():
            tap = places[where].module if where in places and isinstance(places[where].module, Tap) else None
            if tap is None:
                met[where] += module.parameters()
            if not met[where]:
                hooks.add(tap or module, lambda _, __, out, where=where: met[where].extend(tensors(out)))
        total = sum((each.float().sum() for each in tensors(plain(images))), torch.zeros(()))
        asked = {where: [each for each in found if each.requires_grad] for where, found in met.items()}
        flat = [each for found in asked.values() for each in found]
        if not flat or not total.requires_grad:
            return dict.fromkeys(owners, False)
        gradients = torch.autograd.grad(total, flat, allow_unused=True)
    reached = {id(each) for each, gradient in zip(flat, gradients, strict=True) if gradient is not None}
    return {where: any(id(each) in reached for each in asked[where]) for where in owners}


def tensors(out: Any) -> list[Tensor]:
    """Those that may have a gradient."""
    return [each for each in tree_leaves(out) if isinstance(each, Tensor) and each.is_floating_point()]


@contextmanager
def requiring_grad(weights: Sequence[Tensor]) -> Iterator[None]:
    """Frozen weights too, for a while."""
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
    """The median share of a forward pass that each place's module takes, on one thread."""
    passes: list[dict[nn.Module, float]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with listening(model) as hooks:
            for module in {*owners.values(), model}:
                hooks.add(module, lambda module, _: spend(passes[-1], module, -now(images)), pre=True)
                hooks.add(module, lambda module, _, __: spend(passes[-1], module, now(images)))
            for _ in range(ROUNDS + 1):
                passes.append(defaultdict(float))
                model(images)
    finally:
        torch.set_num_threads(threads)
    return {where: median(each[module] / each[model] for each in passes[1:]) for where, module in owners.items()}


def spend(spent: dict[nn.Module, float], module: nn.Module, seconds: float) -> None:
    spent[module] += seconds


def now(images: Tensor) -> float:
    """Seconds, when all that was asked of the device is done."""
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter()


def narrow(module: nn.Module) -> Iterator[int]:
    """The widths, 0 or 1, to which the layers of a module narrow."""
    layers = [each for each in module.modules() if isinstance(each, nn.Linear | nn.modules.conv._ConvNd)]
    if any(layer.weight.numel() == 0 for layer in layers):
        yield 0
    widths = [in_and_out(layer) for layer in layers]
    if any(a[0] > a[1] == b[0] == 1 < b[1] for a, b in pairwise(widths)):
        yield 1


def in_and_out(layer: nn.Linear | nn.modules.conv._ConvNd) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def parts_above(model: nn.Module, where: str, owner: nn.Module) -> list[nn.Module]:
    """The owner of a place and, where it is a part of one, the mechanism that joins it to the network."""
    modules = plain_paths(model)
    above = [modules.get(where[:end]) for end in range(len(where)) if where[end] == "."]
    return [owner, *(module for module in above if module is not None and hasattr(module, "attaches"))]


def judged(where: str, module: nn.Module, place: Place | None, look: Look, live: bool) -> Iterator[Finding]:
    """All that is to be said of a place."""
    unseen = look.seen.unseen.get(where)
    geometric = place is not None and place.facts.kind in GEOMETRIC
    called = module in look.sizes or not unseen  # its forward, or what shows its weights
    if not called:
        yield Finding(where, "never called")
    elif not live and not (place and place.facts.hard):  # which learns from a reward alone
        yield Finding(where, "not in the graph")
    if not geometric:
        yield from (Finding(where, f"hidden width {width}") for width in narrow(module))
    if not called:
        return
    size = look.sizes.get(module)
    if unseen and size and module in look.collapsed:
        yield Finding(where, "collapsed map", size[0] * size[1])
    if unseen:
        yield Finding(where, "unseen", note=unseen)
    elif place and geometric:
        record = Record(**vars(place.facts), where=where, values=torch.cat(look.values[where]))
        yield from findings_of(record, where, untrained=where in look.fresh)
    else:
        starved = module in look.sizes and module not in look.fed
        for path in (path for path in look.seen.paths() if belongs(path, where)):
            for each in findings_of(look.seen[path], path, untrained=where in look.fresh, weighed=size):
                yield replace(each, note=STARVED) if starved and each.what == "constant" else each


def untrained(module: nn.Module) -> bool:
    """Whether a module still changes nothing: its strength is 0, or its last layer or norm where it starts so."""
    strengths = [each.s for each in module.children() if isinstance(each, Strength) and each.s is not None]
    if strengths:
        return not any(bool(s.any()) for s in strengths)
    weights = [weight for name, weight in module.named_parameters() if name.endswith("weight")]
    starts_as_identity = getattr(module, "starts_as_identity", False) or getattr(module, "hard", False)
    return starts_as_identity and any(weight.numel() > 0 and not weight.any() for weight in weights)
