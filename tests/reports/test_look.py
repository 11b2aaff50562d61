"""Images and Records collected for `look`."""

import torch
from PIL import Image
from torch import nn

from foveal.data.preprocessing import Preprocessing
from foveal.reports.look import captions, collect_images, find_grad_cam, look
from foveal.reports.look_page import write_page
from foveal.training.loaded_model import LoadedModel


def test_collect_images_names_images_beyond_the_limit(tmp_path):
    files = []
    for index in range(3):
        files.append(str(tmp_path / f"{index}.png"))
        Image.new("L", (50, 40), color=index).save(files[-1])
    opened_model = LoadedModel(nn.Identity(), (), Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3))
    images, names, skipped, *_ = collect_images([*files, str(tmp_path / "x.png")], 2, opened_model)
    assert images[:, 0, 0, 0].tolist() == [0, 1]
    assert names == files[:2]
    assert skipped == {str(tmp_path / "x.png"): "no such file", files[2]: "beyond the first 2"}


def test_look_keeps_records_and_images(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "mine.png")
    result = look("small_cnn+se", [str(tmp_path / "mine.png")])
    assert result.names == [str(tmp_path / "mine.png")]
    assert result.seen.paths() == [record.path for record in result.seen]
    assert len(result.seen) == 3
    assert result.images.shape[:2] == (1, 3)


def test_look_adds_grad_cam_where_no_attention_has_positions(tmp_path):
    """Of gates the network's own Grad-CAM of its prediction is drawn; masks show the positions themselves."""
    Image.effect_noise((50, 40), 80).convert("RGB").save(tmp_path / "mine.png")
    torch.manual_seed(0)
    gates, masks = (look(f"small_cnn+{name}", [str(tmp_path / "mine.png")]) for name in ("se", "spatial"))
    assert [(each.mechanism, each.path) for each in gates.grad_cam] == [("grad_cam", "features")]
    assert masks.grad_cam == []
    (picture,) = gates.pictures()
    titles = [axis.get_title() for part in picture.figure.subfigs for axis in part.get_axes()]
    assert titles.count("grad_cam\nfeatures") == 1
    text = write_page(gates, tmp_path / "look.html").read_text()
    assert "<h2>Grad-CAM of features</h2>" in text
    assert "3 places with attention, 1 image. None shows where on the image it attends" in text


def test_find_grad_cam_says_why_there_is_none():
    """A layer on the mean of the image has no positions."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    opened = LoadedModel(network, (), Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3))
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    records, why = find_grad_cam(opened, [], images, opened.answers(images))
    assert records == []
    assert why["Grad-CAM"].startswith("Grad-CAM of a Sequential: no module gives a map")


def test_captions_name_class_and_probability():
    texts = captions(["cat", "dog", "403"], [[0.974], [0.5], [0.00123]])
    assert texts == ["cat\np = 0.97", "dog\np = 0.50", "403\np = 0.001"]
    assert captions(["cat|dog", ""], [[0.974, 0.5], []]) == ["cat|dog\np = 0.97, 0.50", "no class"]
