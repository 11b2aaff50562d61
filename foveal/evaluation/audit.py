"""Audit: does the attention of a network work? The places of attention over a data set, with the faults of each.

An audit makes three measurements in evaluation mode, and restores the model after each. (1) The loader's images pass
once; statistics of each place are kept (of transforms, crops and glimpses, which are small, the values). (2) A few
images pass once more for the gradient of the answer. (3) The first batch passes several times more, on one thread, for
the time that each place takes. Modules that resemble attention only by their names get the checks that apply to any
module: whether they are called, whether the answer depends on them, the widths of their layers, collapsed maps.

`foveal.evaluation.findings` decides when a figure is a fault.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.core.files import WRITTEN_BY, write_file
from foveal.core.record import GEOMETRIC, Record
from foveal.core.trial_pass import eval_mode
from foveal.core.validation import iter_images
from foveal.evaluation.audit_passes import (
    GRADIENT,
    AuditState,
    narrow_widths,
    owners_of,
    run_over_images,
    time_shares,
    unreached_by_gradient,
)
from foveal.evaluation.finding_types import FINDING_TYPES
from foveal.evaluation.findings import Finding, findings_of
from foveal.inspection.tap_points import Extra, TapPoint
from foveal.inspection.watch import watch

STARVED = "all that it is given is 0"  # note of a finding


@dataclass(frozen=True)
class AuditResult:
    """Result of `foveal.audit`.

    Attributes:
        places: by path, the share of the network's time that the forward pass of the place's module takes; a module
            with several places counts at each.
        findings: in the model's order.
        images: the number of images.
    """

    places: dict[str, float]
    findings: list[Finding]
    images: int

    @property
    def faults(self) -> list[Finding]:
        return [each for each in self.findings if each.is_fault]

    def to_json(self) -> str:
        """Return the findings as JSON, without measured times: equal for equal networks and images."""
        findings = [
            {
                **asdict(each),
                "is_fault": each.is_fault,
                "explanation": each.definition.explanation,
                "remedy": each.definition.remedy,
            }
            for each in self.findings
        ]
        facts = {"file": WRITTEN_BY, "images": self.images, "places": list(self.places), "findings": findings}
        return json.dumps(facts, indent=2) + "\n"

    def __str__(self) -> str:
        rows = [("place", "time", "found"), *self.rows()]
        width = max(len(path) for path, _, _ in rows)
        lines = [f"{path:{width}}  {share:>6}  {found}".rstrip() for path, share, found in rows]
        for what in dict.fromkeys(each.type for each in self.findings):
            lines += ["", f"{what}: {FINDING_TYPES[what].explanation}", f"  {FINDING_TYPES[what].remedy}"]
        counts = {"fault": len(self.faults), "place": len(self.places), "image": self.images}
        totals = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
        return "\n".join([*lines, "", ", ".join(totals)])

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield place, share of the time and finding; further findings of a place come without its name."""
        for path, share in self.places.items():
            found = [f"{'! ' if each.is_fault else ''}{each}" for each in self.findings if belongs(each.path, path)]
            first, *more = found or ["-"]
            yield path, f"{share:.1%}", first
            yield from (("", "", each) for each in more)


def write_audit(audited: AuditResult, path: Path) -> Path:
    """Write the findings as JSON to `path`, and the places' shares of the time to `NAME-times.json` beside it."""
    times = {"file": WRITTEN_BY, "share_of_time": audited.places}
    write_file(path.with_name(f"{path.stem}-times.json"), json.dumps(times, indent=2) + "\n")
    return write_file(path, audited.to_json())


def belongs(found: str, place: str) -> bool:
    """Return True if a finding's path is that of a place or of one of its calls, such as `path#2`."""
    return found == place or found.startswith(f"{place}#")


def audit(model: nn.Module, loader: Iterable[Any], *, extra: Extra | None = None) -> AuditResult:
    """Find faults of the attention of a network: `print(foveal.audit(model, loader))`.

    Faults are attention that is never called, gets no gradient, is the same for every image, is at an end of its range,
    has lost its map, shows positions outside the image, and others: `foveal.evaluation.finding_types` lists all.
    Modules whose names look like attention are audited also where foveal does not know their classes.

    The model runs in evaluation mode, on its own device. Its hooks, modes, buffers and gradients are restored.

    Args:
        model: as for `foveal.watch`.
        loader: batches of images (B, C, H, W), as the model expects them: tensors or NumPy arrays alone, tuples or
            lists whose first element is images, or dicts with the key `images`, `image` or `pixel_values`. Labels are
            not needed. It is read once.
        extra: as for `foveal.watch`.

    Returns:
        The findings of every place, and the share of the time that each place takes.

    Raises:
        TypeError: `model` is not a module; a batch without images.
        ValueError: a model without attention; a loader without images, or with images that the model does not take.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn+se")
    >>> result = foveal.audit(model, [torch.rand(4, 3, 32, 32)])
    >>> result.images, list(result.places)
    (4, ['features.0.attention', 'features.2.attention', 'features.3.attention'])
    """
    watching = watch(model, "statistics", extra=extra)
    owners = owners_of(model, watching)
    with eval_mode(model):
        state = run_over_images(model, iter_images(loader, model), watching, owners)
        unreached = unreached_by_gradient(model, state.first[:GRADIENT], owners, watching.places)
        shares = time_shares(model, state.first, owners)
    findings = [
        each
        for path, module in owners.items()
        for each in findings_at(path, module, watching.places.get(path), state, unreached.get(path))
    ]
    return AuditResult(shares, findings, state.count)


def findings_at(
    path: str, module: nn.Module, place: TapPoint | None, state: AuditState, unreached: Finding | None
) -> Iterator[Finding]:
    """Yield the findings of one place."""
    unseen = state.seen.unseen.get(path)
    geometric = place is not None and place.facts.kind in GEOMETRIC
    called = module in state.sizes or not unseen  # its forward pass, or the module that shows its weights
    if not called:
        yield Finding(path, "never called")
    elif unreached and not (place and place.facts.hard):  # hard attention learns from a reward alone
        yield unreached
    if not geometric:
        yield from (Finding(path, f"hidden width {width}") for width in narrow_widths(module))
    if not called:
        return
    size = state.sizes.get(module)
    if size and module in state.collapsed:
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
