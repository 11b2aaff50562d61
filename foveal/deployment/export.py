"""A model as a file that runs without this library: an ONNX graph, or a program of PyTorch's.

Taps leave no trace in it; their attention weights are further outputs where they are asked for. The file is read back
and run on another number of images of another size, and what differs from the model is refused.
"""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.names import lookup
from foveal.core.record import Tap
from foveal.core.trial_pass import eval_mode
from foveal.deployment.compare_outputs import largest_difference
from foveal.ops.fast_path import no_fast_path

LOGITS = "logits"  # the name of the first output
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Exported:
    """A written file and what was measured of it.

    Attributes:
        path: of the file.
        outputs: their names; after the logits, where each attention stands.
        any_size: whether it takes images of any size, or just of the one that it was exported with.
        difference: of its outputs from the model's, the largest relative to the largest number of that output.
    """

    path: Path
    outputs: tuple[str, ...]
    any_size: bool
    difference: float

    def __str__(self) -> str:
        size = "any size" if self.any_size else "one size"
        named = f", attention: {', '.join(self.outputs[1:])}" if len(self.outputs) > 1 else ""
        return f"any batch, {size}, largest difference {self.difference:.1e}{named}"


class Showing(nn.Module):
    """A model whose attention weights are outputs, by where they stand."""

    def __init__(self, model: nn.Module, attention: bool):
        super().__init__()
        self.model = model
        named = ((path, module) for path, module in model.named_modules() if isinstance(module, Tap))
        self.taps = {path.rpartition(".")[0]: module for path, module in named} if attention else {}
        if attention and not self.taps:
            raise ValueError(f"attention=True: {type(model).__name__} has no mechanism of ours to show")

    def forward(self, images: Tensor) -> Outputs:
        shown: Outputs = {}
        handles = [
            tap.register_forward_hook(lambda _, __, weights, path=path: shown.update({path: weights}))
            for path, tap in self.taps.items()
        ]
        try:
            logits = self.model(images)
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(logits, Tensor):
            raise TypeError(f"model: it answers a {type(logits).__name__}, one tensor of logits is needed")
        silent = [path for path in self.taps if path not in shown]
        if silent:
            raise ValueError(f"attention=True: {silent[0]!r} was not called")
        return {LOGITS: logits, **{path: shown[path] for path in self.taps}}


@torch.no_grad()
def export(
    model: nn.Module, images: Tensor, output: str | Path, *, attention: bool = False, tolerance: float = 1e-4
) -> Exported:
    """Write a model in evaluation mode as a file for other runtimes: for any number of images, if it can of any size.

    Args:
        model: from images to one tensor of logits; it stays as it is.
        images: (B, C, H, W), as the model takes them.
        output: a file that ends in .onnx (needs `pip install foveal[export]`) or in .pt2, for `torch.export.load`.
        attention: give the weights of each mechanism of ours as a further output, named by its place.
        tolerance: the largest difference that is accepted, relative to the largest number of an output.

    Returns:
        The path and the figures.

    Raises:
        ValueError: another ending; `images` are not four-dimensional; there is no attention to show; the file answers
            differently, and then it is not written; onnxruntime is missing; images in bfloat16 for an ONNX file.
        TypeError: the model answers something other than a tensor.
    """
    path = Path(output)
    write = lookup("ending of output", path.suffix, WRITERS)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)}: a batch (B, C, H, W) is needed")
    images = images if len(images) > 1 else images.repeat(2, 1, 1, 1)  # one image would mean one for ever
    with eval_mode(model), no_fast_path(), tempfile.TemporaryDirectory() as folder:
        showing = Showing(model, attention).eval()
        more, larger = others(images)
        program, any_size = exported_program(showing, images, larger)
        draft = Path(folder) / path.name
        run = write(program, draft, [LOGITS, *showing.taps])
        checked = [more, larger] if any_size else [more]
        difference = max(difference_of(showing(each), run(each)) for each in checked)
        if not difference <= tolerance:
            raise ValueError(
                f"tolerance={tolerance:g}: the exported model differs by {difference:.2g}; nothing is written"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draft.read_bytes())
    return Exported(path, (LOGITS, *showing.taps), any_size, difference)


def others(images: Tensor) -> list[Tensor]:
    """Another number of images, and one of another size."""
    batch, channels, height, width = images.shape
    shapes = (batch + 1, channels, height, width), (1, channels, height + 32, width + 64)
    return [images.new_empty(shape).normal_() for shape in shapes]


def exported_program(showing: Showing, images: Tensor, larger: Tensor) -> tuple[Any, bool]:
    """The program for any batch, and whether for any size too: some networks, or their programs, admit one alone."""
    batch = torch.export.Dim("batch", min=1)
    sides = {
        axis: torch.export.Dim(name, min=min(33, images.shape[axis])) for axis, name in ((2, "height"), (3, "width"))
    }
    try:
        showing(larger)
        return torch.export.export(showing, (images,), dynamic_shapes=({0: batch, **sides},)), True
    except Exception:  # whatever the exporter, or somebody's forward, raises where a size must be fixed
        showing(images)  # what is wrong at this size too is said by the model
        return torch.export.export(showing, (images,), dynamic_shapes=({0: batch},)), False


def write_program(program: Any, path: Path, names: list[str]) -> Callable[[Tensor], Outputs]:
    torch.export.save(program, path)
    return torch.export.load(path).module()


def write_onnx(program: Any, path: Path, names: list[str]) -> Callable[[Tensor], Outputs]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"output={path.name!r}: {error.name} is missing; pip install foveal[export]") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.onnx.export(program, f=path, dynamo=True, output_names=names, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    entrance = session.get_inputs()[0].name

    def run(images: Tensor) -> Outputs:
        if images.dtype == torch.bfloat16:
            raise ValueError(
                f"images of {images.dtype}: an ONNX file cannot be run on them here, and so not be checked"
            )
        answers = session.run(names, {entrance: images.cpu().numpy()})
        return {name: torch.from_numpy(each).to(images.device) for name, each in zip(names, answers, strict=True)}

    return run


WRITERS = {".onnx": write_onnx, ".pt2": write_program}


def difference_of(expected: Outputs, given: Outputs) -> float:
    return largest_difference(expected.values(), [given[name] for name in expected])
