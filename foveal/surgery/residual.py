"""Search for the ends of residual branches in a network of unknown blocks, by tracing one forward pass.

Each tensor carries the set of modules that it depends on. Where two maps of one shape are added that both depend on the
image, the operand with more modules of its own is the branch, the other the shortcut. An addition within the branch of
a later addition in the same forward is not the end of a block (Res2Net has such additions). The added tensor must be a
module's output: attention is then attached after that module, and before modules that only drop paths.

Maps have the ratio of sides that the image has; tokens in four dimensions, and maps with their channels last, do not.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from foveal.core.trial_pass import Call, Inputs, run_trials
from foveal.surgery.attachments import attachments
from foveal.surgery.insertion_points import module_paths

IMAGE = 1
ADDS = ("add", "add_", "__add__", "__radd__", "__iadd__")


@dataclass(frozen=True)
class Addition:
    """Addition of a branch to a shortcut."""

    block: str  # path of the module with the addition in its forward
    within: int  # modules and additions that only the branch depends on, one bit each
    ends: tuple[str, ...]  # paths of the modules that returned the added tensor unchanged, in order


def residual_ends(model: nn.Module, inputs: Inputs | None = None) -> list[str]:
    """Return the paths of the modules after which to attach at the end of every residual branch.

    Args:
        model: the network.
        inputs: what it is called with, see `foveal.core.trial_pass.calls_of`.

    Raises:
        ValueError: there is no residual branch; a branch ends in no module, or in one that is called elsewhere too; no
            forward pass reached its end.
    """
    traces: list[Trace] = []

    @contextmanager
    def tracing(copied: nn.Module, call: Call) -> Iterator[None]:
        traces.append(Trace(copied, call))
        for each in call.tensors:
            each.behind = IMAGE  # type: ignore[attr-defined]
        follow(copied, traces[-1])
        with traces[-1]:
            yield

    stopped = run_trials(model, inputs, tracing)
    if stopped or not traces:
        raise ValueError(f"at='residual': the trial pass stopped: {stopped}")
    trace = traces[-1]
    additions = trace.blocks_ends()
    if not additions:
        raise ValueError(f"at='residual': {type(model).__name__} adds no map of a branch to a shortcut")
    serving = Counter(path for addition in additions for path in set(addition.ends))
    found = [chosen(model, addition, lambda path: trace.calls[path] == serving[path]) for addition in additions]
    ends = {model.get_submodule(path): None for path in found}  # one module may end several branches
    return [*dict.fromkeys([*found, *(path for path in module_paths(model) if model.get_submodule(path) in ends)])]


def chosen(model: nn.Module, addition: Addition, alone: Callable[[str], bool]) -> str:
    """Choose one of the modules that end a branch: a slot or a Sequential, where no weight is renamed, or the first."""
    ends = [path for path in addition.ends if alone(path) and not within_norm(model, path)]
    if not ends:
        why = "a module that is called elsewhere too" if addition.ends else "no module"
        raise ValueError(f"at='residual': in {addition.block!r} the branch ends in {why}; give the place by at=")
    free = [path for path in ends if isinstance(model.get_submodule(path), nn.Identity | nn.Sequential)]
    return free[-1] if free else ends[0]


def within_norm(model: nn.Module, path: str) -> bool:
    """Return True if a module is part of a norm: a conversion or folding of the norm would remove an attachment."""
    return hasattr(model.get_submodule(path.rpartition(".")[0]), "running_mean")


class Trace(TorchFunctionMode):
    """Function mode that records the modules each tensor depends on, and each addition of a branch to a shortcut."""

    def __init__(self, model: nn.Module, call: Call):
        super().__init__()
        self.has_image_sides = call.has_image_sides
        steps = [path for path, module in model.named_modules() if not [*module.children()]]
        self.bits = {path: 2 << index for index, path in enumerate(steps)}  # the lowest bit is the image's
        self.modules = (2 << len(steps)) - 2
        self.ours = [f"{each.path}." for attachment in attachments(model) for each in attachment.modules]
        self.additions: list[Addition] = []
        self.calls: Counter[str] = Counter()
        self.inside: list[tuple[str, int]] = []  # running modules, and the version of the input of each

    def enter(self, path: str, x: Any) -> None:
        """Record that a module starts, called with `x`."""
        self.calls[path] += 1
        self.inside.append((path, x._version if isinstance(x, Tensor) else 0))

    def leave(self, path: str, module: nn.Module, x: Any, out: Any) -> None:
        """Record that a module returns `out`."""
        _, version = self.inside.pop()
        if not isinstance(out, Tensor):
            return
        leaf = path in self.bits
        out.behind = behind([x, out]) | self.bits.get(path, 0)  # type: ignore[attr-defined]
        if out is x and out._version == version:
            passes = type(module) is nn.Identity or not leaf
            end(out, [*ends(out), path] if passes else [*ends(out), ""])  # it drops paths: later modules do not count
        else:
            end(out, [path] if leaf else [*ends(out), path])

    def __torch_function__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        lies_behind = behind([args, kwargs])
        if getattr(func, "__name__", "") in ADDS:
            lies_behind |= self.note(*args[:2])
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                each.behind = lies_behind  # type: ignore[attr-defined]
        return out

    def note(self, one: Any, other: Any = None) -> int:
        """Record an addition of two maps; return its bit in the dependencies of the sum, 0 if it is not of a branch."""
        path = self.inside[-1][0] if self.inside else ""
        if not self.are_maps(one, other) or f"{path}.".startswith(tuple(self.ours)):
            return 0
        branch, shortcut = sorted((one, other), key=lambda each: -self.own(each, one, other))
        if self.own(branch, one, other) == self.own(shortcut, one, other):
            return 0
        alone = behind(branch) & ~behind(shortcut)
        last = [*ends(branch), ""].index("")
        self.additions.append(Addition(path, alone >> len(self.bits) + 1, tuple(ends(branch)[:last])))
        return 1 << len(self.bits) + len(self.additions)

    def own(self, each: Tensor, one: Tensor, other: Tensor) -> int:
        """Return the number of modules that only one of two tensors depends on."""
        return (behind(each) & ~(behind(one) & behind(other)) & self.modules).bit_count()

    def are_maps(self, one: Any, other: Any) -> bool:
        """Return True for two maps of one shape that both depend on the image."""
        if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.ndim != 4 or one.shape != other.shape:
            return False
        return self.has_image_sides(*one.shape[2:]) and bool(behind(one) & behind(other) & IMAGE)

    def blocks_ends(self) -> list[Addition]:
        """Return the additions except those within the branch of another addition in the same block."""
        nested = {
            index
            for addition in self.additions
            for index, inner in enumerate(self.additions)
            if addition.within >> index & 1 and inner.block == addition.block
        }
        return [addition for index, addition in enumerate(self.additions) if index not in nested]


def behind(tensors: Any) -> int:
    """Return the modules that these tensors together depend on, one bit each."""
    every = 0
    for each in tree_leaves(tensors):
        every |= getattr(each, "behind", 0) if isinstance(each, Tensor) else 0
    return every


def ends(tensor: Tensor) -> list[str]:
    """Return the paths of the modules that returned a tensor unchanged; none after it was modified in place."""
    version, paths = getattr(tensor, "ends", (None, []))
    return paths if version == tensor._version else []


def end(tensor: Tensor, paths: list[str]) -> None:
    """Store the paths of the modules that returned a tensor unchanged."""
    tensor.ends = (tensor._version, paths)  # type: ignore[attr-defined]


def follow(model: nn.Module, trace: Trace) -> None:
    """Call the trace at the start and end of each module of a copy."""
    for path, module in model.named_modules():
        module.register_forward_pre_hook(lambda _, args, path=path: trace.enter(path, args[0] if args else None))
        module.register_forward_hook(
            lambda module, args, out, path=path: trace.leave(path, module, args[0] if args else None, out)
        )
