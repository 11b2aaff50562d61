"""Recipes: which is chosen, what it fills in, and what stays as it was stated."""

import pytest

from foveal import CompareConfig, RunConfig
from foveal.training.recipes import RECIPES, choose_recipe, resolve


@pytest.mark.parametrize(
    ("network", "pretrained", "recipe"),
    [
        ("small_cnn", False, "scratch-small"),
        ("small_cnn:width=2+se:reduction=4", False, "scratch-small"),
        ("resnet18+se", False, "scratch"),
        ("seresnet50", False, "scratch"),
        ("resnet18+se", True, "finetune"),
    ],
)
def test_choose_recipe(network, pretrained, recipe):
    assert choose_recipe(network, pretrained) == recipe


@pytest.mark.parametrize(("images", "epochs"), [(3_000, 6), (1_500, 12), (50_000, 3), (100, 100), (9, 100)])
def test_resolve_gives_as_many_epochs_as_the_recipe_needs_steps(images, epochs):
    """550 steps of 32 images: 93, 46, 1562, 3 and (of an incomplete batch) 1 in an epoch."""
    assert resolve(RunConfig(), "small_cnn", images).epochs == epochs


def test_resolve_keeps_what_is_stated():
    stated = CompareConfig(backbone="resnet18", lr=0.5, epochs=2, seeds=4)
    found = resolve(stated, stated.backbone, 3_000)
    assert (found.recipe, found.lr, found.epochs, found.seeds) == ("scratch", 0.5, 2, 4)
    assert found.warmup_epochs == RECIPES["scratch"].warmup_epochs
    assert resolve(found, "small_cnn", 10) == found


def test_resolve_by_name():
    assert resolve(RunConfig(recipe="finetune"), "small_cnn", 3_000).lr == RECIPES["finetune"].lr
    with pytest.raises(ValueError, match="unknown recipe 'scratsh'; did you mean 'scratch'"):
        resolve(RunConfig(recipe="scratsh"), "small_cnn", 3_000)
