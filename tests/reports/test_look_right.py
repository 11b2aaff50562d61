"""Predictions of `look` are those of plain torch, also of a network with one output; other networks are refused."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import foveal
from foveal.data.preprocessing import Preprocessing
from foveal.reports.look import look
from foveal.training.checkpoint import save_checkpoint
from foveal.training.loaded_model import LoadedModel

CLASSES = ["cat", "dog"]


@pytest.fixture
def files(tmp_path):
    stream = np.random.default_rng(0)
    paths = []
    for index in range(6):
        pixels = stream.normal(20 + 40 * index, 30, (32, 32, 3)).clip(0, 255).astype(np.uint8)
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


def plain(network, path: str) -> torch.Tensor:
    """The network's answer for a file that is read by PIL alone, scaled to [-1, 1]."""
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None]
    with torch.no_grad():
        return network(pixels.float() / 127.5 - 1)[0]


def checkpoint_of(path, outputs: int, classes: list[str], half_of=()):
    network = foveal.create_model("small_cnn+se", num_classes=outputs).eval()
    if half_of:  # the bias at which half of the files have a logit above 0
        network.head.bias.data -= torch.stack([plain(network, file) for file in half_of]).median(0).values + 1e-4
    preprocessing = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    save_checkpoint(path, network, {"classes": classes, "preprocessing": asdict(preprocessing)})
    return network


def test_predictions_of_a_network_with_one_output(files, tmp_path):
    network = checkpoint_of(tmp_path / "m.safetensors", 1, CLASSES, half_of=files)
    expected = [CLASSES[int(plain(network, file).item() > 0)] for file in files]
    assert set(expected) == set(CLASSES)
    assert look(str(tmp_path / "m.safetensors"), files).predictions == expected


def test_predictions_of_a_network_with_an_output_for_each_class(files, tmp_path):
    names = [*CLASSES, "bird"]
    network = checkpoint_of(tmp_path / "m.safetensors", 3, names, half_of=files)
    expected = [names[int(plain(network, file).argmax())] for file in files]
    assert len(set(expected)) > 1
    assert look(str(tmp_path / "m.safetensors"), files).predictions == expected


@pytest.mark.parametrize(("outputs", "names"), [(1, [*CLASSES, "bird"]), (3, CLASSES), (2, [*CLASSES, "bird"])])
def test_a_network_of_more_or_fewer_outputs_than_classes_is_refused(files, tmp_path, outputs, names):
    checkpoint_of(tmp_path / "m.safetensors", outputs, names)
    with pytest.raises(ValueError, match=f"states {len(names)} classes, and its network has num_classes={outputs}"):
        look(str(tmp_path / "m.safetensors"), files)


class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda z: z[:, :, None], r"answers \(4, 3, 1\), not logits"),
        (lambda z: z.argmax(1), "of int64, not logits"),
        (lambda z: z / 0, "is not finite"),
        (lambda z: z @ z, "the model fails on images of shape"),
    ],
)
def test_answers_that_are_no_logits_are_refused(answer, message):
    opened = LoadedModel(Answering(answer), (), Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(ValueError, match=message):
        opened.answers(torch.full((4, 3, 8, 8), 7, dtype=torch.uint8))


def test_answers_in_another_form_are_read():
    opened = LoadedModel(Answering(lambda z: {"logits": z}), "abc", Preprocessing((3, 1, 1), (0.5,) * 3, (0.5,) * 3))
    images = torch.tensor([[0, 9, 5], [7, 2, 3]], dtype=torch.uint8)[:, :, None, None]
    assert opened.names_of(opened.answers(images)) == ["b", "a"]
    with pytest.raises(ValueError, match="4 channels"):
        opened.answers(torch.zeros(1, 4, 1, 1, dtype=torch.uint8))
