"""Watching and replacing the attention of timm, torchvision and torch, and of classes of one's own."""

import copy
import gc
import resource

import pytest
import timm
import torch
import torchvision
from conftest import randomise_norms
from timm import layers
from timm.layers import coord_attn
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import foveal
from foveal.inspection.record_statistics import BINS
from foveal.inspection.third_party import TABLE, UNRECORDABLE
from foveal.mechanisms import registry as mechanisms

CHANNELS = 16


def watched(module: nn.Module, *inputs: torch.Tensor, **options):
    with foveal.watch(module, **options) as seen, torch.no_grad():
        out = module(*inputs)
    return seen, out


def hooks(model: nn.Module) -> int:
    return sum(len(table) for module in model.modules() for name, table in vars(module).items() if "_hooks" in name)


def state(model: nn.Module) -> list:
    return [*(module.training for module in model.modules()), *(value.clone() for value in model.buffers())]


def same(first: list, second: list) -> bool:
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(first, second, strict=True))


def varied(module: nn.Module) -> nn.Module:
    """Weights away from zero, so that gates differ from channel to channel."""
    for weight in module.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return randomise_norms(module).eval()


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
def test_a_gate_is_the_one_computed_by_hand_and_the_one_applied(name):
    make, by_hand = CHANNEL_GATES[name]
    module, x = varied(make(CHANNELS)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watched(nn.Sequential(module), x)
    (record,) = seen
    assert record.kind == "gate"
    values = record.values if record.axes == "B C H W" else record.values[:, :, None, None]
    expected = by_hand(module, x)
    torch.testing.assert_close(values, expected.reshape_as(values))
    assert torch.equal(x * values, out)
    assert values.std() > 0.01
    assert not seen.unseen


def test_channels_last_modules_gate_channels():
    module, x = varied(layers.squeeze_excite.SqueezeExciteCl(CHANNELS)), torch.randn(3, 5, 7, CHANNELS)
    seen, out = watched(module, x)
    assert torch.equal(x * seen[""].values[:, None, None], out)


def test_the_effective_se_of_hgnet():
    module, x = varied(timm.models.hgnet.EseModule(CHANNELS)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watched(module, x)
    assert torch.equal(x * seen[""].values[:, :, None, None], out)


@pytest.mark.parametrize("make", [layers.cbam.CbamModule, layers.cbam.LightCbamModule])
def test_cbam_shows_channels_and_positions(make):
    module, x = varied(make(CHANNELS, rd_ratio=0.5)), torch.randn(3, CHANNELS, 9, 11)
    seen, out = watched(nn.Sequential(module), x)
    assert seen.paths() == ["0.channel", "0.spatial"]
    assert not seen.unseen
    gate, mask = (record.values for record in seen)
    assert seen["0.spatial"].axes == "B H W"
    torch.testing.assert_close(x * gate[:, :, None, None] * mask[:, None], out)


@pytest.mark.parametrize(("scale", "add"), [(True, False), (False, True), (True, True)])
def test_global_context_shows_what_it_has(scale, add):
    module = varied(layers.GlobalContext(CHANNELS, fuse_scale=scale, fuse_add=add, init_last_zero=False))
    x = torch.randn(3, CHANNELS, 5, 7)
    seen, out = watched(nn.Sequential(module), x)
    assert seen.paths() == (["0.context", "0.gate"] if scale else ["0.context"])
    context = (x * seen["0.context"].values[:, None]).sum((2, 3), keepdim=True)
    if scale:
        torch.testing.assert_close(module.mlp_scale(context).sigmoid().flatten(1), seen["0.gate"].values)
        x = x * seen["0.gate"].values[:, :, None, None]
    torch.testing.assert_close(out, x + module.mlp_add(context) if add else x)


def test_a_selective_kernel_shows_the_share_of_each_branch():
    module, x = varied(layers.SelectiveKernel(CHANNELS, rd_channels=16)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watched(nn.Sequential(module), x)
    record = seen["0"]
    assert (record.kind, record.values.shape) == ("selection", (3, 2, CHANNELS))
    maps = [path(half) for path, half in zip(module.paths, x.chunk(2, 1), strict=True)]
    weights = record.values[..., None, None]
    torch.testing.assert_close(weights[:, 0] * maps[0] + weights[:, 1] * maps[1], out)


@pytest.mark.parametrize("groups", [1, 2])
def test_split_attention_shows_the_share_of_each_split(groups):
    module, x = varied(layers.SplitAttn(CHANNELS, groups=groups, radix=2)), torch.randn(3, CHANNELS, 5, 7)
    seen, out = watched(nn.Sequential(module), x)
    weights = seen["0"].values
    assert weights.shape == (3, 2, CHANNELS)
    maps = F.relu(module.conv(x)).unflatten(1, (2, CHANNELS))
    torch.testing.assert_close((maps * weights[..., None, None]).sum(1), out)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, CHANNELS))


@pytest.mark.parametrize("make", [coord_attn.CoordAttn, coord_attn.EfficientLocalAttn])
def test_coordinates_are_told_apart(make):
    module, x = varied(make(CHANNELS)), torch.randn(3, CHANNELS, 5, 7)
    seen, _ = watched(nn.Sequential(module), x)
    assert [(path, seen[path].axes) for path in seen.paths()] == [("0.height", "B C H"), ("0.width", "B C W")]
    out = module(x)
    torch.testing.assert_close(out, x * seen["0.width"].values[:, :, None] * seen["0.height"].values[..., None])


def attention_by_hand(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    q, k, _ = module.qkv(x).unflatten(-1, (3, module.num_heads, -1)).movedim(2, 0).transpose(2, 3)
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)


@pytest.mark.parametrize("fused", [True, False])
def test_a_vision_transformers_affinities_are_seen_fused_or_not(fused):
    module = varied(layers.Attention(CHANNELS, num_heads=2))
    module.fused_attn = fused
    x = torch.randn(3, 5, CHANNELS)
    seen, out = watched(nn.Sequential(module), x)
    record = seen["0"]
    assert (record.kind, record.axes, record.values.shape) == ("affinity", "B G Q K", (3, 2, 5, 5))
    torch.testing.assert_close(record.values, attention_by_hand(module, x))
    assert torch.equal(out, module(x))


@pytest.mark.parametrize("kind", ["none", "boolean", "additive", "causal"])
def test_masks_of_a_fused_kernel_are_kept(kind):
    module, x = varied(layers.Attention(CHANNELS, num_heads=2)), torch.randn(2, 5, CHANNELS)
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


def test_dropout_in_training_is_part_of_the_effective_weights_or_said_to_hide_them():
    module, x = layers.Attention(CHANNELS, num_heads=2, attn_drop=0.5).train(), torch.randn(3, 5, CHANNELS)
    seen, _ = watched(nn.Sequential(module), x)
    assert "dropout hides" in seen.unseen["0"]
    module.fused_attn = False
    seen, _ = watched(nn.Sequential(module), x)
    weights, whole = seen["0"].values, attention_by_hand(module, x)
    dropped = weights.eq(0)
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(weights, torch.where(dropped, 0, 2 * whole))


def test_attention_pools_are_seen():
    latent, x = varied(layers.AttentionPoolLatent(CHANNELS, num_heads=2)), torch.randn(3, 5, CHANNELS)
    seen, _ = watched(nn.Sequential(latent), x)
    query = latent.q(latent.latent).unflatten(-1, (2, 8)).transpose(1, 2)
    key = latent.kv(x).unflatten(-1, (2, 2, 8))[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(seen["0"].values, (query @ key.mT / 8**0.5).softmax(-1))
    pool, x = varied(layers.AttentionPool2d(CHANNELS, feat_size=4, num_heads=2)), torch.randn(3, CHANNELS, 4, 4)
    seen, _ = watched(nn.Sequential(pool), x)
    tokens = x.flatten(2).mT
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.pos_embed
    torch.testing.assert_close(seen["0"].values, attention_by_hand(pool, tokens))


@pytest.mark.parametrize("fused", [True, False])
def test_windows_are_told_from_images(fused):
    """Each image has its own four windows, in the order of the map; and the weights are those made by hand."""
    swin = timm.models.SwinTransformer(
        img_size=32, patch_size=4, window_size=4, embed_dim=12, depths=(2,), num_heads=(3,)
    )
    for module in varied(swin).modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    images = torch.rand(2, 3, 32, 32)
    seen, _ = watched(swin, images)
    first = seen["layers.0.blocks.0.attn"]
    assert (first.axes, first.values.shape) == ("B N G Q K", (2, 4, 3, 16, 16))
    for image in range(2):
        alone, _ = watched(swin, images[image : image + 1])
        torch.testing.assert_close(
            alone["layers.0.blocks.1.attn"].values[0], seen["layers.0.blocks.1.attn"].values[image]
        )
    block = swin.layers[0].blocks[0]
    tokens = block.norm1(swin.patch_embed(images))
    parts = tokens.unflatten(2, (2, 4)).unflatten(1, (2, 4)).transpose(2, 3).reshape(8, 16, 12)
    q, k, _ = block.attn.qkv(parts).unflatten(-1, (3, 3, 4)).movedim(2, 0).transpose(2, 3)
    by_hand = (q @ k.mT / 2 + block.attn._get_rel_pos_bias()).softmax(-1)
    torch.testing.assert_close(first.values, by_hand.unflatten(0, (2, 4)))


def test_windows_of_a_part_called_alone_are_said_to_be_unseen():
    swin = timm.models.SwinTransformer(img_size=32, window_size=4, embed_dim=12, depths=(2,), num_heads=(3,)).eval()
    with foveal.watch(swin) as seen:
        swin.layers(swin.patch_embed(torch.rand(2, 3, 32, 32)))
    assert "cannot be distinguished from images" in seen.unseen["layers.0.blocks.0.attn"]


def test_torchvisions_swin_and_vit():
    swin = torchvision.models.SwinTransformer([4, 4], 12, [2], [3], [4, 4], num_classes=5)
    images = torch.rand(2, 3, 32, 32)
    seen, _ = watched(varied(swin), images)
    whole = seen["features.1.0.attn"].values
    assert whole.shape == (2, 4, 3, 16, 16)
    alone, _ = watched(swin, images[1:])
    torch.testing.assert_close(whole[1:], alone["features.1.0.attn"].values)
    vit = varied(torchvision.models.VisionTransformer(16, 8, 1, 2, 12, 24, num_classes=5))
    seen, _ = watched(vit, torch.rand(2, 3, 16, 16))
    (path,) = seen.paths()
    assert path.endswith("self_attention")
    assert seen[path].values.shape == (2, 2, 5, 5)


def test_torchs_own_multi_head_attention():
    module, x = varied(nn.MultiheadAttention(CHANNELS, 2, batch_first=True)), torch.randn(3, 5, CHANNELS)

    class Host(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = module

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    model = Host().eval()
    with torch.no_grad():
        plain = model(x)
    seen, out = watched(model, x)
    assert torch.equal(out, plain)
    q, k, _ = (
        F.linear(x, module.in_proj_weight, module.in_proj_bias).unflatten(-1, (3, 2, 8)).movedim(2, 0).transpose(2, 3)
    )
    torch.testing.assert_close(seen["attention"].values, (q @ k.mT / 8**0.5).softmax(-1))
    with pytest.raises(ValueError, match="the weights of a MultiheadAttention can only be seen"):
        foveal.replace(model, {"attention": 1.0})


def test_the_fast_path_of_a_transformer_layer_is_left_alone():
    model, x = nn.Sequential(nn.TransformerEncoderLayer(CHANNELS, 2, 8, batch_first=True)).eval(), torch.rand(2, 5, 16)
    with torch.no_grad():
        plain = model(x)
    seen, out = watched(model, x)
    assert torch.equal(out, plain)
    assert "set_fastpath_enabled(False) to record it" in seen.unseen["0.self_attn"]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        seen, _ = watched(model, x)
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
def test_watching_a_foreign_network_changes_nothing_and_leaves_nothing(name, fails):
    size, options = NETWORKS[name]
    model = randomise_norms(timm.create_model(name, **options)).eval()
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        plain = model(images)
    before = state(model)
    if fails:
        handle = [*model.children()][-1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="half-way"):
            watched(model, images)
        handle.remove()
    else:
        seen, out = watched(model, images)
        assert torch.equal(out, plain)
        assert len(seen) > 0
        assert not seen.unseen
        assert all(len(record.values) == 2 for record in seen)
    assert hooks(model) == 0
    assert same(before, state(model))
    with torch.no_grad():
        assert torch.equal(model(images), plain)


def fail(*_):
    raise RuntimeError("half-way")


def test_an_interrupted_pass_leaves_no_mode_behind():
    module = layers.Attention(CHANNELS, num_heads=2).eval()

    def interrupt(*_):
        raise KeyboardInterrupt

    module.proj.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), foveal.watch(module):
        module(torch.rand(1, 5, CHANNELS))
    assert torch.overrides._get_current_function_mode_stack() == []


class MyGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.squash = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Sigmoid()

    def forward(self, x):
        return x * self.squash(self.conv(x.mean((2, 3), keepdim=True)))


class MyAttention(nn.Module):
    def forward(self, x):
        return torch.sigmoid(x.mean(1, keepdim=True)) * x


def test_a_class_of_ones_own_is_watched_by_extra():
    model, x = nn.Sequential(MyGate(), MyAttention()), torch.rand(2, CHANNELS, 5, 7)
    extra = {MyGate: ("squash", "gate"), "test_foreign.MyAttention": ("sigmoid()", "mask")}
    seen, out = watched(model, x, extra=extra)
    assert [(record.path, record.mechanism, record.axes) for record in seen] == [
        ("0", "MyGate", "B C"),
        ("1", "MyAttention", "B H W"),
    ]
    torch.testing.assert_close(out, x * seen["0"].values[:, :, None, None] * seen["1"].values[:, None])
    with foveal.replace(model, {"0": 1.0, "1": 1.0}, extra=extra):
        assert torch.equal(model(x), x)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({MyGate: ("sigmoid", "gate")}, r"has no child 'sigmoid'; it has conv, squash, or use 'softmax\(\)'"),
        ({MyGate: ("squash", "gait")}, "unknown kind 'gait'; did you mean 'gate'"),
        ({"my.Gate": ("squash", "gate")}, "extra: the model has no module of the class 'my.Gate'"),
    ],
)
def test_an_extra_that_is_wrong_is_refused(extra, message):
    with pytest.raises(ValueError, match=message):
        foveal.watch(nn.Sequential(MyGate()), extra=extra)


def test_weights_of_an_unexpected_shape_are_said_to_be_unseen():
    model, x = nn.Sequential(MyGate(), MyAttention()), torch.rand(2, CHANNELS, 5, 7)
    seen, _ = watched(model, x, extra={MyGate: ("squash", "affinity"), MyAttention: ("sigmoid()", "gate")})
    assert seen.paths() == ["0"]
    assert "not a gate of each channel" in seen.unseen["1"]
    seen, _ = watched(model, x, extra={MyGate: ("squash", "mask"), MyAttention: ("sigmoid()", "selection")})
    assert seen.unseen["0"] == "its weights of shape (2, 16, 1, 1) are not B H W"


def test_what_looks_like_attention_and_is_not_known_is_named():
    model = nn.Sequential(
        MyAttention(), layers.SEModule(CHANNELS), layers.lambda_layer.LambdaLayer(CHANNELS, feat_size=(4, 4))
    )
    seen, _ = watched(model, torch.rand(2, CHANNELS, 4, 4))
    assert seen.paths() == ["1"]
    assert "the class MyAttention is not in foveal's table" in seen.unseen["0"]
    assert "linear attention" in seen.unseen["2"]
    with pytest.raises(ValueError, match="'2' cannot be replaced: a linear"):
        foveal.replace(model, {"2": 1.0})


def test_every_class_of_the_table_exists():
    """A class that a new release renames would go unseen."""
    import importlib

    for name in (*TABLE, *UNRECORDABLE):
        module, _, cls = name.rpartition(".")
        assert hasattr(importlib.import_module(module), cls), name


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_foreign_attention_is_recorded_once(reentrant):
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


def test_a_compiled_foreign_network_is_watched_and_replaced():
    torch._dynamo.reset()
    model, x = nn.Sequential(layers.SEModule(CHANNELS)).eval(), torch.rand(2, CHANNELS, 3, 3)
    compiled = torch.compile(model, backend="aot_eager")
    plain = compiled(x)
    seen, out = watched(compiled, x)
    assert seen.paths() == ["0"]
    torch.testing.assert_close(out, plain)
    with foveal.replace(compiled, {"0": 1.0}):
        assert torch.equal(compiled(x), x)
    torch.testing.assert_close(compiled(x), plain)


def test_a_copy_made_inside_is_clean_and_wrappers_are_left_out_of_paths():
    model, x = nn.Sequential(layers.Attention(CHANNELS, num_heads=2)).eval(), torch.rand(2, 5, CHANNELS)
    wrapped = nn.DataParallel(model)
    with foveal.watch(wrapped) as seen, foveal.replace(wrapped, {"0": lambda affinity: affinity.roll(1, 0)}):
        wrapped(x)
        ema = copy.deepcopy(model)
        ema(x)
    assert seen.paths() == ["0"]
    assert len(seen["0"].values) == 2
    assert hooks(ema) == hooks(model) == 0
    assert torch.equal(ema(x), model(x))


def test_a_distributed_network_is_watched_and_replaced_under_its_plain_paths():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Sequential(layers.SEModule(CHANNELS)))
        x = torch.rand(2, CHANNELS, 3, 3)
        seen, _ = watched(model, x)
        with foveal.replace(model, {"0": 1.0}):
            assert torch.equal(model(x), x)
    finally:
        torch.distributed.destroy_process_group()
    assert seen.paths() == ["0"]
    assert hooks(model) == 0


def replaceable() -> dict:
    ours = mechanisms
    return {
        "se": (ours.SqueezeExcite(CHANNELS, 4), (CHANNELS, 5, 7)),
        "cbam": (ours.CBAM(CHANNELS, 4), (CHANNELS, 9, 9)),
        "sk": (ours.SelectiveKernel(CHANNELS, groups=4), (CHANNELS, 5, 7)),
        "stn": (ours.SpatialTransformer(CHANNELS), (CHANNELS, 12, 12)),
        "timm se": (layers.SEModule(CHANNELS), (CHANNELS, 5, 7)),
        "timm eca": (layers.EcaModule(CHANNELS), (CHANNELS, 5, 7)),
        "timm cbam": (layers.cbam.CbamModule(CHANNELS), (CHANNELS, 9, 9)),
        "timm gc": (layers.GlobalContext(CHANNELS), (CHANNELS, 5, 7)),
        "timm sk": (layers.SelectiveKernel(CHANNELS, rd_channels=16), (CHANNELS, 5, 7)),
        "timm split": (layers.SplitAttn(CHANNELS), (CHANNELS, 5, 7)),
        "timm coord": (coord_attn.CoordAttn(CHANNELS), (CHANNELS, 5, 7)),
        "timm attention": (layers.Attention(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm bottleneck": (
            layers.bottleneck_attn.BottleneckAttn(CHANNELS, feat_size=(4, 4), num_heads=2, dim_head=8),
            (CHANNELS, 4, 4),
        ),
        "timm halo": (
            layers.halo_attn.HaloAttn(CHANNELS, num_heads=2, dim_head=8, block_size=4, halo_size=1),
            (CHANNELS, 8, 8),
        ),
        "timm light cbam": (layers.cbam.LightCbamModule(CHANNELS), (CHANNELS, 9, 9)),
        "timm non-local": (layers.NonLocalAttn(CHANNELS), (CHANNELS, 4, 4)),
        "timm attention of maps": (layers.Attention2d(CHANNELS, num_heads=2), (CHANNELS, 4, 4)),
        "timm many queries": (layers.MultiQueryAttention2d(CHANNELS, num_heads=2), (CHANNELS, 4, 4)),
        "timm latent pool": (layers.AttentionPoolLatent(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm patch pool": (layers.AttentionPoolPrr(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm rotary pool": (layers.RotAttentionPool2d(CHANNELS, num_heads=2, ref_feat_size=4), (CHANNELS, 4, 4)),
        "timm sim pool": (layers.other_pool.SimPool2d(CHANNELS, num_heads=2), (CHANNELS, 4, 4)),
        "timm rotary": (layers.AttentionRope(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm pool": (layers.AttentionPool2d(CHANNELS, feat_size=4, num_heads=2), (CHANNELS, 4, 4)),
    }


@pytest.mark.parametrize("name", replaceable())
def test_weights_written_back_give_the_same_answer_and_another_images_its_own(name):
    """Written back, the answer is the same; another image's weights change it; a watch around sees the new ones."""
    module, shape = replaceable()[name]
    model, x = nn.Sequential(varied(module)), torch.randn(3, *shape)
    seen, plain = watched(model, x)
    own = {path: seen[path].values for path in seen.paths()}
    with foveal.replace(model, own):
        torch.testing.assert_close(model(x), plain)
    others = {path: lambda values: values.roll(1, 0) for path in own}
    with torch.no_grad(), foveal.watch(model) as shown, foveal.replace(model, others):
        assert not torch.equal(model(x), plain)
    if len(own) == 1:
        (path,) = own
        torch.testing.assert_close(shown[path].values, own[path].roll(1, 0))
    assert hooks(model) == 0
    with torch.no_grad():
        assert torch.equal(model(x), plain)


def test_the_mean_of_a_data_set_broadcasts_over_images():
    model, x = nn.Sequential(layers.SEModule(CHANNELS)).eval(), torch.rand(4, CHANNELS, 3, 3)
    mean = torch.rand(CHANNELS)
    with foveal.replace(model, {"0": mean}):
        torch.testing.assert_close(model(x), x * mean[:, None, None])


def test_a_replacement_that_fails_leaves_nothing():
    model, x = nn.Sequential(layers.SEModule(CHANNELS)).eval(), torch.rand(4, CHANNELS, 3, 3)
    with (
        pytest.raises(ValueError, match=r"'0': new weights of shape \(3,\) where B C is \(4, 16\)"),
        foveal.replace(model, {"0": torch.rand(3)}),
    ):
        model(x)
    assert hooks(model) == 0
    with pytest.raises(ValueError, match=r"unknown place 'layer1'; there are: 0"):
        foveal.replace(model, {"layer1": 1.0})


def test_statistics_are_those_of_all_images():
    model = nn.Sequential(varied(layers.SEModule(CHANNELS)), varied(layers.cbam.CbamModule(CHANNELS)).spatial)
    images = torch.randn(11, CHANNELS, 5, 7)
    seen, _ = watched(model, images)
    with foveal.watch(model, keep="statistics") as kept, torch.no_grad():
        for batch in images.split(4):
            model(batch)
    assert kept.paths() == seen.paths()
    for path, dims in (("0", (1,)), ("1", (1, 2))):
        values, found = seen[path].values, kept[path]
        assert found.count == 11
        for moments, each in ((found.across_images, values), (found.within_image, None)):
            if each is None:
                expected = [values.mean(dims), values.var(dims, correction=0), values.amin(dims), values.amax(dims)]
                expected = [value.mean(0) for value in expected]
            else:
                expected = [values.mean(0), values.var(0, correction=0), values.amin(0), values.amax(0)]
            told = [moments.mean, moments.variance, moments.smallest, moments.largest]
            torch.testing.assert_close([value.float() for value in told], expected)
        assert found.histogram.sum() == values.numel()
        for q in (0.1, 0.5, 0.9):
            assert abs(found.quantile(q) - values.flatten().quantile(q, interpolation="nearest")) < 2 / BINS
    assert "gate (16,) of 11 images" in repr(kept)


def test_a_failed_pass_is_not_counted_in_statistics():
    model = nn.Sequential(layers.SEModule(CHANNELS), nn.Conv2d(CHANNELS, 4, 3)).eval()
    with foveal.watch(model, keep="statistics") as seen:
        model(torch.rand(2, CHANNELS, 5, 5))
        with pytest.raises(RuntimeError):
            model(torch.rand(3, CHANNELS, 2, 2))
    assert seen["0"].count == 2


def test_statistics_of_a_long_loader_take_no_more_room():
    model, images = (
        nn.Sequential(layers.SEModule(64), layers.cbam.CbamModule(64).spatial).eval(),
        torch.rand(100, 64, 8, 8),
    )
    with foveal.watch(model, keep="statistics") as seen, torch.no_grad():
        model(images)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(99):
            model(images)
    assert seen["0"].count == 10_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


def test_values_go_where_they_are_told():
    model, images = nn.Sequential(varied(layers.SEModule(CHANNELS))), torch.rand(2, CHANNELS, 4, 4)
    whole, _ = watched(model, images)
    half, _ = watched(model, images, device="cpu", dtype=torch.float16)
    assert torch.equal(half["0"].values, whole["0"].values.half())
    with pytest.raises(ValueError, match="keep='both'"):
        foveal.watch(model, keep="both")


def test_foreign_records_are_drawn():
    model = nn.Sequential(
        layers.SEModule(CHANNELS), layers.cbam.CbamModule(CHANNELS), layers.SelectiveKernel(CHANNELS, rd_channels=16),
        coord_attn.CoordAttn(CHANNELS), layers.GlobalContext(CHANNELS), coord_attn.StripAttn(CHANNELS),
    ).eval()  # fmt: skip
    seen, _ = watched(model, torch.rand(2, CHANNELS, 9, 9))
    assert foveal.draw(seen, torch.rand(2, 3, 18, 18)).png().startswith(b"\x89PNG")
    with foveal.watch(model, keep="statistics") as kept:
        model(torch.rand(2, CHANNELS, 9, 9))
    with pytest.raises(ValueError, match="statistics cannot be drawn"):
        foveal.draw(kept, torch.rand(2, 3, 18, 18))
