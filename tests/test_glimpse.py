"""Hard attention by glimpses: the retina's geometry, the policy's gradient, the recurrent attention model."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import foveal
from foveal.core.record import Record
from foveal.inspection.drawing.draw import draw
from foveal.mechanisms.glimpse import Glimpse
from foveal.networks.ram import RAM
from foveal.training.checkpoint import load_checkpoint, save_checkpoint


def at(x: float, y: float, width: int, height: int) -> torch.Tensor:
    """The location of a point that lies x, y pixels from the image's upper left corner."""
    return torch.tensor([[2 * x / width - 1, 2 * y / height - 1]])


def look(images, location, size, scales, padding=0.0):
    glimpse = Glimpse(4, size, scales, padding=padding)
    return glimpse(glimpse.levels(images), location)


class TestRetina:
    @pytest.mark.parametrize(("height", "width"), [(24, 30), (23, 31)])
    def test_patches_are_crops_and_their_means(self, height, width):
        images = torch.rand(2, 3, height, width)
        seen = look(images, at(13, 11, width, height).expand(2, 2), size=4, scales=3)  # around a corner of pixels
        assert seen.shape == (2, 9, 4, 4)
        for k, half in enumerate((2, 4, 8)):
            crop = images[:, :, 11 - half : 11 + half, 13 - half : 13 + half]
            torch.testing.assert_close(seen[:, 3 * k : 3 * k + 3], F.avg_pool2d(crop, 2**k))

    def test_x_stands_before_y(self):
        image = torch.zeros(1, 1, 10, 20)
        image[:, :, 2, 15] = 1
        assert look(image, at(15.5, 2.5, 20, 10), size=1, scales=1).item() == pytest.approx(1)
        assert look(image, at(2.5, 2.5, 20, 10), size=1, scales=1).item() == 0

    def test_between_pixels_a_ramp_stays_a_ramp(self):
        ramp = torch.arange(40.0).expand(1, 1, 40, 40)  # pixel i has the value i and its centre at i + 0.5
        fine, coarse = look(ramp, at(17.3, 20, 40, 40), size=2, scales=2)[0]
        assert fine[0].tolist() == pytest.approx([16.3, 17.3], abs=1e-4)
        assert coarse[0].tolist() == pytest.approx([15.8, 17.8], abs=1e-4)

    def test_outside_lies_the_padding(self):
        seen = look(torch.ones(1, 1, 16, 16), torch.tensor([[-1.0, -1.0]]), size=4, scales=2, padding=-3.0)
        for patch in seen[0]:
            torch.testing.assert_close(patch[2:, 2:], torch.ones(2, 2))
            outside = torch.cat([patch[:2].flatten(), patch[:, :2].flatten()])
            torch.testing.assert_close(outside, torch.full_like(outside, -3))

    def test_a_patch_may_be_larger_than_the_image(self):
        seen = look(torch.full((1, 1, 1, 1), 16.0), torch.zeros(1, 2), size=2, scales=3)
        assert seen.sum((2, 3)).tolist() == [[16, 4, 1]]  # the same light on patches of 4, 16 and 64 pixels' area


def moved(model: RAM) -> RAM:
    """A network whose weights have left their start, where its policy looks at the centre of every image."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model


def test_it_starts_by_looking_at_the_centre():
    model = RAM().eval()
    with foveal.watch(model) as seen:
        model(torch.rand(3, 1, 20, 20))
    assert torch.equal(seen["glimpse"].values, torch.zeros(3, 6, 2))


def test_a_location_is_inside_the_image():
    glimpse = Glimpse(8, std=0.7)
    for weight in glimpse.parameters():
        nn.init.normal_(weight, std=3)
    mean = glimpse.weigh(torch.randn(500, 8))
    location, _ = glimpse.draw(mean)
    assert mean.abs().max() <= 1
    assert location.abs().max() == 1  # some were drawn outside, and moved onto the edge
    for model in (RAM(std=0.9), RAM(std=0.9).eval(), RAM(policy="random").eval()):
        with foveal.watch(model) as seen, torch.no_grad():
            model(torch.rand(40, 1, 20, 20))
        record = seen["glimpse"]
        assert (record.axes, record.hard, record.size, record.values.shape) == ("B T 2", True, (12, 12), (40, 6, 2))
        assert record.values.abs().max() <= record.value_range[1] == 1


def test_the_density_is_that_of_a_gaussian_and_its_gradient_alone_reaches_the_policy():
    glimpse = Glimpse(8, std=0.1)
    mean = torch.tensor([[0.2, -0.3], [0.0, 0.5]], requires_grad=True)
    location, density = glimpse.draw(mean)
    expected = torch.distributions.Normal(mean, 0.1).log_prob(location).sum(1)
    torch.testing.assert_close(density - expected, torch.full((2,), math.log(2 * math.pi * 0.01)))
    (gradient,) = torch.autograd.grad(density.sum(), mean)
    torch.testing.assert_close(gradient, (location - mean.detach()) / 0.01)
    assert not location.requires_grad


def test_the_policys_gradient_is_that_of_the_chance_to_be_rewarded():
    """A reward left of c: its mean is Phi((c - mu) / std), whose derivative in mu is -phi((c - mu) / std) / std."""
    std, mu, c, count = 0.2, 0.1, 0.0, 40_000
    mean = torch.tensor([[mu, 0.0]], requires_grad=True)
    location, density = Glimpse(8, std=std).draw(mean.expand(count, 2))
    reward = (location[:, 0] < c).float()
    (gradient,) = torch.autograd.grad((density * (reward - reward.mean())).mean(), mean)
    z = (c - mu) / std
    slope = -math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / std
    assert gradient[0].tolist() == pytest.approx([slope, 0.0], abs=4 / (std * math.sqrt(count)))


def brightness_reader() -> RAM:
    """Two glimpses of 4x4, and an answer: 1 where the last one saw light, else 0. Its policy begins in the centre."""
    model = RAM(num_classes=2, glimpses=2, size=4, scales=1, std=0.4)
    for name, weight in model.named_parameters():
        if "glimpse.fc1" not in name:
            nn.init.zeros_(weight)
    with torch.no_grad():
        model.patch.weight[0] = model.what.weight[0, 0] = model.join.weight[0, 0] = model.head.weight[1, 0] = 1
        model.head.bias[0] = 1
    return model


@pytest.mark.parametrize(("dim", "side"), [(0, -1), (0, 1), (1, -1), (1, 1)])
def test_the_policy_learns_to_look_at_the_patch_that_tells(dim, side):
    """Two patches, of which one tells the class: one step downhill moves the mean towards it, and no other way."""
    model = brightness_reader()
    images = torch.zeros(3000, 1, 20, 20)
    path = slice(2, 8) if side < 0 else slice(12, 18)
    images[(..., slice(6, 14), path) if dim == 0 else (..., path, slice(6, 14))] = 1
    walk = model(images)
    model.loss(walk, torch.ones(3000, dtype=torch.long), F.cross_entropy).backward()
    towards = -model.glimpse.fc2.bias.grad * side
    assert towards[dim] > 0.1
    assert towards[1 - dim].abs() < 0.3 * towards[dim]


def test_the_reward_alone_teaches_the_policy_and_the_baseline_itself():
    model = moved(RAM(glimpses=3))
    walk, labels = model(torch.rand(16, 1, 20, 20)), torch.arange(16) % 10
    policy = {"glimpse.fc1", "glimpse.fc2"}
    eye = {"patch", "place", "what", "where", "recall", "join"}

    def learners(loss):
        model.zero_grad()
        loss.backward(retain_graph=True)
        moved = [name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()]
        return {name.rpartition(".")[0] for name in moved}

    assert learners(F.cross_entropy(walk.logits, labels)) == eye | {"head"}
    assert learners(walk.density.sum()) == eye | policy
    assert learners(walk.expected.sum()) == {"baseline"}
    assert learners(model.loss(walk, labels, F.cross_entropy)) == eye | policy | {"head", "baseline"}
    control = RAM(glimpses=3, policy="random")
    control.loss(control(torch.rand(16, 1, 20, 20)), labels, F.cross_entropy).backward()
    assert control.glimpse.fc1.weight.grad is None


def test_the_loss_is_cross_entropy_reinforce_and_the_baselines_error():
    model = RAM(num_classes=2, glimpses=3)
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])  # both say class 0
    walk = model(torch.rand(2, 1, 9, 9))._replace(
        logits=logits,
        expected=torch.tensor([[0.5, 0.25], [0.5, 0.0]]),
        density=torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]),
    )
    labels = torch.tensor([0, 1])  # rewards 1 and 0
    reinforce = -((-1 * 0.5 - 2 * 0.75) + (-3 * -0.5 - 4 * 0.0)) / 2
    baseline = (0.5**2 + 0.75**2 + 0.5**2 + 0.0) / 4
    expected = F.cross_entropy(logits, labels).item() + reinforce + baseline
    assert model.loss(walk, labels, F.cross_entropy).item() == pytest.approx(expected)


@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"policy": "random"}], ids=["mean", "samples", "random"])
def test_evaluation_is_deterministic_when_asked(options):
    model, images = moved(RAM(**options)), torch.rand(5, 1, 30, 30)
    assert not torch.equal(model(images).path, model(images).path)
    model.eval()
    with foveal.watch(model) as seen:
        once, again = model(images), model(images)
    assert once.shape == (5, 10)
    assert torch.equal(once, again)
    assert torch.equal(seen["glimpse"].values[:5], seen["glimpse"].values[5:])
    assert bool((seen["glimpse"].values[:, 0] == 0).all()) == (not options)  # the mean's path begins in the centre


def test_several_paths_are_averaged_by_their_probabilities():
    model, images = RAM(samples=4).eval(), torch.rand(5, 1, 30, 30)
    assert torch.allclose(model(images).exp().sum(1), torch.ones(5))
    each = model.walk(images.repeat(4, 1, 1, 1), drawn=True).logits.softmax(1)
    torch.testing.assert_close(model(images).exp(), torch.stack(each.split(5)).mean(0))


def test_it_stands_in_no_other_network():
    for mechanism in ("glimpse", Glimpse):
        with pytest.raises(ValueError, match=r"^glimpse stands only in a network of its own; foveal\.list_models"):
            foveal.attach(foveal.create_model("small_cnn"), mechanism)
    with pytest.raises(ValueError, match="glimpse stands only in a network of its own"):
        foveal.create_model("resnet18+glimpse")
    facts = {each.name: each for each in foveal.list_mechanisms()}["glimpse"]
    assert (facts.domain, facts.kind, facts.attaches) == ("spatial", "hard", "network")
    assert facts.parameters == 256 * 128 + 128 + 128 * 2 + 2


def test_its_network_is_made_by_name_with_options_and_goes_to_disk(tmp_path):
    model = foveal.create_model("ram:glimpses=3,size=4,policy=random", num_classes=3, in_chans=2)
    assert (model.glimpses, model.policy, model.glimpse.retina.size) == (3, "random", 4)
    assert "ram" in foveal.list_models()
    save_checkpoint(tmp_path / "m.safetensors", model, {})
    other, _ = load_checkpoint(tmp_path / "m.safetensors")
    images = torch.rand(2, 2, 20, 20)
    assert torch.equal(other(images), model.eval()(images))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ram:glimpses=1", "glimpses=1: two or more"),
        ("ram:policy=greedy", "policy='greedy': learned or random"),
        ("ram:samples=-1", "samples=-1: 0 for the policy's mean"),
        ("ram:size=0", "size=0: at least 1"),
        ("ram:scales=0", "scales=0: at least 1"),
        ("ram:std=0", "std=0: above 0"),
        ("ram:glimpses", "'ram:glimpses': 'glimpses' is not an option, NAME=VALUE"),
        ("ram:glimpse=3", "unknown option of ram.* 'glimpse'; did you mean 'glimpses'"),
    ],
)
def test_impossible_values_are_named(name, says):
    with pytest.raises(ValueError, match=says):
        foveal.create_model(name)


def test_every_weight_learns_and_a_batch_of_one_is_enough():
    model = moved(RAM(glimpses=3, size=4))
    images = torch.rand(1, 1, 9, 7)
    model.loss(model(images), torch.tensor([1]), F.cross_entropy).backward()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not still
    assert model.eval()(images).shape == (1, 10)


def test_bfloat16_keeps_places_in_single_precision():
    model, images = RAM().eval(), torch.rand(4, 1, 30, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16), foveal.watch(model) as seen:
        answer = model(images)
    assert seen["glimpse"].values.dtype == torch.float32
    torch.testing.assert_close(answer.float(), model(images), rtol=0.05, atol=0.05)


def test_compiles_as_one_graph():
    torch._dynamo.reset()
    model, images = moved(RAM(glimpses=2, scales=2)).eval(), torch.rand(4, 1, 20, 20)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


DYNAMIC = (
    {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)},
)


def test_exports_for_any_batch_and_size_without_a_trace_of_the_tap():
    model = moved(RAM(glimpses=2, scales=2)).eval()
    exported = torch.export.export(model, (torch.rand(2, 1, 24, 24),), dynamic_shapes=DYNAMIC)
    images = torch.rand(3, 1, 19, 31)
    torch.testing.assert_close(exported.module()(images), model(images))
    assert not [node for node in exported.graph.nodes if "tap" in str(node.target)]


@pytest.mark.slow
def test_runs_in_onnx_at_another_batch_and_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, path = moved(RAM(glimpses=2)).eval(), tmp_path / "ram.onnx"
    torch.onnx.export(model, (torch.rand(2, 1, 24, 24),), path, dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    session = onnxruntime.InferenceSession(path)
    images = torch.rand(3, 1, 19, 31)
    (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), model(images), rtol=1e-4, atol=1e-5)


def test_a_path_is_drawn_with_its_numbers_and_squares():
    path = torch.tensor([[-0.5, -0.5], [0.5, 0.0]]).expand(2, 2, 2)  # pixels (1.5, 1.5) and (5.5, 3.5) of 8 x 8
    record = Record(
        mechanism="glimpse", kind="glimpse", domain="spatial", axes="B T 2", value_range=(-1, 1), hard=True,
        size=(4, 4),
        path="glimpse", values=path,
    )  # fmt: skip
    picture = draw([record], torch.zeros(2, 1, 8, 8), ["seven", "five"])
    axes = [axis for part in picture.figure.subfigs for axis in part.get_axes() if axis.images]
    assert len(axes) == 2
    assert axes[0].get_title() == "glimpse: seven"
    assert axes[0].lines[0].get_xydata().tolist() == [[1.5, 1.5], [5.5, 3.5]]
    assert [text.get_text() for text in axes[0].texts] == ["1", "2"]
    boxes = [square.get_bbox().bounds for square in axes[0].patches]
    assert boxes == [(-0.5, -0.5, 4, 4), (3.5, 1.5, 4, 4)]
