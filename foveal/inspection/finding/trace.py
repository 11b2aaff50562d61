"""Record of a trial pass: which functions made each tensor from the image, and in which modules.

A function mode sees every function of torch; forward hooks see the modules. Each tensor that depends on the image has a
`Node`; tensors without one, such as parameters and positions, count as constants.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foveal.core.record import Tap
from foveal.inspection.call_sites import CallSite, Steps, running_modules
from foveal.inspection.finding.op_names import LIKE, is_fused, op_name

NODE = "_foveal_node"  # attribute of a tensor of the trial pass


@dataclass(eq=False)
class Frame:
    """One call of a module in the pass; `counts` are the calls of each function by its steps so far."""

    path: str
    module: nn.Module
    counts: Counter[tuple[str, Steps]] = field(default_factory=Counter)
    returned: bool = False


@dataclass(eq=False)
class Node:
    """A tensor that depends on the image, and the call that made it.

    Attributes:
        order: number of the call in the pass.
        inputs: nodes of its arguments, in their order.
        constants: shapes of the arguments that do not depend on the image.
        args, kwargs: arguments that are not tensors, each tensor replaced by its Node or None.
        frames: the modules that were running, the outermost first.
        steps, turns: for each of these, the steps in its code to the call, and how many calls of `op` with the same
            steps came before.
    """

    op: str
    order: int
    shape: tuple[int, ...]
    inputs: tuple["Node", ...] = ()
    constants: tuple[tuple[int, ...], ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    steps: tuple[Steps, ...] = ()
    turns: tuple[int, ...] = ()
    fused: bool = False
    shown: bool = False  # it passed through a Tap of its own

    def argument(self, name: str, position: int, default: Any = None) -> Any:
        """Return an argument that is no tensor, by its name or position."""
        return self.kwargs.get(name, self.args[position] if len(self.args) > position else default)

    def site(self, depth: int) -> CallSite:
        """Return the site of the call within one of the `frames`, after the pass has ended."""
        frame, steps = self.frames[depth], self.steps[depth]
        return CallSite(steps, self.turns[depth], frame.counts[self.op, steps] if frame.returned else 0)


class Trace(TorchFunctionMode):
    """Function mode that gives a Node to each tensor; `nodes` are all of them, in the order of the calls.

    `outputs` are those that modules return, alone or first of a tuple, by path; `called` counts the calls of modules by
    path, and of functions in their forward passes, as "layer1.softmax()".
    """

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.frames: list[Frame] = []
        self.called: Counter[str] = Counter()
        self.outputs: list[tuple[str, Node]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = op_name(func)
        tensors = list(tensors_of((args, kwargs)))
        inputs = tuple(node for each in tensors if (node := node_of(each)) is not None)[: 1 if op in LIKE else None]
        plain, plain_kwargs = (without_tensors(args), without_tensors(kwargs)) if inputs else ((), {})
        constants = tuple(tuple(each.shape) for each in tensors if node_of(each) is None) if inputs else ()
        out = func(*args, **kwargs)
        if not op:
            return out
        steps = self._steps()
        turns = tuple(frame.counts[op, way] for frame, way in zip(self.frames, steps, strict=True))
        for frame, way in zip(self.frames, steps, strict=True):
            frame.counts[op, way] += 1
            self.called[f"{frame.path}.{op}()".strip(".")] += 1
        made = [args[0]] if op == "setitem" else list(tensors_of(out))
        for each in made if inputs else ():
            node = Node(op, len(self.nodes), tuple(each.shape), inputs, constants, plain, plain_kwargs)
            node.frames, node.steps, node.turns, node.fused = tuple(self.frames), steps, turns, is_fused(func)
            self.nodes.append(node)
            setattr(each, NODE, node)
        return out

    def _steps(self) -> tuple[Steps, ...]:
        """Return the steps to the current call within each of the frames."""
        running = running_modules()
        inwards = [next((steps for each, steps in running if each is frame.module), ()) for frame in self.frames[::-1]]
        return tuple(inwards[::-1])

    def mark_input(self, value: Any) -> None:
        """Give Nodes to the floating tensors among a model's arguments."""
        for tensor in tensors_of(value):
            if tensor.is_floating_point():
                setattr(tensor, NODE, Node("input", len(self.nodes), tuple(tensor.shape)))
                self.nodes.append(getattr(tensor, NODE))

    @contextmanager
    def following(self, modules: dict[str, nn.Module]) -> Iterator[None]:
        """Keep `frames` while the hooks on these modules of a copy are there."""

        def enter(module: nn.Module, args: Any, path: str) -> None:
            self.frames.append(Frame(path, module))
            self.called[path] += 1
            for tensor in tensors_of(args if isinstance(module, Tap) else ()):
                if (node := node_of(tensor)) is not None:
                    node.shown = True

        def leave(module: nn.Module, _: Any, out: Any, path: str) -> None:
            while self.frames and (frame := self.frames.pop()):
                frame.returned = frame.module is module and out is not None
                if frame.module is module:
                    break
            first = out[0] if isinstance(out, tuple) and out else out
            if isinstance(first, Tensor) and (node := node_of(first)) is not None:
                self.outputs.append((path, node))

        handles = []
        for path, module in modules.items():
            handles.append(module.register_forward_pre_hook(lambda m, a, path=path: enter(m, a, path), prepend=True))
            handles.append(
                module.register_forward_hook(lambda m, a, o, path=path: leave(m, a, o, path), always_call=True)
            )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def behind(node: Node) -> Iterator[Node]:
    """Yield a node and all that it depends on, the latest first."""
    waiting, seen = [(-node.order, id(node), node)], {node}
    while waiting:
        here = heappop(waiting)[2]
        yield here
        for before in here.inputs:
            if before not in seen:
                seen.add(before)
                heappush(waiting, (-before.order, id(before), before))


def node_of(tensor: Tensor) -> Node | None:
    return getattr(tensor, NODE, None)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_of(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_of(each)


def without_tensors(value: Any) -> Any:
    """Return arguments with each tensor replaced by its Node, or None."""
    if isinstance(value, Tensor):
        return node_of(value)
    if isinstance(value, dict):
        return {key: without_tensors(each) for key, each in value.items()}
    return tuple(map(without_tensors, value)) if isinstance(value, list | tuple) else value
