"""Hook on one call of a function within the forward pass of a module, found by a trial pass."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.inspection.call_sites import CallSite, steps_within
from foveal.inspection.finding.op_names import op_name
from foveal.inspection.functional_hooks import FUSED, IN_TRAINING, FusedCall, WeightsMode

MULTI_HEAD = F.multi_head_attention_forward
SIGNATURE = inspect.signature(MULTI_HEAD)
OPAQUE = "torch's multi_head_attention_forward computes its weights inside; they can only be seen"


class CallHook(WeightsMode):
    """Mode that passes the result of one call of the function `op` in the forward pass of `module` to `on_value`.

    If the site is called more or less often than in the trial pass, which of the calls it is is unknown: nothing is
    passed on, or where weights were replaced already, `on_skipped` raises.
    """

    def __init__(
        self,
        module: nn.Module,
        op: str,
        site: CallSite,
        on_value: Callable[[Tensor], Tensor | None],
        on_skipped: Callable[[str], None],
        changes: bool,
    ):
        super().__init__(on_value, on_skipped, changes)
        self.module, self.op, self.site, self.calls = module, op, site, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op_name(func) != self.op or steps_within(self.module) != self.site.steps:
            return self._follow_dropout(func, args, func(*args, **kwargs))
        self.calls += 1
        if self.calls - 1 != self.site.turn:
            return func(*args, **kwargs)
        if func is FUSED:
            return self._fused(FusedCall(*args, **kwargs))
        if func is MULTI_HEAD:
            return self._multi_head(args, kwargs)
        out = self._receive(func(*args, **kwargs))
        if self.op != "softmax" and self.weights is not None:  # no dropout follows, but a change in place may
            self.weights = self.weights.detach().clone()
        return out

    def leave(self, failed: bool) -> None:
        expected = self.site.turns or self.calls
        if not failed and self.calls not in (0, expected):
            self.weights = None
            super().leave(failed)
            self.on_skipped(
                f"its {self.op} is called {self.calls} times where a trial pass called it {expected} times; which of "
                "them it is is unknown"
            )
        else:
            super().leave(failed)

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
