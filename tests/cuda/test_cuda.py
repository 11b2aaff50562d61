"""What runs on a CUDA device, against the same on the CPU; skipped where there is none."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from helpers import randomise_norms
from mechanisms.test_contract import TABLE, moved_from_start
from torch import nn

import foveal
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model, load_on_device
from foveal.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SETTINGS = RunConfig(model="small_cnn+se", data="digits", epochs=3, batch_size=64, lr=0.01)
ATTACHED = [each.name for each in foveal.list_mechanisms() if each.attaches != "network"]
WATCHED = ("seresnet50", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "skresnet18", "levit_128s")


@pytest.fixture(autouse=True, scope="module")
def _exact():
    """Let convolutions and products of float32 be exact, and the same in every run."""
    backends = torch.backends
    stored = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.deterministic
    backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.deterministic = False, False, True
    yield
    backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.deterministic = stored


def answer_and_gradients(module: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone().requires_grad_()
    answer = module(images)
    weight = torch.linspace(-1, 1, answer.numel(), device=answer.device, dtype=answer.dtype).view_as(answer)
    (answer * weight).sum().backward()
    return [answer.detach(), images.grad, *(each.grad for each in module.parameters() if each.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("training", [True, False])
def test_mechanism_answers_and_gradients_agree_with_the_cpu(name, training, dtype):
    torch.manual_seed(0)
    here = moved_from_start(TABLE[name]).to(dtype).train(training)  # a transformer at birth samples at its kinks
    there = copy.deepcopy(here).cuda()
    images = torch.randn(4, 16, 14, 10, dtype=dtype)
    # torch's hardswish divides by 6 in single precision; a bias before a norm has a gradient of 560 terms that cancel
    limit = 1e-7 if dtype == torch.float64 else 1e-2
    expected, found = answer_and_gradients(here, images), answer_and_gradients(there, images.cuda())
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        assert (one - other.cpu()).abs().max() <= limit * max(1.0, one.abs().max().item())


@pytest.mark.parametrize("mechanism", ATTACHED)
def test_attach_watch_detach_of_a_model_on_the_device(mechanism):
    torch.manual_seed(0)
    model = randomise_norms(timm.create_model("resnet18", num_classes=10)).eval().cuda()
    images = torch.randn(2, 3, 64, 64, device="cuda")
    with torch.no_grad():
        plain = model(images)
        foveal.attach(model, mechanism, at="input" if mechanism in ("stn", "hard_crop") else None)
        attached = model(images)
        with foveal.watch(model) as seen:
            watched = model(images)
        assert all(each.device.type == "cuda" for each in model.parameters())
        assert torch.equal(watched, attached)
        assert len(seen) >= 1
        assert all(record.values.device.type == "cuda" for record in seen)
        foveal.detach(model)
        assert torch.equal(model(images), plain)


@pytest.mark.parametrize("name", WATCHED)
def test_watch_of_a_third_party_model_agrees_with_the_cpu(name):
    torch.manual_seed(0)
    here = timm.create_model(name).eval()
    there, images = copy.deepcopy(here).cuda(), torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        plain = there(images.cuda())
        with foveal.watch(here) as expected:
            here(images)
        with foveal.watch(there, device="cpu") as found:
            assert torch.equal(there(images.cuda()), plain)
    assert expected.paths() == found.paths()
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one.values, other.values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amp": True},
        {"amp": True, "amp_dtype": "float16", "grad_accum_steps": 2},
        {"channels_last": True, "ema": 0.9},
    ],
    ids=str,
)
def test_train_on_the_device_resumes_bitwise(tmp_path, options):
    settings = replace(SETTINGS, **options)
    whole = train(settings, tmp_path / "whole")
    assert whole.accuracy > 0.9

    class StopError(Exception):
        pass

    def stop(line) -> None:
        if line["epoch"] == 2:
            raise StopError

    with pytest.raises(StopError):
        train(settings, tmp_path / "parts", on_epoch=stop)
    torch.rand(7, device="cuda")  # what happens between must not matter
    resumed = train(settings, tmp_path / "parts", resume=True)
    assert resumed.accuracy == whole.accuracy
    one, other = (read_checkpoint(tmp_path / name / "best.safetensors").weights for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_verbs_on_the_device_agree_with_the_cpu(tmp_path):
    train(SETTINGS, tmp_path / "run")
    here, there = load_model(tmp_path / "run"), load_on_device(tmp_path / "run")
    assert next(there.network.parameters()).device.type == "cuda"
    part = foveal.load_data("digits").test
    expected, found = here.predict(part), there.predict(part)
    assert (expected.probabilities - found.probabilities).abs().max() < 1e-3
    scores = []
    for opened in (here, there):
        batches = opened.batches(opened.load_data("digits").test, most=200)
        scores.append(foveal.score(opened.network, batches, curved=8))
        assert foveal.audit(opened.network, batches).images == 200
    assert scores[0].accuracy == scores[1].accuracy
    assert [each.path for each in scores[0].ablations] == [each.path for each in scores[1].ablations]


def test_class_activation_on_the_device_agrees_with_the_cpu():
    torch.manual_seed(0)
    here = timm.create_model("seresnet33ts", num_classes=10).eval()
    there, images = copy.deepcopy(here).cuda(), torch.randn(2, 3, 64, 64)
    expected, found = (
        foveal.class_activation(model, images.to(device), targets=[0, 1])
        for model, device in ((here, "cpu"), (there, "cuda"))
    )
    torch.testing.assert_close(expected.values, found.values.cpu(), rtol=1e-2, atol=1e-3)


def test_deploy_of_a_model_on_the_device():
    torch.manual_seed(0)
    model = randomise_norms(foveal.create_model("resnet18+se", num_classes=10)).eval().cuda()
    images = torch.randn(2, 3, 64, 64, device="cuda")
    deployed = foveal.deploy(model, images).network
    with torch.no_grad():
        torch.testing.assert_close(deployed(images), model(images), rtol=1e-3, atol=1e-4)


def test_compare_on_one_device(tmp_path):
    result = foveal.compare(["none", "se", "stn"], data="digits", epochs=1, seeds=2, output=tmp_path / "out")
    assert set(result.verdicts) == {"se", "stn"}
    assert all(len(row.errors) == 2 for row in result.rows)
    assert foveal.write_report(result).is_file()
