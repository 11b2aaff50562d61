"""One network trained by several processes: the same losses as by one, one run folder, and what is refused."""

import csv
import os
from dataclasses import replace

import pytest
import torch
from own_functions import Net
from side_by_side import side_by_side
from torch import nn

from foveal.data.labels import UNREAD
from foveal.data.parts import Augmented, Data, InMemory
from foveal.data.preprocessing import Preprocessing
from foveal.training import criterion
from foveal.training import train as training
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import RunConfig
from foveal.training.criterion import class_weights
from foveal.training.processes import Processes, check_batch, describe_processes
from foveal.training.run_folder import read_lines
from foveal.training.trainer import Trainer


class Grouped(Net):
    """The small residual network without BatchNorm."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.block[1] = nn.GroupNorm(2, 8)


class Broken(InMemory):
    """A part of which every thirteenth image cannot be read."""

    def __getitems__(self, indices):
        images, labels = super().__getitems__(indices)
        return images, torch.where(torch.as_tensor(indices) % 13 == 0, UNREAD, labels)

    def why_unread(self, index):
        return "broken"


def bright_halves(count, seed, kind=InMemory):
    """Images whose brighter half is the class, of which the first has a third."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % 3).clamp(max=1)
    images = torch.randint(0, 120, (count, 1, 12, 12), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, :, 6 * label : 6 * label + 6] += 100
    return kind(images, labels, [f"{seed}-{index}" for index in range(count)])


class Noisy(Augmented):
    """A part whose images get noise."""

    def __init__(self, images, labels, names):
        noise = lambda image: image + torch.randint(0, 9, image.shape, dtype=torch.uint8)  # noqa: E731
        super().__init__(images, labels, names, transform=noise)


class Precise(Preprocessing):
    """Preprocessing to the default precision."""

    def normalize(self, images):
        return super().normalize(images).to(torch.get_default_dtype())


def halves(kind=InMemory):
    parts = bright_halves(80, 0, kind), bright_halves(21, 1), bright_halves(33, 2)
    return Data("halves", ("left", "right"), *parts, Precise((1, 12, 12), (0.3,), (0.2,)))


SETTINGS = RunConfig(
    model="own:net", data="halves", epochs=2, batch_size=8, lr=5e-3, class_weights=True, channels_last=False
)


def losses(settings, network, kind=InMemory, dtype=torch.float64):
    """The losses of the first twenty steps."""
    torch.set_default_dtype(dtype)
    criterion.class_weights = lambda labels, classes: class_weights(labels, classes).to(dtype)
    try:
        run, found = Trainer(settings, halves(kind), {"own:net": network}), []
        run.unread.most = 1.0
        read = run.read
        run.read = lambda values: found.extend(read(values)) or read(values)
        for epoch in range(2):
            run.train_epoch(epoch, lambda done, of: None)
    finally:
        torch.set_default_dtype(torch.float32)
        criterion.class_weights = class_weights
    return found


@pytest.mark.parametrize(
    ("network", "kind", "options"),
    [
        (Net, InMemory, {"sync_bn": True}),
        (Grouped, InMemory, {"ema": 0.9, "clip_grad": 0.01}),
        (Grouped, Noisy, {"class_weights": False, "mixup": 0.4, "cutmix": 0.5, "reprob": 0.5, "workers": 1}),
        (Grouped, Broken, {}),
    ],
    ids=["synchronized BatchNorm", "GroupNorm", "augmented images", "images that cannot be read"],
)
def test_train_epoch_of_two_processes_has_the_losses_of_one(network, kind, options):
    settings = replace(SETTINGS, **options)
    for dtype, most in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        alone = losses(settings, network, kind, dtype)
        first, second = side_by_side(2, losses, settings, network, kind, dtype)
        assert len(alone) == 20
        assert first == second
        assert first == pytest.approx(alone, abs=most)


def test_train_epoch_with_batch_norm_of_each_process_has_other_losses():
    """Otherwise the test of synchronized BatchNorm would show nothing."""
    first, second = side_by_side(2, losses, SETTINGS, Net)
    assert first == second
    assert first != pytest.approx(losses(SETTINGS, Net), abs=1e-4)


def trained(settings, folder):
    training.load_data = lambda *_, **__: halves()
    result = training.train(settings, folder, functions={"own:net": Net})
    return result, os.environ["RANK"]


def test_train_of_two_processes_writes_one_folder_with_each_test_image_once(tmp_path):
    settings = replace(SETTINGS, model="small_cnn+se")
    (first, _), (second, rank) = side_by_side(2, trained, settings, tmp_path / "run")
    assert rank == "1"
    assert first.accuracy == second.accuracy
    with (tmp_path / "run/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == halves().test.names
    assert sum(row["class"] == row["predicted"] for row in rows) / 33 == pytest.approx(first.accuracy)
    assert [line["epoch"] for line in read_lines(tmp_path / "run")[:-1]] == [1, 2]


def stopped(settings, folder, on_epoch):
    training.load_data = lambda *_, **__: halves()
    return training.train(settings, folder, functions={"own:net": Net}, on_epoch=on_epoch)


def die_in_second_process(line):
    if os.environ["RANK"] == "1":
        os._exit(9)


def test_train_goes_on_bitwise_after_a_process_died(tmp_path):
    """With statistics of BatchNorm that differ between processes within an epoch."""
    side_by_side(2, trained, SETTINGS, tmp_path / "whole")
    left, died = side_by_side(2, stopped, SETTINGS, tmp_path / "parts", die_in_second_process)
    assert died is None
    assert isinstance(left, ConnectionError)
    assert "another process of this run has ended" in str(left)
    side_by_side(2, trained, SETTINGS, tmp_path / "parts")
    one, other = (read_checkpoint(tmp_path / name / "last.safetensors").tensors for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_lines(tmp_path / "whole") == read_lines(tmp_path / "parts")


def with_own_rate(folder):
    return trained(replace(SETTINGS, lr=[0.1, 0.2][int(os.environ["RANK"])]), folder)


def test_train_refuses_processes_of_other_settings(tmp_path):
    for error in side_by_side(2, with_own_rate, tmp_path / "run"):
        assert isinstance(error, ValueError)
        assert str(error).startswith("process 1 has lr=0.2, and process 0 has 0.1; all processes of a run need")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("size", "count"), [(8, 2), (12, 3), (7, 2), (5, 1)])
def test_part_of_cuts_a_batch_into_shares_that_keep_mirrored_images_together(size, count):
    batch, here = torch.randperm(size) + 100, Processes()
    shares = []
    for here.index in range(count):
        here.count = count
        shares.append(here.part_of(batch))
    assert torch.cat(shares).sort().values.tolist() == batch.sort().values.tolist()
    if size % (2 * count) == 0:
        mirror = dict(zip(batch.tolist(), batch.flip(0).tolist(), strict=True))
        assert all([mirror[each] for each in share.tolist()] == share.flip(0).tolist() for share in shares)
    if count == 1:
        assert torch.equal(shares[0], batch)


def test_check_batch_names_the_number_that_is_needed():
    check_batch(RunConfig(batch_size=12), 12, 3)
    with pytest.raises(ValueError, match="batch_size=32: 3 processes share each batch; a multiple of 3 is needed"):
        check_batch(RunConfig(), 100, 3)
    with pytest.raises(ValueError, match=r"batch_size=8: 3 processes .*, in pairs .*; a multiple of 6 is needed"):
        check_batch(RunConfig(batch_size=8, mixup=0.1), 100, 3)
    with pytest.raises(ValueError, match="2 training images: 3 processes need 3 or more"):
        check_batch(RunConfig(batch_size=33), 2, 3)


def test_describe_processes_says_what_each_computes(monkeypatch):
    assert describe_processes(RunConfig()) == ""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert describe_processes(RunConfig()).startswith("one process, though accelerate launch was told to start several")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert describe_processes(RunConfig()) == (
        "2 processes, each trains on 16 of the 32 images of a batch; BatchNorm takes its statistics from its own 16; "
        "their means are validated and stored (--sync-bn: from all 32)\n"
    )
    assert describe_processes(RunConfig(sync_bn=True)).endswith("from all 32 (--sync-bn)\n")
