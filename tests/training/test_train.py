"""Training runs: results, resuming, random numbers, losses."""

import csv
import json
import os
from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

import foveal
from foveal.core.answers import Answers
from foveal.core.folders import locked_folder
from foveal.data.parts import Augmented, Data, InMemory
from foveal.data.preprocessing import Preprocessing
from foveal.training import train as training
from foveal.training import trainer as trainers
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import RunConfig
from foveal.training.run_folder import finished, read_lines
from foveal.training.train import train


def bright_halves(count: int, seed: int) -> InMemory:
    """Images whose brighter half is the class: left, right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 60, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, :, 8 * int(label) : 8 * int(label) + 8] += 120
    return InMemory(images, labels, [str(index) for index in range(count)])


@pytest.fixture
def data(monkeypatch):
    small = Data(
        "halves",
        ("left", "right"),
        bright_halves(96, 0),
        bright_halves(20, 1),
        bright_halves(30, 2),
        Preprocessing((1, 16, 16), (0.3,), (0.2,)),
    )
    monkeypatch.setattr(training, "load_data", lambda *_, **__: small)
    return small


SETTINGS = RunConfig(model="small_cnn+se", data="halves", epochs=3, batch_size=16, lr=5e-3)


def test_train_learns_and_writes_its_folder(data, tmp_path):
    epochs = []
    result = train(SETTINGS, tmp_path / "run", on_epoch=epochs.append)
    assert result.accuracy >= 0.9
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.yaml", "split.json", "metrics.jsonl", "times.json", "last.safetensors", "best.safetensors",
        "predictions.csv", "classes.csv", "confusion.csv", ".foveal", ".foveal.lock",
    }  # fmt: skip
    assert sum(line["seconds"] for line in epochs) == result.seconds > 0
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["lr"] == 5e-3
    lines = read_lines(tmp_path / "run")
    assert [line["epoch"] for line in lines[:-1]] == [1, 2, 3] == [line["epoch"] for line in epochs]
    assert lines[-1]["test"]["accuracy"] == result.accuracy
    assert json.loads((tmp_path / "run/split.json").read_text())["test"] == data.split["test"]
    with (tmp_path / "run/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows[:2]] == ["left", "right"]
    assert sum(row["class"] == row["predicted"] for row in rows) / 30 == pytest.approx(result.accuracy)


def weights_of(folder):
    return read_checkpoint(folder / "last.safetensors").tensors


@pytest.mark.parametrize(
    "options",
    [{}, {"opt": "lamb"}, {"sched": "none"}, {"ema": 0.9, "model": "small_cnn+sk:groups=8"}],
    ids=["adamw", "lamb", "constant rate", "moving average"],
)
def test_train_resumed_agrees_bitwise_with_an_undisturbed_run(data, tmp_path, options):
    settings = replace(SETTINGS, **options)
    whole = train(settings, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(line):
        if line["epoch"] == 2:
            raise StopError

    with pytest.raises(StopError):
        train(settings, tmp_path / "parts", on_epoch=stop)
    torch.rand(7)  # what happens between must not matter
    resumed = train(settings, tmp_path / "parts", resume=True)
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (resumed.accuracy, resumed.best_epoch) == (whole.accuracy, whole.best_epoch)
    for a, b in zip(read_lines(tmp_path / "whole")[:3], read_lines(tmp_path / "parts")[:3], strict=True):
        assert a["train_loss"] == b["train_loss"]


def test_train_keeps_and_evaluates_the_moving_average(data, tmp_path):
    """Recompute the average from the weights after each step: 1 - (1 + n)^(-2/3) at step n + 1, at most the decay."""
    settings, expected = replace(SETTINGS, epochs=1, ema=0.7), {}
    run = training.Trainer(settings, data)
    real = run.average.update

    def update(model, step):
        real(model, step)
        share = 1 - min(0.7, 1 - step ** (-2 / 3)) if step > 1 else 1.0
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = expected.get(name, 0) * (1 - share) + value.clone() * share

    run.average.update = update
    run.train_epoch(0, lambda *_: None)
    average, trained = run.average.module.state_dict(), run.model.state_dict()
    assert all(torch.allclose(average[name], value, atol=1e-6) for name, value in expected.items())
    assert not torch.allclose(average["head.weight"], trained["head.weight"], atol=1e-4)

    train(settings, tmp_path / "run")
    best, last = read_checkpoint(tmp_path / "run"), read_checkpoint(tmp_path / "run/last.safetensors")
    assert all(torch.equal(best.weights[name], value) for name, value in average.items())
    assert all(torch.equal(last.weights[name], value) for name, value in trained.items())
    assert all(torch.equal(last.part("ema.")[name], value) for name, value in average.items())
    model = foveal.create_model(settings.model, num_classes=2, in_chans=1)
    assert foveal.load_weights(model, tmp_path / "run/last.safetensors") == "plain"  # the average stays aside


def test_train_only_reads_a_finished_run(data, tmp_path):
    result = train(SETTINGS, tmp_path / "run")
    assert train(SETTINGS, tmp_path / "run", resume=True) == result == finished(tmp_path / "run")


def test_train_refuses_the_folder_of_another_run(data, tmp_path):
    train(replace(SETTINGS, epochs=1), tmp_path / "run")
    before = (tmp_path / "run/config.yaml").read_text()
    with pytest.raises(ValueError, match="holds a finished run; read it with --resume"):
        train(replace(SETTINGS, epochs=1), tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a run with epochs=1, not 3; name another folder"):
        train(SETTINGS, tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a run with lr=0.005, not 0.1"):
        train(replace(SETTINGS, lr=0.1), tmp_path / "run", resume=True)
    assert (tmp_path / "run/config.yaml").read_text() == before


def test_train_continues_a_finished_run_with_more_epochs(data, tmp_path):
    constant = replace(SETTINGS, sched="none")
    train(replace(constant, epochs=1), tmp_path / "run")
    longer = train(constant, tmp_path / "run", resume=True)
    assert longer == train(constant, tmp_path / "whole")  # with a constant rate
    one, other = weights_of(tmp_path / "run"), weights_of(tmp_path / "whole")
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="epochs=3, not 1"):
        train(replace(constant, epochs=1), tmp_path / "run", resume=True)


def test_train_writes_over_nothing_of_others_unless_it_may(data, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("mine")
    (own / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds files that foveal did not write, such as 'config.yaml'"):
        train(SETTINGS, own)
    assert {path.name for path in own.iterdir()} == {"config.yaml", "notes.txt"}
    train(replace(SETTINGS, epochs=1), own, overwrite=True)
    assert train(replace(SETTINGS, epochs=2), own, overwrite=True).best_epoch <= 2
    assert len(read_lines(own)) == 3
    assert (own / "notes.txt").read_text() == "mine"


def test_train_is_refused_while_another_process_writes_to_the_folder(data, tmp_path):
    refused = pytest.raises(ValueError, match=f"is being written by process {os.getpid()} on ")
    with locked_folder(tmp_path / "run"), refused:
        train(SETTINGS, tmp_path / "run")
    assert train(replace(SETTINGS, epochs=1), tmp_path / "run").best_epoch == 1


@pytest.mark.parametrize(
    "options", [{"amp": True}, {"channels_last": False}, {"opt": "sgd", "sched": "step", "lr": 0.1}]
)
def test_train_with_other_options(data, tmp_path, options):
    assert train(replace(SETTINGS, epochs=4, **options), tmp_path / "run").accuracy > 0.5


def test_train_reports_balanced_accuracy_of_unbalanced_classes(data, tmp_path, monkeypatch):
    few = torch.cat([torch.arange(0, 30, 2), torch.tensor([1])])
    test = InMemory(data.test.images[few], data.test.labels[few], [str(i) for i in few.tolist()])
    monkeypatch.setattr(training, "load_data", lambda *_, **__: replace(data, test=test))
    left = torch.tensor([[2.0, 0.0]])

    def predict(self, part):
        return Answers(left.expand(len(part), 2), 2), torch.arange(len(part))

    monkeypatch.setattr(training.Trainer, "predict", predict)
    result = train(replace(SETTINGS, epochs=1), tmp_path / "run")
    assert result.accuracy == pytest.approx(15 / 16)
    assert result.balanced_accuracy == 0.5
    assert result.recall == {"left": 1.0, "right": 0.0}


def test_train_uses_the_loss_of_a_network(data, tmp_path, monkeypatch):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(256, 2)
            self.loss_calls = 0

        def forward(self, x):
            return self.head(x.flatten(1))

        def loss(self, outputs, labels, criterion):
            self.loss_calls += 1
            return criterion(outputs, labels)

    model = Own()
    monkeypatch.setattr(trainers, "create_for", lambda *_, **__: model)
    run = training.Trainer(replace(SETTINGS, channels_last=False), data)
    run.train_epoch(0, lambda *_: None)
    assert model.loss_calls == 6


class Noisy(nn.Module):
    """Draw random numbers between batches, as dropout does, and record the images."""

    def __init__(self, draws):
        super().__init__()
        self.head = nn.Linear(256, 2)
        self.draws, self.images, self.drawn = draws, [], []

    def forward(self, x):
        if self.training:
            self.images.append(x.clone())
            self.drawn.append(torch.rand(self.draws))
        return self.head(x.flatten(1))


@pytest.mark.parametrize(("name", "draws"), [("other", 1), ("one", 5)])
def test_train_draws_images_and_augmentation_from_the_seed_alone(data, tmp_path, monkeypatch, name, draws):
    """Independent of other random draws and of the name of the run."""
    part = data.train
    noise = lambda image: image + torch.randint(0, 9, image.shape, dtype=torch.uint8)  # noqa: E731
    augmented = replace(data, train=Augmented(part.images, part.labels, part.names, transform=noise))
    monkeypatch.setattr(training, "load_data", lambda *_, **__: augmented)
    networks = []

    def make(*_, **__):
        networks.append(Noisy(1 if not networks else draws))
        networks[-1].__dict__["made_as"] = {"backbone": "small_cnn", "options": {}}
        return networks[-1]

    monkeypatch.setattr(trainers, "create_for", make)
    for each in ("one", name):
        train(replace(SETTINGS, name=each, epochs=2), tmp_path / f"{each}-{len(networks)}")
    one, other = networks
    assert torch.equal(torch.cat(one.images), torch.cat(other.images))
    assert not torch.equal(one.images[0], one.images[6])  # another epoch
    equal = torch.equal(torch.cat(one.drawn)[0], torch.cat(other.drawn)[0])
    assert equal == (name == "one")


def test_train_stops_at_a_loss_that_is_not_finite(data, tmp_path):
    with pytest.raises(FloatingPointError, match="the loss is nan at step"):
        train(replace(SETTINGS, lr=1e30), tmp_path / "run")


def test_train_of_a_twin_has_other_weights_and_the_same_images(data, tmp_path, monkeypatch):
    seen = []
    real = training.Trainer.batches

    def batches(self, part, order):
        for indices, images, labels in real(self, part, order):
            seen[-1].append(images)
            yield indices, images, labels

    monkeypatch.setattr(training.Trainer, "batches", batches)
    births = []
    for copy in (0, 1):
        seen.append([])
        run = training.Trainer(replace(SETTINGS, epochs=1, copy=copy), data)
        births.append(run.model.head.weight.clone())
        run.train_epoch(0, lambda done, of: None)
    assert not torch.equal(*births)
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))
