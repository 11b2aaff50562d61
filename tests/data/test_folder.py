"""Images in folders: splits, modes, groups, errors."""

import numpy as np
import pytest
import torch
from PIL import Image

import foveal
from foveal.data.image_files import read, why_not
from foveal.data.image_source import file_source
from foveal.data.preprocessing import Preprocessing


def write_images(folder, count, size=(40, 30), mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new(mode, size, color=index * 9 % 256 if mode in "LP" else None).save(folder / f"{index}.png")


def test_load_folder_splits_and_reports_what_it_left_out(tmp_path):
    for name, mode in (("cat", "RGB"), ("dog", "L")):
        write_images(tmp_path / name, 20, mode=mode)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "dog" / "text.jpg").write_text("no image either")
    whole = (tmp_path / "cat" / "3.png").read_bytes()
    (tmp_path / "cat" / "broken.png").write_bytes(whole[: len(whole) // 2])
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32)
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [28, 6, 6]
    assert set(data.skipped) == {"cat/notes.txt", "dog/text.jpg", "cat/broken.png"}
    images, labels = data.train.__getitems__([0, 1, 2])
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert [name.split("/")[0] for name in data.train.names[:3]] == [data.classes[label] for label in labels]


def test_read_keeps_the_brightness_of_every_image_mode(tmp_path):
    """Read a ramp from black to white in every mode; 16-bit grey is not clipped at 255."""
    ramp = np.linspace(0, 255, 1200).reshape(30, 40)
    eight, sixteen = ramp.astype(np.uint8), (ramp * 257).astype(np.uint16)
    grey = Image.fromarray(eight)
    sideways = Image.Exif()
    sideways[274] = 6  # the tag of the orientation: turn by a quarter
    Image.fromarray(sixteen).save(tmp_path / "deep.png")
    Image.fromarray(sixteen.astype(np.int32)).save(tmp_path / "int32.tif")
    grey.save(tmp_path / "grey.png")
    grey.convert("P").save(tmp_path / "palette.png")
    Image.merge("LA", (grey, Image.new("L", grey.size, 255))).save(tmp_path / "alpha.png")
    grey.convert("RGB").convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    grey.rotate(90, expand=True).save(tmp_path / "turned.png", exif=sideways)
    for path in tmp_path.iterdir():
        assert why_not(path, (0, 65535)) is None, path.name
        image = np.asarray(read(path, (0, 65535)))
        assert image.shape == (30, 40, 3), path.name
        assert np.abs(image.astype(int) - eight[..., None]).max() <= 2, path.name


def test_load_folder_leaves_out_pixels_without_a_range_and_images_beside_the_classes(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 8)
    write_images(tmp_path / "alone", 1)
    write_images(tmp_path / ".cache", 1)
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"")
    Image.fromarray(np.ones((9, 9), dtype=np.float32)).save(tmp_path / "cat" / "float.tif")
    Image.new("L", (9, 9)).save(tmp_path / "stray.png")
    (tmp_path / "README.md").write_text("of the data")
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32)
    assert data.classes == ("alone", "cat", "dog")
    assert data.train.labels.bincount()[0] == 1  # what there is of a class is for training
    assert data.skipped == {
        "broken/0.png": "not an image by its content",
        "cat/float.tif": "cannot be read: pixels from 1 to 1, not 8 or 16 bits",
        "broken/": "no class: it holds no image that can be read",
        "none/": "no class: it holds no image that can be read",
        ".cache/": "a hidden folder",
        "stray.png": "in no class's folder",
    }


def test_why_not_refuses_an_image_of_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write_images(tmp_path, 1)
    assert "1,200 pixels; at most 67,108,864 are read" in why_not(tmp_path / "0.png")


def test_load_folder_names_links_to_nothing_and_to_folders(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / "data" / name, 8)
    write_images(tmp_path / "more", 5)
    (tmp_path / "data/cat/8.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "data/cat/more").symlink_to(tmp_path / "more")
    (tmp_path / "data/bird").symlink_to(tmp_path / "gone")
    data = foveal.load_data(tmp_path / "data", image_size=32)
    followed = "a link to a folder, which is not followed"
    assert data.skipped == {"cat/8.png": "a link to nothing", "cat/more/": followed, "bird": "a link to nothing"}


@pytest.mark.parametrize("name", ["dog/caf\udce9.png", "d\udcf6g/0.png"])  # a byte of Latin-1, as Python shows it
def test_load_folder_refuses_a_name_that_cannot_be_written(tmp_path, name):
    for each in ("cat", "dog"):
        write_images(tmp_path / each, 8)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "dog/0.png").rename(tmp_path / name)
    with pytest.raises(ValueError, match=r"'d.*\\udc.*' has a name that is no UTF-8; rename it$"):
        foveal.load_data(tmp_path, image_size=32)
    with pytest.raises(ValueError, match=r"^images: .*\\udc.*0?.png' has a name that is no UTF-8; rename it$"):
        file_source([tmp_path], Preprocessing((3, 8, 8), (0,) * 3, (1,) * 3))


def test_load_folder_uses_a_given_split(tmp_path):
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        for name in ("cat", "dog"):
            write_images(tmp_path / part / name, count)
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 4, 6]
    assert all(name.startswith("val/") for name in data.validation.names)
    assert data.skipped == {}
    write_images(tmp_path / "extra" / "cat", 1)
    write_images(tmp_path / "test", 1)
    skipped = foveal.load_data(f"folder:{tmp_path}", image_size=32).skipped
    assert skipped == {"extra/": "beside train, val and test", "test/0.png": "in no class's folder"}


def test_load_folder_reads_groups_from_a_file(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 20)
    table = tmp_path / "groups.csv"
    table.write_text("".join(f"{name}/{i}.png,{name}-{i // 4}\n" for name in ("cat", "dog") for i in range(20)))
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32, groups=table)
    of_part = [{f"{n.split('/')[0]}-{int(n.split('/')[1][:-4]) // 4}" for n in names} for names in data.split.values()]
    assert not of_part[0] & of_part[1] | of_part[0] & of_part[2] | of_part[1] & of_part[2]
    assert "groups" not in data.notes


def test_load_folder_refuses_a_partial_split(tmp_path):
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            write_images(tmp_path / part / name, 3)
    with pytest.raises(ValueError, match="a folder 'train' and none for test"):
        foveal.load_data(f"folder:{tmp_path}")


def test_load_folder_ignores_hidden_and_empty_folders(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 8)
    write_images(tmp_path / ".ipynb_checkpoints", 2)
    (tmp_path / "empty").mkdir()
    assert foveal.load_data(f"folder:{tmp_path}", image_size=32).classes == ("cat", "dog")


def test_load_folder_refuses_a_single_class(tmp_path):
    write_images(tmp_path / "cat", 5)
    with pytest.raises(ValueError, match="one class alone, 'cat'"):
        foveal.load_data(f"folder:{tmp_path}")
