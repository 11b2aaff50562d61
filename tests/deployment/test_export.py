"""Exported files: outputs at other sizes, attention, what is refused."""

import sys
from collections import Counter
from types import ModuleType, SimpleNamespace

import pytest
import torch
from helpers import plain_weights, randomise_norms
from torch import nn

import foveal

IMAGES = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def small() -> nn.Module:
    return randomise_norms(foveal.create_model("small_cnn+se", num_classes=5))


def test_export_program_agrees_with_the_model_and_its_attention(tmp_path):
    model = small()
    before = plain_weights(model)
    exported = foveal.export(model, IMAGES, tmp_path / "model.pt2", attention=True)
    assert exported.any_size
    assert exported.difference < 1e-6
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    images = torch.randn(5, 3, 64, 80)
    answer = torch.export.load(exported.path).module()(images)
    with torch.no_grad(), foveal.watch(model.eval()) as seen:
        torch.testing.assert_close(answer["logits"], model(images))
    assert exported.outputs == ("logits", *[record.path for record in seen])
    for record in seen:
        torch.testing.assert_close(answer[record.path], record.values)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("mechanism", "operators"),
    [
        ("se", {"mean": 1, "linear": 2, "relu": 1, "sigmoid": 1, "mul": 1}),
        ("eca", {"mean": 1, "conv1d": 1, "sigmoid": 1, "mul": 1}),
        ("cbam", {"mean": 2, "amax": 2, "linear": 2, "relu": 1, "conv2d": 1, "batch_norm": 1, "sigmoid": 2, "mul": 2}),
    ],
)
def test_export_graph_holds_the_equations_alone(mechanism, operators):
    """Count the operators that the equations name, with fast paths on or off; none belongs to a Tap."""
    module = foveal.attach(nn.Sequential(nn.Identity(), nn.Conv2d(16, 16, 1)), mechanism, at="1", identity=False).eval()
    arranging = {"unsqueeze", "squeeze", "select", "slice", "cat", "stack", "sum", "flatten", "transpose", "view"}
    graph = torch.export.export(module, (torch.rand(2, 16, 8, 8),)).graph
    found = Counter(str(node.target).split(".")[1] for node in graph.nodes if node.op == "call_function")
    expected = Counter(operators) + Counter(conv2d=1)  # the host's
    assert {name: count for name, count in found.items() if name not in arranging} == expected


def test_export_without_attention_returns_logits_alone(tmp_path):
    exported = foveal.export(small(), IMAGES[:1], tmp_path / "model.pt2")
    assert exported.outputs == ("logits",)
    assert [*torch.export.load(exported.path).module()(IMAGES)] == ["logits"]


@pytest.mark.slow
def test_export_onnx_runs_at_another_batch_and_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = randomise_norms(foveal.create_model("stn_cnn", num_classes=5, in_chans=1))
    exported = foveal.export(model, torch.randn(2, 1, 48, 48), tmp_path / "model.onnx", attention=True)
    session = onnxruntime.InferenceSession(exported.path)
    images = torch.randn(3, 1, 60, 52)
    logits, theta = session.run(["logits", "stn"], {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad(), foveal.watch(model.eval()) as seen:
        torch.testing.assert_close(torch.from_numpy(logits), model(images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(theta), seen["stn"].values, atol=1e-5, rtol=1e-4)


def test_export_reports_a_network_for_one_size(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 46 * 46, 2))
    exported = foveal.export(model, IMAGES, tmp_path / "model.pt2")
    assert not exported.any_size
    assert "mat1 and mat2 shapes cannot be multiplied" in exported.reason
    assert f"one size ({exported.reason})" in str(exported)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_export_says_which_sizes_an_hourglass_refuses(tmp_path):
    """The map at the bottom has one pixel for these images, which the exporter takes as another case."""
    model = foveal.attach(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), "residual_mask", at="0", depth=6)
    exported = foveal.export(
        nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGES, tmp_path / "model.pt2"
    )
    assert not exported.any_size
    assert "Not all values of height" in exported.reason


def test_export_refuses_and_deletes_a_model_that_differs(tmp_path):
    class Fickle(nn.Module):
        """Model whose output depends on state that an export freezes."""

        def __init__(self):
            super().__init__()
            self.head, self.calls = nn.Linear(3, 2), 0

        def forward(self, x):
            self.calls += 1
            return self.head(x.mean((2, 3))) + float(self.calls)

    path = tmp_path / "model.pt2"
    with pytest.raises(ValueError, match=r"tolerance=0.0001: the exported model differs by \d"):
        foveal.export(Fickle(), IMAGES, path)
    assert not path.exists()


def test_export_refuses_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="ending of output"):
        foveal.export(small(), IMAGES, tmp_path / "model.h5")
    with pytest.raises(ValueError, match=r"images of shape \(3, 48, 48\)"):
        foveal.export(small(), IMAGES[0], tmp_path / "model.pt2")
    with pytest.raises(ValueError, match=r"^images of torch\.uint8: must be of a floating-point type"):
        foveal.export(small(), IMAGES.to(torch.uint8), tmp_path / "model.pt2")
    with pytest.raises(ValueError, match="attention=True: Sequential has no mechanism"):
        foveal.export(nn.Sequential(nn.Conv2d(3, 2, 1)), IMAGES, tmp_path / "model.pt2", attention=True)


def test_export_writes_into_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    exported = foveal.export(nn.AvgPool2d(2), IMAGES, "~/x/model.pt2")
    assert exported.path == tmp_path / "home/x/model.pt2"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_export_refuses_a_users_file_before_it_exports(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"model.pt2' exists, and foveal did not write it"):
        foveal.export(nn.Identity(), IMAGES, path)
    assert path.read_text() == "mine"
    (tmp_path / "folder.pt2").mkdir()
    with pytest.raises(ValueError, match="is a folder; name a file"):
        foveal.export(nn.Identity(), IMAGES, tmp_path / "folder.pt2", overwrite=True)
    for overwrite in (True, False):
        foveal.export(nn.AvgPool2d(2), IMAGES, path, overwrite=overwrite)
    assert torch.export.load(path).module()(torch.ones(1, 3, 48, 48))["logits"].unique().item() == 1


def test_export_refuses_weights_that_do_not_fit_into_one_onnx_file(tmp_path, monkeypatch):
    """Two tensors of 1 GiB; torch.onnx would write them into a second file, under the name of the temporary one."""
    for name in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    gib = SimpleNamespace(const_value=SimpleNamespace(nbytes=2**30))
    graph = SimpleNamespace(initializers={"a": gib, "b": gib, "unknown": SimpleNamespace(const_value=None)})
    program = SimpleNamespace(model=SimpleNamespace(graph=graph, metadata_props={}))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program)
    with pytest.raises(ValueError, match=r"2\.00 GiB of weights, but one ONNX file holds at most 1\.5 GiB; .*\.pt2"):
        foveal.export(nn.AvgPool2d(2), IMAGES, tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_export_names_a_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"^output: onnxruntime is missing for an ONNX file; pip install"):
        foveal.export(nn.AvgPool2d(2), IMAGES, tmp_path / "model.onnx")


def test_export_of_small_images_accepts_other_sizes(tmp_path):
    exported = foveal.export(small(), torch.randn(2, 3, 28, 32), tmp_path / "model.pt2")
    assert exported.any_size
    assert torch.export.load(exported.path).module()(torch.randn(3, 3, 40, 64))["logits"].shape == (3, 5)
