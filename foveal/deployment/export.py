"""Export of a model to a file that runs without this library: an ONNX graph or a `torch.export` program.

Taps are not part of the exported graph; their attention weights are additional outputs on request. The file is read
back and run on another batch size and another image size, and an error is raised if its outputs differ from the
model's.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.files import WRITTEN_BY, check_replaceable, output_path, whole_file
from foveal.core.names import lookup, one_line
from foveal.core.record import Tap
from foveal.core.trial_pass import eval_mode
from foveal.deployment.compare_outputs import largest_difference
from foveal.ops.fast_path import no_fast_path

LONGEST = 200  # characters of a reason
LARGEST = 1536 * 2**20  # bytes of weights of an ONNX file; torch.onnx writes more of them into a second file
LOGITS = "logits"  # the name of the first output
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Exported:
    """A written file and its measurements.

    Attributes:
        path: Path of the file.
        outputs: Names of the outputs: "logits", then the path of each mechanism.
        any_size: True if the file accepts images of any size, False if only of the size that it was exported with.
        reason: What the exporter or the model says against any size, in one line; "" for any size.
        difference: Largest difference of an output from the model's, relative to the largest magnitude of that output.
    """

    path: Path
    outputs: tuple[str, ...]
    any_size: bool
    difference: float
    reason: str = ""

    def __str__(self) -> str:
        size = "any size" if self.any_size else f"one size ({self.reason})"
        named = f", attention: {', '.join(self.outputs[1:])}" if len(self.outputs) > 1 else ""
        return f"any batch, {size}, largest difference {self.difference:.1e}{named}"


class WithAttention(nn.Module):
    """A wrapper that returns the logits and, on request, the attention weights by the path of their mechanism."""

    def __init__(self, model: nn.Module, attention: bool):
        super().__init__()
        self.model = model
        named = ((path, module) for path, module in model.named_modules() if isinstance(module, Tap))
        self.taps = {path.rpartition(".")[0]: module for path, module in named} if attention else {}
        if attention and not self.taps:
            raise ValueError(f"attention=True: {type(model).__name__} has no mechanism of foveal; use attention=False")

    def forward(self, images: Tensor) -> Outputs:
        recorded: Outputs = {}
        handles = [
            tap.register_forward_hook(lambda _, __, weights, path=path: recorded.update({path: weights}))
            for path, tap in self.taps.items()
        ]
        try:
            logits = self.model(images)
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(logits, Tensor):
            raise TypeError(f"model: its output is a {type(logits).__name__}, but must be one tensor of logits")
        unused = [path for path in self.taps if path not in recorded]
        if unused:
            raise ValueError(f"attention=True: the forward pass does not call {unused[0]!r}; use attention=False")
        return {LOGITS: logits, **{path: recorded[path] for path in self.taps}}


@torch.no_grad()
def export(
    model: nn.Module,
    images: Tensor,
    output: str | Path,
    *,
    attention: bool = False,
    tolerance: float = 1e-4,
    overwrite: bool = False,
) -> Exported:
    """Export a model in evaluation mode to a file for other runtimes, for any batch size and, if possible, image size.

    The file is read back and compared with the model on other inputs before it is written to `output`.

    Args:
        model (torch.nn.Module): A model from images to one tensor of logits. It is not changed.
        images (torch.Tensor): A batch (B, C, H, W) of inputs of the model, of a floating-point type.
        output (str | Path): A path that ends in ".onnx" (needs `pip install foveal[export]`) or in ".pt2", a file for
            `torch.export.load`.
        attention (bool): Add the attention weights of each mechanism of foveal as outputs, named by their paths.
        tolerance (float): Largest accepted difference, relative to the largest magnitude of an output.
        overwrite (bool): Replace a file that foveal did not write.

    Returns:
        An `Exported`: `path`, names of the `outputs`, `any_size` and `difference`.

    Raises:
        ValueError: If the ending is unknown, `output` is a folder or a file that foveal did not write, `images` is not
            a non-empty batch (B, C, H, W) of a floating-point type, there is no attention to export, the outputs differ
            by more than `tolerance` (nothing is written then), onnxruntime is missing, or an ONNX file is requested for
            bfloat16 images or weights above 1.5 GiB.
        TypeError: If the model's output is not one tensor.

    Examples:
        >>> import foveal, tempfile, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = foveal.export(model, torch.rand(2, 3, 40, 40), f"{folder}/model.pt2")
        >>> exported.outputs, exported.any_size, exported.difference < 1e-4
        (('logits',), True, True)
    """
    path = output_path(output)
    write = lookup("ending of output", path.suffix, WRITERS)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)}: must be a non-empty batch (B, C, H, W)")
    if not images.is_floating_point():
        raise ValueError(f"images of {images.dtype}: must be of a floating-point type, such as torch.float32")
    check_replaceable(path, overwrite)
    images = images if len(images) > 1 else images.repeat(2, 1, 1, 1)  # torch.export fixes a batch size of 1
    with eval_mode(model), no_fast_path(), whole_file(path) as draft:
        wrapper = WithAttention(model, attention).eval()
        more, larger = check_images(images)
        program, reason = exported_program(wrapper, images, larger)
        run = write(program, draft, [LOGITS, *wrapper.taps])
        checked = [more] if reason else [more, larger]
        difference = max(difference_of(wrapper(each), run(each)) for each in checked)
        if not difference <= tolerance:
            raise ValueError(
                f"tolerance={tolerance:g}: the exported model differs by {difference:.2g}; no file was written"
            )
    return Exported(path, (LOGITS, *wrapper.taps), not reason, difference, reason)


def check_images(images: Tensor) -> list[Tensor]:
    """Return random images in another batch size, and one random image of another size."""
    batch, channels, height, width = images.shape
    shapes = (batch + 1, channels, height, width), (1, channels, height + 32, width + 64)
    return [images.new_empty(shape).normal_() for shape in shapes]


def exported_program(wrapper: WithAttention, images: Tensor, larger: Tensor) -> tuple[Any, str]:
    """Export a program for any batch size, and return it with the reason against any image size, or "".

    Some networks, or their exported programs, accept one image size only.
    """
    batch = torch.export.Dim("batch", min=1)
    sides = {
        axis: torch.export.Dim(name, min=min(33, images.shape[axis])) for axis, name in ((2, "height"), (3, "width"))
    }
    try:
        wrapper(larger)
        return torch.export.export(wrapper, (images,), dynamic_shapes=({0: batch, **sides},)), ""
    except Exception as error:  # any exception of the exporter or of the model's forward, if the size must be fixed
        reason = reason_of(error)
        wrapper(images)  # raises the model's own error if it also fails at this size
        return torch.export.export(wrapper, (images,), dynamic_shapes=({0: batch},)), reason


def reason_of(error: Exception) -> str:
    """Return what an error says against any size, in one line: the exporter's first violated condition, or all."""
    lines = str(error).splitlines()
    condition = next((line.strip(" -") for line in lines if "Not all values of" in line), one_line(error))
    return condition if len(condition) <= LONGEST else condition[:LONGEST] + "..."


def write_program(program: Any, path: Path, names: list[str]) -> Callable[[Tensor], Outputs]:
    """Write a `torch.export` program, and return a function that runs the file."""
    torch.export.save(program, path, extra_files={WRITTEN_BY: ""})
    return torch.export.load(path).module()


def write_onnx(program: Any, path: Path, names: list[str]) -> Callable[[Tensor], Outputs]:
    """Write an ONNX file, and return a function that runs the file in onnxruntime."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"output: {error.name} is missing for an ONNX file; pip install foveal[export]") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    onnx_program: Any = torch.onnx.export(program, dynamo=True, output_names=names, verbose=False)
    onnx_program.model.metadata_props["file"] = WRITTEN_BY
    check_one_file(onnx_program)
    onnx_program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name

    def run(images: Tensor) -> Outputs:
        if images.dtype == torch.bfloat16:
            raise ValueError(
                f"images of {images.dtype}: onnxruntime cannot run the ONNX file on them to check it; use float32"
            )
        outputs = session.run(names, {input_name: images.cpu().numpy()})
        return {name: torch.from_numpy(each).to(images.device) for name, each in zip(names, outputs, strict=True)}

    return run


def check_one_file(onnx_program: Any) -> None:
    """Raise ValueError for weights that do not fit into one ONNX file."""
    values = [each.const_value for each in onnx_program.model.graph.initializers.values()]
    size = sum(value.nbytes for value in values if value is not None)
    if size > LARGEST:
        raise ValueError(
            f"output: {size / 2**30:.2f} GiB of weights, but one ONNX file holds at most {LARGEST / 2**30:g} GiB; "
            "write a .pt2 file"
        )


WRITERS = {".onnx": write_onnx, ".pt2": write_program}


def difference_of(expected: Outputs, actual: Outputs) -> float:
    """Compute the largest relative difference over all outputs."""
    return largest_difference(expected.values(), [actual[name] for name in expected])
