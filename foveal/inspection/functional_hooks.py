"""Hooks on functionals: attention weights that no module returns, taken from calls within one forward pass.

A TorchFunctionMode is active during the forward pass of one module and sees the functions called in it. Where a fused
kernel replaces the softmax, its weights are computed once more beside it, from the same queries and keys; the kernel's
own output stays the same, bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
IN_TRAINING = "dropout hides its effective weights in training; call model.eval() to record them"


@dataclass(frozen=True)
class FusedCall:
    """Arguments of one call of `scaled_dot_product_attention`."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def run(self) -> Tensor:
        """Return the output of the fused kernel itself."""
        return FUSED(
            self.query, self.key, self.value, self.attn_mask, self.dropout_p, self.is_causal, scale=self.scale,
            enable_gqa=self.enable_gqa,
        )  # fmt: skip

    def weights(self) -> Tensor:
        """Return the weights (..., Q, K), which the fused kernel does not return."""
        scores = self.query @ self.key.mT * (self.query.shape[-1] ** -0.5 if self.scale is None else self.scale)
        mask = self.attn_mask
        if self.is_causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        elif mask is not None:
            scores = scores + mask
        return scores.softmax(-1)


class WeightsMode(TorchFunctionMode):
    """Function mode that passes weights to `on_value`; those of a fused attention are computed beside it.

    A mode that reads receives weights after the dropout that follows; one that replaces (`changes`), before it.
    """

    def __init__(self, on_value: Callable[[Tensor], Tensor | None], on_skipped: Callable[[str], None], changes: bool):
        super().__init__()
        self.on_value, self.on_skipped, self.changes = on_value, on_skipped, changes
        self.weights: Tensor | None = None  # received, not yet passed to `on_value`

    def _receive(self, weights: Tensor) -> Tensor:
        if self.changes:
            new = self.on_value(weights)
            return weights if new is None else new
        self._flush()
        self.weights = weights
        return weights

    def _follow_dropout(self, func: Any, args: tuple[Any, ...], out: Any) -> Any:
        """Take the output of a dropout of the weights for the weights."""
        if func is F.dropout and args and args[0] is self.weights:
            self.weights = out
        return out

    def _fused(self, call: FusedCall) -> Tensor:
        if call.dropout_p or call.enable_gqa:
            self.on_skipped(IN_TRAINING if call.dropout_p else GROUPED)
            return call.run()
        if self.changes:
            new = self._receive(call.weights())
            out: Any = new @ call.value
            out.foveal_replaced = new  # for a watch on the same place; its hook encloses this one
            return out
        out = call.run()
        with torch.no_grad():
            replaced = getattr(out, "foveal_replaced", None)
            self._receive(call.weights() if replaced is None else replaced)
        return out

    def _flush(self) -> None:
        if self.weights is not None:
            self.on_value(self.weights)
            self.weights = None

    def leave(self, failed: bool) -> None:
        """End the mode; pass on the last weights unless the forward pass failed."""
        self.__exit__(None, None, None)
        if not failed:
            self._flush()


class FunctionalHook(WeightsMode):
    """Mode that passes the results of some functionals to `on_value`; a fused attention counts as a softmax."""

    def __init__(
        self,
        functionals: tuple[Any, ...],
        on_value: Callable[[Tensor], Tensor | None],
        on_skipped: Callable[[str], None],
        changes: bool,
    ):
        super().__init__(on_value, on_skipped, changes)
        self.functionals = functionals

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is FUSED and Tensor.softmax in self.functionals:
            return self._fused(FusedCall(*args, **kwargs))
        out = self._follow_dropout(func, args, func(*args, **kwargs))
        return self._receive(out) if func in self.functionals else out
