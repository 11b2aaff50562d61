"""Image files: 16 bits, transparency, CMYK, pages, and folders of which everything is left out."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import foveal
from foveal.cli import main as cli
from foveal.data.file_facts import examine
from foveal.data.image_files import read, why_not
from foveal.data.preprocessing import Preprocessing
from foveal.reports.look import collect_images
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model
from foveal.training.loaded_model import LoadedModel


def ramp(least, most):
    return np.linspace(least, most, 256).reshape(16, 16)


def write_deep(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path)


def write_png16(path, values):
    """A PNG of 16 bits a band, which Pillow cannot write: (H, W, bands)."""
    height, width, bands = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def folder_of(root, most, count=10):
    """Two classes of 16-bit ramps; each image's largest value is another share of `most`."""
    for label in ("cat", "dog"):
        for index in range(count):
            write_deep(root / label / f"{index}.png", ramp(0, most * (index + 1) / count))
    return root


@pytest.mark.parametrize("most", [4095, 199, 60000])
def test_sixteen_bit_files_of_a_data_set_have_one_range(tmp_path, most):
    """Every level of the network's input is used, and a dark image stays darker than a bright one."""
    data = foveal.load_data(folder_of(tmp_path, most), image_size=16)
    low, high = data.preprocessing.value_range
    assert (low, high) == (0, max(np.asarray(Image.open(tmp_path / name)).max() for name in data.train.names))
    levels = set()
    for name in (*data.validation.names, *data.test.names):
        stored = np.asarray(Image.open(tmp_path / name)).astype(float)
        image = np.asarray(read(tmp_path / name, data.test.value_range))
        assert np.array_equal(image[..., 0], np.rint(255 * (stored / high).clip(0, 1))), name
        levels |= set(image.flatten().tolist())
    assert len(levels) > 100
    images, _ = data.test.__getitems__(range(len(data.test)))
    assert len(images.unique()) > 25
    assert data.notes["16-bit images"] == (
        f"20, as {data.train.names[0]}: values 0 to {high:g}, found on the training part, become 0 to 255"
    )


def test_a_range_may_be_given_and_is_checked(tmp_path):
    folder_of(tmp_path, 4095)
    data = foveal.load_data(tmp_path, image_size=16, value_range=(0, 8190))
    index = next(i for i, name in enumerate(data.train.names) if name.endswith("9.png"))
    assert read(tmp_path / data.train.names[index], (0, 8190)).getextrema()[0] == (0, 128)
    assert data.test.value_range == (0, 8190)
    with pytest.raises(ValueError, match=r"value_range=\(5, 5\)"):
        foveal.load_data(tmp_path, value_range=(5, 5))
    with pytest.raises(ValueError, match="value_range='\\(0, 9\\)': 'digits' is no data of image files"):
        foveal.load_data("digits", value_range=(0, 9))
    with pytest.raises(ValueError, match=r"groups='mine.csv': 'digits' is no data of image files"):
        foveal.load_data("digits", groups="mine.csv")


def test_sixteen_bit_images_without_any_contrast_or_training_image_are_refused(tmp_path):
    for label in ("cat", "dog"):
        for index in range(4):
            write_deep(tmp_path / "flat" / label / f"{index}.png", np.full((9, 9), 700))
    with pytest.raises(ValueError, match=r"16-bit images that all hold the one value 700"):
        foveal.load_data(tmp_path / "flat", image_size=16)
    for part in ("train", "val", "test"):
        for label in ("cat", "dog"):
            path = tmp_path / "parts" / part / label / "0.png"
            write_deep(path, ramp(0, 900))
            if part == "train":
                Image.new("L", (9, 9)).save(path)
    with pytest.raises(ValueError, match=r"16-bit images in the other parts, as val/cat/0.png, and none in the train"):
        foveal.load_data(tmp_path / "parts", image_size=16)
    data = foveal.load_data(tmp_path / "parts", image_size=16, value_range=(0, 900))
    assert data.notes["16-bit images"].startswith("4, as val/cat/0.png: values 0 to 900, as given")


def test_sixteen_bits_in_colour_are_scaled_too(tmp_path):
    """Pillow would keep the upper eight bits of each band: 12-bit values become 15 levels."""
    values = np.stack([ramp(0, 4095), ramp(4095, 0), np.full((16, 16), 2047.0)], axis=2)
    write_png16(tmp_path / "rgb.png", values)
    image = np.asarray(read(tmp_path / "rgb.png", (0, 4095)))
    assert np.abs(image - values * 255 / 4095).max() <= 1
    assert len(np.unique(image)) > 200
    opaque = np.concatenate([values, np.full((16, 16, 1), 65535.0)], axis=2)
    opaque[:8, :, 3] = 0
    write_png16(tmp_path / "rgba.png", opaque)
    image = np.asarray(read(tmp_path / "rgba.png", (0, 4095)))
    assert (image[:8] == 255).all()  # transparent: white
    assert np.abs(image[8:] - values[8:] * 255 / 4095).max() <= 1
    assert examine(tmp_path / "rgba.png").transparent
    assert examine(tmp_path / "rgb.png").values == (0, 4095)


def test_read_takes_the_content_of_a_file_instead_of_its_path(tmp_path):
    write_png16(tmp_path / "deep.png", np.stack([ramp(0, 4095), ramp(4095, 0), ramp(9, 99)], axis=2))
    grey, sideways = Image.fromarray(ramp(0, 255).astype(np.uint8)), Image.Exif()
    sideways[274] = 6  # the tag of the orientation: turn by a quarter
    grey.convert("RGB").save(tmp_path / "turned.jpg", exif=sideways)
    Image.merge("LA", (grey, grey)).save(tmp_path / "alpha.png")
    for name in ("deep.png", "turned.jpg", "alpha.png"):
        path = tmp_path / name
        assert np.array_equal(read(path.read_bytes(), (0, 4095)), read(path, (0, 4095))), name
    assert "no value range is known" in why_not((tmp_path / "deep.png").read_bytes())
    assert why_not(b"text") == "not an image by its content"


@pytest.mark.parametrize("kind", ["float", "signed", "nan"])
def test_pixels_without_a_common_range_are_left_out(tmp_path, kind):
    values = {"float": np.ones((9, 9), np.float32), "signed": np.full((9, 9), -1, np.int32)}
    values["nan"] = np.full((9, 9), np.nan, np.float32)
    Image.fromarray(values[kind]).save(tmp_path / "x.tif")
    assert "not 8 or 16 bits" in examine(tmp_path / "x.tif").reason


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("deep")
    folder_of(root / "all", 4095)
    config = RunConfig(
        model="small_cnn+se", data=f"folder:{root}/all", image_size=16, epochs=1, batch_size=4, warmup_epochs=0
    )
    foveal.train(config, root / "run")
    return root


def test_a_run_stores_the_range_and_look_uses_it(deep_run, monkeypatch, capsys):
    opened = load_model(str(deep_run / "run"))
    trained = foveal.load_data(deep_run / "all", image_size=16)
    assert opened.preprocessing == trained.preprocessing
    assert opened.preprocessing.value_range is not None
    files = [str(deep_run / "all" / name) for name in trained.test.names]
    images, _, _, notes, _ = collect_images(files, 6, opened)
    assert torch.equal(images, trained.test.__getitems__(range(len(files)))[0])
    assert "stored in the run, become 0 to 255" in notes["16-bit images"]
    dark, *_ = collect_images([str(deep_run / "all/cat/0.png")], 1, opened)
    assert dark.max() < 60  # alone it is no brighter
    folder_of(deep_run / "bright", 8000)
    other = opened.load_data(deep_run / "bright")
    assert other.test.value_range == opened.preprocessing.value_range
    monkeypatch.setattr(sys, "argv", ["foveal", "look", f"{deep_run}/run", files[0], "--output", f"{deep_run}/l.png"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert "16-bit images: 1, as" in capsys.readouterr().out


def test_a_run_on_8_bits_refuses_files_of_16(deep_run):
    opened = load_model(str(deep_run / "run"))
    plain = Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    eight = LoadedModel(opened.network, ("cat", "dog"), plain)
    with pytest.raises(ValueError, match="16-bit images, and the network was trained on 8-bit images"):
        eight.load_data(deep_run / "all")
    file = str(deep_run / "all/cat/0.png")
    with pytest.raises(ValueError, match="16-bit values, and the run stores no range"):
        collect_images([file], 1, eight)
    by_name = LoadedModel(opened.network, (), plain)
    images, _, _, notes, _ = collect_images([file, str(deep_run / "all/cat/9.png")], 2, by_name)
    assert images[0].max() < 30 < 250 < images[1].max()  # one range for both
    assert "found on these images" in notes["16-bit images"]


def shape_on_nothing(mode):
    """A black disc on transparent black."""
    y, x = np.mgrid[:20, :20]
    alpha = Image.fromarray(np.where((y - 10) ** 2 + (x - 10) ** 2 < 36, 255, 0).astype(np.uint8))
    black = Image.new("L", (20, 20))
    if mode == "P":
        image = Image.fromarray((np.asarray(alpha) == 0).astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.info["transparency"] = 1
        return image, alpha
    return Image.merge(mode, [black] * (len(mode) - 1) + [alpha]), alpha


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    image, alpha = shape_on_nothing(mode)
    image.save(tmp_path / "x.png")
    seen = np.asarray(read(tmp_path / "x.png"))
    assert np.array_equal(seen, np.repeat(255 - np.asarray(alpha)[..., None], 3, axis=2))
    assert examine(tmp_path / "x.png").transparent


def test_half_transparent_pixels_are_mixed_with_white_and_opaque_ones_stay(tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 100, 128)).save(tmp_path / "half.png")
    assert read(tmp_path / "half.png").getpixel((0, 0)) == (227, 127, 177)
    Image.new("RGBA", (4, 4), (200, 0, 100, 255)).save(tmp_path / "opaque.png")
    assert read(tmp_path / "opaque.png").getpixel((0, 0)) == (200, 0, 100)
    assert not examine(tmp_path / "opaque.png").transparent
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "key.png", transparency=(9, 9, 9))
    assert read(tmp_path / "key.png").getpixel((0, 0)) == (255, 255, 255)
    for name, mode in (("cmyk", "CMYK"), ("four", "RGBX")):
        Image.new(mode, (4, 4), (255, 0, 0, 0) if mode == "CMYK" else (1, 2, 3, 4)).save(tmp_path / f"{name}.tif")
    assert read(tmp_path / "cmyk.tif").getpixel((0, 0)) == (0, 255, 255)
    assert read(tmp_path / "four.tif").getpixel((0, 0)) == (1, 2, 3)


def test_what_is_composed_dropped_or_one_page_of_several_is_noted(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(4):
            Image.new("L", (9, 9), index).save(tmp_path / label / f"{index}.png")
    frames = [Image.new("L", (9, 9), 60 * index) for index in range(4)]
    frames[0].save(tmp_path / "cat/a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "cat/b.tif", save_all=True, append_images=frames[1:3])
    shape_on_nothing("RGBA")[0].save(tmp_path / "cat/c.png")
    Image.new("RGBX", (9, 9)).save(tmp_path / "dog/d.tif")
    Image.new("CMYK", (9, 9)).save(tmp_path / "dog/e.jpg")
    data = foveal.load_data(tmp_path, image_size=16)
    assert data.skipped == {}
    assert data.notes == {
        "cat/a.gif": "page 1 of 4 read",
        "cat/b.tif": "page 1 of 3 read",
        "images with transparency": "1, as cat/c.png: composed over white",
        "CMYK images": "1, as dog/e.jpg: converted without their colour profile",
        "images of further bands": "1, as dog/d.tif: bands beyond the colours not read",
    }
    assert np.asarray(read(tmp_path / "cat/a.gif")).max() == 0


def test_a_folder_of_which_everything_is_left_out_gives_the_reasons(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(3):
            (tmp_path / label / f"{index}.npy").write_text("")
        (tmp_path / label / "x.png").write_text("")
    with pytest.raises(
        ValueError, match=r"no images in it \(left out: 6 not an image by its name \(\.npy\); 2 not an im"
    ):
        foveal.load_data(tmp_path)
    Image.new("L", (9, 9)).save(tmp_path / "cat/y.png")
    with pytest.raises(ValueError, match=r"one class alone, 'cat' \(left out: 6 not an image by its name"):
        foveal.load_data(tmp_path)
    loose = tmp_path / "loose"
    loose.mkdir()
    Image.new("L", (9, 9)).save(loose / "y.png")
    with pytest.raises(ValueError, match=r"no images in it \(left out: 1 in no class's folder\)"):
        foveal.load_data(loose)


def test_a_path_may_be_a_path(tmp_path, monkeypatch):
    folder_of(tmp_path / "digits", 4095, count=4)
    monkeypatch.chdir(tmp_path)
    for spec in (tmp_path / "digits", Path("digits"), f"folder:{tmp_path}/digits", "./digits"):
        assert foveal.load_data(spec, image_size=16).classes == ("cat", "dog")
    with pytest.raises(ValueError, match="there is no such folder"):
        foveal.load_data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"a folder, a \.npz file of MedMNIST, or a \.csv or \.json file"):
        foveal.load_data(tmp_path / "digits/cat/0.png")
    with pytest.raises(ValueError, match="unknown data ''"):
        foveal.load_data("")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_read_turns_a_grey_tiff_as_its_camera_says(compression, tmp_path):
    values = ramp(0, 255).astype(np.uint8)[:10]
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={274: 6}, compression=compression)
    assert np.array_equal(np.asarray(read(tmp_path / "a.tif"))[..., 0], np.rot90(values, -1))
