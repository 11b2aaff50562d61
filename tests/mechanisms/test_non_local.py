"""Non-local attention: an affinity computed by hand, timm's module, subsampled keys."""

import math

import timm.layers
import torch
from torch import nn

import foveal
from foveal.mechanisms.non_local import NonLocal


def neutral(norm: nn.BatchNorm2d) -> None:
    """Make the norm the identity in evaluation."""
    nn.init.ones_(norm.weight)
    norm.eps = 0.0


class TestNonLocal:
    def test_non_local_affinity_by_hand(self):
        """theta is 1 and phi is x: each position weighs the values 0 and ln 3 by 1/4 and 3/4."""
        module = NonLocal(1).eval()
        neutral(module.norm)
        for conv, weight, bias in ((module.theta, 0, 1), (module.phi, 1, 0), (module.g, 1, 0)):
            nn.init.constant_(conv.weight, weight)
            nn.init.constant_(conv.bias, bias)
        nn.init.ones_(module.out.weight)
        x = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2)
        torch.testing.assert_close(module(x), x + 0.75 * math.log(3))
        with foveal.watch(module) as seen:
            module(x)
        torch.testing.assert_close(next(iter(seen)).values.flatten(3)[0, 0], torch.tensor([[0.25, 0.75]] * 2))

    def test_non_local_agrees_with_timm(self):
        theirs = timm.layers.NonLocalAttn(16, use_scale=False, rd_ratio=1 / 2)
        ours = NonLocal(16)
        nn.init.zeros_(theirs.z.bias)  # which the norm after it takes away
        names = {"t": "theta", "p": "phi", "g": "g", "z": "out", "norm": "norm"}
        with torch.no_grad():
            for module in (theirs.norm, theirs.t, theirs.p, theirs.g, theirs.z):
                module.weight.normal_()
        state = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": v for key, v in theirs.state_dict().items()}
        del state["out.bias"]
        ours.load_state_dict(state)
        x = torch.randn(2, 16, 5, 7)
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))

    def test_non_local_subsampled_keys_are_pooled_maps(self):
        module = NonLocal(1, subsample=True)
        x = torch.arange(15.0).view(1, 1, 3, 5)
        assert module.pool(x).tolist() == [[[[6.0, 8.0, 9.0], [11.0, 13.0, 14.0]]]]
