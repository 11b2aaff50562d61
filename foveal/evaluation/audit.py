"""Auditing: does the attention of a network work at all? Its places over a data set, each with what is wrong there.

Three looks, all in evaluation mode, none of which leaves anything behind: the loader's images pass once, and of each
place statistics are kept (of transforms, crops and glimpses, which are small, the values); a few images pass once more
for the gradient of the answer; the first batch passes some times more, on one thread, for the time that each place
takes. Modules that only look like attention by their names are asked what can be asked of anybody: are they called,
does the answer depend on them, have their layers a width, do their maps collapse?

What this file does not know: when a figure is a fault. That is in `foveal.evaluation.findings`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from foveal.core.record import GEOMETRIC, Record
from foveal.core.trial_pass import eval_mode
from foveal.core.validation import iter_images
from foveal.evaluation.audit_passes import (
    GRADIENT,
    AuditState,
    narrow_widths,
    owners_of,
    reached_by_gradient,
    run_over_images,
    time_shares,
)
from foveal.evaluation.finding_types import FINDING_TYPES
from foveal.evaluation.findings import Finding, findings_of
from foveal.inspection.tap_points import Extra, TapPoint
from foveal.inspection.watch import watch

STARVED = "all that it is given is 0"


@dataclass(frozen=True)
class AuditResult:
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
        return [each for each in self.findings if each.is_fault]

    def to_json(self) -> str:
        findings = [
            {
                **asdict(each),
                "is_fault": each.is_fault,
                "explanation": each.definition.explanation,
                "remedy": each.definition.remedy,
            }
            for each in self.findings
        ]
        return json.dumps({"images": self.images, "places": self.places, "findings": findings}, indent=2)

    def __str__(self) -> str:
        rows = [("place", "time", "found"), *self.rows()]
        width = max(len(path) for path, _, _ in rows)
        lines = [f"{path:{width}}  {share:>6}  {found}".rstrip() for path, share, found in rows]
        for what in dict.fromkeys(each.type for each in self.findings):
            lines += ["", f"{what}: {FINDING_TYPES[what].explanation}", f"  {FINDING_TYPES[what].remedy}"]
        counts = {"fault": len(self.faults), "place": len(self.places), "image": self.images}
        told = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
        return "\n".join([*lines, "", ", ".join(told)])

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Place, time and finding; further findings of a place without its name."""
        for path, share in self.places.items():
            found = [f"{'! ' if each.is_fault else ''}{each}" for each in self.findings if belongs(each.path, path)]
            first, *more = found or ["-"]
            yield path, f"{share:.1%}", first
            yield from (("", "", each) for each in more)


def belongs(found: str, place: str) -> bool:
    return found == place or found.startswith(f"{place}#")


def audit(model: nn.Module, loader: Iterable[Any], *, extra: Extra | None = None) -> AuditResult:
    """Find out whether the attention of a network does anything: `print(foveal.audit(model, loader))`.

    Faults are attention that is never called, gets no gradient, is the same for every image, is at an end of its range,
    has lost its map, shows what is outside the image, and the like: `foveal.evaluation.finding_types` has them all.
    Modules whose names look like attention are audited also where foveal does not know their classes.

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
    with eval_mode(model):
        state = run_over_images(model, iter_images(loader, model), watching, owners)
        live = reached_by_gradient(model, state.first[:GRADIENT], owners, watching.places)
        shares = time_shares(model, state.first, owners)
    findings = [
        each
        for path, module in owners.items()
        for each in findings_at(path, module, watching.places.get(path), state, live[path])
    ]
    return AuditResult(shares, findings, state.count)


def findings_at(
    path: str, module: nn.Module, place: TapPoint | None, state: AuditState, live: bool
) -> Iterator[Finding]:
    """All that is to be said of a place."""
    unseen = state.seen.unseen.get(path)
    geometric = place is not None and place.facts.kind in GEOMETRIC
    called = module in state.sizes or not unseen  # its forward, or what shows its weights
    if not called:
        yield Finding(path, "never called")
    elif not live and not (place and place.facts.hard):  # which learns from a reward alone
        yield Finding(path, "not in the graph")
    if not geometric:
        yield from (Finding(path, f"hidden width {width}") for width in narrow_widths(module))
    if not called:
        return
    size = state.sizes.get(module)
    if unseen and size and module in state.collapsed:
        yield Finding(path, "collapsed map", size[0] * size[1])
    if unseen:
        yield Finding(path, "unseen", note=unseen)
    elif place and geometric:
        record = Record(**vars(place.facts), path=path, values=torch.cat(state.values[path]))
        yield from findings_of(record, path, untrained=path in state.untrained)
    else:
        starved = module in state.sizes and module not in state.received_nonzero_input
        for key in (key for key in state.seen.paths() if belongs(key, path)):
            for each in findings_of(state.seen[key], key, untrained=path in state.untrained, weighed=size):
                yield replace(each, note=STARVED) if starved and each.type == "constant" else each
