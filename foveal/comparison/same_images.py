"""Images of the runs of a comparison: the same for each seed, and paired by name.

Files may change while a comparison runs: an image that can no longer be read is left out of later runs, and a file that
is added or removed gives them another split.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from foveal.comparison.jobs import Failed
from foveal.comparison.plan import Plan
from foveal.data.parts import PARTS
from foveal.training.run_folder import read_split


def with_the_same_images(plan: Plan, results: Mapping[tuple[str, int], Any]) -> dict[tuple[str, int], Any]:
    """Return the results of runs, those as failed whose split is not that of the baseline with the same seed."""
    checked = dict(results)
    for (name, seed), result in results.items():
        base = results.get((plan.baseline, seed))
        if isinstance(result, Failed) or base is None or isinstance(base, Failed):
            continue
        own, expected = (read_split(plan.runs(each)[seed]) for each in (name, plan.baseline))
        labels = {each["labels"] for each in (own, expected)} - {None}  # of a run of an older version
        if any(own[part] != expected[part] for part in PARTS) or len(labels) > 1:
            checked[name, seed] = Failed(
                f"its images or labels are not those of {plan.baseline!r}, since files changed in between; repeat the "
                "comparison with --overwrite"
            )
    return checked


def paired(one: Mapping[str, bool], other: Mapping[str, bool]) -> tuple[list[bool], list[bool]]:
    """Return the values of the images that both runs have: an image may have become unreadable between them."""
    shared = [name for name in one if name in other]
    return [one[name] for name in shared], [other[name] for name in shared]


def left_out_in_runs(plan: Plan, runs: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Return the images that single runs could not read while they used them, with the reason and the first run."""
    found: dict[str, str] = {}
    for name, seed in runs:
        for image, reason in read_split(plan.runs(name)[seed])["skipped"].items():
            if image not in plan.skipped:
                found.setdefault(image, f"{reason} (seed {seed} of {name})")
    return found
