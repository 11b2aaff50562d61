"""Options that the name of a network or a checkpoint may carry: plain values for arguments of the architecture.

A checkpoint and a name may come from another person. Some arguments of `timm.create_model` read files, and a file that
is read as a pickle executes code. So the arguments of timm's networks are listed here by name; networks of foveal
accept the arguments of their own signature.
"""

import inspect
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any

from foveal.core.names import unknown_name_error
from foveal.networks.builders import OWN
from foveal.networks.scaling import SCALES

ARCHITECTURE = """
    num_classes in_chans global_pool output_stride img_size patch_size patch_stride patch_padding patch_kernel
    patch_norm dynamic_img_size dynamic_img_pad strict_img_size
    layers depth depths blocks num_blocks block_config block_type block_reduce_first
    channels dims dim embed_dim embed_dims widths
    width_mult width_factor channel_multiplier base_dim base_dims num_features hidden_size hidden_sizes
    intermediate_size inner_dim final_chs initial_chs growth_rate bn_size
    cardinality base_width groups reduction_ratio reduce_first avg_down down_kernel_size down_patch_size down_stride
    down_op downsample bottle_ratio expand_ratio expansion_ratio
    stem_type stem_width stem_chs stem_size stem_stride stem_kernel_size stem_bias stem_norm stem_hidden_dim
    replace_stem_pool fix_stem input_3x3
    kernel_size kernel_sizes dilation dilations stride strides pad_type pool_type pool_size encoder_pool
    num_heads num_kv_heads heads head_dim key_dim qk_dim attn_ratio qkv_bias qkv_fused qk_norm qk_scale proj_bias
    attn_bias attn_type attn_types sr_ratios scale_attn_norm scale_attn_inner scale_mlp scale_mlp_norm sequential_attn
    window_size window_sizes window_ratio window_spec mask_unit_size q_pool q_stride shift_size always_partition
    focal_levels focal_windows
    mlp_ratio mlp_ratios mlp_bias conv_mlp swiglu_mlp conv_ratio conv_bias use_conv use_grn ffn_ratio
    class_token cls_attn_layers distilled distillation reg_tokens num_reg_tokens no_embed_class pos_embed
    pos_embed_grid_size use_pos_embed use_abs_pos use_abs_pos_emb use_rel_pos use_rel_pos_bias use_shared_rel_pos_bias
    use_rot_pos_emb use_rope rope_type rope_temperature rope_grid_offset rope_grid_indexing rel_pos_type rel_pos_dim
    ref_feat_shape abs_win_pos_embed
    pre_norm post_norm use_post_norm fc_norm use_fc_norm final_norm head_norm head_norm_first head_bias
    head_hidden_size head_init_scale use_layer_scale layer_scale layer_scale_init_value ls_init_value init_values
    act_layer norm_layer norm_eps aa_layer attn_layer attn_act_layer fc_act_layer aa_stem_only zero_init_last
    weight_init fix_init aux_logits
    drop_rate drop_path_rate drop_block_rate drop_block_size attn_drop_rate proj_drop_rate pos_drop_rate
    patch_drop_rate
"""
TIMM_OPTIONS = frozenset(ARCHITECTURE.split())
DEPTH = 4  # of tuples within tuples
CHECKPOINTS = {"co_localizer": frozenset({"encoder"})}  # options that name a checkpoint: in a name, in no checkpoint
READ_FILES = frozenset(("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"))


def option_names(backbone: str) -> frozenset[str]:
    """Return the options that a name or a checkpoint may carry for a backbone, without those of `CHECKPOINTS`."""
    build = OWN.get(backbone)
    if build is None:
        return TIMM_OPTIONS | set(SCALES)
    parameters = inspect.signature(build).parameters.values()
    passes_on = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    named = {each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD}
    return (
        frozenset(named | set(SCALES) | (TIMM_OPTIONS if passes_on else set()))
        - {"pretrained"}
        - checkpoint_options(backbone)
    )


def checkpoint_options(backbone: str) -> frozenset[str]:
    """Return the options of a backbone that name a checkpoint with weights of a part of it."""
    return CHECKPOINTS.get(backbone, frozenset())


def check_options(what: str, options: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Check options of a name or a checkpoint: allowed names, plain values.

    Raises:
        ValueError: an option that is not allowed, with the nearest one that is; a value that is not a finite number, a
            string, a boolean, None, or a tuple or list of these.
    """
    for key, value in options.items():
        if key not in allowed:
            raise unknown_name_error(f"option of {what} (in a name or a checkpoint)", key, allowed)
        if not is_plain(value):
            kind = type(value).__name__
            raise ValueError(
                f"{what}: option {key}={value!r:.80} is a {kind}; a finite number, a string, a boolean, or a tuple of "
                "these is needed"
            )


def is_plain(value: Any, nested: int = 0) -> bool:
    """Return True for a finite number, a string, a boolean, None, or a tuple or list of these, four deep at most."""
    if isinstance(value, tuple | list):
        return nested < DEPTH and all(is_plain(each, nested + 1) for each in value)
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and isfinite(value))


def check_no_file(name: str, options: Mapping[str, Any]) -> None:
    """Refuse the arguments of `timm.create_model` that read a file of the caller's, which may be a pickle.

    Raises:
        ValueError: one of `READ_FILES` is among the options.
    """
    for key in sorted(READ_FILES & set(options)):
        raise ValueError(
            f"network {name!r}: {key}={options[key]!r:.80} would read a file with timm, possibly a pickle; "
            "foveal.load_weights(model, file) loads weights and executes nothing"
        )
