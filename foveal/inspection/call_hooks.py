"""Hook on one call of a function within the forward pass of a module, found by a trial pass."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from foveal.inspection.finding.op_names import op_name
from foveal.inspection.functional_hooks import FUSED, GROUPED, IN_TRAINING, FusedCall

MULTI_HEAD = F.multi_head_attention_forward
SIGNATURE = inspect.signature(MULTI_HEAD)
OPAQUE = "torch's multi_head_attention_forward computes its weights inside; they can only be seen"


class CallHook(TorchFunctionMode):
    """Function mode that passes the result of call number `index` of the function `op` to `on_value`.

    A hook that reads receives weights after the dropout that follows; a hook that replaces (`changes`), before it. The
    weights of a fused attention are computed beside it.
    """

    def __init__(
        self,
        op: str,
        index: int,
        on_value: Callable[[Tensor], Tensor | None],
        on_skipped: Callable[[str], None],
        changes: bool,
    ):
        super().__init__()
        self.op, self.index, self.on_value, self.on_skipped, self.changes = op, index, on_value, on_skipped, changes
        self.calls = 0
        self.weights: Tensor | None = None  # received, not yet passed to `on_value`

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op_name(func) != self.op:
            out = func(*args, **kwargs)
            if func is F.dropout and args and args[0] is self.weights:
                self.weights = out
            return out
        self.calls += 1
        if self.calls - 1 != self.index:
            return func(*args, **kwargs)
        if func is FUSED:
            return self._fused(FusedCall(*args, **kwargs))
        if func is MULTI_HEAD:
            return self._multi_head(args, kwargs)
        return self._receive(func(*args, **kwargs))

    def _receive(self, weights: Tensor) -> Tensor:
        if self.changes:
            new = self.on_value(weights)
            return weights if new is None else new
        self.weights = weights
        if self.op != "softmax":  # no dropout follows, but a change in place may
            self.leave_value()
        return weights

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

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run torch's attention, and once more for its weights (B, G, Q, K)."""
        out = MULTI_HEAD(*args, **kwargs)
        bound = SIGNATURE.bind(*args, **kwargs).arguments
        if self.changes or (bound.get("training", True) and bound["dropout_p"]):
            self.on_skipped(OPAQUE if self.changes else IN_TRAINING)
            return out
        with torch.no_grad():
            again = {**bound, "need_weights": True, "average_attn_weights": False}
            weights = MULTI_HEAD(**again)[1]
        if weights is not None:
            self._receive(weights)
        return out

    def leave_value(self) -> None:
        if self.weights is not None:
            self.on_value(self.weights)
            self.weights = None

    def leave(self, failed: bool) -> None:
        """End the mode; pass on the weights unless the forward pass failed."""
        self.__exit__(None, None, None)
        if not failed:
            self.leave_value()
