"""A model made ready for inference: the same answers, sooner.

What changes, in a copy: norms are folded into the layers before them (`foveal.deployment.folding`), activations write
over their input where nobody else reads it, the gates of squeeze-and-excitation are known before the last convolution
of a bottleneck and join the addition of its shortcut (`foveal.deployment.gated_blocks`), the channels come last in
memory, and then 1x1 convolutions are matrix products (`foveal.deployment.pointwise`); where asked for, half precision
and `torch.compile`. Selective kernels and CBAM have fast forms of their own.

That the copy answers as the original is measured, not assumed.
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

STEP = 32  # of which the other image size is a multiple, since networks halve theirs five times


@dataclass(frozen=True)
class DeployedModel:
    """A model made ready for inference, and what was measured of it.

    Attributes:
        network: in evaluation mode; it takes the images that the original takes, answers in their precision, and its
            weights learn no more.
        difference: largest, of its logits from the original's, relative to the original's largest logit.
        before_ms: milliseconds of the original for the images given: the median of interleaved rounds, one run.
        after_ms: those of the network.
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
    """A copy of a model made ready for inference, which is checked against it; the model itself stays as it is.

    It is checked on these images, on another number of them, and both at another size where the model takes one; what
    `torch.compile` makes of it, on these images.

    Under `foveal.watch` the copy shows what the original shows, with two exceptions: compiled, it is watched in its
    uncompiled form, and a squeeze-and-excitation of timm's shows itself as one of ours. `foveal.detach` does not know
    the copy's blocks.

    Args:
        model: from images to one tensor of logits.
        images: (B, C, H, W), as the model takes them; batch and size are those that are timed.
        channels_last: keep the channels last in memory, which CPUs and half precision on GPUs like better.
        dtype: such as torch.bfloat16; the model's own if left out. Half precision needs a `tolerance` of some 1e-2.
        compile: by `torch.compile`, weights frozen into the graph; takes half a minute, and again for each new shape.
        tolerance: the largest `difference` that is accepted.

    Returns:
        The network and the figures.

    Raises:
        ValueError: the copy's answers differ by more than `tolerance`; `images` are not four-dimensional.
        TypeError: the model answers something other than a tensor.

    >>> deployed = deploy(model, images)
    >>> deployed.network(images)
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)}: a batch (B, C, H, W) is needed")
    with eval_mode(model):
        network: Any = prepared(model, images, channels_last, dtype)
        difference = difference_on(model, network, variants(images))
        if compile:
            network = torch.compile(network, options={"freezing": True})
            difference = max(difference, difference_on(model, network, [images]))
        if not difference <= tolerance:
            raise ValueError(
                f"tolerance={tolerance:g}: the deployed model differs by {difference:.2g} of the largest logit"
            )
    times = time_inference({"before": model, "after": network}, images, threads=torch.get_num_threads())
    return DeployedModel(network, difference, times["before"], times["after"])


def prepared(model: nn.Module, images: Tensor, channels_last: bool, dtype: torch.dtype | None) -> nn.Module:
    """The copy, in eager form."""
    network = restore_blocks(copy.deepcopy(model)).eval().requires_grad_(False)  # forms for training are of no use here
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
    return (args[0].to(dtype or args[0].dtype, memory_format=layout), *args[1:])


def leave(_: nn.Module, __: Any, out: Tensor, dtype: torch.dtype) -> Tensor:
    return out.to(dtype)


def difference_on(model: nn.Module, network: nn.Module, batches: list[Tensor]) -> float:
    """Relative to the largest logit; batches after the first count where the model takes them."""
    worst = 0.0
    for index, images in enumerate(batches):
        expected = answer(model, images, optional=index > 0)
        if expected is not None:
            worst = max(worst, largest_difference([expected], [network(images)]))
    return worst


def variants(images: Tensor) -> list[Tensor]:
    """Two batch sizes in two image sizes, the other one about three quarters of the images' own."""
    smaller = [max(STEP, round(0.75 * side / STEP) * STEP) for side in images.shape[2:]]
    sizes = [images, F.interpolate(images, smaller)]
    return [batch for each in sizes for batch in (each, each[:1] if len(each) > 1 else each.repeat(2, 1, 1, 1))]


def answer(model: nn.Module, images: Tensor, optional: bool) -> Tensor | None:
    """The logits; None where these images are optional and the model does not take them."""
    try:
        out = model(images)
    except Exception:  # whatever somebody's forward raises
        if optional:
            return None
        raise
    if not isinstance(out, Tensor):
        raise TypeError(f"model: it answers a {type(out).__name__}, one tensor of logits is needed")
    return out
