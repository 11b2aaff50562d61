"""Contenders that are one network in two spellings are refused, others are not."""

import re

import pytest

from foveal import create_model
from foveal.comparison.contenders import network_name
from foveal.comparison.plan import make_plan
from foveal.comparison.same_network import check_distinct
from foveal.training.config import CompareConfig


def check(backbone: str, *whats: str) -> None:
    models = {what: network_name(backbone, what) if what[0] != "=" else what[1:] for what in whats}
    check_distinct(models, {what: create_model(model, num_classes=10, in_chans=1) for what, model in models.items()})


@pytest.mark.parametrize(
    ("backbone", "one", "other"),
    [
        ("small_cnn", "se", "se:reduction=16"),  # its default
        ("small_cnn", "se:reduction=8", "squeeze_excite:reduction=8,position=standard"),
        ("small_cnn", "se:at=features.2", "se:at=features.2*"),
        ("small_cnn", "stn", "stn:at=input"),
        ("small_cnn", "sk:groups=8", "sk:dilations=(1,2),groups=8"),
        ("stn_cnn", "none", ":transformers=1"),
        ("two_stn_cnn", "none", ":transformers=2"),
        ("small_cnn", "=small_cnn:width=1.5", "=small_cnn:width=1.501"),  # as many channels
    ],
)
def test_check_distinct_refuses_two_spellings_of_one_network(backbone, one, other):
    with pytest.raises(ValueError, match=re.escape(f"contenders {one!r} and {other!r}: ")) as error:
        check(backbone, one, other)
    assert "are the same network; leave one out, or write both alike, and each" in str(error.value)


def test_check_distinct_takes_other_networks_and_copies():
    check("small_cnn", "none", "se", "se:reduction=8", "se:at=features.0", "se+eca", "eca+se", "=small_cnn:width=1.5")
    check("small_cnn", "sk:groups=8", "sk:groups=8,dilations=(1,3)")  # of equal weights
    check("stn_cnn", "none", ":transformers=2")
    models = {"none": "small_cnn", "twin": "small_cnn"}
    check_distinct(models, {name: create_model(model) for name, model in models.items()})


def test_make_plan_refuses_two_spellings_before_it_writes(tmp_path):
    with pytest.raises(ValueError, match="'small_cnn\\+se' and 'small_cnn\\+se:reduction=16' are the same network"):
        make_plan(["none", "se", "s2=se:reduction=16"], CompareConfig(data="digits", seeds=1), tmp_path / "cmp")
    assert not (tmp_path / "cmp").exists()
