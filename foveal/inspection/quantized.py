"""Quantized attention weights: dequantized where they are read, quantized again where they are replaced."""

from collections.abc import Callable

import torch
from torch import Tensor

from foveal.inspection.adapters import NotRecordable


def meet_plain(path: str, callback: Callable[[Tensor], Tensor | None], raw: Tensor) -> Tensor | None:
    """Call `callback` with weights as a plain tensor; return its values in the type of `raw`, None if it returns None.

    Raises:
        NotRecordable: `raw` is no tensor of real numbers.
        ValueError: new weights that the quantization of `raw` cannot represent.
    """
    if not isinstance(raw, Tensor) or raw.is_complex() or raw.layout != torch.strided:
        kind = f"a {raw.dtype} tensor, {raw.layout}" if isinstance(raw, Tensor) else f"a {type(raw).__name__}"
        raise NotRecordable(f"its weights are {kind}; a dense tensor of real numbers is needed")
    if not raw.is_quantized:
        return callback(raw)
    new = callback(raw.dequantize())
    return None if new is None else quantized_like(path, new, raw)


def quantized_like(path: str, new: Tensor, raw: Tensor) -> Tensor:
    """Quantize new weights as `raw` is, rounded to its steps; ValueError for weights outside its range."""
    if raw.qscheme() != torch.per_tensor_affine:
        raise ValueError(f"{path!r}: weights quantized with {raw.qscheme()} can be read, not replaced")
    scale, zero = raw.q_scale(), raw.q_zero_point()
    steps = torch.iinfo(torch.int_repr(raw).dtype)
    low, high = scale * (steps.min - zero), scale * (steps.max - zero)
    if not bool(((new >= low - scale / 2) & (new <= high + scale / 2)).all()):
        raise ValueError(
            f"{path!r}: new weights from {float(new.min()):.4g} to {float(new.max()):.4g}; its quantized weights lie "
            f"in [{low:.4g}, {high:.4g}], in steps of {scale:.2g}"
        )
    return torch.quantize_per_tensor(new.float(), scale, zero, raw.dtype)
