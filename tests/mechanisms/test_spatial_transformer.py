"""The spatial transformer: moments, identity at birth, learning, precision."""

import pytest
import torch
from torch import nn

import foveal
from foveal.mechanisms.spatial_transformer import SpatialTransformer, central_moments
from foveal.ops.warps import FAMILIES


class TestSpatialTransformer:
    def test_central_moments_by_hand(self):
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

    def test_central_moments_of_an_empty_map_are_finite(self):
        assert central_moments(torch.zeros(1, 3, 5, 5)).eq(0).all()

    def test_spatial_transformer_starts_as_the_identity(self):
        module = SpatialTransformer(3)
        assert module.localisation.regression.weight.eq(0).all()
        x = torch.rand(2, 3, 9, 13)
        torch.testing.assert_close(module(x), x, atol=1e-6, rtol=0)

    def test_spatial_transformer_samples_the_region_of_theta(self):
        """A fixed theta: the lower right quarter, drawn as large as the whole."""
        module = SpatialTransformer(1, size=2)
        module.localisation.regression.bias.data = torch.tensor([0.5, 0.0, 0.5, 0.0, 0.5, 0.5])
        image = torch.arange(16.0).view(1, 1, 4, 4)
        assert module(image)[0, 0].tolist() == [[10, 11], [14, 15]]

    def test_spatial_transformer_learns_to_centre_a_square(self):
        """Train on one bright square at varying places: the transformer learns to centre it."""
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
    def test_spatial_transformer_kernel_depends_on_channels(self, channels, kernel, parameters):
        module = SpatialTransformer(channels)
        assert module.localisation.features.kernel_size == (kernel, kernel)
        assert sum(weight.numel() for weight in module.parameters()) == parameters

    @pytest.mark.parametrize("family", FAMILIES)
    def test_spatial_transformer_keeps_theta_precise_under_autocast(self, family):
        """Use maps of integers that bfloat16 holds: all later steps are as precise as without autocast."""
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

    def test_spatial_transformer_accepts_a_custom_localisation(self):
        class Shift(nn.Module):
            def forward(self, x):
                return torch.tensor([[[1.0, 0.0, 2.0 / 3], [0.0, 1.0, 0.0]]]).expand(len(x), 2, 3)

        x = torch.arange(9.0).view(1, 1, 3, 3)
        out = SpatialTransformer(1, localisation=Shift())(x)
        torch.testing.assert_close(out[0, 0], torch.tensor([[1.0, 2, 2], [4, 5, 5], [7, 8, 8]]))


def test_spatial_transformers_in_series_record_and_learn():
    model = foveal.create_model("small_cnn+stn:family=similarity", num_classes=10, in_chans=1)
    foveal.attach(model, "stn", at="features.2", family="attention")
    images = torch.rand(4, 1, 42, 42)
    with foveal.watch(model) as seen:
        model(images).square().sum().backward()
    assert seen.paths() == ["stem.0.stn", "features.2.stn"]
    for record in seen:
        torch.testing.assert_close(record.values[:, :, :2], torch.eye(2).expand(4, 2, 2))
        assert model.get_submodule(record.path).localisation.regression.bias.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.exhaustive
def test_spatial_transformer_in_a_resnet_trains_and_is_drawn(tmp_path):
    """Train on bright squares at random places whose size is the class, with a transformer before the second stage."""
    torch.manual_seed(0)
    model = foveal.create_model("resnet18", num_classes=2, layers=(1, 1, 1, 1))
    foveal.attach(model, "stn", at="layer2")
    localisation = model.layer2.stn.localisation
    start = localisation.regression.weight.clone()
    generator = torch.Generator().manual_seed(0)

    def batch():
        images, labels = torch.zeros(16, 3, 64, 64), torch.arange(16) % 2
        for image, label, (x, y) in zip(
            images, labels, torch.randint(0, 40, (16, 2), generator=generator), strict=True
        ):
            image[:, y : y + 12 + 10 * label, x : x + 12 + 10 * label] = 1
        return images, labels

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(18):
        images, labels = batch()
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert (localisation.regression.weight - start).abs().max() > 1e-3
    with foveal.watch(model.eval()) as seen, torch.no_grad():
        model(images)
    assert seen["layer2.stn"].values.shape == (16, 2, 3)
    assert foveal.draw(seen, images, most=2).save(tmp_path / "box.png").stat().st_size > 5000
