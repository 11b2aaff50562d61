"""The list of mechanisms."""

import foveal
from foveal.mechanisms.catalog import list_mechanisms
from foveal.mechanisms.squeeze_excite import SqueezeExcite


def test_list_mechanisms_counts_parameters_at_256_channels():
    """By hand: 2 * 49 + 2; 256 * 8 + 16 + 2 (8 * 256 + 256); two linear layers of 16 and the layers between."""
    counts = {each.name: each.parameters for each in list_mechanisms()}
    assert (counts["eca"], counts["ge"], counts["spatial"]) == (5, 0, 100)
    assert counts["coord"] == 256 * 8 + 16 + 2 * (8 * 256 + 256)
    assert counts["gc"] == 256 + (256 * 16 + 16) + 2 * 16 + (16 * 256 + 256)
    channel, spatial = 256 * 16 + 16 + 16 * 256 + 2 * 256, 256 * 16 + 16 + 2 * (9 * 16 * 16 + 16) + 16 + 2
    assert counts["bam"] == channel + spatial


def test_list_mechanisms_states_names_parameters_and_places():
    facts = {each.name: each for each in foveal.list_mechanisms()}
    assert facts["se"].long_name == "squeeze_excite"
    assert facts["se"].parameters == 2 * 256 * 16 + 256 + 16
    assert (facts["cbam"].domain, facts["stn"].attaches, facts["sk"].kind) == ("mixed", "before", "soft")
    assert SqueezeExcite.paper == facts["se"].paper
