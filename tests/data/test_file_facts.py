"""Properties of image files by their headers."""

import numpy as np
import pytest
from PIL import Image

from foveal.data.file_facts import examine
from foveal.data.image_files import FORMATS, why_not

SUFFIX = {"JPEG": ".jpg", "TIFF": ".tif"}


def picture(side=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded."""
    from foveal.data import file_facts

    names, real = [], file_facts.decode

    def decode(image, path):
        names.append(path.name)
        return real(image, path)

    monkeypatch.setattr(file_facts, "decode", decode)
    return names


@pytest.mark.parametrize("kind", FORMATS)
def test_examine_by_the_header_decodes_a_file_only_if_it_may_be_truncated(kind, tmp_path, decoded):
    path = tmp_path / f"x{SUFFIX.get(kind, '.' + kind.lower())}"
    picture().save(path)
    whole = path.read_bytes()
    assert examine(path, whole=False) == examine(path)
    assert decoded == [path.name]  # by the second alone
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        reason = examine(path, whole=False).reason
        assert reason == examine(path).reason == why_not(path)
        assert (reason is not None) or kind == "GIF"  # Pillow reads what there is of one
    path.write_bytes(whole + b"appended")
    assert examine(path, whole=False).reason is None


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_examine_by_the_header_decodes_16_bits_for_their_range(suffix, tmp_path, decoded):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 100
    Image.fromarray(values).save(tmp_path / f"x{suffix}")
    assert examine(tmp_path / f"x{suffix}", whole=False).values == (0, 6300)
    assert decoded == [f"x{suffix}"]
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "y.tif")
    assert "not 8 or 16 bits" in examine(tmp_path / "y.tif", whole=False).reason


def test_examine_by_the_header_says_that_a_file_may_be_transparent(tmp_path, decoded):
    Image.new("RGBA", (4, 4), (9, 9, 9, 255)).save(tmp_path / "opaque.png")
    Image.new("P", (4, 4)).save(tmp_path / "palette.png", transparency=0)
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    found = {path.name: examine(path, whole=False).transparent for path in tmp_path.iterdir()}
    assert found == {"opaque.png": True, "palette.png": True, "plain.png": False}
    assert not decoded
    assert not examine(tmp_path / "opaque.png").transparent
