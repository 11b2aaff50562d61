"""Parallel transformers: tiles at birth, records, learning."""

import pytest
import torch
from torch import nn

import foveal
from foveal.networks.parallel_transformers import ParallelTransformers, tiles
from foveal.training.optimizer_state import parameter_groups


class TestParallelTransformers:
    def test_parallel_transformers_start_as_tiles(self):
        assert tiles(1) == [(0, 0)]
        assert tiles(2) == [(-0.5, 0), (0.5, 0)]
        assert tiles(4) == [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]
        image = torch.arange(16.0).view(1, 1, 4, 4)
        left, right = ParallelTransformers(1, count=2, size=2)(image)[0]
        torch.testing.assert_close(left, torch.tensor([[4.0, 5], [8, 9]]))
        torch.testing.assert_close(right, torch.tensor([[6.0, 7], [10, 11]]))

    def test_parallel_transformers_have_a_record_each(self):
        model = foveal.create_model("two_stn_cnn", num_classes=19, in_chans=2).eval()
        with foveal.watch(model) as seen:
            assert model(torch.rand(3, 2, 42, 42)).shape == (3, 19)
        assert seen.paths() == ["stn.transformers.0", "stn.transformers.1"]
        centres = [record.values[:, :, 2] for record in seen]
        torch.testing.assert_close(centres[1] - centres[0], torch.tensor([1.0, 0.0]).expand(3, 2))

    def test_parallel_transformers_refuse_a_count_of_zero(self):
        with pytest.raises(ValueError, match="count=0"):
            ParallelTransformers(1, count=0)

    @pytest.mark.slow
    @pytest.mark.exhaustive
    def test_parallel_transformers_stay_apart_on_two_objects(self):
        """A cross or a square on each of two channels, anywhere; the class is the number of squares."""
        torch.manual_seed(0)
        model = foveal.create_model("two_stn_cnn", num_classes=3, in_chans=2)
        shapes = torch.zeros(2, 7, 7)
        shapes[0, 3], shapes[0, :, 3] = 1, 1
        shapes[1], shapes[1, 1:-1, 1:-1] = 1, 0

        def batch():
            images, kinds = torch.zeros(32, 2, 28, 28), torch.randint(0, 2, (32, 2))
            for image, pair in zip(images, kinds.tolist(), strict=True):
                for channel, kind in zip(image, pair, strict=True):
                    x, y = torch.randint(0, 22, (2,)).tolist()
                    channel[y : y + 7, x : x + 7] = shapes[kind]
            return images, kinds.sum(1)

        optimizer = torch.optim.Adam(parameter_groups(model, 0.0), lr=3e-3)
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]
        losses = []
        for _ in range(300):
            images, labels = batch()
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert sum(losses[-20:]) < 0.7 * sum(losses[:20])
        with foveal.watch(model.eval()) as seen, torch.no_grad():
            model(images)
        first, second = (record.values[:, :, 2] for record in seen)
        assert (first - second).norm(dim=1).mean() > 0.5
