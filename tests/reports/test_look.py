"""Images and Records collected for `look`."""

import pytest
import torch
from PIL import Image
from torch import nn

import foveal
from foveal.inspection.drawing.draw import draw
from foveal.reports.look import LookResult, collect_images, look
from foveal.training.load_model import LoadedModel

NAMES = ["a <b>.png", "b.png"]


class Two(nn.Module):
    """A transformer, then gates and masks; and a place that nobody calls."""

    def __init__(self):
        super().__init__()
        self.first = foveal.create_model("small_cnn+stn", num_classes=3, in_chans=1)
        self.second = foveal.create_model("small_cnn+cbam", num_classes=3, in_chans=1)
        self.idle = foveal.create_model("small_cnn+se", num_classes=3, in_chans=1)

    def forward(self, x):
        return self.first(x) + self.second(x)


@pytest.fixture(scope="module")
def looked():
    torch.manual_seed(0)
    model = Two().eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    with foveal.watch(model) as seen, torch.no_grad():
        model(images / 255)
    said = ["cat", "dog & co"]
    return LookResult("runs/mine", draw(seen, images, said), seen, images, NAMES, said, {"c.png": "no such file"})


def test_images_beyond_the_most_are_named(tmp_path):
    files = []
    for index in range(3):
        files.append(str(tmp_path / f"{index}.png"))
        Image.new("L", (50, 40), color=index).save(files[-1])
    opened_model = LoadedModel(nn.Identity(), (), (0.5,) * 3, (0.5,) * 3, (3, 32, 32))
    images, names, skipped = collect_images([*files, str(tmp_path / "x.png")], 2, opened_model)
    assert images[:, 0, 0, 0].tolist() == [0, 1]
    assert names == files[:2]
    assert skipped == {str(tmp_path / "x.png"): "no such file", files[2]: "beyond the first 2"}


def test_look_keeps_what_was_seen(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "mine.png")
    looked = look("small_cnn+se", [str(tmp_path / "mine.png")])
    assert looked.names == [str(tmp_path / "mine.png")]
    assert looked.seen.paths() == [record.path for record in looked.seen]
    assert len(looked.seen) == 3
    assert looked.images.shape[:2] == (1, 3)
