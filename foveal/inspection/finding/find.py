"""Search for all places of a model that compute attention weights: by their classes, and by what a trial pass shows."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from foveal.core.layout import Tokens
from foveal.core.record import Tap
from foveal.core.trial_pass import BATCH
from foveal.inspection.batch import batch_of
from foveal.inspection.finding.found_places import IN_A_TRIAL, Found, explained, found_in, together
from foveal.inspection.finding.trace import tensors_of
from foveal.inspection.finding.trial import Trial, form_of_call, guessed_trial, trial_of
from foveal.inspection.module_paths import innermost, nearest, unwrapped_modules
from foveal.inspection.tap_points import Extra, TapPoint, looks_like_attention, named_places
from foveal.inspection.third_party import RECOMPUTED
from foveal.inspection.token_layout import layouts_in

NONE_FOUND = "no attention was found, by name or in a trial pass"


@dataclass(frozen=True, eq=False)
class Places:
    """Places of a model by path, and why others cannot be recorded.

    Attributes:
        stopped: why the trial pass ended early, "" if it did not.
        forms: of the calls that were tried.
    """

    places: dict[str, TapPoint]
    reasons: dict[str, str]
    stopped: str = ""
    forms: frozenset[Any] = frozenset()


@dataclass(frozen=True, eq=False)
class Seen:
    """What trial passes showed of a model of certain modules."""

    modules: tuple[tuple[str, int], ...]
    known: tuple[str, ...]
    found: list[Found] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    forms: frozenset[Any] = frozenset()
    called: Counter[str] = field(default_factory=Counter)


LAID_OUT: WeakKeyDictionary[nn.Module, dict[Any, dict[str, list[Tokens]]]] = WeakKeyDictionary()
REMEMBERED: WeakKeyDictionary[nn.Module, Seen] = WeakKeyDictionary()


def find_places(model: nn.Module, extra: Extra | None = None, trial: Trial | None = None) -> Places:
    """Return a model's places by path, and why each other place cannot be recorded, both in the model's order.

    Args:
        model: any module.
        extra: as for `foveal.watch`.
        trial: a further pass that was tried, with the arguments of a call, beside one on images of a guessed size.

    Raises:
        TypeError: `model` is not a module.
        ValueError: `extra` names a class that the model does not contain, or a child that the class does not have.
    """
    places, reasons = named_places(model, extra)
    modules = unwrapped_modules(model)
    known = tuple({*known_owners(places, modules), *reasons})
    shown = shown_by(model, modules, known, trial)
    for found in shown.found:
        path = f"{found.path}.{found.name}".strip(".")
        spec = found.spec()
        if spec is None:
            reasons[path] = found.meaning.why
        elif path not in places:
            places[path] = TapPoint(path, modules[found.module], spec.facts, spec, IN_A_TRIAL)
    paths = {id(module): path for path, module in modules.items()}
    places = {path: with_calls(place, paths[id(place.module)], shown.called) for path, place in places.items()}
    ordered = in_order(places, modules), in_order(reasons | shown.reasons, modules)
    return Places(*ordered, shown.stopped, shown.forms)


def with_calls(place: TapPoint, owner: str, called: Counter[str]) -> TapPoint:
    """Return a place with how often its weights are computed in a trial pass; `owner` is the path of its module."""
    spec = place.spec
    if spec is None or spec.site is not None or spec.module_or_op == RECOMPUTED:
        return replace(place, calls=called[owner])
    return replace(place, calls=called[f"{owner}.{spec.module_or_op}".strip(".")] // spec.nth_call[1])


def shown_by(model: nn.Module, modules: dict[str, nn.Module], known: tuple[str, ...], trial: Trial | None) -> Seen:
    """Return what trial passes show; one on images of a guessed size is run once for a model."""
    key = tuple((path, id(module)) for path, module in modules.items())
    kept = REMEMBERED.get(model)
    if kept is None or (kept.modules, kept.known) != (key, known):
        kept = with_trial(Seen(key, known), guessed_trial(innermost(model)), modules)
    REMEMBERED[model] = kept if trial is None else with_trial(kept, trial, modules)
    return REMEMBERED[model]


def with_trial(seen: Seen, trial: Trial, modules: dict[str, nn.Module]) -> Seen:
    """Return what was seen together with what one more trial pass shows; one that stopped counts until one ends."""
    if trial.stopped and seen.forms and not seen.stopped:
        return replace(seen, forms=seen.forms | {trial.form})
    found = together(seen.found, found_in(trial, seen.known))
    looks = looks_like_attention(modules, [*seen.known, *(place.path for place in found)])
    why = {path: reason for path, reason in seen.reasons.items() if path in looks and not seen.stopped}
    return replace(
        seen,
        found=found,
        reasons=why | explained(looks, trial),
        stopped=trial.stopped,
        forms=seen.forms | {trial.form},
        called=seen.called | trial.called,  # the larger number of calls of each
    )


def tokens_in_call(
    model: nn.Module, found: Places, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, list[Tokens]]:
    """Return the layouts of each affinity in a call of a model; one pass is tried for each shape of its arguments.

    They do not depend on the number of images, of which the pass has two at most.
    """
    if not any(place.facts.kind == "affinity" for place in found.places.values()):
        return {}
    remembered = LAID_OUT.setdefault(model, {})
    few = first_images(args, kwargs)
    shapes = tuple(tuple(each.shape) for each in tensors_of(few))
    owners = tuple((path, id(place.module)) for path, place in found.places.items())
    key = (shapes, form_of_call(innermost(model), args, kwargs), owners)
    if key not in remembered:
        trial = trial_of(innermost(model), *few)
        if trial.stopped:
            trial = trial_of(innermost(model), args, kwargs)
        remembered[key] = layouts_in(model, trial, found.places)
    return remembered[key]


def first_images(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call for its first two images: tensors of as many elements as images are cut."""
    count = batch_of(tensors_of((args, kwargs)))
    few: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(
        Tensor, lambda each: each[:BATCH] if each.ndim and len(each) == count else each, (args, kwargs)
    )
    return few


def known_owners(places: dict[str, TapPoint], modules: dict[str, nn.Module]) -> list[str]:
    """Return the paths of modules of known attention, within which a trial pass need not look."""
    paths = {id(module): path for path, module in modules.items()}
    owners = []
    for place in places.values():
        path = paths[id(place.module)]
        owner = path.rpartition(".")[0] if isinstance(place.module, Tap) else path
        if owner or not isinstance(place.module, Tap) or type(modules[""]).__module__.startswith("foveal."):
            owners.append(owner)
    return owners


def in_order(found: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
    """Sort by the place of a path, or of what it is a part of, in the model; the order of one module's own is kept."""
    order = {path: index for index, path in enumerate(modules)}
    return {path: found[path] for path in sorted(found, key=lambda path: order[nearest(path, modules)])}
