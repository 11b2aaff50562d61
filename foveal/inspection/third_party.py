"""Table of the attention weights of timm, torchvision and torch, class by class.

A row gives the child of a module, or the functional called in its forward pass, that outputs the effective weights, and
describes them. Classes are listed by name, not imported: this file needs neither library. A subclass has the row of its
base class, unless it has a row of its own.

Values are reshapes of the module's tensors, never permutations, so that `foveal.replace` can invert them.

This file contains neither paths nor hooks.
"""

import re
from dataclasses import dataclass
from math import inf
from typing import cast

from foveal.core.names import lookup
from foveal.core.record import Domain, Facts, Kind
from foveal.inspection.adapters import (
    Form,
    as_it_is,
    blocks,
    branches,
    column,
    flat,
    heads,
    one_head,
    plane,
    positions,
    radix,
    row,
    sequences,
    windows,
    windows_of_heads,
    windows_of_one_head,
)
from foveal.inspection.call_sites import CallSite

RECOMPUTED = "recomputed"  # computed a second time by the module itself


@dataclass(frozen=True)
class TapSpec:
    """Location and description of the attention weights of a module class."""

    module_or_op: str  # a child; "" is the module's own output; "softmax()" or "sigmoid()" is called in its forward
    facts: Facts
    form: Form  # from the weights found there to the values of a Record
    name: str = ""  # distinguishes several weights of one module
    nth_call: tuple[int, int] = (0, 1)  # index of the call, of how many calls of the child in one forward pass
    requires: str = ""  # an attribute of the module that must not be None
    site: CallSite | None = None  # of a functional: the one call that counts; None: each


def facts(mechanism: str, kind: Kind, domain: Domain, axes: str, low: float = 0, high: float = 1) -> Facts:
    """Return the Facts of weights of this mechanism."""
    return Facts(mechanism=mechanism, kind=kind, domain=domain, axes=axes, value_range=(low, high))


def gate(at: str, mechanism: str = "squeeze_excite") -> TapSpec:
    """Return the row of a gate of each channel."""
    return TapSpec(at, facts(mechanism, "gate", "channel", "B C"), flat)


def map_gate(at: str, mechanism: str) -> TapSpec:
    """Return the row of a gate of each channel and position."""
    return TapSpec(at, facts(mechanism, "gate", "mixed", "B C H W"), as_it_is)


def coordinates(mechanism: str) -> tuple[TapSpec, TapSpec]:
    """Return the rows of one gate module that is called twice, for the height and then for the width."""
    return (
        TapSpec("gate", facts(mechanism, "gate", "mixed", "B C H"), column, "height", (0, 2)),
        TapSpec("gate", facts(mechanism, "gate", "mixed", "B C W"), row, "width", (1, 2)),
    )


def affinity(at: str = "softmax()", axes: str = "B G Q K", form: Form = sequences) -> TapSpec:
    """Return the row of an affinity."""
    return TapSpec(at, facts("self_attention", "affinity", "spatial", axes), form)


def any_sign(at: str) -> TapSpec:
    """Return the row of an affinity after its heads were mixed, so that weights may be negative."""
    return TapSpec(at, facts("self_attention", "affinity", "spatial", "B G Q K", -inf, inf), as_it_is)


SE = gate("gate")


WINDOWS_OF_ONE_HEAD = affinity(axes="B N G Q K", form=windows_of_one_head)


TABLE: dict[str, tuple[TapSpec, ...]] = {
    # Channels and positions: the gate, mask or selection of each paper.
    "timm.layers.squeeze_excite.SEModule": (SE,),
    "timm.layers.squeeze_excite.SqueezeExciteCl": (SE,),
    "timm.layers.squeeze_excite.EffectiveSEModule": (gate("gate", "effective_squeeze_excite"),),
    "timm.models._efficientnet_blocks.SqueezeExcite": (SE,),
    "timm.models.senet.SEModule": (gate("sigmoid"),),
    "timm.models.hgnet.EseModule": (gate("sigmoid", "effective_squeeze_excite"),),
    "torchvision.ops.misc.SqueezeExcitation": (gate("scale_activation"),),
    "timm.layers.eca.EcaModule": (gate("gate", "efficient_channel_attention"),),
    "timm.layers.eca.CecaModule": (gate("gate", "efficient_channel_attention"),),
    "timm.layers.cbam.ChannelAttn": (gate("gate", "cbam"),),
    "timm.layers.cbam.LightChannelAttn": (gate("sigmoid()", "cbam"),),  # its child `gate` is never called
    "timm.layers.cbam.SpatialAttn": (TapSpec("gate", facts("cbam", "mask", "spatial", "B H W"), plane),),
    "timm.layers.cbam.LightSpatialAttn": (TapSpec("gate", facts("cbam", "mask", "spatial", "B H W"), plane),),
    "timm.layers.global_context.GlobalContext": (
        TapSpec(
            "softmax()",
            facts("global_context", "mask", "spatial", "B H W"),
            positions,
            "context",
            requires="conv_attn",
        ),
        TapSpec("gate", facts("global_context", "gate", "channel", "B C"), flat, "gate", requires="mlp_scale"),
    ),
    "timm.layers.selective_kernel.SelectiveKernel": (
        TapSpec("attn", facts("selective_kernel", "selection", "channel", "B K C"), branches),
    ),
    "timm.layers.split_attn.SplitAttn": (
        TapSpec("rsoftmax", facts("split_attention", "selection", "channel", "B K C"), radix),
    ),
    "timm.layers.gather_excite.GatherExcite": (map_gate("gate", "gather_excite"),),
    "timm.layers.coord_attn.CoordAttn": coordinates("coordinate_attention"),
    "timm.layers.coord_attn.EfficientLocalAttn": coordinates("efficient_local_attention"),
    "timm.layers.coord_attn.SimpleCoordAttn": (map_gate("gate", "coordinate_attention"),),
    "timm.layers.coord_attn.StripAttn": (map_gate("gate", "strip_attention"),),
    # A softmax of queries over keys, in the forward pass itself or in the fused kernel that replaces it.
    "torch.nn.modules.activation.MultiheadAttention": (affinity(RECOMPUTED),),
    "timm.layers.bottleneck_attn.BottleneckAttn": (affinity(form=heads),),
    "timm.layers.halo_attn.HaloAttn": (affinity(axes="B G N Q K", form=heads),),
    "timm.layers.non_local_attn.NonLocalAttn": (affinity(form=one_head),),
    "timm.models.cait.TalkingHeadAttn": (any_sign("attn_drop"),),
    "timm.models.convit.GPSA": (affinity("attn_drop"),),  # after two softmaxes are blended
    "timm.models.efficientformer_v2.Attention2d": (any_sign("talking_head2"),),
    "timm.models.efficientvit_msra.CascadedGroupAttention": (WINDOWS_OF_ONE_HEAD,),  # one call for each head
    "timm.models.iformer.SHMA": (WINDOWS_OF_ONE_HEAD,),
    "timm.models.shvit.SHSA": (affinity(form=one_head),),
    "timm.models.vision_transformer_sam.Attention": (affinity(axes="B N G Q K", form=windows_of_heads),),
    **dict.fromkeys(
        (
            "timm.layers.attention.Attention",
            "timm.layers.attention.AttentionRope",
            "timm.layers.attention2d.Attention2d",
            "timm.layers.attention2d.MultiQueryAttention2d",
            "timm.layers.attention_pool.AttentionPoolLatent",
            "timm.layers.attention_pool.AttentionPoolPrr",
            "timm.layers.attention_pool2d.AttentionPool2d",
            "timm.layers.attention_pool2d.RotAttentionPool2d",
            "timm.layers.other_pool.SimPool1d",
            "timm.layers.other_pool.SimPool2d",
            "timm.models.beit.Attention",
            "timm.models.cait.ClassAttn",
            "timm.models.convit.MHSA",
            "timm.models.cpubone.ConvAttention",
            "timm.models.crossvit.CrossAttention",
            "timm.models.efficientformer.Attention",
            "timm.models.efficientformer_v2.Attention2dDownsample",
            "timm.models.eva.EvaAttention",
            "timm.models.fastvit.Attention",
            "timm.models.gemma4_vit.Gemma4Attention",
            "timm.models.levit.Attention",
            "timm.models.levit.AttentionDownsample",
            "timm.models.lowformer.ConvAttention",
            "timm.models.maxxvit.Attention2d",
            "timm.models.metaformer.Attention",
            "timm.models.mvitv2.MultiScaleAttention",
            "timm.models.mvitv2.MultiScaleAttentionPoolFirst",
            "timm.models.nextvit.EfficientAttention",
            "timm.models.pvt_v2.Attention",
            "timm.models.twins.GlobalSubSampleAttn",
            "timm.models.vision_transformer.ParallelScalingBlock",
            "timm.models.vision_transformer_relpos.RelPosAttention",
            "timm.models.visformer.Attention",
            "timm.models.volo.Attention",
            "timm.models.volo.ClassAttention",
        ),
        (affinity(),),
    ),
    **dict.fromkeys(
        (
            "timm.models.davit.WindowAttention",
            "timm.models.gcvit.WindowAttentionGlobal",
            "timm.models.hieradet_sam2.MultiScaleAttention",
            "timm.models.maxxvit.AttentionCl",
            "timm.models.swin_transformer.WindowAttention",
            "timm.models.swin_transformer_v2.WindowAttention",
            "timm.models.swin_transformer_v2_cr.WindowMultiHeadAttention",
            "timm.models.tiny_vit.Attention",
            "timm.models.tnt.Attention",  # pixels within a patch, or patches within an image
            "torchvision.models.swin_transformer.ShiftedWindowAttention",
        ),
        (affinity(axes="B N G Q K", form=windows),),
    ),
    **dict.fromkeys(
        (
            "timm.models.twins.LocallyGroupedAttn",
            "torchvision.models.maxvit.RelativePositionalMultiHeadAttention",
        ),
        (affinity(axes="B N G Q K", form=as_it_is),),
    ),
    **dict.fromkeys(
        (
            "timm.models.hiera.MaskUnitAttention",
            "timm.models.nest.Attention",
            "timm.models.volo.OutlookAttention",
        ),
        (affinity(axes="B G N Q K", form=blocks),),
    ),
    **dict.fromkeys(  # queries and keys are channels
        (
            "timm.models.davit.ChannelAttention",
            "timm.models.davit.ChannelAttentionV2",
            "timm.models.edgenext.CrossCovarianceAttn",
            "timm.models.xcit.XCA",
        ),
        (TapSpec("softmax()", facts("self_attention", "affinity", "channel", "B G Q K"), as_it_is),),
    ),
}


DIFFERENCE = "its weights are the difference of two softmaxes, which it never computes"


LINEAR = "a linear attention: it never computes a weight of a query for a key"


CONVOLVED = "a convolution in groups: its weights are the same for every image"


ACROSS = "it attends across the images of a batch, not the positions of one"


UNRECORDABLE = {
    "timm.layers.diff_attention.DiffAttention": DIFFERENCE,
    "timm.models.vision_transformer.DiffParallelScalingBlock": DIFFERENCE,
    "timm.layers.lambda_layer.LambdaLayer": LINEAR,
    "timm.layers.non_local_attn.BilinearAttnTransform": "its two maps are multiplied into the input one by one",
    "timm.models.coat.FactorAttnConvRelPosEnc": LINEAR,
    "timm.models.csatv2.SpatialTransformerBlock": ACROSS,
    "timm.models.efficientvim.HSMSSD": LINEAR,
    "timm.models.efficientvit_mit.LiteMLA": LINEAR,
    "timm.models.mobilevit.LinearSelfAttention": LINEAR,
    "timm.models.nextvit.ConvAttention": CONVOLVED,
    "timm.models.swiftformer.EfficientAdditiveAttention": LINEAR,
}


KINDS: dict[str, tuple[Domain, str, Form]] = {
    "gate": ("channel", "B C", flat),
    "mask": ("spatial", "B H W", plane),
    "selection": ("channel", "B K C", branches),
    "affinity": ("spatial", "B G Q K", sequences),
}


LOOKS_LIKE_ATTENTION = re.compile(r"Att(entio)?n|SqueezeExc|(?<![A-Z])SE(?![a-z])")


def custom_spec(cls: str | type, at: str, kind: str) -> tuple[str, tuple[TapSpec, ...]]:
    """Return the row for a class that is not in the table.

    Raises:
        ValueError: an unknown kind.
    """
    name = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
    domain, axes, form = lookup("kind", kind, KINDS)
    return name, (TapSpec(at, facts(name.rpartition(".")[2], cast(Kind, kind), domain, axes), form),)
