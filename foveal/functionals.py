"""Meeting attention weights that no module gives out: the results of functionals within one forward pass.

A TorchFunctionMode that lasts as long as the forward pass of one module sees what is called in it. Where a fused kernel
stands for the softmax, its weights are computed once more beside it, from the same queries and keys; the kernel's own
answer stays as it is, bit for bit.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

FUSED = F.scaled_dot_product_attention
FUNCTIONALS = {
    "softmax()": (torch.softmax, F.softmax, Tensor.softmax),
    "sigmoid()": (torch.sigmoid, F.sigmoid, Tensor.sigmoid),
}
GROUPED = "a fused kernel in which several queries share a key"
IN_TRAINING = "dropout hides its effective weights in training; model.eval() shows them"


class Listening(TorchFunctionMode):
    """Meets the results of some functionals while it lasts; a fused attention counts as a softmax.

    Who reads meets weights after the dropout that follows, who replaces before it.
    """

    def __init__(
        self,
        functionals: tuple[Any, ...],
        show: Callable[[Tensor], Tensor | None],
        hide: Callable[[str], None],
        changes: bool,
    ):
        super().__init__()
        self.functionals, self.show, self.hide, self.changes = functionals, show, hide, changes
        self.weights: Tensor | None = None  # met and not yet shown

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is FUSED and Tensor.softmax in self.functionals:
            return self._fused(*args, **kwargs)
        out = func(*args, **kwargs)
        if func is F.dropout and args and args[0] is self.weights:
            self.weights = out
        elif func in self.functionals:
            return self._meet(out)
        return out

    def _meet(self, weights: Tensor) -> Tensor:
        if self.changes:
            new = self.show(weights)
            return weights if new is None else new
        self._flush()
        self.weights = weights
        return weights

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        def fused() -> Tensor:
            return FUSED(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)

        if dropout_p or enable_gqa:
            self.hide(IN_TRAINING if dropout_p else GROUPED)
            return fused()
        if self.changes:
            new = self._meet(fused_weights(query, key, attn_mask, is_causal, scale))
            out: Any = new @ value
            out.foveal_replaced = new  # for a watch on the same place, which stands around this
            return out
        out = fused()
        with torch.no_grad():
            met = getattr(out, "foveal_replaced", None)
            self._meet(fused_weights(query, key, attn_mask, is_causal, scale) if met is None else met)
        return out

    def _flush(self) -> None:
        if self.weights is not None:
            self.show(self.weights)
            self.weights = None

    def leave(self, failed: bool) -> None:
        self.__exit__(None, None, None)
        if not failed:
            self._flush()


def fused_weights(query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None) -> Tensor:
    """The weights (..., Q, K) of `scaled_dot_product_attention`, which it does not give out."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1)
