"""Optimization of a model for inference: the same outputs in less time.

The optimizations are applied to a copy. Norms are folded into the layers before them (`foveal.deployment.folding`).
Activations work in place where no other module reads their input. The gates of squeeze-and-excitation are computed
before the last convolution of a bottleneck and applied in the addition of its shortcut
(`foveal.deployment.gated_blocks`). The memory format is channels last, and 1x1 convolutions are then computed as matrix
products (`foveal.deployment.pointwise`). Half precision and `torch.compile` are optional. Selective kernels and CBAM
have fast inference code of their own.

The outputs of the copy are always compared with those of the original.
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.trial_pass import eval_mode
from foveal.deployment.compare_outputs import largest_difference
from foveal.deployment.folding import fold_norms
from foveal.deployment.gated_blocks import gate_blocks
from foveal.deployment.pointwise import multiply_pointwise
from foveal.profiling.timing import time_inference
from foveal.surgery.fused.fused_blocks import restore_blocks

STEP = 32  # the second image size is a multiple of 32, since many networks downsample by 2 five times


@dataclass(frozen=True)
class DeployedModel:
    """An optimized model and its measurements.

    Attributes:
        network: The optimized copy in evaluation mode. It accepts the same images as the original and returns logits in
            their precision; its parameters do not require gradients.
        difference: Largest difference of its logits from the original's, relative to the original's largest logit.
        before_ms: Milliseconds of one forward pass of the original on `images`: the median of interleaved rounds.
        after_ms: Milliseconds of one forward pass of `network`, measured in the same way.
    """

    network: nn.Module
    difference: float
    before_ms: float
    after_ms: float

    def __str__(self) -> str:
        ratio = self.after_ms / self.before_ms
        return (
            f"{self.before_ms:.4g} ms before, {self.after_ms:.4g} ms after ({ratio:.2f}); "
            f"largest difference {self.difference:.1e} of the largest logit"
        )


@torch.no_grad()
def deploy(
    model: nn.Module,
    images: Tensor,
    *,
    channels_last: bool = True,
    dtype: torch.dtype | None = None,
    compile: bool = False,
    tolerance: float = 1e-4,
) -> DeployedModel:
    """Create a copy of a model that is optimized for inference, check it against the model, and time both.

    The copy is checked on `images`, on another batch size, and on both batch sizes at another image size if the model
    accepts it. With `compile=True`, the compiled copy is checked on `images` only. The model itself is not changed.

    Under `foveal.watch` the copy gives the same records as the model, with two exceptions: a compiled copy is watched
    in its uncompiled form, and a squeeze-and-excitation of timm is recorded as one of foveal. `foveal.detach` does not
    work on the copy.

    Args:
        model (torch.nn.Module): A model from images to one tensor of logits.
        images (torch.Tensor): A batch (B, C, H, W) of inputs of the model. Its shape is the one that is timed.
        channels_last (bool): Use the channels-last memory format, usually faster on CPUs and in half precision on GPUs.
        dtype (torch.dtype | None): Data type of the copy, such as `torch.bfloat16`; None keeps the model's. Half
            precision needs a `tolerance` of about 1e-2.
        compile (bool): Apply `torch.compile` with frozen weights. This takes half a minute for each new input shape.
        tolerance (float): Largest accepted `DeployedModel.difference`.

    Returns:
        A `DeployedModel`: the copy (`network`), `difference`, `before_ms` and `after_ms`.

    Raises:
        ValueError: If the logits differ by more than `tolerance`, or `images` is not a non-empty batch (B, C, H, W).
        TypeError: If the model's output is not one tensor.

    Examples:
        >>> import foveal, torch
        >>> model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1).eval()
        >>> images = torch.rand(2, 1, 32, 32)
        >>> deployed = foveal.deploy(model, images)
        >>> torch.allclose(deployed.network(images), model(images), atol=1e-4)
        True
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)}: must be a non-empty batch (B, C, H, W)")
    with eval_mode(model):
        network: Any = prepared(model, images, channels_last, dtype)
        difference = difference_on(model, network, variants(images))
        if compile:
            network = torch.compile(network, options={"freezing": True})
            difference = max(difference, difference_on(model, network, [images]))
        if not difference <= tolerance:
            raise ValueError(
                f"tolerance={tolerance:g}: the deployed model differs by {difference:.2g} of the largest logit; "
                "use a larger tolerance or another dtype"
            )
    times = time_inference({"before": model, "after": network}, images, threads=torch.get_num_threads())
    return DeployedModel(network, difference, times["before"], times["after"])


def prepared(model: nn.Module, images: Tensor, channels_last: bool, dtype: torch.dtype | None) -> nn.Module:
    """Create the optimized copy without `torch.compile`."""
    network = restore_blocks(copy.deepcopy(model)).eval().requires_grad_(False)  # training-only blocks are not needed
    fold_norms(network, images[:1])
    gate_blocks(network)
    if channels_last and dtype is None:
        multiply_pointwise(network)
    layout = torch.channels_last if channels_last else torch.preserve_format
    network = network.to(memory_format=layout)
    if dtype is not None:
        network = network.to(dtype)
    network.register_forward_pre_hook(partial(enter, dtype=dtype, layout=layout))
    if dtype is not None:
        network.register_forward_hook(partial(leave, dtype=images.dtype))
    return network


def enter(_: nn.Module, args: tuple[Any, ...], dtype: torch.dtype | None, layout: torch.memory_format) -> Any:
    """Convert the input to the data type and memory format of the copy."""
    return (args[0].to(dtype or args[0].dtype, memory_format=layout), *args[1:])


def leave(_: nn.Module, __: Any, out: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert the output to the data type of the images."""
    return out.to(dtype)


def difference_on(model: nn.Module, network: nn.Module, batches: list[Tensor]) -> float:
    """Compute the largest difference relative to the largest logit; skip later batches that the model rejects."""
    worst = 0.0
    for index, images in enumerate(batches):
        expected = logits_of(model, images, optional=index > 0)
        if expected is not None:
            worst = max(worst, largest_difference([expected], [network(images)]))
    return worst


def variants(images: Tensor) -> list[Tensor]:
    """Return batches of two sizes in two image sizes, the second about three quarters of the first."""
    smaller = [max(STEP, round(0.75 * side / STEP) * STEP) for side in images.shape[2:]]
    sizes = [images, F.interpolate(images, smaller)]
    return [batch for each in sizes for batch in (each, each[:1] if len(each) > 1 else each.repeat(2, 1, 1, 1))]


def logits_of(model: nn.Module, images: Tensor, optional: bool) -> Tensor | None:
    """Return the logits, or None if the images are optional and the model does not accept them."""
    try:
        out = model(images)
    except Exception:  # any exception of the model's forward
        if optional:
            return None
        raise
    if not isinstance(out, Tensor):
        raise TypeError(f"model: its output is a {type(out).__name__}, but must be one tensor of logits")
    return out
