"""Attention of timm, torchvision and PyTorch: values computed by hand, models left as they were."""

import copy

import pytest
import timm
import torch
import torchvision
from helpers import count_hooks, randomise_norms, vary_weights, watch_once
from timm import layers
from timm.layers import coord_attn
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import foveal
from foveal.inspection.third_party import TABLE, UNRECORDABLE

CHANNELS = 16


def state(model: nn.Module) -> list:
    return [*(module.training for module in model.modules()), *(value.clone() for value in model.buffers())]


def same(first: list, second: list) -> bool:
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(first, second, strict=True))


def gate_of(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return module.fc2(F.relu(module.fc1(x.mean((2, 3), keepdim=True)))).sigmoid().flatten(1)


def eca(module: nn.Module, x: torch.Tensor, mode: str) -> torch.Tensor:
    width = module.conv.kernel_size[0]
    padded = F.pad(x.mean((2, 3))[:, None], (width // 2, width // 2), mode=mode)
    return F.conv1d(padded, module.conv.weight).sigmoid()[:, 0]


CHANNEL_GATES = {
    "se": (layers.SEModule, gate_of),
    "ese": (layers.EffectiveSEModule, lambda m, x: F.hardsigmoid(m.fc(x.mean((2, 3), keepdim=True))).flatten(1)),
    "efficientnet": (
        lambda c: timm.models._efficientnet_blocks.SqueezeExcite(c),
        lambda m, x: m.conv_expand(F.relu(m.conv_reduce(x.mean((2, 3), keepdim=True)))).sigmoid().flatten(1),
    ),
    "eca": (layers.EcaModule, lambda m, x: eca(m, x, "constant")),
    "ceca": (layers.CecaModule, lambda m, x: eca(m, x, "circular")),
    "ge": (
        lambda c: layers.GatherExcite(c, extent=2, use_mlp=False),  # with its perceptron it cannot be made
        lambda m, x: F.interpolate(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), x.shape[2:]).sigmoid(),
    ),
    "light channel": (
        lambda c: layers.cbam.LightChannelAttn(c, rd_ratio=0.5),
        lambda m, x: (
            m.fc2(F.relu(m.fc1((x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)) / 2))).sigmoid().flatten(1)
        ),
    ),
    "torchvision": (lambda c: torchvision.ops.SqueezeExcitation(c, 4), gate_of),
    "legacy": (lambda c: timm.models.senet.SEModule(c, 4), gate_of),
    "simple coordinate": (
        coord_attn.SimpleCoordAttn,
        lambda m, x: (
            m.fc_h(F.silu(m.fc1(x.mean(3).mT))).mT[..., None] + m.fc_w(F.silu(m.fc1(x.mean(2).mT))).mT[:, :, None]
        ).sigmoid(),
    ),
    "strip": (
        coord_attn.StripAttn,
        lambda m, x: (m.conv_h(x.mean(3, keepdim=True)) + m.conv_w(x.mean(2, keepdim=True))).sigmoid(),
    ),
}


@pytest.mark.parametrize("name", CHANNEL_GATES)
def test_watch_records_timm_gates_as_computed_and_applied(name):
    make, by_hand = CHANNEL_GATES[name]
    module, x = vary_weights(make(CHANNELS)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watch_once(nn.Sequential(module), x)
    (record,) = seen
    assert record.kind == "gate"
    values = record.values if record.axes == "B C H W" else record.values[:, :, None, None]
    expected = by_hand(module, x)
    torch.testing.assert_close(values, expected.reshape_as(values))
    assert torch.equal(x * values, out)
    assert values.std() > 0.01
    assert not seen.unseen


def test_watch_records_gates_of_channels_last_modules():
    module, x = vary_weights(layers.squeeze_excite.SqueezeExciteCl(CHANNELS)), torch.randn(3, 5, 7, CHANNELS)
    seen, out = watch_once(module, x)
    assert torch.equal(x * seen[""].values[:, None, None], out)


def test_watch_records_effective_se_of_hgnet():
    module, x = vary_weights(timm.models.hgnet.EseModule(CHANNELS)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watch_once(module, x)
    assert torch.equal(x * seen[""].values[:, :, None, None], out)


@pytest.mark.parametrize("make", [layers.cbam.CbamModule, layers.cbam.LightCbamModule])
def test_watch_records_channels_and_positions_of_timm_cbam(make):
    module, x = vary_weights(make(CHANNELS, rd_ratio=0.5)), torch.randn(3, CHANNELS, 9, 11)
    seen, out = watch_once(nn.Sequential(module), x)
    assert seen.paths() == ["0.channel", "0.spatial"]
    assert not seen.unseen
    gate, mask = (record.values for record in seen)
    assert seen["0.spatial"].axes == "B H W"
    torch.testing.assert_close(x * gate[:, :, None, None] * mask[:, None], out)


@pytest.mark.parametrize(("scale", "add"), [(True, False), (False, True), (True, True)])
def test_watch_records_timm_global_context(scale, add):
    module = vary_weights(layers.GlobalContext(CHANNELS, fuse_scale=scale, fuse_add=add, init_last_zero=False))
    x = torch.randn(3, CHANNELS, 5, 7)
    seen, out = watch_once(nn.Sequential(module), x)
    assert seen.paths() == (["0.context", "0.gate"] if scale else ["0.context"])
    context = (x * seen["0.context"].values[:, None]).sum((2, 3), keepdim=True)
    if scale:
        torch.testing.assert_close(module.mlp_scale(context).sigmoid().flatten(1), seen["0.gate"].values)
        x = x * seen["0.gate"].values[:, :, None, None]
    torch.testing.assert_close(out, x + module.mlp_add(context) if add else x)


def test_watch_records_branches_of_timm_selective_kernel():
    module, x = vary_weights(layers.SelectiveKernel(CHANNELS, rd_channels=16)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watch_once(nn.Sequential(module), x)
    record = seen["0"]
    assert (record.kind, record.values.shape) == ("selection", (3, 2, CHANNELS))
    maps = [path(half) for path, half in zip(module.paths, x.chunk(2, 1), strict=True)]
    weights = record.values[..., None, None]
    torch.testing.assert_close(weights[:, 0] * maps[0] + weights[:, 1] * maps[1], out)


@pytest.mark.parametrize("groups", [1, 2])
def test_watch_records_splits_of_split_attention(groups):
    module, x = vary_weights(layers.SplitAttn(CHANNELS, groups=groups, radix=2)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watch_once(nn.Sequential(module), x)
    weights = seen["0"].values
    assert weights.shape == (3, 2, CHANNELS)
    maps = F.relu(module.conv(x)).unflatten(1, (2, CHANNELS))
    torch.testing.assert_close((maps * weights[..., None, None]).sum(1), out)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, CHANNELS))


@pytest.mark.parametrize("make", [coord_attn.CoordAttn, coord_attn.EfficientLocalAttn])
def test_watch_records_rows_and_columns_of_coordinate_attention(make):
    module, x = vary_weights(make(CHANNELS)), torch.randn(3, CHANNELS, 5, 7)
    seen, _ = watch_once(nn.Sequential(module), x)
    assert [(path, seen[path].axes) for path in seen.paths()] == [("0.height", "B C H"), ("0.width", "B C W")]
    out = module(x)
    torch.testing.assert_close(out, x * seen["0.width"].values[:, :, None] * seen["0.height"].values[..., None])


def attention_by_hand(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    q, k, _ = module.qkv(x).unflatten(-1, (3, module.num_heads, -1)).movedim(2, 0).transpose(2, 3)
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)


@pytest.mark.parametrize("fused", [True, False])
def test_watch_records_vision_transformers_fused_or_not(fused):
    module = vary_weights(layers.Attention(CHANNELS, num_heads=2))
    module.fused_attn = fused
    x = torch.randn(3, 5, CHANNELS)
    seen, out = watch_once(nn.Sequential(module), x)
    record = seen["0"]
    assert (record.kind, record.axes, record.values.shape) == ("affinity", "B G Q K", (3, 2, 5, 5))
    torch.testing.assert_close(record.values, attention_by_hand(module, x))
    assert torch.equal(out, module(x))


@pytest.mark.parametrize("kind", ["none", "boolean", "additive", "causal"])
def test_watch_records_masks_of_a_fused_kernel(kind):
    module, x = vary_weights(layers.Attention(CHANNELS, num_heads=2)), torch.randn(2, 5, CHANNELS)
    allowed = torch.rand(5, 5).gt(0.4).fill_diagonal_(True)
    masks = {"none": None, "boolean": allowed, "additive": torch.randn(5, 5), "causal": None}
    found = []
    for fused in (True, False):
        module.fused_attn = fused
        with foveal.watch(module) as seen:
            module(x, attn_mask=masks[kind], is_causal=kind == "causal")
        found.append(seen[""].values)
    torch.testing.assert_close(*found)
    assert found[0].eq(0).any() == (kind in ("boolean", "causal"))


def test_watch_records_dropout_or_reports_it():
    module, x = layers.Attention(CHANNELS, num_heads=2, attn_drop=0.5).train(), torch.randn(3, 5, CHANNELS)
    seen, _ = watch_once(nn.Sequential(module), x)
    assert "dropout hides" in seen.unseen["0"]
    module.fused_attn = False
    seen, _ = watch_once(nn.Sequential(module), x)
    weights, whole = seen["0"].values, attention_by_hand(module, x)
    dropped = weights.eq(0)
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(weights, torch.where(dropped, 0, 2 * whole))


def test_watch_records_attention_pools():
    latent, x = vary_weights(layers.AttentionPoolLatent(CHANNELS, num_heads=2)), torch.randn(3, 5, CHANNELS)
    seen, _ = watch_once(nn.Sequential(latent), x)
    query = latent.q(latent.latent).unflatten(-1, (2, 8)).transpose(1, 2)
    key = latent.kv(x).unflatten(-1, (2, 2, 8))[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(seen["0"].values, (query @ key.mT / 8**0.5).softmax(-1))
    pool, x = vary_weights(layers.AttentionPool2d(CHANNELS, feat_size=4, num_heads=2)), torch.randn(3, CHANNELS, 4, 4)
    seen, _ = watch_once(nn.Sequential(pool), x)
    tokens = x.flatten(2).mT
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.pos_embed
    torch.testing.assert_close(seen["0"].values, attention_by_hand(pool, tokens))


@pytest.mark.parametrize("fused", [True, False])
def test_watch_records_windows_of_each_image(fused):
    """Each image has four windows in the order of the map; weights are compared with those computed by hand."""
    swin = timm.models.SwinTransformer(
        img_size=32, patch_size=4, window_size=4, embed_dim=12, depths=(2,), num_heads=(3,)
    )
    for module in vary_weights(swin).modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    images = torch.rand(2, 3, 32, 32)
    seen, _ = watch_once(swin, images)
    first = seen["layers.0.blocks.0.attn"]
    assert (first.axes, first.values.shape) == ("B N G Q K", (2, 4, 3, 16, 16))
    for image in range(2):
        alone, _ = watch_once(swin, images[image : image + 1])
        torch.testing.assert_close(
            alone["layers.0.blocks.1.attn"].values[0], seen["layers.0.blocks.1.attn"].values[image]
        )
    block = swin.layers[0].blocks[0]
    tokens = block.norm1(swin.patch_embed(images))
    parts = tokens.unflatten(2, (2, 4)).unflatten(1, (2, 4)).transpose(2, 3).reshape(8, 16, 12)
    q, k, _ = block.attn.qkv(parts).unflatten(-1, (3, 3, 4)).movedim(2, 0).transpose(2, 3)
    by_hand = (q @ k.mT / 2 + block.attn._get_rel_pos_bias()).softmax(-1)
    torch.testing.assert_close(first.values, by_hand.unflatten(0, (2, 4)))


def test_watch_reports_windows_of_a_part_called_alone():
    swin = timm.models.SwinTransformer(img_size=32, window_size=4, embed_dim=12, depths=(2,), num_heads=(3,)).eval()
    with foveal.watch(swin) as seen:
        swin.layers(swin.patch_embed(torch.rand(2, 3, 32, 32)))
    assert "cannot be distinguished from images" in seen.unseen["layers.0.blocks.0.attn"]


def test_watch_records_torchvision_swin_and_vit():
    swin = torchvision.models.SwinTransformer([4, 4], 12, [2], [3], [4, 4], num_classes=5)
    images = torch.rand(2, 3, 32, 32)
    seen, _ = watch_once(vary_weights(swin), images)
    whole = seen["features.1.0.attn"].values
    assert whole.shape == (2, 4, 3, 16, 16)
    alone, _ = watch_once(swin, images[1:])
    torch.testing.assert_close(whole[1:], alone["features.1.0.attn"].values)
    vit = vary_weights(torchvision.models.VisionTransformer(16, 8, 1, 2, 12, 24, num_classes=5))
    seen, _ = watch_once(vit, torch.rand(2, 3, 16, 16))
    (path,) = seen.paths()
    assert path.endswith("self_attention")
    assert seen[path].values.shape == (2, 2, 5, 5)


def test_watch_records_torch_multi_head_attention():
    module, x = vary_weights(nn.MultiheadAttention(CHANNELS, 2, batch_first=True)), torch.randn(3, 5, CHANNELS)

    class Host(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = module

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    model = Host().eval()
    with torch.no_grad():
        plain = model(x)
    seen, out = watch_once(model, x)
    assert torch.equal(out, plain)
    q, k, _ = (
        F.linear(x, module.in_proj_weight, module.in_proj_bias).unflatten(-1, (3, 2, 8)).movedim(2, 0).transpose(2, 3)
    )
    torch.testing.assert_close(seen["attention"].values, (q @ k.mT / 8**0.5).softmax(-1))
    with pytest.raises(ValueError, match="the weights of a MultiheadAttention can only be seen"):
        foveal.replace(model, {"attention": 1.0})


def test_watch_keeps_the_fast_path_of_transformer_layers():
    model, x = nn.Sequential(nn.TransformerEncoderLayer(CHANNELS, 2, 8, batch_first=True)).eval(), torch.rand(2, 5, 16)
    with torch.no_grad():
        plain = model(x)
    seen, out = watch_once(model, x)
    assert torch.equal(out, plain)
    assert "set_fastpath_enabled(False) to record it" in seen.unseen["0.self_attn"]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        seen, _ = watch_once(model, x)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert seen["0.self_attn"].values.shape == (2, 2, 5, 5)


NETWORKS = {  # and the size of an image
    "legacy_seresnet18": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "skresnet18": (64, {}),
    "test_vit": (160, {}),
    "maxvit_rmlp_pico_rw_256": (64, {"img_size": 64}),
    "xcit_nano_12_p16_224": (64, {}),
}


@pytest.mark.parametrize(("name", "fails"), [*((name, False) for name in NETWORKS), ("test_vit", True)])
def test_watch_of_a_third_party_network_changes_and_leaves_nothing(name, fails):
    size, options = NETWORKS[name]
    model = randomise_norms(timm.create_model(name, **options)).eval()
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        plain = model(images)
    before = state(model)
    if fails:
        handle = [*model.children()][-1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="half-way"):
            watch_once(model, images)
        handle.remove()
    else:
        seen, out = watch_once(model, images)
        assert torch.equal(out, plain)
        assert len(seen) > 0
        assert not seen.unseen
        assert all(len(record.values) == 2 for record in seen)
    assert count_hooks(model) == 0
    assert same(before, state(model))
    with torch.no_grad():
        assert torch.equal(model(images), plain)


def fail(*_):
    raise RuntimeError("half-way")


def test_watch_interrupted_leaves_no_function_mode():
    module = layers.Attention(CHANNELS, num_heads=2).eval()

    def interrupt(*_):
        raise KeyboardInterrupt

    module.proj.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), foveal.watch(module):
        module(torch.rand(1, 5, CHANNELS))
    assert torch.overrides._get_current_function_mode_stack() == []


def test_third_party_table_names_existing_classes():
    """A class renamed in a new release would not be recorded."""
    import importlib

    for name in (*TABLE, *UNRECORDABLE):
        module, _, cls = name.rpartition(".")
        assert hasattr(importlib.import_module(module), cls), name


@pytest.mark.parametrize("reentrant", [False, True])
def test_watch_records_checkpointed_attention_once(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.se, self.attention = layers.SEModule(CHANNELS), layers.Attention(CHANNELS, num_heads=2)

        def forward(self, x):
            x = checkpoint(self.se, x, use_reentrant=reentrant)
            return checkpoint(self.attention, x.flatten(2).mT, use_reentrant=reentrant)

    model = Checkpointed().eval()
    with foveal.watch(model) as seen:
        model(torch.rand(2, CHANNELS, 3, 3, requires_grad=True)).sum().backward()
    assert [record.values.shape for record in seen] == [(2, CHANNELS), (2, 2, 9, 9)]
    with foveal.replace(model, {"se": lambda gate: gate * 0.5, "attention": lambda affinity: affinity.roll(1, 0)}):
        model(torch.rand(2, CHANNELS, 3, 3, requires_grad=True)).sum().backward()


def test_watch_and_replace_on_a_compiled_third_party_network():
    torch._dynamo.reset()
    model, x = nn.Sequential(layers.SEModule(CHANNELS)).eval(), torch.rand(2, CHANNELS, 3, 3)
    compiled = torch.compile(model, backend="aot_eager")
    plain = compiled(x)
    seen, out = watch_once(compiled, x)
    assert seen.paths() == ["0"]
    torch.testing.assert_close(out, plain)
    with foveal.replace(compiled, {"0": 1.0}):
        assert torch.equal(compiled(x), x)
    torch.testing.assert_close(compiled(x), plain)


def test_watch_leaves_copies_clean_and_wrappers_out_of_paths():
    model, x = nn.Sequential(layers.Attention(CHANNELS, num_heads=2)).eval(), torch.rand(2, 5, CHANNELS)
    wrapped = nn.DataParallel(model)
    with foveal.watch(wrapped) as seen, foveal.replace(wrapped, {"0": lambda affinity: affinity.roll(1, 0)}):
        wrapped(x)
        ema = copy.deepcopy(model)
        ema(x)
    assert seen.paths() == ["0"]
    assert len(seen["0"].values) == 2
    assert count_hooks(ema) == count_hooks(model) == 0
    assert torch.equal(ema(x), model(x))


def test_watch_and_replace_on_a_distributed_network():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Sequential(layers.SEModule(CHANNELS)))
        x = torch.rand(2, CHANNELS, 3, 3)
        seen, _ = watch_once(model, x)
        with foveal.replace(model, {"0": 1.0}):
            assert torch.equal(model(x), x)
    finally:
        torch.distributed.destroy_process_group()
    assert seen.paths() == ["0"]
    assert count_hooks(model) == 0


def test_draw_shows_third_party_records():
    model = nn.Sequential(
        layers.SEModule(CHANNELS), layers.cbam.CbamModule(CHANNELS), layers.SelectiveKernel(CHANNELS, rd_channels=16),
        coord_attn.CoordAttn(CHANNELS), layers.GlobalContext(CHANNELS), coord_attn.StripAttn(CHANNELS),
    ).eval()  # fmt: skip
    seen, _ = watch_once(model, torch.rand(2, CHANNELS, 9, 9))
    assert foveal.draw(seen, torch.rand(2, 3, 18, 18)).png().startswith(b"\x89PNG")
    with foveal.watch(model, keep="statistics") as kept:
        model(torch.rand(2, CHANNELS, 9, 9))
    with pytest.raises(ValueError, match="statistics cannot be drawn"):
        foveal.draw(kept, torch.rand(2, 3, 18, 18))
