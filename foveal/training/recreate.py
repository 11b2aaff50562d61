"""Build the network that a checkpoint names, after its facts were checked against its tensors.

A checkpoint may come from another person. Its facts may name options of the architecture and mechanisms alone, with
plain values; and the network that they name is first built on the meta device, where it takes no memory, and must have
the names and shapes of the file's own tensors.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from foveal.core.functions import Function, names_function
from foveal.core.names import lookup, one_line
from foveal.mechanisms.registry import MECHANISMS
from foveal.networks.factory import build_backbone, check_network
from foveal.networks.options import check_options, option_names
from foveal.networks.own import OPTIONS, build_own
from foveal.networks.spec import named_options
from foveal.surgery.attach import attach
from foveal.surgery.blocks import POSITIONS
from foveal.surgery.insertion_points import module_paths

COUNTS = (  # options that count blocks, each of which has a tensor or more
    "layers", "depth", "depths", "blocks", "num_blocks", "block_config", "extra_blocks", "modules", "transformers",
    "cls_attn_layers",
)  # fmt: skip
LARGEST = 2**14  # of any number, where the file has fewer elements: the side of an image, as a rule
MODULES, MODULES_PER_TENSOR = 10_000, 50  # registered while a network is built, with those without tensors
ATTACHED, AT_A_PLACE = 64, 8  # calls of `attach`, and those at one place: each runs all earlier ones
BUFFERS = 2**24  # elements of buffers that no file holds, where it has fewer elements
VALUES = 1_000  # in one option


class TooLargeError(ValueError):
    """A network larger than the tensors of its checkpoint."""


@dataclass(frozen=True)
class Attached:
    """One call of `foveal.attach`, as a checkpoint states it."""

    mechanism: str
    at: str | list[str]
    position: str
    identity: bool
    options: dict[str, Any]

    def attach_to(self, model: nn.Module) -> None:
        if isinstance(self.at, list):
            paths = dict.fromkeys(module_paths(model))
            for path in self.at:  # a path, never a pattern
                lookup("place", path, paths)
        attach(model, self.mechanism, self.at, position=self.position, identity=self.identity, **self.options)


@dataclass(frozen=True)
class Facts:
    """Facts of a checkpoint about its network, checked."""

    backbone: str
    options: dict[str, Any]
    attachments: list[Attached]
    function: Function | None = None  # of the caller, that builds the backbone
    shape: tuple[int, ...] | None = None  # C, H, W of the images, for such a backbone

    def build(self, check: Callable[[nn.Module], None] = lambda model: None) -> nn.Module:
        """Build the network; `check` is called with it before and after each attachment."""
        if self.function is not None:
            model = build_own(self.backbone, self.function, self.options, self.shape)
        else:
            model = build_backbone(self.backbone, pretrained=False, **self.options)
            model.__dict__["made_as"] = {"backbone": self.backbone, "options": self.options}
        check(model)
        for each in self.attachments:
            each.attach_to(model)
            check(model)
        return model


def recreate(facts: Mapping[str, Any], weights: Mapping[str, Tensor], function: Function | None = None) -> nn.Module:
    """Build the network of a checkpoint and load its weights.

    Args:
        facts: those of the checkpoint.
        weights: its weights.
        function: the caller's, that builds the backbone where the checkpoint names a function; never imported here.

    Raises:
        ValueError: facts that are incomplete, of another type or not allowed; weights of another network; a backbone
            that is a function, without `function`, or is none, with it.
    """
    checked = check_facts(facts)
    check_sizes([checked.options, *(each.options for each in checked.attachments)], weights)
    if function is not None or names_function(checked.backbone):
        return recreate_own(checked, facts, weights, function)
    with torch.device("meta"), at_most(MODULES + MODULES_PER_TENSOR * len(weights)):
        outline = built(checked, lambda model: check_within(model, weights))
        load(outline, {name: tensor.to("meta") for name, tensor in weights.items()})
    model = built(checked)
    load(model, weights)
    return model


def recreate_own(
    checked: Facts, facts: Mapping[str, Any], weights: Mapping[str, Tensor], function: Function | None
) -> nn.Module:
    """Build the network of a function and load its weights. Its size is the caller's; what is attached is checked."""
    if function is None:
        raise ValueError(
            f"names the function {checked.backbone!r:.80} for its network, which only you can name: add "
            "--backbone package.module:function, in Python backbone="
        )
    if not names_function(checked.backbone):
        raise ValueError(f"has the backbone {checked.backbone!r:.80}, which is no function; leave out backbone")
    shape = typed(facts, "preprocessing", dict).get("shape") if "preprocessing" in facts else None
    whole = replace(checked, function=function, shape=None if shape is None else tuple(shape))
    with at_most(MODULES + MODULES_PER_TENSOR * len(weights)):
        model = built(whole, lambda model: check_within(model, weights))
    load(model, weights)
    return model


def built(facts: Facts, check: Callable[[nn.Module], None] = lambda model: None) -> nn.Module:
    try:
        return facts.build(check)
    except TooLargeError:
        raise
    except NotImplementedError as error:  # by an operation without a form for the meta device
        raise ValueError(
            f"cannot build {facts.backbone!r} on the meta device with timm {timm.__version__}, as a check of its size; "
            f"another version of timm may: {one_line(error):.300}"
        ) from error
    except Exception as error:  # as networks and mechanisms refuse values
        raise ValueError(f"cannot build {facts.backbone!r} as it states: {one_line(error):.300}") from error


def check_within(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse a network with more tensors or elements than a file, or with much larger buffers.

    Raises:
        TooLargeError: such a network.
    """
    state, elements = model.state_dict(), elements_of(weights)
    buffers = elements_of(dict(model.named_buffers()))
    if len(state) > len(weights) or elements_of(state) > elements or buffers > max(BUFFERS, elements):
        raise TooLargeError(
            f"does not hold the network it names, of {len(state):,} tensors of {elements_of(state):,} elements, and "
            f"buffers of {buffers:,}, larger than its {len(weights):,} tensors of {elements:,} elements in all"
        )


def elements_of(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ValueError(f"does not hold the network it names: {one_line(error):.300}") from error


def check_facts(facts: Mapping[str, Any]) -> Facts:
    """Check types and names of the facts of a checkpoint.

    Raises:
        ValueError: a fact that is missing or of another type; a name that is unknown; an option that is not allowed.
    """
    backbone, options = typed(facts, "backbone", str), typed(facts, "options", dict)
    check_options(backbone, options, OPTIONS if names_function(backbone) else option_names(check_network(backbone)))
    calls = typed(facts, "attachments", list)
    if len(calls) > ATTACHED:
        raise ValueError(f"names {len(calls)} attachments; at most {ATTACHED} are possible")
    checked = [check_attached(each) for each in calls]
    places = Counter(place for each in checked for place in set(each.at if isinstance(each.at, list) else [each.at]))
    place, count = max(places.items(), key=lambda item: item[1], default=("", 0))
    if count > AT_A_PLACE:
        raise ValueError(f"names {count} attachments at {place!r:.80}; at most {AT_A_PLACE} are possible at one place")
    return Facts(backbone, options, checked)


def check_attached(stated: Any) -> Attached:
    """Check one call of `attach`, as a checkpoint states it."""
    if not isinstance(stated, dict):
        raise ValueError(f"states an attachment that is a {type(stated).__name__}; a dict is needed")
    mechanism, at = typed(stated, "mechanism", str), typed(stated, "at", list)
    lookup("mechanism", mechanism, MECHANISMS)
    if not at or not all(isinstance(each, str) for each in at):
        raise ValueError(f"states at={at!r:.80} for {mechanism}; a list of module paths is needed")
    position = typed({"position": "standard", **stated}, "position", str)  # files of version 0.1 lack it
    lookup("position", position, dict.fromkeys(POSITIONS))
    options = typed(stated, "options", dict)
    check_options(mechanism, options, [each for each in named_options(mechanism) if each not in ("at", "position")])
    place = at[0] if at in (["input"], ["residual"]) else at
    return Attached(mechanism, place, position, typed(stated, "identity", bool), options)


def typed(facts: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    """Return `facts[key]`; ValueError where it is missing or of another type."""
    if key not in facts:
        raise ValueError(f"states no {key!r}")
    if not isinstance(facts[key], kind):
        raise ValueError(f"states {key}={facts[key]!r:.80}; a {kind.__name__} is needed")
    return facts[key]


def check_sizes(options: Iterable[Mapping[str, Any]], weights: Mapping[str, Tensor]) -> None:
    """Refuse numbers in options that the tensors of the file cannot bear out, before anything is built.

    Raises:
        ValueError: more blocks than tensors; a number larger than `LARGEST` and than the elements of the file; an
            option of more than `VALUES` values.
    """
    elements = elements_of(weights)
    for some in options:
        for key, value in some.items():
            numbers = list(flat(value))
            counted = sum(abs(each) for each in numbers if isinstance(each, int | float)) if key in COUNTS else 0
            largest = max((abs(each) for each in numbers if isinstance(each, int | float)), default=0)
            if len(numbers) > VALUES or counted > len(weights) or largest > max(LARGEST, elements):
                raise TooLargeError(
                    f"states {key}={value!r:.80}, a network larger than its {len(weights)} tensors of {elements} "
                    "elements in all"
                )


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for each in value:
            yield from flat(each)
    else:
        yield value


@contextmanager
def at_most(modules: int) -> Iterator[None]:
    """Refuse more than so many modules in what is built by this thread inside the context.

    Raises:
        TooLargeError: a module too many is registered.
    """
    thread, count = get_ident(), 0

    def note(*_: Any) -> None:
        nonlocal count
        count += get_ident() == thread
        if count > modules:
            raise TooLargeError(f"a network of more than {modules} modules, larger than its tensors")

    handle = register_module_module_registration_hook(note)
    try:
        yield
    finally:
        handle.remove()
