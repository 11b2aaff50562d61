"""Recipes of the papers' networks, backbone + mechanism, and the names of the complete architectures.

This file imports no heavy library, since `foveal list` reads it.
"""

from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class NetworkSpec:
    """Recipe of a network: a backbone, and a mechanism attached to it.

    Attributes:
        backbone: A name of timm or of `foveal.networks.builders.OWN`.
        mechanism: The mechanism's name, with options that differ from its defaults.
        at: Where it is attached; None for the default of `foveal.surgery.blocks`.
        whole: timm's name of the same network; its pretrained weights fit.
    """

    backbone: str
    mechanism: str
    at: str | None = None
    whole: str | None = None


RECIPES = {
    "seresnet18": NetworkSpec("resnet18", "se"),
    "seresnet34": NetworkSpec("resnet34", "se"),
    "seresnet50": NetworkSpec("resnet50", "se", whole="seresnet50"),
    "seresnet101": NetworkSpec("resnet101", "se"),
    "seresnet152": NetworkSpec("resnet152", "se"),
    "seresnext50_32x4d": NetworkSpec("resnext50_32x4d", "se", whole="seresnext50_32x4d"),
    "seresnext101_32x4d": NetworkSpec("resnext101_32x4d", "se"),
    "se_inception_v3": NetworkSpec("inception_v3", "se"),
    "se_mobilenetv1_100": NetworkSpec("mobilenetv1_100", "se", at="blocks.*.*.bn2"),
    "se_mobilenetv2_100": NetworkSpec("mobilenetv2_100", "se"),
    "se_shufflenet_v2_x1_0": NetworkSpec("shufflenet_v2_x1_0", "se"),
    "seresnet20": NetworkSpec("resnet20", "se"),
    "seresnet32": NetworkSpec("resnet32", "se"),
    "seresnet56": NetworkSpec("resnet56", "se"),
    "seresnet110": NetworkSpec("resnet110", "se"),
    "sknet26": NetworkSpec("resnext26_32x4d", "sk"),
    "sknet50": NetworkSpec("resnext50_32x4d", "sk", whole="skresnext50_32x4d"),
    "sknet101": NetworkSpec("resnext101_32x4d", "sk"),
    # The paper's text does not give branches and r of SKNet-29; its parameter count determines them, see the test.
    "sknet29": NetworkSpec("resnext29_16x32d", "sk:dilations=(1,0),reduction=32,floor=16"),
    "cbam_resnet18": NetworkSpec("resnet18", "cbam"),
    "cbam_resnet34": NetworkSpec("resnet34", "cbam"),
    "cbam_resnet50": NetworkSpec("resnet50", "cbam"),
    "cbam_resnet101": NetworkSpec("resnet101", "cbam"),
    "bam_resnet18": NetworkSpec("resnet18", "bam"),
    "bam_resnet34": NetworkSpec("resnet34", "bam"),
    "bam_resnet50": NetworkSpec("resnet50", "bam"),
    "bam_resnet101": NetworkSpec("resnet101", "bam"),
    "eca_resnet18": NetworkSpec("resnet18", "eca"),
    "eca_resnet34": NetworkSpec("resnet34", "eca"),
    "eca_resnet50": NetworkSpec("resnet50", "eca"),
    "eca_resnet101": NetworkSpec("resnet101", "eca"),
    "sk_shufflenet_v2_x1_0": NetworkSpec("shufflenet_v2_x1_0", "sk"),
}

WHOLE = (
    "attention56", "attention92", "attention92_cifar", "botnet50", "co_localizer", "jaderberg_cnn", "jaderberg_fcn",
    "ram", "small_cnn", "stn_cnn", "two_stn_cnn",
)  # fmt: skip
NAMES = (*RECIPES, *WHOLE)


def list_models(pattern: str = "*") -> list[str]:
    """List the names of networks that match a shell pattern.

    `foveal.create_model` also accepts every network of timm and any `backbone+mechanism`, such as "resnet18+cbam".

    Args:
        pattern (str): A shell pattern, as for `fnmatch`.

    Returns:
        The names in alphabetical order; an empty list if none matches.

    Examples:
        >>> import foveal
        >>> foveal.list_models("cbam_*")
        ['cbam_resnet101', 'cbam_resnet18', 'cbam_resnet34', 'cbam_resnet50']
    """
    return [name for name in sorted(NAMES) if fnmatch(name, pattern)]
