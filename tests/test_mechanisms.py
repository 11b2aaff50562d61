"""Values by thought, and the details that re-implementations get wrong."""

import pytest
import timm.layers
import torch
from torch import nn

import foveal
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.spatial_transformer import SpatialTransformer, central_moments
from foveal.mechanisms.squeeze_excite import SqueezeExcite, hidden_width
from foveal.ops.warps import FAMILIES


def constant(module: nn.Module, **values: float) -> None:
    for name, value in values.items():
        nn.init.constant_(module.get_parameter(name.replace("__", ".")), value)


class TestSqueezeExcite:
    def test_a_gate_by_thought(self):
        """Means 1 and 3, a hidden sum of 4, gates sigmoid(4 w): w = 0 gives 1/2, w = ln(3) / 4 gives 3/4."""
        module = SqueezeExcite(2, reduction=2, bias=False)
        module.fc1.weight.data = torch.tensor([[1.0, 1.0]])
        module.fc2.weight.data = torch.tensor([[0.0], [torch.log(torch.tensor(3.0)) / 4]])
        x = torch.stack([torch.full((2, 2), 1.0), torch.tensor([[0.0, 6.0], [2.0, 4.0]])])[None]
        torch.testing.assert_close(module.weigh(x), torch.tensor([[0.5, 0.75]]))
        torch.testing.assert_close(module(x)[0, 1], 0.75 * x[0, 1])

    @pytest.mark.parametrize(("channels", "hidden"), [(8, 1), (16, 1), (24, 1), (64, 4), (128, 8), (2048, 128)])
    def test_hidden_width_of_the_paper_never_vanishes(self, channels, hidden):
        assert hidden_width(channels, 16) == hidden

    @pytest.mark.parametrize("channels", [8, 24, 64, 72, 128, 200, 256, 672, 2048])
    def test_rounding_is_that_of_timm(self, channels):
        assert hidden_width(channels, 16, divisor=8) == timm.layers.SqueezeExcite(channels).fc1.out_channels

    def test_a_gate_of_few_channels_depends_on_its_input(self):
        """`SELayer(8)` of a popular repository has no hidden unit and gives x / 2 whatever x is."""
        module = SqueezeExcite(8)
        nn.init.constant_(module.fc1.weight, 1.0)
        first, second = module.weigh(torch.rand(1, 8, 4, 4)), module.weigh(5 + torch.rand(1, 8, 4, 4))
        assert (first - second).abs().max() > 1e-3

    def test_weights_of_timms_layer_fit(self):
        theirs, ours = timm.layers.SqueezeExcite(64), SqueezeExcite(64, divisor=8)
        foveal.load_weights(ours, theirs.state_dict())  # 1x1 convolutions there, linear layers here
        x = torch.randn(2, 64, 5, 7)
        torch.testing.assert_close(ours(x), theirs(x))

    def test_a_gate_that_is_not_finite_shows_at_once(self):
        module = SqueezeExcite(4, identity=True)
        constant(module, fc2__bias=float("nan"))
        assert module(torch.rand(1, 4, 2, 2)).isnan().all()


class TestSelectiveKernel:
    def test_the_topology_of_the_authors(self):
        module = SelectiveKernel(512)
        first, second = (branch.conv for branch in module.branches)
        assert (first.kernel_size, first.dilation, first.padding, first.groups) == ((3, 3), (1, 1), (1, 1), 32)
        assert (second.kernel_size, second.dilation, second.padding, second.groups) == ((3, 3), (2, 2), (2, 2), 32)
        assert [type(part) for part in module.branches[1]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
        assert module.fc1.bias is None
        assert module.fc2.bias is None

    @pytest.mark.parametrize(("channels", "width"), [(128, 32), (256, 32), (512, 32), (1024, 64)])
    def test_the_fused_width_has_a_floor(self, channels, width):
        assert SelectiveKernel(channels).fc1.out_features == width

    def test_each_channel_chooses_among_branches_alone(self):
        module = SelectiveKernel(8, groups=2, dilations=(1, 2, 3)).eval()
        with foveal.watch(module) as seen:
            module(torch.randn(4, 8, 6, 6))
        selection = next(iter(seen)).values
        assert selection.shape == (4, 3, 8)
        torch.testing.assert_close(selection.sum(1), torch.ones(4, 8))
        assert (selection[:, :, 0] - selection[:, :, 1]).abs().max() > 1e-6

    def test_a_selection_by_thought(self):
        """Logits of ln 3 against 0 choose three quarters of the first branch's map."""
        module = SelectiveKernel(2, groups=1).eval()
        constant(module, norm__bias=1.0, norm__weight=0.0)  # z is 1 in each of its 32 entries
        module.fc2.weight.data.zero_()
        module.fc2.weight.data[:2] = torch.log(torch.tensor(3.0)) / 32
        x = torch.randn(1, 2, 5, 5)
        first, second = (branch(x) for branch in module.branches)
        torch.testing.assert_close(module(x), 0.75 * first + 0.25 * second)

    def test_is_that_of_timm(self):
        theirs = timm.layers.SelectiveKernel(
            64, 64, stride=2, groups=32, rd_ratio=1 / 16, rd_divisor=32, split_input=False
        )
        ours = SelectiveKernel(64, stride=2)
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        for mine, other in pairs:
            mine.copy_(torch.rand_like(mine) if mine.is_floating_point() else mine)
            other.copy_(mine.view_as(other))
        x = torch.randn(2, 64, 9, 9, dtype=torch.float64)
        torch.testing.assert_close(ours.double().eval()(x), theirs.double().eval()(x))

    def test_a_training_batch_of_one_is_refused_in_one_line(self):
        module = SelectiveKernel(8, groups=2)
        with pytest.raises(ValueError, match="a training batch of 1 image"):
            module(torch.rand(1, 8, 4, 4))
        assert module.eval()(torch.rand(1, 8, 4, 4)).shape == (1, 8, 4, 4)


class TestCBAM:
    def test_the_spatial_gate_reads_the_maximum_first(self):
        """A convolution that reads its first input alone answers to the maximum over channels."""
        gate = CBAM(4).spatial.eval()
        gate.conv.weight.data.zero_()
        gate.conv.weight.data[0, 0, 3, 3] = 1.0
        x = torch.zeros(1, 4, 3, 3)
        x[0, 2, 1, 1] = 4.0
        mask = gate.weigh(x)[0]
        scale = 1 / (1 + 1e-5) ** 0.5
        assert mask[1, 1].item() == pytest.approx(torch.sigmoid(torch.tensor(4.0 * scale)).item())
        assert mask[0, 0].item() == 0.5

    def test_the_channel_gate_adds_mean_and_maximum_before_the_sigmoid(self):
        gate = CBAM(1, reduction=1).channel
        constant(gate, fc1__weight=1.0, fc1__bias=0.0, fc2__weight=1.0, fc2__bias=0.0)
        x = torch.tensor([[[[0.0, 1.0], [1.0, 2.0]]]])  # mean 1, maximum 2
        assert gate.weigh(x).item() == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())

    def test_the_details_of_the_authors(self):
        module = CBAM(32)
        assert module.spatial.conv.bias is None
        assert module.spatial.norm.momentum == 0.01
        assert module.channel.fc1.bias is not None

    def test_states_two_records(self):
        module = nn.Sequential(CBAM(8))
        with foveal.watch(module) as seen:
            module(torch.rand(2, 8, 5, 5))
        assert seen.paths() == ["0.channel", "0.spatial"]
        assert [record.domain for record in seen] == ["channel", "spatial"]


class TestSpatialTransformer:
    def test_moments_by_thought(self):
        """All mass in one pixel: its centre, no spread. Two pixels: the centre between, a spread along the line."""
        maps = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
        maps[0, 0, 1, 3] = 1e6  # at (0.75, -0.25)
        maps[0, 1, 0, 0] = maps[0, 1, 3, 3] = 1e6  # at -(0.75, 0.75) and (0.75, 0.75)
        mass, cx, cy, xx, yy, xy = central_moments(maps)[0].view(6, 2)
        torch.testing.assert_close(mass, torch.tensor([1e6 / 16, 2e6 / 16], dtype=torch.float64))
        torch.testing.assert_close(cx, torch.tensor([0.75, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)
        torch.testing.assert_close(cy, torch.tensor([-0.25, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)
        for spread in (xx, yy, xy):
            torch.testing.assert_close(spread, torch.tensor([0.0, 4 * 0.75**2], dtype=torch.float64), atol=1e-6, rtol=0)

    def test_an_empty_map_has_moments(self):
        assert central_moments(torch.zeros(1, 3, 5, 5)).eq(0).all()

    def test_starts_as_the_identity_with_weights_at_zero(self):
        module = SpatialTransformer(3)
        assert module.localisation.regression.weight.eq(0).all()
        x = torch.rand(2, 3, 9, 13)
        torch.testing.assert_close(module(x), x, atol=1e-6, rtol=0)

    def test_shows_what_theta_says(self):
        """A fixed theta: the lower right quarter, drawn as large as the whole."""
        module = SpatialTransformer(1, size=2)
        module.localisation.regression.bias.data = torch.tensor([0.5, 0.0, 0.5, 0.0, 0.5, 0.5])
        image = torch.arange(16.0).view(1, 1, 4, 4)
        assert module(image)[0, 0].tolist() == [[10, 11], [14, 15]]

    def test_finds_a_shifted_square_after_a_few_steps(self):
        """One bright square whose place differs by image: the transformer learns to bring it to the middle."""
        module = SpatialTransformer(1)
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        target = torch.zeros(1, 1, 21, 21)
        target[..., 8:13, 8:13] = 1
        generator = torch.Generator().manual_seed(0)

        def batch():
            images = torch.zeros(32, 1, 21, 21)
            corners = torch.randint(4, 13, (32, 2), generator=generator).tolist()
            for image, (x, y) in zip(images, corners, strict=True):
                image[0, y : y + 5, x : x + 5] = 1
            return images

        for _ in range(150):
            optimizer.zero_grad()
            (module(batch()) - target).square().mean().backward()
            optimizer.step()
        images = batch()
        before, after = ((each - target).square().mean().item() for each in (images, module(images)))
        assert after < 0.3 * before

    @pytest.mark.parametrize(
        ("channels", "kernel", "parameters"),
        [(1, 9, 81 * 32 + 32 + 193 * 6), (3, 9, 243 * 32 + 32 + 193 * 6), (256, 3, 9 * 256 * 32 + 32 + 193 * 6)],
    )
    def test_an_image_is_read_by_a_large_kernel_and_a_deep_map_by_a_small_one(self, channels, kernel, parameters):
        module = SpatialTransformer(channels)
        assert module.localisation.features.kernel_size == (kernel, kernel)
        assert sum(weight.numel() for weight in module.parameters()) == parameters

    @pytest.mark.parametrize("family", FAMILIES)
    def test_where_to_look_is_not_rounded_by_autocast(self, family):
        """Maps of whole numbers, which eight bits hold: all that follows is as precise as without autocast."""
        module = SpatialTransformer(1, family=family)
        module.localisation.features.weight.data.zero_()
        module.localisation.features.weight.data[:, :, 4, 4] = 1.0
        nn.init.zeros_(module.localisation.features.bias)
        nn.init.normal_(module.localisation.regression.weight, std=0.1)
        x = torch.randint(0, 9, (4, 1, 21, 21)).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under_autocast = module.weigh(x)
        assert under_autocast.dtype == torch.float32
        torch.testing.assert_close(under_autocast, module.weigh(x), atol=1e-6, rtol=0)

    def test_its_own_localisation_net_can_be_given(self):
        class Shift(nn.Module):
            def forward(self, x):
                return torch.tensor([[[1.0, 0.0, 2.0 / 3], [0.0, 1.0, 0.0]]]).expand(len(x), 2, 3)

        x = torch.arange(9.0).view(1, 1, 3, 3)
        out = SpatialTransformer(1, localisation=Shift())(x)
        torch.testing.assert_close(out[0, 0], torch.tensor([[1.0, 2, 2], [4, 5, 5], [7, 8, 8]]))
