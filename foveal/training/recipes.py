"""Named recipes: the settings that fit a kind of network, where the user states none.

    recipe         for                                               lr      warm-up   steps   epochs at least
    scratch-small  `small_cnn` and the networks of digits            0.01    1 epoch     550                 3
    scratch        any other network, from random weights            0.001   1 epoch   1,500                 5
    finetune       pretrained weights, with or without attention     0.0003  1 epoch   1,000                 3

All use AdamW with a weight decay of 0.05, a cosine schedule and label smoothing of 0.1; these are fields of their own.
The number of epochs is that of the steps on the training part, at most 100.

The rate of scratch-small was selected once, for `small_cnn` on digits/rts, on the validation error of the plain
network: 5.20, 5.03, 4.93 and 5.37 % at 0.005, 0.01, 0.02 and 0.04 (twelve epochs, means over six seeds, standard errors
about 0.2); the lower one of the two best, which do not differ. A recipe is chosen by the backbone, so that it is the
same for all contenders of a comparison.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import TypeVar

from foveal.core.names import lookup
from foveal.training.config import BY_RECIPE, TrainConfig

Config = TypeVar("Config", bound=TrainConfig)
SMALL = ("small_cnn", "stn_cnn", "two_stn_cnn")  # backbones of scratch-small
MOST_EPOCHS = 100


@dataclass(frozen=True)
class Recipe:
    lr: float
    warmup_epochs: float
    steps: int  # of training, about
    least_epochs: int


RECIPES = {
    "scratch-small": Recipe(0.01, 1.0, 550, 3),
    "scratch": Recipe(0.001, 1.0, 1500, 5),
    "finetune": Recipe(0.0003, 1.0, 1000, 3),
}


def choose_recipe(network: str, pretrained: bool) -> str:
    """Choose the recipe of a network by name, alone or with attention."""
    if pretrained:
        return "finetune"
    return "scratch-small" if network.partition("+")[0].partition(":")[0] in SMALL else "scratch"


def resolve(config: Config, network: str, images: int) -> Config:
    """Fill in what settings leave to the recipe.

    Args:
        config: Settings of a run or of a comparison.
        network: The backbone, or the network of the run.
        images: Number of training images.

    Raises:
        ValueError: If the recipe is unknown.
    """
    name = choose_recipe(network, config.pretrained) if config.recipe is BY_RECIPE else config.recipe
    recipe = lookup("recipe", name, RECIPES)
    epochs, lr, warmup_epochs = config.epochs, config.lr, config.warmup_epochs
    if epochs is BY_RECIPE:
        steps = max(1, images // config.batch_size)
        epochs = min(MOST_EPOCHS, max(recipe.least_epochs, ceil(recipe.steps / steps)))
    if lr is BY_RECIPE:
        lr = recipe.lr
    if warmup_epochs is BY_RECIPE:
        warmup_epochs = recipe.warmup_epochs
    return replace(config, recipe=name, epochs=epochs, lr=lr, warmup_epochs=warmup_epochs)
