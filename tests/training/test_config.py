"""Settings of a comparison."""

from dataclasses import replace

import pytest

from foveal.training.config import CompareConfig

CONFIG = CompareConfig(data="digits", epochs=1, seeds=1)


@pytest.mark.parametrize(("seeds", "tune", "says"), [(0, 0, "seeds=0: 1 or more"), (1, -1, "tune=-1: 0 or more")])
def test_numbers_are_checked(seeds, tune, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, seeds=seeds, tune=tune)
