"""The recurrent attention model: its loss, its policy, its paths."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import foveal
from foveal.networks.ram import RAM
from foveal.training.checkpoint import load_checkpoint, save_checkpoint


def moved(model: RAM) -> RAM:
    """Network with perturbed weights."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model


def test_ram_starts_at_the_centre():
    model = RAM().eval()
    with foveal.watch(model) as seen:
        model(torch.rand(3, 1, 20, 20))
    assert torch.equal(seen["glimpse"].values, torch.zeros(3, 6, 2))


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
def test_ram_policy_moves_towards_the_informative_patch(dim, side):
    """Two patches, one of which shows the class: a gradient step moves the mean towards it."""
    model = brightness_reader()
    images = torch.zeros(3000, 1, 20, 20)
    path = slice(2, 8) if side < 0 else slice(12, 18)
    images[(..., slice(6, 14), path) if dim == 0 else (..., path, slice(6, 14))] = 1
    walk = model(images)
    model.loss(walk, torch.ones(3000, dtype=torch.long), F.cross_entropy).backward()
    towards = -model.glimpse.fc2.bias.grad * side
    assert towards[dim] > 0.1
    assert towards[1 - dim].abs() < 0.3 * towards[dim]


def test_ram_reward_trains_the_policy_and_the_baseline_itself():
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


def test_ram_loss_is_cross_entropy_reinforce_and_baseline_error():
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
def test_ram_evaluation_is_deterministic_when_asked(options):
    model, images = moved(RAM(**options)), torch.rand(5, 1, 30, 30)
    assert not torch.equal(model(images).path, model(images).path)
    model.eval()
    with foveal.watch(model) as seen:
        once, again = model(images), model(images)
    assert once.shape == (5, 10)
    assert torch.equal(once, again)
    assert torch.equal(seen["glimpse"].values[:5], seen["glimpse"].values[5:])
    assert bool((seen["glimpse"].values[:, 0] == 0).all()) == (not options)  # the mean's path begins in the centre


def test_ram_averages_probabilities_over_paths():
    model, images = RAM(samples=4).eval(), torch.rand(5, 1, 30, 30)
    assert torch.allclose(model(images).exp().sum(1), torch.ones(5))
    each = model.walk(images.repeat(4, 1, 1, 1), drawn=True).logits.softmax(1)
    torch.testing.assert_close(model(images).exp(), torch.stack(each.split(5)).mean(0))


def test_ram_averages_confident_paths_without_an_infinite_loss():
    """Logits of 1000 and 0 on every path: log-probabilities 0 and -1000, of which float32 has no probability."""
    model = RAM(num_classes=2, samples=4).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1000.0, 0.0]))
    logits = model(torch.rand(3, 1, 30, 30))
    torch.testing.assert_close(logits, torch.tensor([0.0, -1000.0]).expand(3, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"samples": 2}, {"policy": "random"}], ids=["mean", "samples", "random"])
def test_ram_trains_and_evaluates_in_other_precisions(dtype, options):
    """Locations are at least in single precision: in bfloat16 their steps are a tenth of a pixel of 60."""
    model, images = moved(RAM(glimpses=2, size=4, scales=1, **options)).to(dtype), torch.rand(4, 1, 9, 9, dtype=dtype)
    walk = model(images)
    model.loss(walk, torch.arange(4), F.cross_entropy).backward()
    assert model.place.weight.grad.dtype == walk.logits.dtype == dtype
    assert walk.path.dtype == torch.promote_types(dtype, torch.float32)
    single = RAM(glimpses=2, size=4, scales=1, **options).eval()
    single.load_state_dict(model.state_dict())
    answer, expected = model.eval()(images), single(images.float())
    assert answer.dtype == dtype
    if dtype == torch.bfloat16:  # float64 draws other locations
        torch.testing.assert_close(answer.float(), expected, rtol=0.1, atol=0.1)


def test_create_model_ram_takes_options_and_survives_a_checkpoint(tmp_path):
    model = foveal.create_model("ram:glimpses=3,size=4,policy=random", num_classes=3, in_chans=2)
    assert (model.glimpses, model.policy, model.glimpse.retina.size) == (3, "random", 4)
    assert "ram" in foveal.list_models()
    save_checkpoint(tmp_path / "m.safetensors", model, {})
    other, _ = load_checkpoint(tmp_path / "m.safetensors")
    images = torch.rand(2, 2, 20, 20)
    assert torch.equal(other(images), model.eval()(images))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ram:glimpses=1", "glimpses=1: must be 2 or more"),
        ("ram:policy=greedy", "policy='greedy': must be 'learned' or 'random'"),
        ("ram:samples=-1", "samples=-1: must be 0 or the number of paths"),
        ("ram:size=0", "size=0: at least 1"),
        ("ram:scales=0", "scales=0: at least 1"),
        ("ram:std=0", "std=0: above 0"),
        ("ram:glimpses", "'ram:glimpses': 'glimpses' is not an option, NAME=VALUE"),
        ("ram:glimpse=3", "unknown option of ram.* 'glimpse'; did you mean 'glimpses'"),
    ],
)
def test_create_model_ram_refuses_impossible_options(name, message):
    with pytest.raises(ValueError, match=message):
        foveal.create_model(name)


def test_ram_trains_every_weight_on_a_batch_of_one():
    model = moved(RAM(glimpses=3, size=4))
    images = torch.rand(1, 1, 9, 7)
    model.loss(model(images), torch.tensor([1]), F.cross_entropy).backward()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not still
    assert model.eval()(images).shape == (1, 10)


def test_ram_keeps_locations_in_float32_under_autocast():
    model, images = RAM().eval(), torch.rand(4, 1, 30, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16), foveal.watch(model) as seen:
        answer = model(images)
    assert seen["glimpse"].values.dtype == torch.float32
    torch.testing.assert_close(answer.float(), model(images), rtol=0.05, atol=0.05)


def test_ram_compiles_as_one_graph():
    torch._dynamo.reset()
    model, images = moved(RAM(glimpses=2, scales=2)).eval(), torch.rand(4, 1, 20, 20)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


DYNAMIC = (
    {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)},
)


def test_ram_exports_for_any_batch_and_size_without_tap():
    model = moved(RAM(glimpses=2, scales=2)).eval()
    exported = torch.export.export(model, (torch.rand(2, 1, 24, 24),), dynamic_shapes=DYNAMIC)
    images = torch.rand(3, 1, 19, 31)
    torch.testing.assert_close(exported.module()(images), model(images))
    assert not [node for node in exported.graph.nodes if "tap" in str(node.target)]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_ram_runs_in_onnx_at_another_batch_and_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, path = moved(RAM(glimpses=2)).eval(), tmp_path / "ram.onnx"
    torch.onnx.export(model, (torch.rand(2, 1, 24, 24),), path, dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    session = onnxruntime.InferenceSession(path)
    images = torch.rand(3, 1, 19, 31)
    (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), model(images), rtol=1e-4, atol=1e-5)
