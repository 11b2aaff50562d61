"""Folders of IDX files."""

import pytest
import torch
from helpers import write_idx
from torchvision.datasets.mnist import read_image_file, read_label_file

import foveal


@pytest.mark.parametrize("spec", ["folder:{}", "{}"])
def test_load_idx_agrees_with_torchvision(spec, tmp_path):
    plain, packed = write_idx(tmp_path / "raw"), write_idx(tmp_path / "my-fashion", gzipped=True)
    data = foveal.load_data(spec.format(plain))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [100, 20, 20]
    assert data.classes == tuple("0123456789")
    assert data.validation.labels.bincount().tolist() == [2] * 10
    images, labels = (
        read_image_file(plain / "train-images-idx3-ubyte"),
        read_label_file(plain / "train-labels-idx1-ubyte"),
    )
    for part in (data.train, data.validation):
        chosen = torch.tensor([int(name) for name in part.names])
        assert torch.equal(part.images[:, 0], images[chosen])
        assert torch.equal(part.labels, labels[chosen])
    assert torch.equal(data.test.images[:, 0], read_image_file(plain / "t10k-images-idx3-ubyte"))
    clothes = foveal.load_data(spec.format(packed))
    assert clothes.classes[9] == "ankle boot"
    assert torch.equal(clothes.train.images, data.train.images)


def test_load_idx_turns_emnist_upright_and_accepts_labels_from_one(tmp_path):
    names = "emnist-letters-train", "emnist-letters-test"
    data = foveal.load_data(f"folder:{write_idx(tmp_path / 'gzip', names, gzipped=True, first_label=1)}")
    plain = foveal.load_data(f"folder:{write_idx(tmp_path / 'raw')}")
    assert data.classes == tuple(map(str, range(1, 11)))
    assert torch.equal(data.test.images, plain.test.images.transpose(2, 3))
    assert torch.equal(data.test.labels, plain.test.labels)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: (raw / "t10k-labels-idx1-ubyte").unlink(), "no file of the test part's labels beside"),
        (
            lambda raw: cut(raw / "train-images-idx3-ubyte", -1),
            "94,080 bytes of data are promised and 94,079 are there",
        ),
        (lambda raw: cut(raw / "train-images-idx3-ubyte", 9), "train-images-idx3-ubyte: not an IDX file of bytes"),
        (lambda raw: (raw / "t10k-labels-idx1-ubyte").write_text("<html>"), "t10k-labels-idx1-ubyte: not an IDX file"),
        (
            lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes((raw / "train-labels-idx1-ubyte").read_bytes()),
            r"holds \(20, 28, 28\) and t10k-labels-idx1-ubyte \(120,\)",
        ),
        (lambda raw: (raw / "emnist-train-images-idx3-ubyte").touch(), "files of several data sets"),
        (
            lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes(
                (raw / "t10k-labels-idx1-ubyte").read_bytes()[:-1] + b"\x0b"
            ),
            "label 11 is in the test part alone",
        ),
    ],
)
def test_load_idx_refuses_broken_or_mismatched_files(spoil, message, tmp_path):
    raw = write_idx(tmp_path / "raw")
    spoil(raw)
    with pytest.raises(ValueError, match=message):
        foveal.load_data(f"folder:{raw}")


def test_load_idx_refuses_a_truncated_gzip_file(tmp_path):
    raw = write_idx(tmp_path / "raw", gzipped=True)
    cut(raw / "train-images-idx3-ubyte.gz", 5000)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: cannot be read: .*ended before"):
        foveal.load_data(f"folder:{raw}")
    with pytest.raises(ValueError, match=r"groups='mine.csv': .* IDX files, which are split already"):
        foveal.load_data(f"folder:{raw}", groups="mine.csv")
