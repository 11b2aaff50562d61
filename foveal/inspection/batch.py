"""Number of images in a call of a model, from its arguments."""

from collections.abc import Iterable

from torch import Tensor

Shape = tuple[int, ...]


def batch_of(tensors: Iterable[Tensor]) -> int | None:
    """Return the number of images among the arguments of a call, None without a tensor that has a dimension."""
    return batch_of_shapes([tuple(each.shape) for each in tensors if each.ndim])


def batch_of_shapes(shapes: list[Shape]) -> int | None:
    """Return the length of the first maps, else of the first tokens, else of the first tensor.

    Prompts (T, C) or (T, L) may come before images (B, C, H, W) or tokens (B, L, C). A map (..., 1, Q, K) whose last
    side is the number of tokens of another argument is a mask of their scores.
    """
    lengths = {shape[1] for shape in shapes if len(shape) in (2, 3)}
    maps = [shape for shape in shapes if len(shape) > 3 and not (shape[1] == 1 and shape[-1] in lengths)]
    first = (*maps, *(shape for shape in shapes if len(shape) == 3), *shapes)[:1]
    return first[0][0] if first else None
