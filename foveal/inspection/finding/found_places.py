"""Places of attention that a trial pass shows, each with the module and the call whose output are its weights."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from foveal.core.record import Facts
from foveal.inspection.call_sites import CallSite, Steps
from foveal.inspection.finding.attention_rules import is_attention, stripped
from foveal.inspection.finding.found_forms import Meaning, meaning
from foveal.inspection.finding.trace import Frame, Node
from foveal.inspection.finding.trial import Trial
from foveal.inspection.finding.weights_flow import Use, follow
from foveal.inspection.third_party import TapSpec
from foveal.inspection.token_grid import Grid, grid_behind, is_into_patches
from foveal.inspection.token_layout import queries_and_keys

IN_A_TRIAL = "in a trial pass"


@dataclass(frozen=True, eq=False)
class Found:
    """Attention that a trial pass found.

    Attributes:
        path: of the place, without `name`.
        module: path of the module in whose forward pass the weights are computed.
        op, site: the function that computes them, and where it is called in that forward pass.
        meaning: what the weights mean, or why they are not recorded.
        mechanism: name for Records.
        name: tells several places of one path apart.
        value_range: smallest and largest possible value.
    """

    path: str
    module: str
    op: str
    site: CallSite
    meaning: Meaning
    mechanism: str
    name: str
    value_range: tuple[float, float]

    @property
    def call(self) -> tuple[str, str, Steps, int]:
        """What tells its call from others."""
        return self.module, self.op, self.site.steps, self.site.turn

    def spec(self) -> TapSpec | None:
        """Return the row of the place, None if it cannot be recorded."""
        about = self.meaning
        if about.form is None:
            return None
        facts = Facts(
            mechanism=self.mechanism,
            kind=about.kind,
            domain=about.domain,
            axes=about.axes,
            value_range=self.value_range,
        )
        return TapSpec(f"{self.op}()", facts, about.form, self.name, site=self.site)


def found_in(trial: Trial, known: Collection[str]) -> list[Found]:
    """Return the attention in a trial pass, apart from what happens inside modules at `known` paths."""
    places: dict[tuple[str, str, Steps, int], Found] = {}
    for use in follow(trial.nodes).uses:
        tap = use.carried.source.tap
        if not tap.frames or any(frame.path in known for frame in tap.frames) or not is_attention(use):
            continue
        found = place_of(use)
        places.setdefault(found.call, found)
    return list(distinguished(list(places.values())))


def map_behind(tap: Node, squash: Node) -> Grid:
    """Return the map behind weights; for those of queries and keys, a partition counts if the queries are its parts."""
    if squash.op != "softmax":
        return grid_behind(tap)
    queries = queries_and_keys(squash)[0]
    return grid_behind(tap, lambda cut: queries is not None and is_into_patches(cut, queries))


def place_of(use: Use) -> Found:
    """Return the place of a use.

    A module that weighs its own input is the place; where a larger module weighs a map of its own, the place is the
    outermost module that computes the weights and not the product.
    """
    tap, squash = use.carried.source.tap, use.carried.source.squash
    depth = shared_depth(squash.frames, use.product.frames)
    owner = squash.frames[max(depth - 1, 0)]
    inner = squash.frames[depth] if depth < len(squash.frames) else None
    alone = inner in tap.frames and has_weights(inner.module) and not weighs_input(use, owner) if inner else False
    frame = inner if inner is not None and alone else owner
    about = meaning(use, map_behind(tap, squash))
    named = type((frame if not is_container(frame.module) else owner).module).__name__
    mechanism = "self_attention" if about.kind == "affinity" else named
    name = inner.path.rpartition(".")[2] if inner is not None and not alone else about.kind
    place = tap.frames.index(frame)
    low_high = use.carried.source.value_range
    return Found(frame.path, frame.path, tap.op, tap.site(place), about, mechanism, name, low_high)


def weighs_input(use: Use, owner: Frame) -> bool:
    """Return True if what is weighed was made before the owner's forward pass, apart from changes of shape."""
    return use.other is not None and bool(owner.path) and owner not in stripped(use.other).frames


def shared_depth(first: tuple[Frame, ...], second: tuple[Frame, ...]) -> int:
    """Return how many frames two calls have in common."""
    pairs = zip(first, second, strict=False)
    return next((depth for depth, (one, other) in enumerate(pairs) if one is not other), min(len(first), len(second)))


def has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def is_container(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList)


def distinguished(places: list[Found]) -> Iterator[Found]:
    """Yield places with a name where several have one path, or the path is that of the whole model."""
    by_path: dict[str, list[Found]] = {}
    for place in places:
        by_path.setdefault(place.path, []).append(place)
    for path, group in by_path.items():
        names = [place.name for place in group]
        for turn, place in enumerate(group):
            same = names.count(place.name) > 1
            name = f"{place.name}{names[:turn].count(place.name) + 1}" if same else place.name
            yield renamed(place, name if len(group) > 1 or not path else "")


def together(first: list[Found], second: list[Found]) -> list[Found]:
    """Return what two passes found: a call that both made as in the first; other names for what only the second did."""
    calls = {place.call for place in first}
    found = {(place.path, place.name): place for place in first}
    for place in second:
        name, turn = place.name, 1
        while place.call not in calls and (place.path, name) in found:
            name, turn = f"{place.name or place.meaning.kind}{turn + 1}", turn + 1
        if place.call not in calls:
            found[place.path, name] = renamed(place, name)
    return list(found.values())


def renamed(place: Found, name: str) -> Found:
    return Found(**{**vars(place), "name": name})


def explained(looks: Mapping[str, nn.Module], trial: Trial) -> dict[str, str]:
    """Return why each module that looks like attention by its name was not recorded.

    A module that does nothing is left out, such as an `Attention` that holds an identity; so is one with "SE" in its
    name that multiplies nothing of the image by anything else of it, such as the stem of a network.
    """
    reasons = {}
    for path, module in looks.items():
        if holds_nothing(module):
            continue
        if path not in trial.called:
            why = f"the trial pass stopped before it: {trial.stopped}" if trial.stopped else "it was never called"
            reasons[path] = f"{type(module).__name__} looks like attention; {why}"
        elif multiplies(path, trial) or ("Att" in type(module).__name__ and works(path, trial)):
            reasons[path] = (
                f"{type(module).__name__} looks like attention; a trial pass found in it no softmax of queries and "
                "keys, and no sigmoid that weighs a map; name its weights by extra="
            )
    return reasons


def holds_nothing(module: nn.Module) -> bool:
    """Return True for a module whose parts are all identities."""
    parts = [each for each in module.modules() if each is not module]
    return bool(parts) and all(isinstance(each, nn.Identity) for each in parts)


def works(path: str, trial: Trial) -> bool:
    """Return True if a function is called on something of the image in a module's forward pass."""
    return any(frame.path == path for node in trial.nodes for frame in node.frames)


def multiplies(path: str, trial: Trial) -> bool:
    """Return True if two tensors of the image are multiplied in a module's forward pass."""
    products = ("mul", "matmul", "bmm", "einsum", "baddbmm", "softmax")
    nodes = (node for node in trial.nodes if node.op in products and len(set(node.inputs)) > 1)
    return any(frame.path == path for node in nodes for frame in node.frames)
