"""Answers of a classifier: the logits in what a model returns, and the classes that they mean.

Axes: B batch, K class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.names import one_line

SHOWN = 4  # parts of an answer in a message
HALF = 0.5  # probability above which an image has a class, where it may have any number
PROBABILITIES = ("SigmoidBackward", "SoftmaxBackward")
VIEWS = (
    "AliasBackward", "CloneBackward", "ReshapeAliasBackward", "SelectBackward", "SliceBackward", "SqueezeBackward",
    "ToCopyBackward", "UnsafeViewBackward", "UnsqueezeBackward", "ViewBackward",
)  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """Logits of a batch of images.

    Attributes:
        logits: (B, K), finite. A binary model with one output z has two columns, -z and z.
        outputs: the number of the model's outputs: K, or 1 for a binary model.
        multi_label: an image has any number of classes, so that each logit has a sigmoid of its own.
    """

    logits: Tensor
    outputs: int
    multi_label: bool = False

    def classes(self) -> Tensor:
        """Return each image's class, (B,): that of the largest logit; for one output z class 1 where z > 0."""
        return self.logits.argmax(1)  # of equal logits the first

    def logits_of(self, classes: Tensor) -> Tensor:
        """Return each image's logit of a class: (B,); for one output z that of class 1 is z, that of class 0 is -z."""
        return self.logits.gather(1, classes.to(self.logits.device)[:, None])[:, 0]

    def probabilities(self) -> Tensor:
        """Return each image's probabilities of all classes, (B, K): by softmax; for one output, and for any number of
        classes, by the sigmoid.
        """
        return self.logits.sigmoid() if self.outputs == 1 or self.multi_label else self.logits.softmax(1)

    def present(self) -> Tensor:
        """Return which classes each image has, of a multi-label model: (B, K) of bool, for probabilities above 0.5."""
        return self.probabilities() > HALF

    def top(self, count: int) -> tuple[Tensor, Tensor]:
        """Return each image's most probable classes, of equal ones the first, and their probabilities: (B, count)."""
        order = self.logits.sort(stable=True, dim=1, descending=True).indices[:, :count]
        return order, self.probabilities().gather(1, order)

    def probabilities_of(self, classes: Tensor) -> Tensor:
        """Return each image's probability of a class, (B,)."""
        return Answers(self.probabilities(), self.outputs).logits_of(classes)

    def predicted_probabilities(self) -> list[list[float]]:
        """Return the probabilities of each image's class, or of its classes, of which there may be none."""
        if self.multi_label:
            return [row[has].tolist() for row, has in zip(self.probabilities(), self.present(), strict=True)]
        return self.probabilities_of(self.classes())[:, None].tolist()


def read_answers(out: Any, count: int) -> Answers:
    """Read what a model returned for a batch of images.

    Args:
        out: logits (B, K); or for two classes one logit for each image, (B, 1) or (B,). Those of one image may lack
            the first dimension. Or a mapping's "logits", an object's `.logits`, or the first element of a list or tuple
            of which no other element has the shape of logits.
        count: B, the number of images.

    Raises:
        ValueError: another type or shape; an answer that is not finite; probabilities, where autograd shows that the
            model ends with a sigmoid or softmax.
    """
    logits = find_logits(out, count)
    if logits is None:
        raise ValueError(
            f"model: it answers {described(out)}, not logits (B, K), or (B,) of two classes, of {count} images"
        )
    finite = logits.isfinite().all(1)
    if not finite.all():
        index = int((~finite).int().argmax())
        values = shortened([f"{value:.3g}" for value in logits[index].tolist()])
        raise ValueError(f"model: its answer for image {index} of a batch of {count} is not finite: {values}")
    if ends_in_probabilities(logits):
        raise ValueError(
            "model: it ends with a sigmoid or softmax, and logits are needed; leave out this last function"
        )
    outputs = logits.shape[1]
    return Answers(torch.cat([-logits, logits], 1) if outputs == 1 else logits, outputs)


def run_model(model: nn.Module, images: Tensor, name: str = "loader") -> Any:
    """Return what a model returns for a batch of images.

    Args:
        model: any model.
        images: (B, C, H, W), on its device.
        name: of what gave the images, for messages.

    Raises:
        ValueError: the model fails on them, as on images of another size or type.
    """
    try:
        return model(images)
    except (RuntimeError, AssertionError, IndexError) as error:  # as layers refuse a shape or type
        kind = f"shape {tuple(images.shape)} and type {str(images.dtype).removeprefix('torch.')}"
        raise ValueError(f"{name}: the model fails on images of {kind}: {one_line(error):.300}") from error


def find_logits(out: Any, count: int) -> Tensor | None:
    """Return the logits (B, K) in what a model returned; None where they are not plain."""
    if isinstance(out, Tensor):
        return as_rows(out, count)
    named = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", None)
    if isinstance(named, Tensor):
        return as_rows(named, count)
    if isinstance(out, list | tuple) and out and isinstance(out[0], Tensor):
        others = (each for each in out[1:] if isinstance(each, Tensor) and each.ndim)
        several = any(as_rows(each, count) is not None for each in others)
        return None if several else as_rows(out[0], count)
    return None


def as_rows(logits: Tensor, count: int) -> Tensor | None:
    """Return logits as (B, K); None for a tensor that is not logits of so many images."""
    if logits.ndim < 2 and (logits.numel() == count or count == 1):
        logits = logits.reshape(count, -1)
    fits = logits.is_floating_point() and logits.ndim == 2 and len(logits) == count and logits.shape[1] > 0
    return logits if fits else None


def ends_in_probabilities(logits: Tensor) -> bool:
    """Return True if the last function that autograd recorded, apart from views, is a sigmoid or softmax."""
    node = logits.grad_fn
    while node is not None and node.name().startswith(VIEWS):
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith(PROBABILITIES)


def described(out: Any) -> str:
    """Describe what a model or module returned: type, and shape of tensors."""
    if isinstance(out, Tensor):
        kind = "" if out.is_floating_point() else f" of {str(out.dtype).removeprefix('torch.')}"
        return f"{tuple(out.shape)}{kind}"
    kind = f"a {type(out).__name__}"
    if isinstance(out, Mapping):
        return f"{kind} with {shortened([f'{key!r}: {described(each)}' for key, each in out.items()])}"
    if isinstance(out, list | tuple):
        return f"{kind} of {shortened([described(each) for each in out])}"
    return kind


def shortened(parts: list[str]) -> str:
    """Join the first parts of a list."""
    return ", ".join(parts[:SHOWN] + (["..."] if len(parts) > SHOWN else [])) or "nothing"
