"""What tests of fused blocks share."""

import pytest

from foveal.surgery.fused.gated_residual import gated_residual


@pytest.fixture
def fused_calls(monkeypatch):
    """The calls of the fused end of a block."""
    calls = []

    def counted(*args):
        calls.append(args)
        return gated_residual(*args)

    monkeypatch.setattr("foveal.surgery.fused.block_end.gated_residual", counted)
    return calls
