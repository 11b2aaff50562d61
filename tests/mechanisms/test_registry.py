"""The registry: what mechanisms attach as, arguments that are refused."""

import pytest

from foveal.mechanisms.bam import BAM
from foveal.mechanisms.cbam import SpatialGate
from foveal.mechanisms.coordinate import Coordinate
from foveal.mechanisms.efficient_channel import EfficientChannel
from foveal.mechanisms.gather_excite import GatherExcite
from foveal.mechanisms.global_context import GlobalContext
from foveal.mechanisms.registry import MECHANISMS


@pytest.mark.parametrize(
    ("mechanism", "options", "message"),
    [
        (EfficientChannel, {"channels": 0}, "channels=0"),
        (EfficientChannel, {"kernel_size": 4}, "kernel_size=4: an odd number"),
        (GatherExcite, {"extent": 1}, "extent=1: at least 2"),
        (GatherExcite, {"extent": 6, "theta": True}, "extent=6: a power of 2"),
        (GatherExcite, {"theta": True}, "size=None"),
        (GatherExcite, {"theta": True, "size": 0}, "size=0"),
        (GatherExcite, {"reduction": 0}, "reduction=0"),
        (GlobalContext, {"reduction": 0}, "reduction=0"),
        (Coordinate, {"channels": 0}, "channels=0"),
        (SpatialGate, {"kernel_size": 2}, "kernel_size=2"),
        (BAM, {"dilation": 0}, "dilation=0"),
    ],
)
def test_mechanism_of_gates_refuses_impossible_arguments(mechanism, options, message):
    with pytest.raises(ValueError, match=message):
        mechanism(**{"channels": 16, **options})


def test_mechanisms_state_where_they_attach():
    assert {mechanism.attaches for mechanism in MECHANISMS.values()} <= {
        "after",
        "before",
        "instead",
        "between",
        "network",
    }
