"""Images and Records collected for `look`."""

from PIL import Image
from torch import nn

from foveal.data.preprocessing import Preprocessing
from foveal.reports.look import collect_images, look
from foveal.training.loaded_model import LoadedModel


def test_collect_images_names_images_beyond_the_limit(tmp_path):
    files = []
    for index in range(3):
        files.append(str(tmp_path / f"{index}.png"))
        Image.new("L", (50, 40), color=index).save(files[-1])
    opened_model = LoadedModel(nn.Identity(), (), Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3))
    images, names, skipped, _ = collect_images([*files, str(tmp_path / "x.png")], 2, opened_model)
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
