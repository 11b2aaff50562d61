"""Settings of a comparison."""

from dataclasses import replace

import pytest

from foveal.training.config import CompareConfig

CONFIG = CompareConfig(data="digits", epochs=1, seeds=1)


@pytest.mark.parametrize(
    ("seeds", "tune", "message"),
    [(0, 0, "seeds=0: must be from 1 to 9,999"), (1, -1, "tune=-1: must be from 0 to 9,999")],
)
def test_compare_config_refuses_bad_numbers(seeds, tune, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, seeds=seeds, tune=tune)
