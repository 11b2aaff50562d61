"""Residual networks for small images: their options."""

import re

import pytest

import foveal


@pytest.mark.parametrize(
    "option",
    ["blocks=(3, 3, 3, 9)", "blocks=(3, 3)", "blocks=(3, 0, 3)", "blocks=3", "blocks=(3, 3, 1.5)", "widths=(16, 32)"],
)
@pytest.mark.parametrize("name", ["resnet20", "resnext29_16x32d"])
def test_stages_of_small_resnets_are_three(name, option):
    of_another_type = option in ("blocks=3", "blocks=(3, 3, 1.5)") and name == "resnet20"
    says = "; collections.abc.Sequence[int] is needed" if of_another_type else ": must be three whole numbers"
    with pytest.raises(ValueError, match=re.escape(option + says)):
        foveal.create_model(f"{name}:{option.replace(' ', '')}", num_classes=10)


def test_blocks_of_small_resnets_may_differ():
    model = foveal.create_model("resnet20:blocks=(1,2,1)", num_classes=10)
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3)] == [1, 2, 1]
