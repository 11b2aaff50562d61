"""The hard crop: values by hand, places of patches, learning through noise, memory and time."""

import statistics
import time
from dataclasses import replace

import pytest
import torch
from scipy.stats import norm
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

import foveal
from foveal.data.distortions import DISTORTIONS
from foveal.mechanisms.hard_crop import HardCrop, perturbed_top_k, side_by_side
from foveal.networks.small_cnn import SmallCNN
from foveal.ops.geometry import to_pixels
from foveal.ops.warps import outline
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model

SIZE = 32


class FixedScores(nn.Module):
    """Scorer with fixed scores, (H', W')."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, x):
        return self.scores.expand(len(x), -1, -1)


def hard_crop(patches=1, channels=3, scores=None, **options) -> HardCrop:
    module = HardCrop(channels, SIZE, patches, **options)
    if scores is not None:
        module.scorer = FixedScores(scores)
    return module


def pixels_of(theta, height, width):
    """Left, top, right and bottom edge of each crop, in pixels."""
    corners = to_pixels(outline(theta.flatten(0, 1), steps=1), height, width) + 0.5
    return torch.cat([corners[:, 0], corners[:, 2]], dim=1).unflatten(0, theta.shape[:2])


class TestPerturbedTopK:
    def test_perturbed_top_k_of_two_candidates_by_hand(self):
        """s1 + sigma Z1 > s2 + sigma Z2 with probability Phi(d), d = (s1 - s2) / (sigma sqrt 2), of slope phi(d)."""
        scores = torch.tensor([[0.6, 0.5], [0.2, 0.5]], dtype=torch.float64, requires_grad=True)
        shares = perturbed_top_k(scores, 1, sigma=0.2, samples=100_000)
        distance = (scores[:, 0] - scores[:, 1]).detach() / (0.2 * 2**0.5)
        expected = torch.from_numpy(norm.cdf(distance))
        torch.testing.assert_close(shares[:, 0].T, torch.stack([expected, 1 - expected]), atol=0.01, rtol=0)
        shares[:, 0, 0].sum().backward()
        slope = torch.from_numpy(norm.pdf(distance)) / (0.2 * 2**0.5)
        torch.testing.assert_close(scores.grad, torch.stack([slope, -slope], dim=1), atol=0.03, rtol=0)

    def test_perturbed_top_k_keeps_the_order_of_places(self):
        scores = torch.tensor([[0.1, 0.9, 0.0, 0.8]])
        shares = perturbed_top_k(scores, 2, sigma=1e-3, samples=5)
        assert shares.tolist() == [[[0, 1, 0, 0], [0, 0, 0, 1]]]

    def test_perturbed_top_k_shares_sum_to_one(self):
        shares = perturbed_top_k(torch.rand(3, 9), 4, sigma=0.5, samples=50)
        torch.testing.assert_close(shares.sum(2), torch.ones(3, 4))
        assert shares.sum(1).max() <= 1 + 1e-6  # nobody is chosen twice in one sample


class TestPatches:
    @pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 95), (64, 127), (200, 311)])
    @pytest.mark.parametrize("patches", [1, 3, 4])
    def test_hard_crop_patches_are_pixels_of_the_image(self, height, width, patches):
        x = torch.rand(2, 3, height, width)
        module = hard_crop(patches).eval()
        _, theta = module.weigh(x)
        edges = pixels_of(theta, height, width)
        torch.testing.assert_close(edges, edges.round(), atol=1e-3, rtol=0)
        assert edges.min() > -1e-3
        assert (edges[..., 2:] < torch.tensor([width, height]) + 1e-3).all()
        left, top = edges[..., :2].round().long().unbind(-1)
        cut = [
            torch.stack([x[b, :, i : i + SIZE, j : j + SIZE] for i, j in zip(top[b], left[b], strict=True)])
            for b in range(2)
        ]
        expected = side_by_side(torch.stack(cut).permute(0, 1, 3, 4, 2)).permute(0, 3, 1, 2)
        torch.testing.assert_close(module(x), expected, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("length", [32, 47, 63, 64, 100, 127, 128, 999, 1024])
    def test_hard_crop_candidates_leave_no_gap_and_overlap_by_half(self, length):
        x = torch.rand(1, 3, length, SIZE)
        top = hard_crop().origins(x, hard_crop().scorer(x))[:, 1].unique()
        assert top[0] == 0
        assert top[-1] == length - SIZE
        assert (top.diff() <= SIZE / 2 * (1 + 1 / len(top)) + 1).all()

    def test_hard_crop_chooses_the_best_candidates(self):
        """Two rows of four scores for 32x80: their centres are at 10, 30, 50 and 70 from the left."""
        module = hard_crop(2, scores=[[0.1, 0.2, 0.9, 0.3], [0.7, 0.0, 0.0, 0.0]]).eval()
        _, theta = module.weigh(torch.rand(1, 3, 40, 80))
        assert pixels_of(theta, 40, 80)[0].round().tolist() == [[34, 0, 66, 32], [0, 8, 32, 40]]

    @pytest.mark.parametrize(
        ("patches", "height", "width"), [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 2), (6, 2, 3), (9, 3, 3)]
    )
    def test_hard_crop_arranges_patches_side_by_side(self, patches, height, width):
        assert hard_crop(patches)(torch.rand(1, 3, 99, 99)).shape == (1, 3, SIZE * height, SIZE * width)


class TestLearning:
    def test_hard_crop_raises_the_score_of_the_informative_patch(self):
        """Left half: bright or dark, as the class is. Right half: bright or dark by chance."""
        module = hard_crop(channels=1, scores=[[0.5, 0.5]])
        labels = torch.arange(64) % 2
        chance = torch.randint(2, (64,))
        halves = [value.float()[:, None, None, None].expand(-1, 1, SIZE, SIZE) for value in (labels, chance)]
        logits = 4 * module(torch.cat(halves, dim=3)).mean((1, 2, 3)) - 2
        F.binary_cross_entropy_with_logits(logits, labels.float()).backward()
        left, right = module.scorer.scores.grad[0]
        assert left < 0 < right  # descent raises the left score

    def test_hard_crop_blends_in_training_and_agrees_with_evaluation_for_sure_scores(self):
        x = torch.rand(2, 3, SIZE, 2 * SIZE)
        blended = hard_crop(scores=[[0.5, 0.5]], samples=2000)(x)
        torch.testing.assert_close(blended, (x[..., :SIZE] + x[..., SIZE:]) / 2, atol=0.05, rtol=0)
        sure = hard_crop(2, scores=[[0.9, 0.0, 0.0, 0.9]], sigma=1e-3)
        torch.testing.assert_close(sure(x), sure.eval()(x), atol=1e-4, rtol=0)

    def test_hard_crop_trains_every_weight_and_passes_gradients(self):
        module, x = hard_crop(4), torch.rand(4, 3, 100, 90, requires_grad=True)
        (module(x) * torch.rand(4, 3, 64, 64)).sum().backward()
        assert all(weight.grad.abs().sum() > 0 for weight in module.parameters())
        assert x.grad.abs().sum() > 0

    def test_hard_crop_finds_a_striped_square(self):
        """Noise with one 8x8 square of vertical or horizontal stripes, the class; its place is not given."""
        generator = torch.Generator().manual_seed(0)
        stripes = torch.tensor([2.0, 2.0, 0.0, 0.0] * 2).expand(8, 8)

        def batch(count=32):
            images = 0.1 * torch.randn(count, 1, 96, 96, generator=generator)
            labels = torch.randint(2, (count,), generator=generator)
            places = torch.randint(96 - 8, (count, 2), generator=generator)
            for image, label, (y, x) in zip(images, labels, places.tolist(), strict=True):
                image[0, y : y + 8, x : x + 8] += stripes if label else stripes.T
            return images, labels, places

        crop, network = hard_crop(channels=1), SmallCNN(2, widths=(8, 8, 16, 16))
        optimizer = torch.optim.Adam([*crop.parameters(), *network.parameters()], lr=1e-2)
        for _ in range(60):
            images, labels, _ = batch()
            optimizer.zero_grad()
            F.cross_entropy(network(crop(images)), labels).backward()
            optimizer.step()
        images, labels, places = batch(200)
        _, theta = crop.eval().weigh(images)
        left, top, right, bottom = pixels_of(theta, 96, 96)[:, 0].unbind(1)
        y, x = places.float().T + 4  # the square's centre
        assert ((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).float().mean() > 0.8


class TestContract:
    def test_hard_crop_is_deterministic_in_evaluation_alone(self):
        module, x = hard_crop(2), torch.rand(2, 3, 80, 80)
        assert not torch.equal(module(x), module(x))
        module.eval()
        assert torch.equal(module(x), module(x))
        assert torch.equal(module(x)[:1], module(x[:1]))  # whatever stands beside in the batch

    def test_hard_crop_records_scores_and_crops(self):
        module, x = nn.Sequential(hard_crop(4)).eval(), torch.rand(3, 3, 96, 130)
        plain = module(x)
        with foveal.watch(module) as seen:
            assert torch.equal(module(x), plain)
        assert seen.paths() == ["0.scores", "0.crops"]
        scores, crops = seen
        assert (scores.kind, scores.axes, scores.values.shape) == ("mask", "B H W", (3, 6, 8))
        assert (crops.kind, crops.axes, crops.values.shape) == ("crop", "B K 2 3", (3, 4, 2, 3))
        for record in seen:
            low, high = record.value_range
            assert record.hard
            assert low <= record.values.min()
            assert record.values.max() <= high

    def test_hard_crop_state_dict_round_trip(self):
        module, other, x = hard_crop(2).eval(), hard_crop(2).eval(), torch.rand(2, 3, 70, 70)
        other.load_state_dict(module.state_dict())
        assert torch.equal(module(x), other(x))

    def test_hard_crop_compiles_as_one_graph(self):
        torch._dynamo.reset()
        module, x = hard_crop(4).eval(), torch.rand(2, 3, 70, 90)
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), module(x))

    DYNAMIC = (
        {
            0: torch.export.Dim("batch", min=1),
            2: torch.export.Dim("height", min=SIZE),
            3: torch.export.Dim("width", min=SIZE),
        },
    )

    def test_hard_crop_exports_for_any_batch_and_size(self):
        module = hard_crop(4).eval()
        exported = torch.export.export(module, (torch.rand(2, 3, 80, 80),), dynamic_shapes=self.DYNAMIC)
        x = torch.rand(3, 3, 70, 120)
        torch.testing.assert_close(exported.module()(x), module(x))
        assert not [node for node in exported.graph.nodes if "tap" in str(node.target)]

    @pytest.mark.slow
    @pytest.mark.exhaustive
    def test_hard_crop_runs_in_onnx_at_another_batch_and_size(self, tmp_path):
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        module, path = hard_crop(4).eval(), tmp_path / "crop.onnx"
        x = torch.rand(2, 3, 80, 80)
        torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=self.DYNAMIC, verbose=False)
        session = onnxruntime.InferenceSession(path)
        other = torch.rand(3, 3, 70, 120)
        (answer,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), module(other), atol=1e-4, rtol=0)

    def test_hard_crop_runs_in_bfloat16_and_channels_last(self):
        module, x = hard_crop(2, scores=[[0.1, 0.9, 0.3], [0.2, 0.8, 0.0]]), torch.rand(2, 3, 64, 96)
        last = x.contiguous(memory_format=torch.channels_last)
        for mode in (True, False):
            module.train(mode)
            assert module(last).is_contiguous(memory_format=torch.channels_last)
            assert module(x).is_contiguous()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert module(x.bfloat16()).dtype == torch.bfloat16
        torch.testing.assert_close(module(last), module(x))
        torch.testing.assert_close(module(x.bfloat16()).float(), module(x), atol=0.01, rtol=0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 15}, "size=15"),
            ({"patches": 0}, "patches=0"),
            ({"sigma": 0.0}, "sigma=0.0"),
            ({"sigma": float("nan")}, "sigma=nan"),
            ({"samples": 1}, "samples=1: two or more"),
        ],
    )
    def test_hard_crop_refuses_impossible_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            HardCrop(3, **options)

    @pytest.mark.parametrize(
        ("patches", "shape", "message"),
        [
            (1, (31, 90), "31x90 pixels are less than a patch of size=32"),
            (5, (32, 32), "32x32 pixels hold 4 candidates, patches=5"),
        ],
    )
    def test_hard_crop_refuses_images_that_are_too_small(self, patches, shape, message):
        with pytest.raises(ValueError, match=message):
            hard_crop(patches)(torch.rand(1, 3, *shape))


class TestInNetwork:
    def test_attach_hard_crop_before_a_classifier_without_identity(self):
        model = foveal.create_model("resnet18+hard_crop:patches=4,size=64", num_classes=5).eval()
        assert isinstance(model.conv1.hard_crop, HardCrop)
        assert model(torch.rand(2, 3, 300, 400)).shape == (2, 5)
        (attachment,) = foveal.attachments(foveal.attach(SmallCNN(in_chans=3), "hard_crop", at="input", size=64))
        assert not attachment.identity
        assert set(foveal.detach(model).state_dict()) == set(foveal.create_model("resnet18").state_dict())

    def test_create_model_joins_hard_crop_and_other_attention(self):
        model = foveal.create_model("resnet18+hard_crop:size=400+se", num_classes=5).eval()
        assert model(torch.rand(1, 3, 450, 500)).shape == (1, 5)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_hard_crop_costs_as_much_as_its_patches(capsys):
    """Compare memory for the backward pass and time with the same network on the whole image."""
    images, cropping = torch.rand(1, 3, 512, 512), "resnet18+hard_crop:patches=4,size=32"
    models = {name: foveal.create_model(name, num_classes=10) for name in ("resnet18", cropping)}
    kept = [kept_for_backward(model, images) for model in models.values()]
    learn: dict[str, list[float]] = {name: [] for name in models}
    infer: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(3):
        for name, model in models.items():
            learn[name].append(seconds(lambda model=model: model.train()(images).sum().backward()))
            with torch.no_grad():
                infer[name].append(seconds(lambda model=model: model.eval()(images)))
    learning, inferring = (
        statistics.median(times[cropping]) / statistics.median(times["resnet18"]) for times in (learn, infer)
    )
    with capsys.disabled():
        print(f"\nkept {kept[1] / kept[0]:.3f}, forward and backward {learning:.3f}, inference {inferring:.3f}")
    assert kept[1] < 0.1 * kept[0]
    assert learning < 0.5
    assert inferring < 0.3


def seconds(work) -> float:
    """CPU time of a call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def kept_for_backward(model: nn.Module, images: torch.Tensor) -> int:
    """Bytes that a forward pass in training saves, without weights and images."""
    kept: dict[int, int] = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        out = model.train()(images)
    there = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), images]}
    del out
    return sum(size for place, size in kept.items() if place not in there)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_hard_crop_finds_the_digit_in_a_scene(tmp_path, monkeypatch):
    """Train as in the docstring, on a quarter of the scene with a quarter of the pieces, for a few epochs."""
    pytest.importorskip("mlxtend")
    side = 128
    monkeypatch.setitem(DISTORTIONS, "scene", replace(DISTORTIONS["scene"], canvas=side, pieces=10))
    settings = RunConfig(model="small_cnn+hard_crop:size=48", data="digits/scene", epochs=2)
    result = foveal.train(settings, tmp_path / "run")
    opened = load_model(str(tmp_path / "run"))
    data = opened.load_data(settings.data)
    with foveal.watch(opened.network) as seen, torch.no_grad():
        opened.network(opened.preprocessing.normalize(data.test.images[:300]))
    crops = pixels_of(seen["stem.0.hard_crop.crops"].values, side, side)[:, 0]
    boxes = data.test.boxes[:300]
    held = ((crops[:, :2] <= boxes[:, :2] + 0.01) & (boxes[:, 2:] <= crops[:, 2:] + 0.01)).all(1)
    assert result.accuracy > 0.7
    assert held.float().mean() > 0.7
