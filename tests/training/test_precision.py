"""Training in float16: the scale of the loss, updates that are left out, exact resume, and what a run stores of it."""

import csv
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from side_by_side import side_by_side
from torch import nn
from torch.amp import GradScaler
from training.test_processes import SETTINGS, Grouped, halves

from foveal.training import train as training
from foveal.training import trainer
from foveal.training.checkpoint import read_checkpoint
from foveal.training.load_model import load_model
from foveal.training.precision import check_stored_scaler, create_scaler
from foveal.training.run_facts import InferenceSettings
from foveal.training.train import train
from foveal.training.trainer import Trainer

HALF = replace(SETTINGS, amp=True, amp_dtype="float16", epochs=4)


@pytest.fixture
def data(monkeypatch):
    monkeypatch.setattr(training, "load_data", lambda *_, **__: halves())


@pytest.fixture
def lively(monkeypatch):
    """A scale that is doubled after every third update, so that some are left out."""
    scaler = lambda settings, device: GradScaler("cpu", init_scale=2.0**20, growth_interval=3)  # noqa: E731
    monkeypatch.setattr(trainer, "create_scaler", scaler)


def trained(options, epochs=1, network=Grouped):
    run = Trainer(replace(HALF, **options), halves(), {"own:net": network})
    loss = [run.train_epoch(epoch, lambda done, of: None) for epoch in range(epochs)][-1]
    return run, loss


def test_train_in_float16_learns_and_is_predicted_in_float16(data, tmp_path):
    class Seen(Grouped):
        dtypes: ClassVar = set()

        def forward(self, x):
            out = super().forward(x)
            self.dtypes.add((self.training, out.dtype))
            return out

    result = train(HALF, tmp_path / "run", functions={"own:net": Seen})
    assert Seen.dtypes >= {(True, torch.float16), (False, torch.float16)}
    assert result.accuracy > 0.9
    opened = load_model(tmp_path / "run", Seen)
    assert opened.inference == InferenceSettings(True, False, 8, "float16")
    Seen.dtypes.clear()
    predicted = opened.predict(halves().test)
    assert Seen.dtypes == {(False, torch.float16)}
    with (tmp_path / "run/predictions.csv").open() as file:
        stored = [float(row["probability"]) for row in csv.DictReader(file)]
    found = predicted.probabilities.max(1).values.tolist()
    assert found == pytest.approx(stored, abs=1e-6)  # bfloat16 differs by 1e-3


def test_train_in_float16_goes_on_bitwise_with_the_scale_of_the_loss(data, lively, tmp_path):
    class StopError(Exception):
        pass

    def stop(line):
        if line["epoch"] == 2:
            raise StopError

    given = {"functions": {"own:net": Grouped}}
    train(HALF, tmp_path / "whole", **given)
    with pytest.raises(StopError):
        train(HALF, tmp_path / "parts", on_epoch=stop, **given)
    middle = read_checkpoint(tmp_path / "parts/last.safetensors").facts["scaler"]
    assert middle["scale"] != 2.0**20
    train(HALF, tmp_path / "parts", **given)
    one, other = (read_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert one.facts["scaler"] == other.facts["scaler"]
    assert all(torch.equal(other.tensors[name], value) for name, value in one.tensors.items())
    assert read_checkpoint(tmp_path / "whole").facts["scaler"] == {}  # the best network is not trained further


def test_step_clips_gradients_after_the_scale_was_divided_out(monkeypatch):
    """Gradients of float16 times a power of two are the same numbers, unless they are too small or too large."""
    weights = []
    for scale in (64.0, 2.0**12):
        monkeypatch.setattr(trainer, "create_scaler", lambda *_, scale=scale: GradScaler("cpu", init_scale=scale))
        run, _ = trained({"opt": "sgd", "lr": 0.1, "weight_decay": 0.0, "clip_grad": 0.01, "class_weights": False})
        assert run.scaler.get_scale() == scale
        weights.append(nn.utils.parameters_to_vector(run.model.parameters()))
    born = nn.utils.parameters_to_vector(Trainer(HALF, halves(), {"own:net": Grouped}).model.parameters())
    moved = (weights[0] - born).norm()
    assert moved > 1e-3
    assert (weights[1] - weights[0]).norm() < 0.01 * moved


def test_step_in_micro_batches_adds_gradients_of_one_scale():
    (_, whole), (_, parts) = trained({}, 2), trained({"grad_accum_steps": 4}, 2)
    assert parts == pytest.approx(whole, abs=2e-3)  # eleven bits
    assert parts != whole


class Rooted(Grouped):
    """A network whose gradients are not finite where the first pixel is dark, at finite losses."""

    dark = -10.0

    def forward(self, x):
        out = super().forward(x)
        if (x[:, 0, 0, 0] < self.dark).any():
            out = out + (self.head.weight.sum() * 0).sqrt()  # of infinite slope
        return out


class Always(Rooted):
    dark = 1e6


def test_step_is_left_out_where_gradients_are_not_finite():
    run = Trainer(HALF, halves(), {"own:net": Always})
    born = nn.utils.parameters_to_vector(run.model.parameters())
    run.train_epoch(0, lambda done, of: None)
    assert torch.equal(nn.utils.parameters_to_vector(run.model.parameters()), born)
    assert not run.optimizer.state
    assert run.scaler.get_scale() == 2.0 ** (16 - 10)  # halved at each of ten steps


def test_train_ends_where_gradients_are_never_finite(data, tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"^the gradients are not finite, even those of the loss / 10,000; num"
    ):
        train(HALF, tmp_path / "run", functions={"own:net": Always})
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2


class Large(Grouped):
    def forward(self, x):
        return self.head(1e4 * (self.stem(x).mean((2, 3)).abs() + 10))


def test_train_names_the_range_of_float16_where_the_loss_is_not_finite(data, tmp_path):
    with pytest.raises(FloatingPointError, match=r"^the loss is \w+ at step 1; numbers of float16 end at 65,504"):
        train(HALF, tmp_path / "run", functions={"own:net": Large})
    whole = replace(HALF, amp=False, amp_dtype="bfloat16", epochs=1)
    assert train(whole, tmp_path / "whole", functions={"own:net": Large}).best_epoch == 1


class OneDark(Rooted):
    """Some images of 80 alone have a first pixel this dark."""

    dark = -1.4


def both(settings):
    run = Trainer(settings, halves(), {"own:net": OneDark})
    found, update = [], run.scaler.update

    def noted():
        update()
        found.append(run.scaler.get_scale())

    run.scaler.update = noted
    run.train_epoch(0, lambda done, of: None)
    return found, nn.utils.parameters_to_vector(run.model.parameters()).tolist()


def test_processes_leave_out_the_same_updates():
    """The gradients of one process are not finite; both leave the update out."""
    (first, one), (second, other) = side_by_side(2, both, HALF)
    assert first == second
    assert one == other
    assert 0 < len(set(first)) < 10  # some updates were left out, and some were not


def test_check_stored_scaler_refuses_another_state():
    settings = InferenceSettings(True, False, 8, "float16")
    scaler = create_scaler(settings, torch.device("cpu"))
    check_stored_scaler({"scaler": scaler.state_dict()}, scaler)
    check_stored_scaler({}, create_scaler(InferenceSettings(True), torch.device("cpu")))
    stated = scaler.state_dict()
    for wrong, message in (
        ({}, "states scaler={}; scale, growth_factor"),
        ({**stated, "scale": 0}, "states scale=0 of the scaler; a number of 5e-05 or more is needed"),
        ({**stated, "growth_factor": float("inf")}, "states growth_factor=inf"),
        ({**stated, "_growth_tracker": "1"}, "states _growth_tracker='1'"),
        ([], r"states scaler=\[\]; a dict is needed"),
    ):
        with pytest.raises(ValueError, match=message):
            check_stored_scaler({"scaler": wrong}, scaler)
    with pytest.raises(ValueError, match=r"states scaler=\{'scale': .*; nothing is needed"):
        check_stored_scaler({"scaler": stated}, create_scaler(InferenceSettings(True), torch.device("cpu")))
