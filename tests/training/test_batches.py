"""Batches of a part, of which some images cannot be read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import foveal
from foveal.data.labels import UNREAD
from foveal.reports.look import look
from foveal.training.batches import UnreadImages, read_batches
from foveal.training.config import RunConfig
from foveal.training.loaded_model import LoadedModel
from foveal.training.run_folder import read_split
from foveal.training.train import load_images
from foveal.training.trainer import Trainer


class TwoSizes:
    """A part that refuses its images."""

    def __getitems__(self, indices):
        raise ValueError(f"image {indices[0]} has two sizes")


@pytest.fixture
def data(tmp_path):
    """Forty images of two classes, read again later."""
    stream = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(40):
            pixels = stream.integers(0, 100, (16, 16, 3), dtype=np.uint8) + np.uint8(120 * label)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return foveal.load_data(tmp_path / "photos", image_size=16)


def break_file(part, index):
    path = part.root / part.names[index]
    path.write_bytes(path.read_bytes()[:200])
    return part.names[index]


@pytest.mark.parametrize("workers", [0, 2])
def test_read_batches_leaves_out_images_that_cannot_be_read(data, workers):
    part = data.validation
    name = break_file(part, 3)
    images, labels = part.__getitems__([2, 3])
    assert labels.tolist() == [part.labels[2], UNREAD]
    assert part.labels[3] != UNREAD
    unread = UnreadImages("photos", 0.5)
    found = list(read_batches(part, torch.arange(len(part)).split(5), workers, unread.add))
    assert [indices.tolist() for indices, _, _ in found] == [[0, 1, 2, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert torch.equal(found[0][1][2], images[0])
    assert all(torch.equal(labels, part.labels[indices]) for indices, _, labels in found)
    assert list(unread.reasons) == [name]
    assert unread.reasons[name].startswith("cannot be read: ")


def test_read_batches_keeps_a_batch_without_any_image(data):
    part = replace(data.validation)
    for index in (0, 1):
        break_file(part, index)
    found = list(read_batches(part, torch.arange(4).split(2), 0, UnreadImages("photos", 0.5).add))
    assert [(indices.tolist(), len(images), len(labels)) for indices, images, labels in found] == [
        ([], 0, 0),
        ([2, 3], 2, 2),
    ]


def test_a_part_without_a_readable_image_is_refused_in_one_line(data):
    run = Trainer(RunConfig(data="photos", image_size=16, epochs=1, batch_size=8), data)
    name = break_file(data.validation, 0)
    alone = replace(data.validation, names=[name], labels=data.validation.labels[:1])
    with pytest.raises(ValueError, match=rf"no image of one part can be read, as {name!r}: cannot be read: [^\n]*$"):
        run.predict(alone)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_part_is_one_line_whoever_reads_it(workers):
    """The loader's own message of a worker's error is its traceback."""
    with pytest.raises(ValueError, match=r"^image 3 has two sizes$"):
        list(read_batches(TwoSizes(), [torch.tensor([3])], workers, pytest.fail))


def test_unread_images_above_the_share_are_refused(data):
    unread = UnreadImages("photos", 0.05)
    names = [break_file(data.train, index) for index in (0, 1, 2, 3)]
    unread.add(data.train, [0, 1])  # of 56: 5 % are 2.8
    unread.add(data.train, [0])  # known
    with pytest.raises(
        ValueError, match=rf"data 'photos': 3 of 56 images of one part cannot be read, as {names[0]!r}: .*at most 5%"
    ):
        unread.add(data.train, [2])


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_train_leaves_out_images_that_break_later_and_names_them(data, tmp_path, monkeypatch, mixup):
    """Files broken after they were listed: of the training, the validation and the test part."""
    config = RunConfig(
        data=f"folder:{tmp_path}/photos", image_size=16, epochs=2, batch_size=4, lr=3e-3, mixup=mixup, smoothing=0.0
    )
    names = [break_file(part, 1) for part in (data.train, data.validation, data.test)]
    monkeypatch.setattr("foveal.training.train.load_data", lambda *_, **__: data)
    result = foveal.train(config, tmp_path / "run")
    skipped = read_split(tmp_path / "run")["skipped"]
    assert skipped.keys() == set(names)
    assert all(reason.startswith("left out while it was used: cannot be read: ") for reason in skipped.values())
    lines = (tmp_path / "run/predictions.csv").read_text().splitlines()
    assert len(lines) == len(data.test)  # the head, and one image less
    assert not any(line.startswith(f"{names[2]},") for line in lines)
    assert 0 <= result.accuracy <= 1
    assert foveal.train(config, tmp_path / "run", resume=True) == result


def test_trainer_predicts_as_before_where_every_image_is_read(data):
    config = RunConfig(data="photos", image_size=16, epochs=1, batch_size=8)
    run = Trainer(config, data)
    answers, read = run.predict(data.test)
    assert read.tolist() == list(range(len(data.test)))
    images = data.preprocessing.normalize(data.test.__getitems__(range(8))[0])
    with torch.no_grad():
        expected = run.model.eval()(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(answers.logits[:8], expected)


def test_batches_of_a_loaded_model_and_look_name_what_they_leave_out(data, tmp_path, monkeypatch):
    config = RunConfig(model="small_cnn+se", data=f"folder:{tmp_path}/photos", image_size=16, epochs=1, batch_size=8)
    foveal.train(config, tmp_path / "run")
    opened = foveal.load_model(tmp_path / "run")
    part = opened.load_data(config.data).test
    count = len(part)
    name = break_file(part, count // 2)
    batches = opened.batches(part)
    assert sum(len(labels) for _, labels in batches) == len(part) - 1
    assert list(batches.unread.reasons) == [name]
    monkeypatch.setattr(LoadedModel, "load_data", lambda *_: replace(data, test=part))
    looked = look(str(tmp_path / "run"), [config.data], most=4)
    assert looked.names == [part.names[index] for index in (0, count // 4, 3 * count // 4)]
    assert list(looked.skipped) == [name]


def test_load_images_is_what_train_uses(data, tmp_path):
    """The fixture's data is that of the run's settings."""
    loaded = load_images(RunConfig(data=f"folder:{tmp_path}/photos", image_size=16), {})
    assert loaded.split == data.split
