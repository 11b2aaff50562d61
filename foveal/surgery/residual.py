"""Where residual branches end in a network that no table knows, found by one forward pass that is watched.

Each tensor carries with it the modules that lie behind it. Where two maps of one shape are added that both depend on
the image, the one with more modules of its own is the branch, the other the shortcut. An addition within the branch of
a later one in the same forward is no block's end (Res2Net adds so). What the branch adds must be what a module gave
out: then attention stands after that module, and before those that only drop paths.

The image is square, and so is a map; tokens in four dimensions, and maps with their channels last, are not.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from foveal.core.trial_pass import try_passes
from foveal.surgery.attachments import attachments

IMAGE = 1
ADDS = ("add", "add_", "__add__", "__radd__", "__iadd__")


@dataclass(frozen=True)
class Addition:
    """A branch that is added to a shortcut."""

    block: str  # path of the module in whose forward it happens
    within: int  # what lies behind the branch alone, one bit each
    ends: tuple[str, ...]  # paths of the modules that gave out just what is added, in order


def residual_ends(model: nn.Module) -> list[str]:
    """The paths of the modules after which attention stands at the end of every residual branch.

    Raises:
        ValueError: there is no residual branch; one ends in no module, or in one that serves other places too; no
            forward pass came to its end.
    """
    trace = Trace(model)
    with hooked(model, trace), trace:
        stopped = try_passes(model, lambda stopped: stopped == "")
    if stopped:
        raise ValueError(f"at='residual': the trial pass stopped: {stopped}")
    additions = trace.blocks_ends()
    if not additions:
        raise ValueError(f"at='residual': {type(model).__name__} adds no map of a branch to a shortcut")
    serving = Counter(path for addition in additions for path in set(addition.ends))
    found = [chosen(model, addition, lambda path: trace.calls[path] == serving[path]) for addition in additions]
    return list(dict.fromkeys(found))


def chosen(model: nn.Module, addition: Addition, alone: Callable[[str], bool]) -> str:
    """One of the modules that end a branch: a slot or a Sequential, where no weight changes its name, or the first."""
    ends = [path for path in addition.ends if alone(path) and not within_norm(model, path)]
    if not ends:
        why = "a module that serves other places too" if addition.ends else "no module"
        raise ValueError(f"at='residual': in {addition.block!r} the branch ends in {why}; say where by at=")
    free = [path for path in ends if isinstance(model.get_submodule(path), nn.Identity | nn.Sequential)]
    return free[-1] if free else ends[0]


def within_norm(model: nn.Module, path: str) -> bool:
    """Whether a module is part of a norm, whose conversion or folding would lose it."""
    return hasattr(model.get_submodule(path.rpartition(".")[0]), "running_mean")


class Trace(TorchFunctionMode):
    """Notes on every tensor what lies behind it, and every addition of a branch to a shortcut."""

    def __init__(self, model: nn.Module):
        super().__init__()
        steps = [path for path, module in model.named_modules() if not [*module.children()]]
        self.bits = {path: 2 << index for index, path in enumerate(steps)}  # the lowest is the image's
        self.modules = (2 << len(steps)) - 2
        self.ours = [f"{each.path}." for attachment in attachments(model) for each in attachment.modules]
        self.begin()

    def begin(self) -> None:
        self.additions: list[Addition] = []
        self.calls: Counter[str] = Counter()
        self.inside: list[tuple[str, int]] = []  # modules at work, and the version of what each was given

    def enter(self, path: str, given: Any) -> None:
        if not path:
            self.begin()
            given.behind = IMAGE
        self.calls[path] += 1
        self.inside.append((path, given._version if isinstance(given, Tensor) else 0))

    def leave(self, path: str, module: nn.Module, given: Any, out: Any) -> None:
        _, version = self.inside.pop()
        if not isinstance(out, Tensor):
            return
        leaf = path in self.bits
        out.behind = behind([given, out]) | self.bits.get(path, 0)  # type: ignore[attr-defined]
        if out is given and out._version == version:
            passes = type(module) is nn.Identity or not leaf
            end(out, [*ends(out), path] if passes else [*ends(out), ""])  # it drops paths: nothing after it counts
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
        """Note an addition of two maps; its own bit among what lies behind the sum."""
        path = self.inside[-1][0] if self.inside else ""
        if not are_maps(one, other) or f"{path}.".startswith(tuple(self.ours)):
            return 0
        branch, shortcut = sorted((one, other), key=lambda each: -self.own(each, one, other))
        if self.own(branch, one, other) == self.own(shortcut, one, other):
            return 0
        alone = behind(branch) & ~behind(shortcut)
        last = [*ends(branch), ""].index("")
        self.additions.append(Addition(path, alone >> len(self.bits) + 1, tuple(ends(branch)[:last])))
        return 1 << len(self.bits) + len(self.additions)

    def own(self, each: Tensor, one: Tensor, other: Tensor) -> int:
        """How many modules lie behind one of two tensors alone."""
        return (behind(each) & ~(behind(one) & behind(other)) & self.modules).bit_count()

    def blocks_ends(self) -> list[Addition]:
        """The additions without those in the branch of another in the same block."""
        nested = {
            index
            for addition in self.additions
            for index, inner in enumerate(self.additions)
            if addition.within >> index & 1 and inner.block == addition.block
        }
        return [addition for index, addition in enumerate(self.additions) if index not in nested]


def are_maps(one: Any, other: Any) -> bool:
    """Whether two maps of one shape that both depend on the image."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.ndim != 4 or one.shape != other.shape:
        return False
    return one.shape[2] == one.shape[3] and bool(behind(one) & behind(other) & IMAGE)


def behind(tensors: Any) -> int:
    """What lies behind these tensors together, one bit each."""
    every = 0
    for each in tree_leaves(tensors):
        every |= getattr(each, "behind", 0) if isinstance(each, Tensor) else 0
    return every


def ends(tensor: Tensor) -> list[str]:
    """The paths of the modules that gave out a tensor just as it is; none once it was changed in place."""
    version, paths = getattr(tensor, "ends", (None, []))
    return paths if version == tensor._version else []


def end(tensor: Tensor, paths: list[str]) -> None:
    tensor.ends = (tensor._version, paths)  # type: ignore[attr-defined]


@contextmanager
def hooked(model: nn.Module, trace: Trace) -> Iterator[None]:
    """Tell the trace for a while when each module begins and ends."""
    handles = []
    for path, module in model.named_modules():
        handles += [
            module.register_forward_pre_hook(lambda _, args, path=path: trace.enter(path, args[0] if args else None)),
            module.register_forward_hook(
                lambda module, args, out, path=path: trace.leave(path, module, args[0] if args else None, out)
            ),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
