"""The search for a learning rate: default rate first, best on validation, test part not read."""

from dataclasses import asdict, replace
from math import log10

import pytest
import yaml

from foveal.comparison import plan as plans
from foveal.comparison import tune as tuning
from foveal.comparison.tune import SEED, tuned_rate
from foveal.training.config import CompareConfig, RunConfig

SETTINGS = RunConfig(lr=1e-2, model="small_cnn", data="digits")

SETTLED = replace(SETTINGS, recipe="scratch-small", epochs=3, warmup_epochs=0)  # as they are stored


@pytest.fixture
def trials(monkeypatch):
    """Replace training: accuracy falls with the distance from a rate of 2e-2; above 5e-2 the loss is not finite."""
    run = []

    def train_epochs(settings, folder, functions, on_epoch):
        run.append((settings, folder))
        if settings.lr > 5e-2:
            raise FloatingPointError("the loss is nan at step 1")
        accuracy = 1 - abs(log10(settings.lr / 2e-2))
        return [{"validation_accuracy": accuracy - 0.1}, {"validation_accuracy": accuracy}]

    monkeypatch.setattr(tuning, "train_epochs", train_epochs)
    return run


def test_tuned_rate_takes_the_best_trial_and_tries_the_default_rate_first(trials, tmp_path):
    folders = [tmp_path / str(number) for number in range(12)]
    rate = tuned_rate(SETTINGS, folders, {})
    tried = [settings.lr for settings, _ in trials]
    assert tried[0] == 1e-2
    assert len(set(tried)) == 12
    assert all(1e-3 <= each <= 1e-1 for each in tried)
    assert [folder for _, folder in trials] == folders
    assert {settings.seed for settings, _ in trials} == {SEED}
    assert rate == min((each for each in tried if each <= 5e-2), key=lambda each: abs(log10(each / 2e-2)))
    assert tuned_rate(SETTINGS, folders, {}) == rate  # the same search again


def test_tuned_rate_refuses_when_no_rate_works(monkeypatch, tmp_path):
    def train_epochs(settings, folder, functions, on_epoch):
        raise FloatingPointError("the loss is nan at step 1")

    monkeypatch.setattr(tuning, "train_epochs", train_epochs)
    with pytest.raises(FloatingPointError, match="none of 2 learning rates gave a finite loss"):
        tuned_rate(SETTINGS, [tmp_path / "0", tmp_path / "1"], {})


def test_tuned_rate_refuses_a_trial_of_another_rate(trials, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(asdict(replace(SETTLED, lr=3e-3, seed=SEED))))
    with pytest.raises(ValueError, match=r"holds a run with lr=0\.003, not 0\.01"):
        tuned_rate(SETTLED, [tmp_path], {})
    assert not trials


def test_make_plan_refuses_tuning_without_optuna_before_it_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(plans, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="tune=8: optuna is missing"):
        plans.make_plan(["none"], CompareConfig(data="digits", tune=8), tmp_path / "run")
    assert not [*tmp_path.iterdir()]
